//! Nodes that come, go and are updated while the mesh is on.

use std::io::Read;
use std::process::{Child, Stdio};
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

/// Pings from node `a` to the talk's server, 50 a second, until dropped.
struct Pings(Child);

impl Pings {
    fn start(cluster: &Cluster) -> Self {
        let mut ping = cluster.lab.node("a").command("ping");
        ping.args(["-D", "-i", "0.02", &cluster.partner()])
            .stdout(Stdio::piped());
        Self(ping.spawn().expect("ping runs"))
    }

    /// The longest time without an answer.
    fn longest_pause(mut self) -> Duration {
        self.0.kill().expect("it ran until now");
        let mut text = String::new();
        let mut stdout = self.0.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut text).expect("text");
        let times = text
            .lines()
            .filter(|line| line.contains("time="))
            .map(|line| -> Option<f64> { line.strip_prefix('[')?.split_once(']')?.0.parse().ok() });
        let times: Vec<_> = times.map(|time| time.expect("seconds since 1970")).collect();
        assert!(times.len() > 100, "most are answered: {text}");
        let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_secs_f64(pauses.fold(0.0, f64::max))
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_rolling_update_of_the_daemon_set_pauses_traffic_briefly_and_never_opens_it() {
    let cluster = encrypted("e2e-roll", Wiring::Routed);
    assert!(cluster.images().iter().all(|image| image.ends_with(OLD)));
    let pings = Pings::start(&cluster);
    cluster.update_keyd(NEW);
    assert!(cluster.images().iter().all(|image| image.ends_with(NEW)));
    // An update may be over in less time than it takes to see that traffic flows.
    std::thread::sleep(PAUSE);
    let pause = pings.longest_pause();
    // TCP waits for longer, since it doubles the time between two tries.
    for way in &cluster.ways {
        let before = cluster.heard(way);
        cluster.eventually("it goes on", || cluster.heard(way).words > before.words);
        eprintln!("{way}: longest silence {:?}", cluster.heard(way).longest);
    }
    eprintln!("longest pause {pause:?}");
    assert!(
        pause < PAUSE,
        "traffic was held up for {pause:?}\n{}",
        cluster.describe()
    );
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
