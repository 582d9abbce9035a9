//! Nodes that come, go and are updated while the mesh is on.

use std::time::Duration;

use hauberk_netlab::Wiring;
use hauberk_netlab::kubernetes::Families;

use crate::cluster::Cluster;
use crate::hauberk::{NEW, OLD};

/// An update of keyd may hold a node's traffic up this long.
const PAUSE: Duration = Duration::from_secs(2);

fn encrypted(name: &str, wiring: Wiring) -> Cluster {
    let mut cluster = Cluster::start(name, wiring, false, Families::Dual);
    cluster.start_talk();
    cluster.install_hauberk();
    cluster.set_encryption(true);
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    cluster
}

#[test]
fn a_rolling_update_of_the_daemon_set_pauses_traffic_briefly_and_never_opens_it() {
    let cluster = encrypted("e2e-roll", Wiring::Routed);
    assert!(cluster.images().iter().all(|image| image.ends_with(OLD)));
    cluster.update_keyd(NEW);
    assert!(cluster.images().iter().all(|image| image.ends_with(NEW)));
    std::thread::sleep(Duration::from_secs(2));
    for way in &cluster.ways {
        let heard = cluster.heard(way);
        eprintln!(
            "{way}: {} words, longest silence {:?}",
            heard.words, heard.longest
        );
        assert!(heard.longest < PAUSE, "{way} was held up for {:?}", heard.longest);
    }
    assert_eq!(cluster.in_clear(), 0, "not a word in clear");
    assert_eq!(cluster.covered_in_clear(), 0, "nor anything else of pods");
}

#[test]
fn a_node_that_joins_is_encrypted_from_its_first_pod_and_one_that_is_lost_takes_nothing_with_it() {
    let mut cluster = encrypted("e2e-join", Wiring::Bridged);
    cluster.add_node();
    cluster.wait_untainted("c");
    let partner = cluster.partner();
    cluster.ask_at_once("newcomer", "c", &partner);
    assert_eq!(cluster.covered_in_clear(), 0, "nothing in clear");

    cluster.power_off("c");
    cluster.kubectl(&["delete", "node", "c"]);
    cluster.eventually("its NodeTunnel is gone", || {
        cluster.try_kubectl(&["get", "nodetunnel", "c"], "").is_err()
    });
    let spoken: Vec<_> = cluster.ways.iter().map(|way| cluster.heard(way).words).collect();
    std::thread::sleep(Duration::from_secs(2));
    for (way, spoken) in cluster.ways.iter().zip(spoken) {
        assert!(cluster.heard(way).words > spoken, "{way} goes on");
    }
    assert_eq!(cluster.covered_in_clear(), 0, "nor after that");
    cluster.wait_phase("Encrypted");
}
