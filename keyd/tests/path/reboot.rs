//! A node that comes up again without what the kernel held, and cannot have its lanes.

use std::{net::UdpSocket, process::Command, time::Duration};

use hauberk_netlab::{LabSpec, ManifestSpec, Node, Wiring};

use crate::stage::{Stage, said};

/// What a reboot takes: programs, maps, devices, rules, and the state on tmpfs. What is on disk stays.
fn reboot(node: &Node) {
    let (pins, state) = (node.pin_dir().display(), node.state_dir().display());
    let script = format!(
        "rm -rf {pins}/*; find {state} -maxdepth 1 -type f -delete; for d in $(ip -o link | grep -o 'hbk[0-9]*'); do ip link del $d; done; \
         nft delete table inet hauberk; true"
    );
    let mut command: Command = node.command("sh");
    let output = command.args(["-c", &script]).output().expect("sh runs");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_node_that_cannot_have_its_lanes_after_a_reboot_stays_closed() {
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

    let ports = stage.lab.node("a").netns().run(|| {
        let bound: Vec<_> = (23400..23416)
            .map(|port| UdpSocket::bind(("::", port)).expect("free"))
            .collect();
        bound
    });
    stage.mesh.start_node(&stage.lab, "a").expect("keyd starts");
    let status = stage
        .mesh
        .process("a")
        .wait(Duration::from_secs(10))
        .expect("waited");
    assert!(
        status.is_some_and(|status| !status.success()),
        "keyd runs without lanes: {}",
        stage.mesh.log("a")
    );
    stage.lab.fabric().reset().expect("the fabric counts from zero");
    let pings = stage.ping("a1", to, &["-c", "5", "-i", "0.2", "-W", "1"]);
    assert_eq!(pings.received(), 0, "{}", pings.text);
    let counts = stage.lab.fabric().counts().expect("the fabric counts");
    assert_eq!(counts.covered.packets(), 0, "in clear: {:?}", counts.covered);
    drop(ports);
}
