//! A disk that takes nothing more: what cannot be noted is not put in force, and what is in force stays.

use std::{fs, path::PathBuf, thread, time::Duration};

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};

use crate::reboot::{assert_closed, assert_recovers, rebooted};
use crate::stage::Stage;

/// Writing node a's memory fails while this is there: it is made aside, where now a directory is.
struct FullDisk(PathBuf);

impl FullDisk {
    fn on_node_a(stage: &Stage) -> Self {
        let aside = stage.lab.node("a").memory_dir().join(".phases.json.new");
        fs::create_dir(&aside).expect("a directory");
        Self(aside)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn says_not_in_force(state: &serde_json::Value) -> bool {
    let problems = state["problems"].to_string();
    problems.contains("NotInForce") && problems.contains("phases.json") && state["ready"] == false
}

#[test]
fn a_full_disk_keeps_what_is_in_force_until_there_is_room() {
    let mut stage = Stage::encrypted(
        LabSpec::two_nodes("full", Wiring::Routed),
        ManifestSpec::default(),
    );
    let full = FullDisk::on_node_a(&stage);
    stage.mesh.set_encryption(false).expect("the flag is set");
    let begin = std::time::Instant::now();
    while !says_not_in_force(&stage.mesh.state("a")) {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{}",
            stage.mesh.state("a")
        );
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_secs(3));
    let state = stage.mesh.state("a");
    assert_eq!(
        (&state["encrypted"], state["ready"].as_bool()),
        (&false.into(), Some(false))
    );
    assert_eq!(state["peers"][0]["phase"], "Strict", "{state}");
    let own = stage.mesh.replicas().shared().join("nodetunnel-a.yaml");
    let own = fs::read_to_string(own).expect("published");
    assert_eq!(own.matches("reason: NotInForce").count(), 3, "{own}");
    assert!(stage.mesh.process("a").is_running(), "{}", stage.mesh.log("a"));
    let to = stage.lab.pod("b1").v4();
    let pings = stage.ping("a1", to, &["-c", "5", "-i", "0.2", "-W", "2"]);
    assert_eq!(pings.received(), 5, "{}", pings.text);
    stage.assert_no_clear();

    drop(full);
    stage
        .mesh
        .wait("every pair is Off", Duration::from_secs(20), |state| {
            state["ready"] == true && state["peers"][0]["phase"] == "Off"
        })
        .expect("all pairs go back");
}

#[test]
fn a_node_with_a_full_disk_after_a_reboot_stays_closed_until_there_is_room() {
    let mut stage = rebooted();
    let full = FullDisk::on_node_a(&stage);
    stage.mesh.start_node(&stage.lab, "a").expect("keyd starts");
    thread::sleep(Duration::from_secs(2));
    assert!(stage.mesh.process("a").is_running(), "{}", stage.mesh.log("a"));
    assert!(
        says_not_in_force(&stage.mesh.state("a")),
        "{}",
        stage.mesh.state("a")
    );
    assert_closed(&stage);
    drop(full);
    assert_recovers(&stage);
}
