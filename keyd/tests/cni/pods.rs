//! New pods are neither open nor late, and keyd knows them as long as they are there.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Mesh, Node, Wiring};

use crate::container::{Container, Verb, add, call, list, reference_list};

/// Longer than any ADD of these tests may take.
const TIMEOUT: u16 = 15;

struct Stage {
    /// Before the lab, so that keyd ends before its namespaces do.
    mesh: Mesh,
    lab: Lab,
}

impl Stage {
    fn encrypted(wiring: Wiring) -> Self {
        let lab = Lab::new(LabSpec::two_nodes("cni", wiring)).expect("the lab comes up");
        let fabric = lab.fabric();
        fabric.set_covered(&lab.pod_cidrs()).expect("the fabric counts");
        let keyd = env!("CARGO_BIN_EXE_keyd").as_ref();
        let mesh = Mesh::start(&lab, keyd, &ManifestSpec::default(), &[]).expect("keyd starts");
        mesh.wait_ready().expect("keyd is ready");
        mesh.set_encryption(true).expect("the flag is set");
        mesh.wait_encrypted().expect("all pairs become Strict");
        fabric.reset().expect("the fabric counts from zero");
        Self { mesh, lab }
    }

    fn node(&self) -> &Node {
        self.lab.node("a")
    }

    /// One packet each to node b's pod by both families, and back: the first that the container sends.
    fn assert_talks(&self, container: &Container) {
        let b1 = self.lab.pod("b1");
        for to in [IpAddr::from(b1.v4()), b1.v6().into()] {
            assert!(
                reaches(&self.lab, container, to),
                "{} does not reach {to}; keyd: {}",
                container.id,
                self.mesh.log("a")
            );
        }
    }

    /// The pod's programs are on its interface already: what it sends with another's address ends there.
    fn assert_spoofing_is_dropped(&self, container: &Container) {
        let spoofed = |state: serde_json::Value| state["dropped"]["SpoofedSource"].as_u64().unwrap_or(0);
        let before = spoofed(self.mesh.state("a"));
        let other = "10.77.1.250";
        let (node, to) = (self.node(), self.lab.pod("b1").v4().to_string());
        for (program, arguments) in [
            ("ip", vec!["addr", "add", other, "dev", "eth0"]),
            ("ping", vec!["-c", "1", "-W", "1", "-I", other, &to]),
            ("ip", vec!["addr", "del", other, "dev", "eth0"]),
        ] {
            let output = container.command(node, program).args(&arguments).output();
            assert_eq!(
                output.expect("it runs").status.success(),
                program == "ip",
                "{arguments:?}"
            );
        }
        // keyd reads the counters each second.
        thread::sleep(Duration::from_millis(1500));
        assert!(spoofed(self.mesh.state("a")) > before, "{}", self.mesh.state("a"));
    }

    fn assert_no_clear(&self) {
        let counts = self.lab.fabric().counts().expect("the fabric counts");
        assert_eq!(counts.covered.packets(), 0, "in clear: {:?}", counts.covered);
    }

    /// Containers that keyd remembers.
    fn remembered(&self) -> usize {
        let kept = fs::read_dir(self.node().state_dir().join("cni")).expect("listed");
        kept.count()
    }
}

fn reaches(lab: &Lab, container: &Container, to: IpAddr) -> bool {
    let mut ping = container.command(lab.node("a"), "ping");
    let output = ping.args(["-c", "1", "-W", "2", &to.to_string()]).output();
    output.expect("ping runs").status.success()
}

