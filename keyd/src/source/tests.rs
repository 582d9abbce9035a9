//! A directory as users, nodes and accidents change it.

use std::fs;
use std::time::{Duration, Instant};

use hauberk_api::{
    GenerationSpec, LaneSpec, MeshPhase, MeshStatus, NodeTunnelSpec, NodeTunnelStatus, PublicKey,
};

use std::path::Path;

use super::*;
use crate::compute::conditions::condition;

struct Lab {
    dir: tempfile::TempDir,
    source: dir::Watch,
    updates: watch::Receiver<Update>,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (source, updates) = dir::Watch::start(dir.path()).unwrap();
        Self { dir, source, updates }
    }

    /// As editors and keyd write: aside, then renamed.
    fn rename(&self, name: &str, text: &str) {
        let aside = self.dir.path().join(".aside");
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, self.dir.path().join(name)).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn wait(&mut self, what: &str, holds: impl Fn(&Update) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(&self.updates.borrow()) {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{what}: {:?}",
                *self.updates.borrow()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        began.elapsed()
    }
}

fn mesh(enabled: bool) -> String {
    format!(
        "apiVersion: hauberk.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\n\
         spec:\n  encryption:\n    enabled: {enabled}\n"
    )
}

fn is_on(update: &Update) -> Option<bool> {
    update
        .snapshot
        .mesh
        .as_ref()
        .map(|mesh| mesh.spec.encryption.enabled)
}

#[test]
fn a_renamed_file_is_seen_at_once_and_a_removed_one_takes_its_objects_with_it() {
    let mut lab = Lab::new();
    lab.rename("mesh.yaml", &mesh(false));
    lab.wait("the file", |update| is_on(update) == Some(false));
    lab.rename("mesh.yaml", &mesh(true));
    let took = lab.wait("the flag", |update| is_on(update) == Some(true));
    assert!(took < Duration::from_secs(2), "{took:?}");
    fs::remove_file(lab.dir.path().join("mesh.yaml")).unwrap();
    lab.wait("the removal", |update| is_on(update).is_none());
}

#[test]
fn everything_there_has_been_read_when_the_watch_starts() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mesh.yaml"), mesh(true)).unwrap();
    let (_source, updates) = dir::Watch::start(dir.path()).unwrap();
    assert_eq!(is_on(&updates.borrow()), Some(true));
}

#[test]
fn a_bad_file_leaves_its_last_good_version_in_force_and_the_others_work() {
    let mut lab = Lab::new();
    lab.rename("mesh.yaml", &mesh(true));
    lab.wait("the flag", |update| is_on(update) == Some(true));
    lab.write(
        "mesh.yaml",
        &mesh(true).replace("enabled: true", "enabled: maybe"),
    );
    lab.rename("node.yaml", "{apiVersion: v1, kind: Node, metadata: {name: a}}\n");
    lab.wait("the problem", |update| {
        !update.problems.is_empty() && update.snapshot.nodes.contains_key("a")
    });
    assert_eq!(is_on(&lab.updates.borrow()), Some(true));
    let text = lab.updates.borrow().problems[0].to_string();
    assert!(
        text.starts_with("mesh.yaml:6: spec.encryption.enabled: "),
        "{text}"
    );
    lab.write("mesh.yaml", "");
    lab.wait("the empty file", |update| {
        update
            .problems
            .iter()
            .any(|problem| problem.text.contains("empty"))
    });
    assert_eq!(is_on(&lab.updates.borrow()), Some(true));
    lab.rename("mesh.yaml", &mesh(false));
    lab.wait("the repair", |update| {
        is_on(update) == Some(false) && update.problems.is_empty()
    });
}

#[test]
fn a_file_that_is_still_being_written_is_not_believed() {
    let mut lab = Lab::new();
    lab.rename("mesh.yaml", &mesh(true));
    lab.wait("the flag", |update| is_on(update) == Some(true));
    let half = mesh(true);
    // Valid YAML, and it would switch encryption off.
    lab.write("mesh.yaml", &half[..half.find("\n    enabled").unwrap()]);
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(is_on(&lab.updates.borrow()), Some(true));
    lab.write("mesh.yaml", &mesh(true));
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(is_on(&lab.updates.borrow()), Some(true));
}

