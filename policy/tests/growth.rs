//! What compiling costs as policies and pods grow: a pod that comes costs the same with ten thousand policies as with
//! a hundred, and so does each of its peers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hauberk_policy::compile::Compiler;
use hauberk_policy::identity::Identity;
use hauberk_policy::judge::{Direction, Policies, Verdict};
use hauberk_policy::peer::{Namespaces, Peer, Peers, PodPeer, Remote, Who};
use hauberk_policy::policy::{Action, Origin, Policy, Rule, Side, Tier};
use hauberk_policy::ports::{PortMatch, Ports, Protocol, Traffic};
use hauberk_policy::selector::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A pod that comes may take so many times as long as with a hundredth of the policies: far below what asking each
/// policy would take, and far above what a noisy machine does to a median.
const BAR: f64 = 8.0;

fn app(number: usize) -> Selector {
    let labels = [("app".to_owned(), format!("a{number}"))];
    Selector::parse(&LabelSelector {
        match_labels: Some(labels.into()),
        match_expressions: None,
    })
    .unwrap()
}

fn pods(number: usize) -> PodPeer {
    PodPeer {
        namespaces: Namespaces::Named("n".into()),
        pods: app(number),
        accounts: None,
    }
}

/// Each app's pods take TCP 80 from the next app's.
fn policies(count: usize) -> Policies {
    let policy = |number: usize| Policy {
        origin: Origin {
            kind: "NetworkPolicy",
            namespace: "n".into(),
            name: format!("p{number}"),
        },
        tier: Tier::Namespaced,
        staged: false,
        subject: pods(number),
        ingress: Side {
            isolates: true,
            rules: vec![Rule {
                place: "ingress[0]".into(),
                action: Action::Accept,
                peers: Peers::Any(vec![Peer::Pods(pods(number + 1))]),
                ports: Ports::Any([PortMatch::Range(Protocol::Tcp, 80, 80)].into()),
            }],
        },
        egress: Side::default(),
    };
    Policies::new((0..count).map(policy).map(Arc::new))
}

fn pod(number: usize) -> Identity {
    Identity {
        namespace: "n".into(),
        labels: [("app".to_owned(), format!("a{number}"))].into(),
        ..Identity::default()
    }
}

/// The median of what one more local pod and one more remote take.
fn of_one_more(count: usize) -> Duration {
    let policies = policies(count);
    let mut compiler = Compiler::new(&policies, false);
    let mut took: Vec<Duration> = (0..99)
        .map(|number| {
            let (own, next) = (pod(number), pod(number + 1));
            let begin = Instant::now();
            let set = compiler.set(&own);
            let remote = Remote {
                who: Who::Pod(&next),
                place: None,
                names: BTreeSet::new(),
            };
            let program = compiler.program(set, Direction::Ingress, &remote);
            let took = begin.elapsed();
            let traffic = |port| Traffic {
                protocol: Protocol::Tcp,
                port,
            };
            let program = &compiler.programs()[program.0 as usize];
            assert_eq!(program.verdict(traffic(80)), Verdict::Allow);
            assert_eq!(program.verdict(traffic(81)), Verdict::Deny);
            took
        })
        .collect();
    assert_eq!(compiler.programs().len(), 1, "they all say the same");
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn one_more_pod_costs_the_same_with_a_hundred_and_with_ten_thousand_policies() {
    let few = of_one_more(100);
    let many = of_one_more(10_000);
    println!("{few:?} with 100 policies, {many:?} with 10,000");
    assert!(many < few.mul_f64(BAR), "{few:?}, {many:?}");
}
