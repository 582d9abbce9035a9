//! `kubectl patch mesh default` under traffic between real pods, by pod address and ClusterIP, both families.

use std::time::Duration;

use hauberk_netlab::Wiring;

use crate::cluster::Cluster;

/// A flip may hold a connection up this long.
const STALL: Duration = Duration::from_secs(1);

fn flip(name: &str, wiring: Wiring, overlay: bool) {
    let mut cluster = Cluster::start(name, wiring, overlay);
    cluster.start_talk();
    assert!(cluster.in_clear() > 0, "the pods' words are seen in clear before");
    cluster.start_hauberk();

    cluster.set_encryption(true);
    let spoken: Vec<_> = Cluster::WAYS.map(|way| cluster.heard(way).words).into();
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
    for (way, spoken) in Cluster::WAYS.iter().zip(spoken) {
        assert!(cluster.heard(way).words > spoken, "{way} goes on");
    }

    cluster.set_encryption(false);
    std::thread::sleep(Duration::from_secs(2));
    assert!(cluster.in_clear() > 0, "in clear again");
    for way in Cluster::WAYS {
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
    flip("e2e-ptp", Wiring::Routed, false);
}

#[test]
fn pods_wired_by_a_bridge_over_vxlan_are_encrypted_live_by_address_and_by_service() {
    flip("e2e-vxlan", Wiring::Bridged, true);
}
