//! Beside a policy engine that was there before: what it denies stays denied, encrypted or not.

use hauberk_netlab::Wiring;
use hauberk_netlab::kubernetes::Families;
use serde_json::json;

use crate::cluster::Cluster;

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
