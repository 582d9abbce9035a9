//! Whatever the user's reverse path filter says, packets pass, and it says the same afterwards.

use std::process::Command;

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Node, Wiring};

use crate::stage::{Stage, said};

fn settings(node: &Node) -> String {
    let mut command: Command = node.command("sh");
    // Lanes' devices come and go; only what was there before is the user's.
    command.args([
        "-c",
        "grep -H . /proc/sys/net/ipv4/conf/*/rp_filter | grep -v conf/hbk",
    ]);
    let output = command.output().expect("sh runs");
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_rp_filter_passes_and_stays() {
    for enforcer in ["Hauberk", "CNI"] {
        for value in ["0", "1", "2"] {
            let lab = Lab::new(LabSpec::two_nodes("rpf", Wiring::Routed)).expect("the lab comes up");
            for node in lab.nodes() {
                let set = format!("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {value} > $f; done");
                assert!(
                    node.command("sh")
                        .args(["-c", &set])
                        .status()
                        .expect("sh runs")
                        .success()
                );
            }
            let before: Vec<_> = lab.nodes().iter().map(settings).collect();
            let stage = Stage::on(
                lab,
                ManifestSpec {
                    enforcer: enforcer.into(),
                    ..ManifestSpec::default()
                },
            );
            stage.encrypt();
            let pings = stage.ping(
                "a1",
                stage.lab.pod("b1").v4(),
                &["-c", "5", "-i", "0.1", "-W", "2"],
            );
            assert_eq!(
                pings.received(),
                5,
                "{enforcer}, rp_filter {value}: {}",
                pings.text
            );
            let back = stage.ping(
                "b1",
                stage.lab.pod("a1").v4(),
                &["-c", "5", "-i", "0.1", "-W", "2"],
            );
            assert_eq!(back.received(), 5, "{enforcer}, rp_filter {value}: {}", back.text);
            stage.assert_no_clear();
            let after: Vec<_> = stage.lab.nodes().iter().map(settings).collect();
            assert_eq!(before, after, "{enforcer}: keyd changed rp_filter");
        }
    }
}
