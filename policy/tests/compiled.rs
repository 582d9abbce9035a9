//! What is compiled for the kernel gives the verdicts of the engine, also for identities that are cut down to what some
//! policy asks for, and for addresses of which only the network is known.

#[expect(dead_code, reason = "the oracle's test uses the rest")]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hauberk_policy::cluster::Cluster;
use hauberk_policy::compile::{Compiler, Program};
use hauberk_policy::judge::{Direction, Verdict};
use hauberk_policy::networks::Networks;
use hauberk_policy::peer::{Remote, Who};
use hauberk_policy::ports::{Protocol, Traffic};
use hauberk_policy::read::Clock;
use hauberk_policy::selector::Labels;
use ipnet::IpNet;
use proptest::test_runner::{Config, TestRunner};

const CLUSTERS: u32 = 400;
const QUESTIONS: usize = 100_000;

/// At the edges of what policies speak of, and between.
fn traffic() -> Vec<Traffic> {
    let ports = [1, 79, 80, 81, 82, 8080, 9000, 9001, 65535];
    let with_ports = Protocol::WITH_PORTS
        .into_iter()
        .flat_map(|protocol| ports.map(|port| Traffic { protocol, port }));
    let others = [1, 58].map(|number| Traffic {
        protocol: Protocol::Other(number),
        port: 0,
    });
    with_ports.chain(others).collect()
}

#[test]
fn compiled_programs_and_the_engine_agree_on_a_hundred_thousand_questions() {
    let asked = AtomicUsize::new(0);
    let denied = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: CLUSTERS,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&random::objects(), |objects| {
        let cluster = Cluster::read(&objects, Clock::Untrusted);
        let vocabulary = cluster.policies.vocabulary();
        let networks = Networks::of(&cluster.policies);
        let mut compiler = Compiler::new(&cluster.policies, false);
        let cut = |who: Who| match who {
            Who::Pod(identity) => Some(identity.seen_by(&vocabulary)),
            Who::Node(_) | Who::Outside | Who::Unknown => None,
        };
        let labels = Labels::new();
        let remotes = remotes(&cluster, &labels);
        for pod in cluster.world.pods.values() {
            let set = compiler.set(&pod.identity.seen_by(&vocabulary));
            for remote in &remotes {
                let seen = cut(remote.who);
                let seen = Remote {
                    who: seen.as_ref().map_or(remote.who, Who::Pod),
                    place: remote.place.and_then(|address| networks.smallest_around(address)),
                    names: BTreeSet::new(),
                };
                for direction in [Direction::Ingress, Direction::Egress] {
                    let program = compiler.program(set, direction, &seen);
                    let program = &compiler.programs()[program.0 as usize];
                    let trie = trie(program);
                    for traffic in traffic() {
                        let expected =
                            cluster
                                .policies
                                .judge(&pod.identity, direction, remote, traffic, false);
                        assert_eq!(
                            program.verdict(traffic),
                            expected.verdict,
                            "{traffic:?} {expected:?}"
                        );
                        assert_eq!(
                            longest(&trie, traffic),
                            expected.verdict,
                            "{traffic:?} {program:?}"
                        );
                        asked.fetch_add(1, Ordering::Relaxed);
                        denied.fetch_add(usize::from(expected.verdict == Verdict::Deny), Ordering::Relaxed);
                    }
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let (asked, denied) = (asked.into_inner(), denied.into_inner());
    println!("{asked} questions, {denied} of them denied");
    assert!(asked >= QUESTIONS, "{asked}");
    assert!(
        (asked / 20..asked * 19 / 20).contains(&denied),
        "{denied} of {asked}"
    );
}

fn remotes<'a>(cluster: &'a Cluster, nobodys: &'a Labels) -> Vec<Remote<'a>> {
    let remote = |who, address: Option<IpAddr>| Remote {
        who,
        place: address.map(IpNet::from),
        names: BTreeSet::new(),
    };
    let mut remotes = Vec::new();
    for pod in cluster.world.pods.values() {
        let addresses = pod.addresses.iter().copied();
        remotes.extend(addresses.map(|address| remote(Who::Pod(&pod.identity), Some(address))));
    }
    for node in cluster.world.nodes.values() {
        let addresses = node.addresses.iter().copied();
        remotes.extend(addresses.map(|address| remote(Who::Node(&node.labels), Some(address))));
    }
    let outside = random::OUTSIDE.map(|text| text.parse::<IpAddr>().unwrap());
    remotes.extend(outside.map(|address| remote(Who::Outside, Some(address))));
    remotes.extend(outside.map(|address| remote(Who::Unknown, Some(address))));
    remotes.push(remote(Who::Node(nobodys), None));
    remotes
}

type Trie = BTreeMap<(usize, u16, u8), Verdict>;

fn trie(program: &Program) -> Trie {
    let prefixes = program.prefixes();
    prefixes
        .map(|(column, port, length, verdict)| ((column as usize, port, length), verdict))
        .collect()
}

/// As a prefix trie answers.
fn longest(trie: &Trie, traffic: Traffic) -> Verdict {
    let column = hauberk_policy::compile::Column::of(traffic.protocol) as usize;
    let found = (0..=16_u8).rev().find_map(|length| {
        let mask = u16::MAX.checked_shl(u32::from(16 - length)).unwrap_or(0);
        trie.get(&(column, traffic.port & mask, length))
    });
    *found.expect("a program has a verdict for everything")
}
