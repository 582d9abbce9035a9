//! Replicas of a directory of manifests, with real files.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::Replicas;
use tempfile::TempDir;

fn eventually(what: &str, holds: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "not within 5 s: {what}"
        );
        thread::sleep(Duration::from_millis(2));
    }
    started.elapsed()
}

fn has(dir: &Path, name: &str, content: &str) -> bool {
    fs::read_to_string(dir.join(name)).is_ok_and(|text| text == content)
}

fn start() -> (TempDir, Replicas) {
    let dir = TempDir::new().unwrap();
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("mesh.yaml"), "1").unwrap();
    let replicas = Replicas::start(&shared, &dir.path().join("replicas"), &["a", "b"]).unwrap();
    (dir, replicas)
}

#[test]
fn what_is_written_anywhere_arrives_everywhere() {
    let (_dir, replicas) = start();
    assert!(has(replicas.dir("a"), "mesh.yaml", "1") && has(replicas.dir("b"), "mesh.yaml", "1"));
    fs::write(replicas.dir("a").join("nodetunnel-a.yaml"), "key").unwrap();
    eventually("at the other node", || {
        has(replicas.dir("b"), "nodetunnel-a.yaml", "key")
    });
    eventually("in the shared directory", || {
        has(replicas.shared(), "nodetunnel-a.yaml", "key")
    });
    fs::remove_file(replicas.shared().join("nodetunnel-a.yaml")).unwrap();
    eventually("removed", || {
        !replicas.dir("a").join("nodetunnel-a.yaml").exists()
    });
    fs::write(replicas.dir("b").join("state-b.json"), "{}").unwrap();
    eventually("state", || has(replicas.shared(), "state-b.json", "{}"));
    thread::sleep(Duration::from_millis(100));
    assert!(!replicas.dir("a").join("state-b.json").exists());
}

#[test]
fn a_delay_holds_a_change_back_from_one_node_only() {
    let (_dir, replicas) = start();
    replicas.delay("b", "mesh*.yaml", Duration::from_millis(600));
    fs::write(replicas.shared().join("mesh.yaml"), "2").unwrap();
    eventually("at a", || has(replicas.dir("a"), "mesh.yaml", "2"));
    assert!(has(replicas.dir("b"), "mesh.yaml", "1"));
    let took = eventually("at b", || has(replicas.dir("b"), "mesh.yaml", "2"));
    assert!(took > Duration::from_millis(400), "{took:?}");
}

#[test]
fn a_hidden_file_is_gone_for_one_node_until_it_is_given_back() {
    let (_dir, replicas) = start();
    replicas.hide("b", "mesh.yaml");
    eventually("hidden", || !replicas.dir("b").join("mesh.yaml").exists());
    assert!(has(replicas.dir("a"), "mesh.yaml", "1"));
    fs::write(replicas.shared().join("mesh.yaml"), "2").unwrap();
    eventually("at a", || has(replicas.dir("a"), "mesh.yaml", "2"));
    replicas.unhide("b", "mesh.yaml");
    eventually("given back", || has(replicas.dir("b"), "mesh.yaml", "2"));
}
