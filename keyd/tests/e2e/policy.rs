//! NetworkPolicies: beside an engine that was there before, what it denies stays denied, encrypted or not; and enforced by
//! Hauberk.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use hauberk_netlab::Wiring;
use hauberk_netlab::kubernetes::Families;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NODE_PORT};

/// Whether a pod gets an answer of the talk's server, by IPv4.
fn reaches(cluster: &Cluster, pod: &str) -> bool {
    let ask = format!("echo word | nc -w 2 {} 7", cluster.partner());
    let answer = cluster.try_kubectl(&["exec", pod, "--", "sh", "-c", &ask], "");
    answer.is_ok_and(|answer| answer == "word\n")
}

fn deny(cluster: &Cluster) {
    cluster.apply(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "partner"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "partner"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "talker"}}}]}],
        },
    }));
    cluster.eventually("the stranger is denied", || !reaches(cluster, "stranger"));
}

#[test]
fn what_the_clusters_own_policy_engine_denies_stays_denied_through_both_flips() {
    let mut cluster = Cluster::start("e2e-policy", Wiring::Routed, false, Families::Dual);
    for worker in &mut cluster.workers {
        worker.start_policy_engine().expect("kube-router starts");
    }
    cluster.start_talk();
    cluster.start_sleeper("stranger", "a");
    cluster.eventually("nobody is denied", || reaches(&cluster, "stranger"));
    deny(&cluster);

    cluster.install_hauberk();
    cluster.set_encryption(true);
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    assert!(!reaches(&cluster, "stranger"), "encrypted");
    // And what it does while the mesh is on counts as well, either way.
    cluster.kubectl(&["delete", "networkpolicy", "partner"]);
    cluster.eventually("nobody is denied any more", || reaches(&cluster, "stranger"));
    deny(&cluster);
    assert_eq!(cluster.covered_in_clear(), 0, "all of it was encrypted");
    let status = cluster.hauberk(&["status"]);
    assert!(status.contains("enforcer    CNI\n"), "{status}");

    cluster.set_encryption(false);
    assert!(!reaches(&cluster, "stranger"), "in clear again");
    for way in &cluster.ways {
        let spoken = cluster.heard(way).words;
        cluster.eventually("whom the policy allows talks on", || {
            cluster.heard(way).words > spoken
        });
    }
}

fn policy(cluster: &Cluster, name: &str, spec: Value) {
    cluster.apply(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec,
    }));
}

/// Whether somebody outside the cluster gets in by a node's NodePort, IPv4.
fn gets_in(cluster: &Cluster, node: &str) -> bool {
    let address = SocketAddr::new(cluster.lab.node(node).v4().into(), NODE_PORT);
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
    cluster
        .lab
        .node("c")
        .netns()
        .run(connect)
        .expect("the node is there")
}

#[test]
fn hauberk_lets_in_whom_a_policy_names_and_the_kubelet_and_nobody_else() {
    let mut cluster = Cluster::start("e2e-identity", Wiring::Bridged, false, Families::Dual);
    cluster.start_partner("b");
    for (name, node) in [("friend", "a"), ("stranger", "a"), ("neighbour", "b")] {
        cluster.start_sleeper(name, node);
    }
    cluster.eventually("the NodePort leads in", || gets_in(&cluster, "b"));
    cluster.install_hauberk();
    let enforcer = json!({"spec": {"policy": {"enforcer": "Hauberk"}}}).to_string();
    cluster.kubectl(&["patch", "mesh", "default", "--type", "merge", "-p", &enforcer]);
    cluster.set_encryption(true);
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    for pod in ["friend", "stranger", "neighbour"] {
        cluster.eventually("nobody is denied", || reaches(&cluster, pod));
    }
    cluster.eventually("the NodePort leads in still", || gets_in(&cluster, "b"));

    policy(
        &cluster,
        "deny",
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
    );
    for pod in ["friend", "stranger", "neighbour"] {
        cluster.eventually("all are denied", || !reaches(&cluster, pod));
    }
    assert!(
        !gets_in(&cluster, "b"),
        "masqueraded, it has the node's address, and is not the kubelet"
    );
    policy(
        &cluster,
        "friend",
        json!({
            "podSelector": {"matchLabels": {"app": "partner"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 7}]}],
        }),
    );
    cluster.eventually("the friend is let in", || reaches(&cluster, "friend"));
    assert!(!reaches(&cluster, "stranger") && !reaches(&cluster, "neighbour"));
    // More probes than it takes to be taken for dead.
    thread::sleep(Duration::from_secs(4));
    assert!(
        cluster.is_partner_ready(Duration::from_secs(1)),
        "the kubelet's probes pass"
    );

    // Who has the label, counts.
    cluster.kubectl(&["label", "pod", "friend", "app=foe", "--overwrite"]);
    cluster.eventually("a friend no more", || !reaches(&cluster, "friend"));
    cluster.kubectl(&["delete", "networkpolicy", "deny", "friend"]);
    cluster.eventually("nobody is denied any more", || reaches(&cluster, "stranger"));
    assert_eq!(cluster.covered_in_clear(), 0, "all of it was encrypted");
    let status = cluster.hauberk(&["status"]);
    assert!(status.contains("enforcer    Hauberk\n"), "{status}");
}
