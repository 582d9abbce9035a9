//! One bulk connection through both flips: the kernel's conntrack, which saw half of it, must not cut it off.

use std::{thread, time::Duration};

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};

use crate::stage::{Stage, iperf, iperf_server};

#[test]
fn a_bulk_connection_outlives_both_flips() {
    for enforcer in ["Hauberk", "CNI"] {
        let manifests = ManifestSpec {
            enforcer: enforcer.into(),
            ..ManifestSpec::default()
        };
        let stage = Stage::clear(LabSpec::two_nodes("bulk", Wiring::Routed), manifests);
        let _server = iperf_server(&stage.lab, "b1");
        let to = stage.lab.pod("b1").v4();
        thread::scope(|scope| {
            let bulk = scope.spawn(|| iperf(&stage.lab, "a1", to, &["-t", "16", "-i", "1"]));
            thread::sleep(Duration::from_secs(2));
            stage.encrypt();
            thread::sleep(Duration::from_secs(3));
            stage.assert_no_clear();
            stage.mesh.set_encryption(false).expect("the flag is set");
            let off = |state: &serde_json::Value| state["lanes"].as_array().is_some_and(Vec::is_empty);
            stage
                .mesh
                .wait("no lane is left", Duration::from_secs(10), off)
                .expect("off");
            assert!(
                !bulk.is_finished(),
                "the connection ended before the flip back did, which shows nothing"
            );

            let report = bulk.join().expect("iperf3 ran");
            let intervals = report["intervals"].as_array().expect("intervals");
            let mbytes: Vec<_> = intervals
                .iter()
                .map(|i| i["sum"]["bytes"].as_u64().unwrap_or(0) / 1_000_000)
                .collect();
            println!("{enforcer}: MB in each second: {mbytes:?}");
            assert!(
                mbytes.iter().all(|&second| second > 0),
                "{enforcer}: nothing passed for a second: {mbytes:?}"
            );
        });
    }
}
