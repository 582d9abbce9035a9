//! The engine and the oracle, which is written apart from it, give the same verdicts in random clusters.

mod random;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hauberk_policy::cluster::{Cluster, Objects};
use hauberk_policy::connection::{End, Family};
use hauberk_policy::judge::Verdict;
use hauberk_policy::oracle::{self, Question, Side};
use hauberk_policy::ports::{Protocol, Traffic};
use hauberk_policy::read::Clock;
use k8s_openapi::api::core::v1::Pod;
use proptest::test_runner::{Config, TestRunner};

/// Clusters; in each every pair of pods is asked about, and every pod with nodes and addresses outside.
const CLUSTERS: u32 = 400;
/// At least so many questions are asked in all.
const QUESTIONS: usize = 100_000;

#[test]
fn the_engine_and_the_oracle_agree_on_a_hundred_thousand_questions() {
    let asked = AtomicUsize::new(0);
    let allowed = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: CLUSTERS,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&random::objects(), |objects| {
        let cluster = Cluster::read(&objects, Clock::Untrusted);
        assert_eq!(cluster.problems, []);
        let ends = ends(&objects);
        for (from, one) in &ends {
            for (to, other) in &ends {
                let between_strangers = !matches!(one, At::Pod(_)) && !matches!(other, At::Pod(_));
                if between_strangers {
                    continue;
                }
                for (name, protocol, port) in random::TRAFFIC {
                    let traffic = Traffic { protocol, port };
                    let outcomes = cluster.connection(from, to, traffic, false).unwrap_or_default();
                    for (family, outcome) in outcomes {
                        let question = Question {
                            from: one.side(family),
                            to: other.side(family),
                            protocol: name,
                            port,
                        };
                        let expected = oracle::allows(&objects, &question);
                        let found = outcome.verdict() == Verdict::Allow;
                        assert_eq!(
                            found, expected,
                            "{from} -> {to} {name}/{port} {family:?}: {outcome:?}"
                        );
                        asked.fetch_add(1, Ordering::Relaxed);
                        allowed.fetch_add(usize::from(expected), Ordering::Relaxed);
                    }
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let (asked, allowed) = (asked.into_inner(), allowed.into_inner());
    println!("{asked} questions, {allowed} of them allowed");
    assert!(asked >= QUESTIONS, "{asked}");
    // Neither answer may be rare, or little would be compared.
    assert!(
        (asked / 10..asked * 9 / 10).contains(&allowed),
        "{allowed} of {asked}"
    );
}

/// Who is at an end, for the oracle.
enum At<'a> {
    Pod(&'a Pod),
    Node(&'a str, [IpAddr; 2]),
    Outside(IpAddr),
}

impl<'a> At<'a> {
    fn side(&self, family: Family) -> Side<'a> {
        match *self {
            Self::Pod(pod) => Side::Pod(pod, random::address(pod, family)),
            Self::Node(name, addresses) => Side::Node(name, addresses[family as usize]),
            Self::Outside(address) => Side::Outside(address),
        }
    }
}

fn ends(objects: &Objects) -> Vec<(End, At<'_>)> {
    let pods = objects.pods.iter().map(|pod| {
        let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        (End::Pod(namespace.unwrap(), name.unwrap()), At::Pod(pod))
    });
    let nodes = objects.nodes.iter().flat_map(|node| {
        let addresses = random::node_addresses(node);
        let name = node.metadata.name.as_deref().unwrap();
        addresses.map(|address| (End::Address(address), At::Node(name, addresses)))
    });
    let outside = random::OUTSIDE.map(|text| {
        let address = text.parse().unwrap();
        (End::Address(address), At::Outside(address))
    });
    pods.chain(nodes).chain(outside).collect()
}

#[test]
fn a_protocol_is_known_by_the_name_that_policies_give_it() {
    for (name, protocol, _) in random::TRAFFIC {
        if protocol != Protocol::Other(1) {
            assert_eq!(Protocol::by_name(name), Some(protocol));
        }
    }
}
