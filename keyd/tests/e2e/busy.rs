//! Nodes whose cores are all busy with pods.

use std::time::Duration;

use hauberk_netlab::Wiring;
use hauberk_netlab::kubernetes::Families;

use crate::cluster::Cluster;
use crate::hauberk::NEW;

/// So slow one round trip of a hundred may be.
const SLOW: Duration = Duration::from_millis(5);
const ROUND_TRIPS: usize = 300;
/// Seconds between two. With 0.01 and less ping spins until the next is due, and takes a core by itself.
const BETWEEN: &str = "0.03";
/// What else the machine does, as the control plane and a hypervisor that takes a core away, only ever adds to it: one of
/// so many has to do.
const RUNS: usize = 20;
/// Pods on each node that never rest.
const BURNERS: usize = 2;

/// Round trips from node `a` to the talk's server on `b`, the shortest first; all of them were answered.
fn round_trips(cluster: &Cluster) -> Vec<Duration> {
    let mut ping = cluster.worker("a").command("ping");
    let count = ROUND_TRIPS.to_string();
    let output = ping
        .args(["-c", &count, "-i", BETWEEN, &cluster.partner()])
        .output();
    let output = output.expect("ping runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let milliseconds = text.lines().filter_map(|line| {
        line.split_once("time=")?
            .1
            .strip_suffix(" ms")?
            .parse::<f64>()
            .ok()
    });
    let mut trips: Vec<_> = milliseconds
        .map(|time| Duration::from_secs_f64(time / 1e3))
        .collect();
    assert_eq!(trips.len(), ROUND_TRIPS, "all are answered: {text}");
    trips.sort();
    trips
}

#[test]
fn with_every_core_busy_with_pods_the_tunnel_stays_quick_and_handshakes_succeed() {
    let mut cluster = Cluster::start("e2e-busy", Wiring::Routed, false, Families::Dual);
    cluster.start_talk();
    cluster.install_hauberk();
    cluster.set_encryption(true);
    cluster.lab.fabric().reset().expect("the fabric counts from zero");
    for node in ["a", "b"] {
        for number in 0..BURNERS {
            cluster.start_burner(&format!("burner-{node}-{number}"), node);
        }
    }
    // Nodes that shared a core would wait for each other's pods, which machines do not.
    for (core, worker) in cluster.workers.iter().enumerate() {
        let kept = worker.keep_to_core(&cluster.lab, core);
        kept.expect("there are as many cores as nodes");
    }
    let mut slowest = (0..RUNS).map(|_| {
        let trips = round_trips(&cluster);
        let slow = trips[ROUND_TRIPS * 99 / 100 - 1];
        eprintln!("median {:?}, 99 of 100 within {slow:?}", trips[ROUND_TRIPS / 2]);
        slow
    });
    assert!(
        slowest.any(|slow| slow < SLOW),
        "99 of 100 are never within {SLOW:?}"
    );

    // Both nodes' keys are new afterwards, and so are all sessions.
    cluster.update_keyd(NEW);
    cluster.wait_phase("Encrypted");
    round_trips(&cluster);
    assert_eq!(cluster.covered_in_clear(), 0, "nothing in clear");
}
