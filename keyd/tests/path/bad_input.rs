//! Bad input gets one clear error, and the rest keeps working.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Process, Wiring};

use crate::stage::{Stage, keyd, said};

/// The lines of a node's problems.
fn problems(stage: &Stage, node: &str) -> Vec<String> {
    serde_json::from_value(stage.mesh.state(node)["problems"].clone()).unwrap_or_default()
}

fn wait_for_problem(stage: &Stage, node: &str, words: &[&str]) {
    let begin = Instant::now();
    loop {
        let found = problems(stage, node);
        if found
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
        {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "no problem with {words:?} in {found:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// A lab of one node whose manifests say that encryption is on, and keyd's command line on it.
struct Alone {
    lab: Lab,
    manifests: PathBuf,
}

impl Alone {
    fn new() -> Self {
        let node = hauberk_netlab::NodeSpec::new("a", Wiring::Routed, &["a1"]);
        let lab = Lab::new(LabSpec::new("bad", vec![node])).expect("the lab comes up");
        let manifests = lab.dir().join("alone");
        fs::create_dir_all(&manifests).expect("a directory");
        let spec = ManifestSpec {
            encryption: true,
            lanes: Some(1),
            ..ManifestSpec::default()
        };
        lab.write_manifests(&manifests, &spec).expect("manifests");
        Self { lab, manifests }
    }

    fn arguments(&self) -> Vec<String> {
        let node = self.lab.node("a");
        let path = |path: &Path| path.display().to_string();
        let source = format!("dir:{}", path(&self.manifests));
        let uapi = path(&self.lab.dir().join("alone-uapi"));
        fs::create_dir_all(&uapi).expect("a directory");
        let (state, pins) = (path(node.state_dir()), path(node.pin_dir()));
        let memory = path(&node.memory_dir());
        [
            "node",
            "--node",
            "a",
            "--source",
            &source,
            "--state-dir",
            &state,
            "--memory-dir",
            &memory,
            "--pin-dir",
            &pins,
            "--uapi-dir",
            &uapi,
        ]
        .map(String::from)
        .into()
    }

    /// Runs keyd, started by `prefix`, until it ends by itself; it must.
    fn fails(&self, prefix: &[&str]) -> String {
        let program = prefix
            .first()
            .copied()
            .unwrap_or_else(|| keyd().to_str().expect("a path in UTF-8"));
        let mut command: Command = self.lab.node("a").command(program);
        if !prefix.is_empty() {
            command.args(&prefix[1..]).arg(keyd());
        }
        command
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command).expect("it starts");
        let status = process
            .wait(Duration::from_secs(10))
            .expect("waited")
            .expect("keyd ends by itself");
        let mut stderr = process.child().stderr.take().expect("piped");
        let text = std::io::read_to_string(&mut stderr).expect("text");
        assert!(!status.success(), "keyd ended with 0: {text}");
        text
    }
}

/// The last line says all that the operator needs.
fn assert_last_line_has(text: &str, words: &[&str]) {
    let last = text.lines().last().unwrap_or_default();
    assert!(
        words.iter().all(|word| last.contains(word)),
        "{words:?} are not all in the last line of: {text}"
    );
}

#[test]
fn a_broken_manifest_is_named_and_its_last_good_version_stays_in_force() {
    let stage = Stage::encrypted(
        LabSpec::two_nodes("yaml", Wiring::Routed),
        ManifestSpec::default(),
    );
    let pod = stage.mesh.replicas().shared().join("pod-b1.yaml");
    let good = fs::read_to_string(&pod).expect("a manifest");
    let mesh = stage.mesh.replicas().shared().join("mesh.yaml");
    let good_mesh = fs::read_to_string(&mesh).expect("a manifest");

    // Written up to the middle of an address.
    let half = good.find("podIP: ").expect("an address") + "podIP: 10.7".len();
    fs::write(&pod, &good[..half]).expect("half a manifest");
    fs::write(
        &mesh,
        good_mesh.replace("encryption:", "encryption:\n    lanes: many"),
    )
    .expect("nonsense");
    wait_for_problem(&stage, "a", &["mesh.yaml:7", "spec.encryption.lanes", "many"]);
    wait_for_problem(&stage, "a", &["pod-b1.yaml"]);
    let pings = stage.ping(
        "a1",
        stage.lab.pod("b1").v4(),
        &["-c", "5", "-i", "0.2", "-W", "2"],
    );
    assert_eq!(pings.received(), 5, "{}", pings.text);
    assert_eq!(stage.mesh.state("a")["encrypted"], true);

    fs::write(&pod, good).expect("the good one again");
    fs::write(&mesh, good_mesh).expect("the good one again");
    let begin = Instant::now();
    while !problems(&stage, "a").is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "still there: {:?}",
            problems(&stage, "a")
        );
        thread::sleep(Duration::from_millis(50));
    }
    stage.assert_no_clear();
}

