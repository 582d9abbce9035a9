//! `kubectl patch mesh default` under traffic between real pods, by pod address, ClusterIP and NodePort, both
//! families.

use std::time::Duration;

use hauberk_netlab::Wiring;
use hauberk_netlab::kubernetes::Families;

use crate::cluster::Cluster;

/// A flip may hold a connection up this long.
const STALL: Duration = Duration::from_secs(1);

fn flip(name: &str, wiring: Wiring, overlay: bool, families: Families) {
    let mut cluster = Cluster::start(name, wiring, overlay, families);
    cluster.start_talk();
    assert!(cluster.in_clear() > 0, "the pods' words are seen in clear before");
    if !overlay {
        assert!(cluster.covered_in_clear() > 0, "and so are their addresses");
    }
    cluster.install_hauberk();

    cluster.set_encryption(true);
    let spoken: Vec<_> = cluster.ways.iter().map(|way| cluster.heard(way).words).collect();
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    std::thread::sleep(Duration::from_secs(3));
    let crossed = cluster
        .lab
        .fabric()
        .counts()
        .expect("the fabric counts")
        .all
        .packets();
    assert!(crossed > 0, "something crossed");
    assert_eq!(
        cluster.in_clear(),
        0,
        "not a word in clear\n{}",
        cluster.describe()
    );
    assert_eq!(
        cluster.covered_in_clear(),
        0,
        "nor an address\n{}",
        cluster.describe()
    );
    for (way, spoken) in cluster.ways.iter().zip(spoken) {
        assert!(cluster.heard(way).words > spoken, "{way} goes on");
    }

    cluster.set_encryption(false);
    std::thread::sleep(Duration::from_secs(2));
    assert!(cluster.in_clear() > 0, "in clear again");
    for way in &cluster.ways {
        let heard = cluster.heard(way);
        eprintln!(
            "{name}: {way}: {} words, longest silence {:?}",
            heard.words, heard.longest
        );
        assert!(heard.longest < STALL, "{way} was held up for {:?}", heard.longest);
    }
    assert!(
        cluster.restarts().split(' ').all(|restarts| restarts == "0"),
        "no pod was restarted"
    );
}

#[test]
fn pods_wired_by_ptp_are_encrypted_live_by_address_and_by_service() {
    flip("e2e-ptp", Wiring::Routed, false, Families::Dual);
}

#[test]
fn pods_wired_by_a_bridge_over_vxlan_are_encrypted_live_by_address_and_by_service() {
    flip("e2e-vxlan", Wiring::Bridged, true, Families::Dual);
}

#[test]
fn a_cluster_with_ipv6_only_is_encrypted_live() {
    flip("e2e-v6", Wiring::Routed, false, Families::V6);
}

#[test]
fn an_api_server_that_is_killed_and_restarted_on_its_data_changes_nothing_for_real_pods() {
    let mut cluster = Cluster::start("e2e-api", Wiring::Routed, false, Families::Dual);
    cluster.start_talk();
    cluster.install_hauberk();
    cluster.set_encryption(true);
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    cluster.control_plane.kill_api_server().expect("it is killed");
    std::thread::sleep(Duration::from_secs(5));
    cluster.control_plane.start_api_server().expect("it comes back");
    for way in &cluster.ways {
        let heard = cluster.heard(way);
        assert!(heard.longest < STALL, "{way} was held up for {:?}", heard.longest);
    }
    assert_eq!(cluster.in_clear(), 0, "not a word in clear");
    cluster.set_encryption(false);
}
