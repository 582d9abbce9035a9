//! Pods' neighbour discovery, multicast listener reports and duplicate address detection pass the programs.

use std::{thread, time::Duration};

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};

use crate::stage::{Stage, ping, said};

#[test]
fn discovery_listener_reports_and_duplicate_detection_of_pods_pass() {
    for wiring in [Wiring::Routed, Wiring::Bridged] {
        let stage = Stage::encrypted(LabSpec::two_nodes("nd", wiring), ManifestSpec::default());
        let pod = stage.lab.pod("a1");
        let before = stage.dropped("a").get("SpoofedSource").copied().unwrap_or(0);
        // A new address makes the pod probe for a duplicate and report the address's solicited-node group.
        let take =
            "set -e; sysctl -qw net.ipv6.conf.eth0.accept_dad=1; ip -6 addr add fd77:1::4444/128 dev eth0";
        let output = pod.command("sh").args(["-c", take]).output().expect("sh runs");
        assert!(output.status.success(), "{}", said(&output));
        thread::sleep(Duration::from_secs(3));
        let addresses = pod
            .command("ip")
            .args(["-6", "addr", "show", "dev", "eth0"])
            .output()
            .expect("ip runs");
        let addresses = said(&addresses);
        assert!(
            addresses.contains("fd77:1::4444") && !addresses.contains("dadfailed"),
            "{addresses}"
        );
        assert!(
            !addresses.contains("tentative"),
            "{wiring:?}: still probing: {addresses}"
        );

        // The host resolves the pod anew, in both families.
        let node = stage.lab.node("a");
        for to in [pod.v4().into(), pod.v6().into()] {
            let flush = node
                .command("ip")
                .args(["neigh", "flush", "dev", flushed_device(&stage)])
                .status();
            assert!(flush.expect("ip runs").success());
            let pings = ping(node.command("ping"), to, &["-c", "2", "-i", "0.2", "-W", "2"]);
            assert_eq!(pings.received(), 2, "{wiring:?} to {to}: {}", pings.text);
        }
        let after = stage.dropped("a").get("SpoofedSource").copied().unwrap_or(0);
        assert_eq!(
            before, after,
            "{wiring:?}: the pod's own housekeeping was taken for spoofing"
        );

        // The address that it took by itself is not the pod's: nothing from it gets out.
        let pings = stage.ping(
            "a1",
            stage.lab.pod("b1").v6(),
            &["-c", "3", "-i", "0.2", "-W", "1", "-I", "fd77:1::4444"],
        );
        assert_eq!(pings.received(), 0, "{wiring:?}: {}", pings.text);
    }
}

fn flushed_device(stage: &Stage) -> &str {
    match stage.lab.node("a").wiring() {
        Wiring::Routed => stage.lab.pod("a1").host_interface(),
        Wiring::Bridged => "cni0",
    }
}
