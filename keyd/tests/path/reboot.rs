//! A node that comes up again without what the kernel held, and cannot go on, or has to wait.

use std::{
    net::UdpSocket,
    os::unix::{fs::symlink, net::UnixListener},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{LabSpec, ManifestSpec, Node, Wiring};

use crate::stage::{Stage, ping, said};

/// What a reboot takes: programs, maps, devices, rules, and the state on tmpfs. What is on disk stays.
pub fn reboot(node: &Node) {
    let (pins, state) = (node.pin_dir().display(), node.state_dir().display());
    let script = format!(
        "rm -rf {pins}/*; find {state} -maxdepth 1 -type f -delete; for d in $(ip -o link | grep -o 'hbk[0-9]*'); do ip link del $d; done; \
         nft delete table inet hauberk; true"
    );
    let mut command: Command = node.command("sh");
    let output = command.args(["-c", &script]).output().expect("sh runs");
    assert!(output.status.success(), "{}", said(&output));
}

/// An encrypted lab whose node a was rebooted; without keyd it is open.
pub fn rebooted() -> Stage {
    let mut stage = Stage::encrypted(
        LabSpec::two_nodes("boot", Wiring::Routed),
        ManifestSpec::default(),
    );
    stage.mesh.terminate("a").expect("keyd ends");
    reboot(stage.lab.node("a"));
    let to = stage.lab.pod("b1").v4();
    stage.ping("a1", to, &["-c", "2", "-i", "0.2", "-W", "1"]);
    let open = stage.lab.fabric().counts().expect("the fabric counts");
    assert!(
        open.covered.packets() > 0,
        "the node was to be open without keyd, or this test shows nothing"
    );
    stage
}

/// Nothing of a pod of node a reaches node b, nor the fabric in clear; the node still reaches its own pod.
pub fn assert_closed(stage: &Stage) {
    stage.lab.fabric().reset().expect("the fabric counts from zero");
    let b1 = stage.lab.pod("b1");
    for to in [b1.v4().into(), b1.v6().into()] {
        let probe = ["-c", "5", "-i", "0.2", "-W", "1"];
        let pings = ping(stage.lab.pod("a1").command("ping"), to, &probe);
        assert_eq!(pings.received(), 0, "{}", pings.text);
        let pings = ping(stage.lab.node("a").command("ping"), to, &probe);
        assert_eq!(pings.received(), 0, "from the node itself: {}", pings.text);
    }
    let counts = stage.lab.fabric().counts().expect("the fabric counts");
    assert_eq!(counts.covered.packets(), 0, "in clear: {:?}", counts.covered);
    let own = stage.lab.pod("a1").v4().into();
    let pings = ping(
        stage.lab.node("a").command("ping"),
        own,
        &["-c", "2", "-i", "0.2", "-W", "1"],
    );
    assert_eq!(pings.received(), 2, "the node's own pod: {}", pings.text);
}

/// Starts keyd on node a, which must end by itself with these words.
fn ends(stage: &mut Stage, words: &[&str]) {
    stage.mesh.start_node(&stage.lab, "a").expect("keyd starts");
    let status = stage
        .mesh
        .process("a")
        .wait(Duration::from_secs(10))
        .expect("waited");
    let log = stage.mesh.log("a");
    assert!(
        status.is_some_and(|status| !status.success()),
        "keyd goes on: {log}"
    );
    let last = log.lines().last().unwrap_or_default();
    assert!(words.iter().all(|word| last.contains(word)), "{log}");
}

/// All pairs are Strict again, and what was closed by the fence alone is open to ciphertext.
pub fn assert_recovers(stage: &Stage) {
    stage.mesh.wait_encrypted().expect("all pairs are Strict again");
    stage.lab.fabric().reset().expect("the fabric counts from zero");
    let to = stage.lab.pod("b1").v4();
    let pings = stage.ping("a1", to, &["-c", "5", "-i", "0.2", "-W", "2"]);
    assert_eq!(pings.received(), 5, "{}", pings.text);
    stage.assert_no_clear();
}

#[test]
fn a_node_that_cannot_have_its_lanes_after_a_reboot_stays_closed() {
    let mut stage = rebooted();
    let ports = stage.lab.node("a").netns().run(|| {
        let bound: Vec<_> = (23400..23416)
            .map(|port| UdpSocket::bind(("::", port)).expect("free"))
            .collect();
        bound
    });
    ends(&mut stage, &["UDP port", "in use"]);
    assert_closed(&stage);
    drop(ports);
}

#[test]
fn a_node_whose_own_manifest_is_missing_after_a_reboot_stays_closed_until_it_is_there() {
    let mut stage = rebooted();
    stage.mesh.replicas().hide("a", "node-a.yaml");
    thread::sleep(Duration::from_millis(200));
    stage.mesh.start_node(&stage.lab, "a").expect("keyd starts");
    thread::sleep(Duration::from_secs(2));
    assert!(stage.mesh.process("a").is_running(), "{}", stage.mesh.log("a"));
    assert_closed(&stage);
    stage.mesh.replicas().unhide("a", "node-a.yaml");
    assert_recovers(&stage);
}

#[test]
fn flows_wait_for_no_timer_when_the_peer_learns_the_new_keys_late() {
    let mut stage = rebooted();
    stage.mesh.replicas().hide("b", "nodetunnel-a.yaml");
    stage.mesh.start_node(&stage.lab, "a").expect("keyd starts");
    stage.mesh.wait_encrypted().expect("phases stay");
    stage.lab.fabric().reset().expect("the fabric counts from zero");
    // Ports of 16 flows: no lane is without one.
    let b1 = stage.lab.pod("b1");
    let to = b1.v4();
    let sockets: Vec<UdpSocket> = (0..16).map(|_| socket_in(&stage, "a1")).collect();
    let server = socket_in(&stage, "b1");
    let port = server.local_addr().expect("bound").port();
    for socket in &sockets {
        socket.send_to(b"waits", (to, port)).expect("sent");
    }
    thread::sleep(Duration::from_millis(500));
    stage.mesh.replicas().unhide("b", "nodetunnel-a.yaml");
    let begin = Instant::now();
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    for n in 0..sockets.len() {
        server
            .recv_from(&mut [0; 16])
            .unwrap_or_else(|error| panic!("packet {n} of 16: {error}"));
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    stage.assert_no_clear();
}

fn socket_in(stage: &Stage, pod: &str) -> UdpSocket {
    let netns = stage.lab.pod(pod).netns();
    let socket = netns.run(|| UdpSocket::bind("0.0.0.0:0"));
    socket.expect("in the pod").expect("free")
}

#[test]
fn a_node_that_cannot_listen_after_a_reboot_stays_closed() {
    let mut stage = rebooted();
    let socket = stage.lab.node("a").state_dir().join("keyd.sock");
    let listener = UnixListener::bind(&socket).expect("free");
    ends(&mut stage, &["keyd.sock", "in use"]);
    assert!(socket.exists(), "somebody else's socket was removed");
    assert_closed(&stage);
    drop(listener);
    stage.mesh.start_node(&stage.lab, "a").expect("keyd starts");
    assert_recovers(&stage);
}

#[test]
fn a_node_that_cannot_load_its_programs_after_a_reboot_stays_closed() {
    let mut stage = rebooted();
    let pins = stage.lab.node("a").pin_dir();
    let version = pins.join(format!("v{}", hauberk_abi::ABI_VERSION));
    symlink("/nonexistent", &version).expect("a link that leads nowhere");
    ends(&mut stage, &[version.to_str().expect("UTF-8")]);
    assert_closed(&stage);
    std::fs::remove_file(&version).expect("removed");
    stage.mesh.start_node(&stage.lab, "a").expect("keyd starts");
    assert_recovers(&stage);
}
