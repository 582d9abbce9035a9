//! Pods that start while the mesh is on: never open, never late.

use std::time::Duration;

use hauberk_netlab::Wiring;
use hauberk_netlab::kubernetes::Families;

use crate::cluster::Cluster;

/// keyd starts so long after its node.
const LATE: Duration = Duration::from_secs(60);

#[test]
fn the_first_packet_of_a_container_and_of_its_hook_crosses_encrypted() {
    let mut cluster = Cluster::start("e2e-first", Wiring::Bridged, false, Families::Dual);
    cluster.start_talk();
    cluster.install_hauberk();
    cluster.set_encryption(true);
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    let partner = cluster.partner();
    for name in ["first", "second", "third"] {
        cluster.ask_at_once(name, "a", &partner);
    }
    assert_eq!(cluster.covered_in_clear(), 0, "nothing in clear");
}

#[test]
fn a_node_that_reboots_queues_its_pods_until_keyd_is_there_and_nothing_leaves_in_clear() {
    let mut cluster = Cluster::start("e2e-boot", Wiring::Routed, false, Families::Dual);
    cluster.start_talk();
    cluster.install_hauberk();
    cluster.set_encryption(true);
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    // keyd's pod is taken from the node, and what is in force stays; the node starts without it.
    cluster.want_keyd("b", false);
    cluster.reboot("b");
    std::thread::sleep(LATE);
    assert_eq!(
        cluster.covered_in_clear(),
        0,
        "nothing in clear while keyd is late"
    );
    let queued = cluster.sandbox_failures();
    assert!(
        queued.contains("hauberk"),
        "the pod waits for keyd, and says so: {queued}"
    );

    cluster.want_keyd("b", true);
    assert!(
        cluster.is_partner_ready(Duration::from_secs(60)),
        "{}",
        cluster.describe()
    );
    let partner = cluster.partner();
    cluster.ask_at_once("after", "a", &partner);
    assert_eq!(cluster.covered_in_clear(), 0, "nor after that");
    assert_eq!(cluster.in_clear(), 0);
}