fn add_waits_for_keyd(wiring: Wiring) {
    let mut stage = Stage::encrypted(wiring);
    let list = list(&stage.lab, stage.node(), 2, TIMEOUT);
    stage.mesh.terminate("a").expect("keyd ends");
    let mut container = Container::new(&stage.lab, "a", "early");
    let Stage { mesh, lab } = &mut stage;
    let lab = &*lab;
    let took = thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let begin = Instant::now();
            add(lab.node("a"), &list, &mut container);
            begin.elapsed()
        });
        thread::sleep(Duration::from_secs(2));
        mesh.start_node(lab, "a").expect("keyd starts");
        adding.join().expect("added")
    });
    assert!(took >= Duration::from_secs(2), "{took:?}");
    stage.assert_talks(&container);
    assert_eq!(container.addresses().len(), 2);

    // With keyd there from the start nobody waits for anything.
    let mut next = Container::new(&stage.lab, "a", "next");
    let begin = Instant::now();
    add(stage.node(), &list, &mut next);
    let took = begin.elapsed();
    stage.assert_spoofing_is_dropped(&next);
    stage.assert_talks(&next);
    assert!(
        took < Duration::from_secs(2),
        "the whole chain's ADD took {took:?}"
    );
    stage.assert_no_clear();
    let socket = fs::metadata(stage.node().state_dir().join("cni.sock")).expect("there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_pod_that_nobody_told_of_reaches_nobody_in_clear_and_is_found_once_a_manifest_tells_of_it() {
    let stage = Stage::encrypted(Wiring::Routed);
    let list = reference_list(&stage.lab, stage.node(), 1);
    let mut container = Container::new(&stage.lab, "a", "other");
    add(stage.node(), &list, &mut container);
    let to = stage.lab.pod("b1").v4().into();
    assert!(
        !reaches(&stage.lab, &container, to),
        "the answers have no way in, or these tests show nothing"
    );
    let ips: String = container
        .addresses()
        .iter()
        .map(|address| format!("{{ip: \"{address}\"}}, "))
        .collect();
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: other, namespace: demo}}\n\
         spec: {{nodeName: a, containers: []}}\nstatus: {{phase: Running, podIPs: [{ips}]}}\n"
    );
    let dir = stage.mesh.replicas().shared();
    fs::write(dir.join(".other"), manifest).expect("written");
    fs::rename(dir.join(".other"), dir.join("pod-other.yaml")).expect("renamed");
    let begin = Instant::now();
    while !reaches(&stage.lab, &container, to) {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{}",
            stage.mesh.log("a")
        );
    }
    stage.assert_no_clear();
}

#[test]
fn add_waits_for_keyd_and_the_first_packet_of_a_routed_pod_that_no_manifest_tells_of_is_encrypted() {
    add_waits_for_keyd(Wiring::Routed);
}

#[test]
fn add_waits_for_keyd_and_the_first_packet_of_a_bridged_pod_that_no_manifest_tells_of_is_encrypted() {
    add_waits_for_keyd(Wiring::Bridged);
}

#[test]
fn the_next_container_with_an_address_has_it_at_once_whether_del_came_or_was_lost() {
    let stage = Stage::encrypted(Wiring::Routed);
    let list = list(&stage.lab, stage.node(), 1, TIMEOUT);
    let mut first = Container::new(&stage.lab, "a", "first");
    add(stage.node(), &list, &mut first);
    stage.assert_talks(&first);
    let addresses = first.addresses();
    call(stage.node(), &list, Verb::Check, &mut first).expect("it is in force");
    call(stage.node(), &list, Verb::Del, &mut first).expect("deleted");
    assert_eq!(stage.remembered(), 0);
    call(stage.node(), &list, Verb::Del, &mut first).expect("deleting twice is no error");

    let mut second = Container::new(&stage.lab, "a", "second");
    add(stage.node(), &list, &mut second);
    assert_eq!(second.addresses(), addresses);
    stage.assert_talks(&second);
    // The address comes back to its pool, but nobody tells keyd.
    let mut silent = list.clone();
    silent["plugins"].as_array_mut().expect("a list").pop();
    second.vanish();
    let begin = Instant::now();
    while stage.remembered() > 0 {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "the interface is gone, and still remembered"
        );
        thread::sleep(Duration::from_millis(20));
    }
    call(stage.node(), &silent, Verb::Del, &mut second).expect("deleted");
    let mut third = Container::new(&stage.lab, "a", "third");
    add(stage.node(), &list, &mut third);
    assert_eq!(third.addresses(), addresses);
    stage.assert_talks(&third);
    stage.assert_no_clear();
}