#[test]
fn a_file_without_a_newline_at_its_end_counts_once_it_is_left_alone() {
    let mut lab = Lab::new();
    lab.rename("mesh.yaml", mesh(true).trim_end());
    lab.wait("the flag", |update| is_on(update) == Some(true));
}

#[test]
fn an_object_in_two_files_is_taken_from_the_first_by_name() {
    let mut lab = Lab::new();
    lab.rename("b.yaml", &mesh(false));
    lab.rename("a.yaml", &mesh(true));
    lab.wait("both", |update| {
        is_on(update) == Some(true) && update.problems.len() == 1
    });
    assert_eq!(
        lab.updates.borrow().problems[0].to_string(),
        "b.yaml: Mesh default is also in a.yaml, which counts"
    );
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let text = dir::Watch::start(Path::new("/nonexistent/manifests"))
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(text.contains("/nonexistent/manifests"), "{text}");
}

#[test]
fn an_own_tunnel_is_written_when_it_differs_and_its_conditions_keep_their_times() {
    let mut lab = Lab::new();
    let lane = LaneSpec {
        public_key: PublicKey::from_bytes([3; 32]),
        port: 23400,
    };
    let generations = vec![GenerationSpec {
        id: 1,
        lanes: vec![lane],
        binding: None,
    }];
    let addresses = vec!["192.168.77.1".parse().unwrap()];
    let mut tunnel = NodeTunnel::new(
        "a",
        NodeTunnelSpec {
            generations,
            addresses,
        },
    );
    let with = |encrypted, reason| {
        Some(NodeTunnelStatus {
            conditions: vec![condition("Encrypted", encrypted, reason, String::new())],
        })
    };
    tunnel.status = with(false, "PairsLag");
    assert!(lab.source.publish_tunnel(&tunnel).unwrap());
    assert!(!lab.source.publish_tunnel(&tunnel).unwrap());
    lab.wait("the tunnel", |update| update.snapshot.tunnels.contains_key("a"));
    let time = |lab: &Lab| {
        let update = lab.updates.borrow();
        let condition = update.snapshot.tunnels["a"].condition("Encrypted").unwrap();
        (condition.reason.clone(), condition.last_transition_time.clone())
    };
    let first = time(&lab).1;
    std::thread::sleep(Duration::from_millis(1_100));
    tunnel.status = with(false, "Off");
    assert!(lab.source.publish_tunnel(&tunnel).unwrap());
    lab.wait("the reason", |update| {
        update.snapshot.tunnels["a"]
            .condition("Encrypted")
            .is_some_and(|found| found.reason == "Off")
    });
    assert_eq!(time(&lab).1, first);
    tunnel.status = with(true, "AllPairsStrict");
    assert!(lab.source.publish_tunnel(&tunnel).unwrap());
    lab.wait("the status", |update| {
        update.snapshot.tunnels["a"]
            .condition("Encrypted")
            .is_some_and(|found| found.status == "True")
    });
    assert!(time(&lab).1 > first);
}

#[test]
fn the_controllers_status_is_read_beside_the_users_mesh() {
    let mut lab = Lab::new();
    lab.rename("mesh.yaml", &mesh(true));
    let status = MeshStatus {
        phase: MeshPhase::Encrypted,
        nodes: 3,
        encrypted_nodes: 3,
        ..Default::default()
    };
    assert!(lab.source.publish_mesh_status(&status).unwrap());
    assert!(!lab.source.publish_mesh_status(&status).unwrap());
    lab.wait("both", |update| {
        is_on(update) == Some(true)
            && update
                .snapshot
                .mesh_status()
                .is_some_and(|status| status.phase == MeshPhase::Encrypted)
    });
    assert!(lab.updates.borrow().problems.is_empty());
}
