//! What others on a node undo: rules, devices, settings, addresses. It is noticed and mended.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Mesh, Node, Wiring};

use crate::stage::{Stage, keyd, said};

fn sh(node: &Node, script: &str) -> String {
    let output = node.command("sh").args(["-c", script]).output().expect("sh runs");
    assert!(output.status.success(), "{script}: {}", said(&output));
    said(&output)
}

#[track_caller]
fn wait(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < patience, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn stage() -> Stage {
    Stage::encrypted(
        LabSpec::two_nodes("undo", Wiring::Routed),
        ManifestSpec::default(),
    )
}

#[test]
fn a_fence_that_somebody_flushed_is_back_and_it_is_said() {
    let stage = stage();
    let node = stage.lab.node("a");
    sh(node, "nft flush ruleset");
    wait("the table is back", Duration::from_secs(15), || {
        sh(node, "nft list ruleset").contains("table inet hauberk")
    });
    wait("it is said", Duration::from_secs(5), || {
        stage.mesh.state("a")["problems"]
            .to_string()
            .contains("FenceDisplaced")
    });
    assert_eq!(stage.mesh.state("a")["ready"], true);
}

#[test]
fn a_device_that_was_away_for_a_moment_is_guarded_again_at_once() {
    // A clsact qdisc goes when its device leaves the namespace; TCX links stay on it.
    let lab = Lab::new(LabSpec::two_nodes("away", Wiring::Routed)).expect("the lab comes up");
    lab.fabric()
        .set_covered(&lab.pod_cidrs())
        .expect("the fabric counts");
    let clsact = [("HAUBERK_ATTACH", "clsact")];
    let mesh = Mesh::start(&lab, keyd(), &ManifestSpec::default(), &clsact).expect("keyd starts");
    let mut stage = Stage { mesh, lab };
    stage.encrypt();
    let process = stage.mesh.process("a").id();
    let (node, name) = (stage.lab.node("a"), stage.lab.node("a").netns().name());
    let to = stage.lab.pod("b1").v4();
    sh(
        node,
        "ip link add away type veth peer name home && sysctl -qw net.ipv6.conf.away.disable_ipv6=1 \
         && ip link set home up && ip link set away up",
    );
    thread::sleep(Duration::from_secs(1));
    let sent = || {
        let line = sh(node, "ip -s -o link show away");
        let numbers = line.split("TX:").nth(1).expect("it has counters");
        let packets = numbers
            .split_whitespace()
            .filter_map(|word| word.trim_end_matches('\\').parse::<u64>().ok())
            .nth(1);
        packets.expect("packets sent")
    };
    // The tick mends as well, once a second.
    for round in 0..6 {
        // keyd finds the device as it was: it has looked neither before nor in between.
        let script = format!(
            "set -e; ip netns add {name}-away; kill -STOP {process}; ip link set away netns {name}-away; \
             ip -n {name}-away link set away netns {name}; sysctl -qw net.ipv6.conf.away.disable_ipv6=1; \
             ip link set away up; kill -CONT {process}; ip netns del {name}-away"
        );
        sh(node, &script);
        thread::sleep(Duration::from_millis(150));
        let before = sent();
        let script = format!(
            "ip route add {to}/32 dev away; ip neigh replace {to} lladdr 02:00:00:00:00:99 dev away nud permanent; \
             ping -c 10 -i 0.01 -W 0.1 {to}; ip route del {to}/32 dev away"
        );
        sh(node, &script);
        assert_eq!(
            sent() - before,
            0,
            "round {round}: in clear by an unguarded device"
        );
    }
}

#[test]
fn a_setting_that_somebody_reset_is_set_again() {
    let stage = stage();
    let node = stage.lab.node("a");
    let setting = "net.netfilter.nf_conntrack_tcp_be_liberal";
    sh(node, &format!("sysctl -qw {setting}=0"));
    wait("conntrack is liberal", Duration::from_secs(3), || {
        sh(node, &format!("sysctl -n {setting}")).trim() == "1"
    });
    stage.mesh.set_encryption(false).expect("the flag is set");
    wait("the first value is back", Duration::from_secs(20), || {
        sh(node, &format!("sysctl -n {setting}")).trim() == "0"
    });
}

#[test]
fn a_node_whose_address_changed_still_agrees_with_its_peers() {
    let stage = stage();
    sh(stage.lab.node("a"), "ip addr add 192.168.77.101/24 dev eth0");
    let manifest = stage.mesh.replicas().shared().join("node-a.yaml");
    let before = fs::read_to_string(&manifest).expect("a manifest");
    let after = before.replace("address: 192.168.77.1\n", "address: 192.168.77.101\n");
    assert_ne!(before, after);
    fs::write(&manifest, after).expect("written");
    let published = stage.mesh.replicas().shared().join("nodetunnel-a.yaml");
    wait("it is published", Duration::from_secs(10), || {
        fs::read_to_string(&published).is_ok_and(|text| text.contains("192.168.77.101"))
    });
    thread::sleep(Duration::from_secs(1));
    stage.mesh.set_encryption(false).expect("the flag is set");
    stage
        .mesh
        .wait("every pair is Off", Duration::from_secs(20), |state| {
            state["peers"][0]["phase"] == "Off"
        })
        .expect("both understand each other");
    stage.encrypt();
}

#[test]
fn a_second_keyd_leaves_the_first_alone() {
    let stage = stage();
    let node = stage.lab.node("a");
    let mut command = node.command(keyd());
    command
        .args(["node", "--node", "a", "--listen", "127.0.0.1:9240"])
        .arg(format!(
            "--source=dir:{}",
            stage.mesh.replicas().dir("a").display()
        ))
        .arg(format!("--state-dir={}", node.state_dir().display()))
        .arg(format!("--memory-dir={}", node.memory_dir().display()))
        .arg(format!("--pin-dir={}", node.pin_dir().display()));
    let output = command.output().expect("keyd runs");
    assert!(!output.status.success());
    assert!(said(&output).contains("another keyd runs"), "{}", said(&output));
    let to = stage.lab.pod("b1").v4();
    let pings = stage.ping("a1", to, &["-c", "5", "-i", "0.2", "-W", "2"]);
    assert_eq!(pings.received(), 5, "{}", pings.text);
    stage.assert_no_clear();
}