#[test]
fn without_keyd_add_says_try_again_and_a_pod_that_starts_all_the_same_sends_nothing_in_clear() {
    let mut stage = Stage::encrypted(Wiring::Routed);
    stage.mesh.kill("a").expect("keyd dies");
    let list = list(&stage.lab, stage.node(), 2, 1);
    let mut container = Container::new(&stage.lab, "a", "orphan");
    let error = call(stage.node(), &list, Verb::Add, &mut container).expect_err("keyd is dead");
    assert_eq!(error["code"], 11, "{error}");
    assert_eq!(error["cniVersion"], "1.0.0", "{error}");
    let said = format!("{}; {}", error["msg"], error["details"]);
    assert!(
        said.contains("keyd does not answer") && said.contains("pods queue"),
        "{said}"
    );
    // A runtime would not start it.
    assert!(!reaches(&stage.lab, &container, stage.lab.pod("b1").v4().into()));
    stage.assert_no_clear();
    call(stage.node(), &list, Verb::Del, &mut container).expect("a pod can end without keyd");
}

#[test]
fn a_restarted_keyd_knows_the_pod_before_anybody_else_tells_of_it() {
    let mut stage = Stage::encrypted(Wiring::Bridged);
    let list = list(&stage.lab, stage.node(), 2, TIMEOUT);
    let mut container = Container::new(&stage.lab, "a", "old");
    add(stage.node(), &list, &mut container);
    stage.mesh.kill("a").expect("keyd dies");
    let Stage { mesh, lab } = &mut stage;
    mesh.start_node(lab, "a").expect("keyd starts");
    call(stage.node(), &list, Verb::Check, &mut container).expect("it is in force again");
    // Its address is not in a table of the bridge any more, so that only CNI can tell where it is.
    let mut flush = stage.node().command("ip");
    let flushed = flush
        .args(["neigh", "flush", "dev", "cni0"])
        .status()
        .expect("ip runs");
    assert!(flushed.success());
    stage.assert_talks(&container);
    stage.assert_no_clear();
    assert_eq!(stage.remembered(), 1);
}

#[test]
fn while_keyd_is_not_ready_add_waits_and_says_why() {
    let mut stage = Stage::encrypted(Wiring::Routed);
    stage.mesh.terminate("a").expect("keyd ends");
    stage.mesh.replicas().hide("a", "node-a.yaml");
    thread::sleep(Duration::from_millis(200));
    let Stage { mesh, lab } = &mut stage;
    mesh.start_node(lab, "a").expect("keyd starts");
    let begin = Instant::now();
    while let Err(error) = std::os::unix::net::UnixStream::connect(stage.node().state_dir().join("cni.sock"))
    {
        assert!(begin.elapsed() < Duration::from_secs(5), "{error}");
        assert!(matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ));
        thread::sleep(Duration::from_millis(20));
    }
    let hasty = list(&stage.lab, stage.node(), 2, 1);
    let mut container = Container::new(&stage.lab, "a", "waits");
    let error = call(stage.node(), &hasty, Verb::Add, &mut container).expect_err("not ready");
    assert!(
        error["code"] == 11 && error["msg"].to_string().contains("NoNode"),
        "{error}"
    );
    call(stage.node(), &hasty, Verb::Del, &mut container).expect("deleted");
    stage.mesh.replicas().unhide("a", "node-a.yaml");
    let patient = list(&stage.lab, stage.node(), 2, TIMEOUT);
    add(stage.node(), &patient, &mut container);
    stage.assert_talks(&container);
    stage.assert_no_clear();
}