#[test]
fn an_address_that_two_pods_claim_is_decided_alike_on_every_node() {
    let stage = Stage::encrypted(
        LabSpec::three_nodes("claim", Wiring::Routed),
        ManifestSpec::default(),
    );
    let shared = stage.mesh.replicas().shared();
    let manifest = fs::read_to_string(shared.join("pod-b1.yaml")).expect("a manifest");
    // Without timestamps the earlier name wins.
    let thief = manifest.replace("name: b1", "name: zz-thief");
    assert_ne!(thief, manifest);
    fs::write(shared.join("pod-zz-thief.yaml"), thief).expect("written");
    let begin = Instant::now();
    while !["a", "b", "c"]
        .iter()
        .all(|node| stage.mesh.state(node)["address_conflicts"] == 2)
    {
        let said: Vec<_> = ["a", "b", "c"]
            .map(|node| stage.mesh.state(node)["address_conflicts"].clone())
            .into();
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "address_conflicts: {said:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    for node in ["a", "b", "c"] {
        wait_for_problem(
            &stage,
            node,
            &["b1", "zz-thief", &stage.lab.pod("b1").v4().to_string()],
        );
    }
    for pod in ["a1", "c1"] {
        let pings = stage.ping(
            pod,
            stage.lab.pod("b1").v4(),
            &["-c", "3", "-i", "0.2", "-W", "2"],
        );
        assert_eq!(
            pings.received(),
            3,
            "the older claim lost on {pod}'s node: {}",
            pings.text
        );
    }
    stage.assert_no_clear();
}

#[test]
fn a_key_file_of_wrong_mode_or_size_is_refused_and_not_replaced() {
    let alone = Alone::new();
    let mut command = alone.lab.node("a").command(keyd());
    command
        .args(alone.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = Process::spawn(&mut command).expect("keyd starts");
    let state_dir = alone.lab.node("a").state_dir();
    let key_file = || {
        let entries = fs::read_dir(state_dir)
            .expect("a directory")
            .flatten()
            .map(|entry| entry.path());
        entries.into_iter().find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains("key"))
                && path.is_file()
        })
    };
    let begin = Instant::now();
    while key_file().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(10), "no key file");
        thread::sleep(Duration::from_millis(50));
    }
    let path = key_file().expect("there");
    process.terminate(Duration::from_secs(5)).expect("ended");
    let good = fs::read(&path).expect("readable");
    assert_eq!(
        fs::metadata(&path).expect("there").permissions().mode() & 0o777,
        0o600
    );

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("loosened");
    assert_last_line_has(&alone.fails(&[]), &[path.to_str().expect("UTF-8"), "0600"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mended");

    let cut = &good[..good.len() - 5];
    fs::write(&path, cut).expect("cut short");
    assert_last_line_has(&alone.fails(&[]), &[path.to_str().expect("UTF-8")]);
    assert_eq!(
        fs::read(&path).expect("readable"),
        cut,
        "the key file was replaced"
    );
}

#[test]
fn a_lane_port_in_use_is_named() {
    let alone = Alone::new();
    let taken: Vec<_> = alone
        .lab
        .node("a")
        .netns()
        .run(|| {
            (23400..23402)
                .map(|port| std::net::UdpSocket::bind(("::", port)).expect("free"))
                .collect()
        })
        .expect("inside the node");
    assert_last_line_has(&alone.fails(&[]), &["UDP port 2340", "in use"]);
    drop::<Vec<std::net::UdpSocket>>(taken);
}

#[test]
fn a_missing_capability_is_named() {
    let alone = Alone::new();
    assert_last_line_has(
        &alone.fails(&["setpriv", "--bounding-set=-net_admin"]),
        &["CAP_NET_ADMIN"],
    );
}

#[test]
fn a_kernel_without_tun_is_said() {
    let alone = Alone::new();
    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    assert_last_line_has(
        &alone.fails(&["unshare", "--mount", "sh", "-c", hide, "sh"]),
        &["/dev/net/tun"],
    );
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let run =
        |arguments: &[&str]| -> Output { Command::new(keyd()).args(arguments).output().expect("keyd runs") };
    for (arguments, word) in [
        (
            &["node", "--source", "file:/tmp", "--node", "a"][..],
            "kube or dir:PATH",
        ),
        (
            &["controller", "--source", "dir:/nonexistent-hauberk"][..],
            "/nonexistent-hauberk",
        ),
        (&["node", "--source", "dir:/tmp"][..], "--node"),
        (
            &[
                "node",
                "--source",
                "dir:/tmp",
                "--node",
                "a",
                "--listen",
                "0.0.0.0:1",
            ][..],
            "loopback",
        ),
    ] {
        let output = run(arguments);
        assert!(!output.status.success(), "{arguments:?} was taken");
        assert!(
            said(&output).contains(word),
            "{arguments:?}: no {word:?} in {}",
            said(&output)
        );
    }
}
