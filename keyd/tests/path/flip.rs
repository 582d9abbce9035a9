//! The flag on and off under traffic, a peer without a key, and a crash between: nothing covered in clear, and
//! no connection lost.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};

use super::conversation::Conversation;
use super::stage::{Stage, said};

/// A flip may hold a connection up this long.
const STALL: Duration = Duration::from_secs(1);
/// Traffic is back this soon after what stopped it is over.
const RETURN: Duration = Duration::from_secs(2);
/// A connection that was held up goes on with its next retransmission, for which TCP waits longer and longer.
const RETRANSMISSION: Duration = Duration::from_secs(15);

fn flip(wiring: Wiring, enforcer: &str) {
    let spec = LabSpec::three_nodes("flip", wiring);
    let manifests = ManifestSpec {
        enforcer: enforcer.into(),
        ..ManifestSpec::default()
    };
    let mut stage = Stage::clear(spec, manifests);
    let (v4, v6) = (stage.lab.pod("b1").v4().into(), stage.lab.pod("b1").v6().into());
    let talks = [
        Conversation::start(&stage.lab, "a1", "b1", v4),
        Conversation::start(&stage.lab, "a2", "b1", v6),
        Conversation::start(&stage.lab, "c1", "b1", v4),
    ];
    let pause = |seconds| std::thread::sleep(Duration::from_secs(seconds));
    pause(1);
    let clear = stage.lab.fabric().counts().expect("the fabric counts");
    assert!(
        clear.covered.packets() > 0,
        "clear is seen as clear while the flag is off"
    );

    // On, with one node 3 s behind.
    stage
        .mesh
        .replicas()
        .delay("c", "mesh.yaml", Duration::from_secs(3));
    forget_waits(&talks);
    stage.encrypt();
    pause(1);
    stage.assert_no_clear();
    for talk in &talks {
        talk.goes_on(STALL);
        assert!(talk.longest_wait() < STALL, "the flip held a connection up");
    }
    stage.mesh.replicas().delay("c", "mesh.yaml", Duration::ZERO);

    // b's key is taken away from a.
    stage.mesh.replicas().hide("a", "nodetunnel-b.yaml");
    pause(2);
    stage.assert_no_clear();
    assert!(
        stage.dropped("a").contains_key("PeerKeyMissing"),
        "counted with its reason: {:?}",
        stage.dropped("a")
    );
    stage.mesh.replicas().unhide("a", "nodetunnel-b.yaml");
    traffic_returns(&stage, &talks);

    // b's keyd dies; an address that is covered and that nobody has is asked for as well.
    stage.mesh.kill("b").expect("keyd is killed");
    let nobody = "10.77.3.250".parse::<IpAddr>().expect("an address");
    let lost = stage.ping("b1", nobody, &["-c", "3", "-i", "0.2", "-W", "1"]);
    assert_eq!(lost.received(), 0);
    pause(1);
    stage.assert_no_clear();
    stage.mesh.start_node(&stage.lab, "b").expect("keyd starts");
    traffic_returns(&stage, &talks);
    stage.mesh.wait_encrypted().expect("all pairs are Strict again");
    stage.assert_no_clear();

    // Off again.
    forget_waits(&talks);
    stage.mesh.set_encryption(false).expect("the flag is set");
    stage
        .mesh
        .wait("every pair is Off", Duration::from_secs(20), |state| {
            state["peers"]
                .as_array()
                .is_some_and(|peers| peers.iter().all(|peer| peer["phase"] == "Off"))
                && state["lanes"].as_array().is_some_and(Vec::is_empty)
        })
        .expect("all pairs go back");
    for talk in &talks {
        talk.goes_on(STALL);
        assert!(talk.longest_wait() < STALL, "the flip back held a connection up");
    }
    nothing_is_left(&stage);
}

fn forget_waits(talks: &[Conversation]) {
    for talk in talks {
        talk.longest_wait();
    }
}

#[track_caller]
fn traffic_returns(stage: &Stage, talks: &[Conversation]) {
    let begin = Instant::now();
    let b1 = stage.lab.pod("b1");
    for to in [IpAddr::from(b1.v4()), IpAddr::from(b1.v6())] {
        while stage.ping("a1", to, &["-c", "1", "-W", "0.1"]).received() == 0 {
            let [a, b] = ["a", "b"].map(|node| stage.mesh.state(node));
            assert!(
                begin.elapsed() < RETURN,
                "no traffic to {to} for {RETURN:?}: a: {a} b: {b}"
            );
        }
    }
    for talk in talks {
        talk.goes_on(RETRANSMISSION);
    }
}

fn nothing_is_left(stage: &Stage) {
    for node in stage.lab.nodes() {
        let run = |program: &str, arguments: &[&str]| {
            said(
                &node
                    .command(program)
                    .args(arguments)
                    .output()
                    .expect("the program runs"),
            )
        };
        assert!(
            !run("ip", &["link"]).contains("hbk"),
            "no device of a lane is left on {}",
            node.name()
        );
        assert!(
            !run("nft", &["list", "tables"]).contains("inet hauberk"),
            "no rule is left on {}",
            node.name()
        );
        let liberal = run("cat", &["/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"]);
        assert_eq!(liberal.trim(), "0", "the setting is as before on {}", node.name());
        let pinned = Path::new(node.pin_dir());
        assert!(
            pinned.read_dir().map_or(true, |mut left| left.next().is_none()),
            "pins are left in {pinned:?}"
        );
    }
}

#[test]
fn a_flip_with_routed_pods_loses_no_connection_and_shows_nothing_in_clear() {
    flip(Wiring::Routed, "Hauberk");
}

#[test]
fn a_flip_with_bridged_pods_loses_no_connection_and_shows_nothing_in_clear() {
    flip(Wiring::Bridged, "Hauberk");
}

#[test]
fn a_flip_through_the_hosts_stack_loses_no_connection_and_shows_nothing_in_clear() {
    flip(Wiring::Routed, "CNI");
}
