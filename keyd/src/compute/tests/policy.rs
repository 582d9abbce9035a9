//! Policies as the kernel has them: looked up in the tables as it does, also while they change.

use hauberk_policy::ports::{Protocol, Traffic};
use hauberk_policy::read;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::snapshot::Namespace;

pub(super) fn add(snapshot: &mut Snapshot, name: &str, spec: Value) {
    let object: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": name}, "spec": spec,
    }))
    .unwrap();
    let read = Arc::new(read::network_policy(&object));
    assert_eq!(read.problems, []);
    snapshot.policies.insert(read.policy.origin.clone(), read);
}

/// What the kernel holds of it, which may be half one state and half the next.
#[derive(Clone, Default)]
struct Kernel {
    ipcache: BTreeMap<(abi::Addr, u8), abi::IpcacheEntry>,
    pods: BTreeMap<u32, abi::Pod>,
    verdicts: BTreeMap<abi::VerdictKey, u32>,
    ports: BTreeMap<(abi::PortKey, u8), u32>,
}

impl Kernel {
    fn of(desired: &DesiredState) -> Self {
        Self {
            ipcache: desired.ipcache.clone(),
            pods: desired.pods.clone(),
            verdicts: desired.verdicts.clone(),
            ports: desired.ports.clone(),
        }
    }

    /// Whether the pod behind an interface may talk TCP with an address, as `policy.rs` of the programs looks it up.
    fn allows(&self, interface: u32, direction: u32, address: &str, port: u16) -> bool {
        let (address, _) = lpm_key(address.parse::<IpAddr>().unwrap().into());
        let bits = u128::from_be_bytes(address);
        let found = (0..=128_u8).rev().find_map(|length| {
            let mask = u128::MAX.checked_shl(u32::from(128 - length)).unwrap_or(0);
            self.ipcache.get(&((bits & mask).to_be_bytes(), length))
        });
        let remote = found.map_or(abi::IDENTITY_OUTSIDE, |entry| entry.identity);
        let set = self.pods[&interface].set;
        let at = |remote| {
            let key = abi::VerdictKey {
                set,
                remote,
                direction,
            };
            self.verdicts.get(&key).copied()
        };
        let verdict = at(remote)
            .or_else(|| at(abi::IDENTITY_ANY))
            .unwrap_or(abi::VERDICT_DENY);
        if verdict < abi::FIRST_PROGRAM {
            return verdict == abi::VERDICT_ALLOW;
        }
        let found = (0..=16_u8).rev().find_map(|length| {
            let mask = u16::MAX.checked_shl(u32::from(16 - length)).unwrap_or(0);
            let key = abi::port_key(verdict, abi::COLUMN_TCP, port & mask);
            self.ports.get(&(key, abi::PORT_PREFIX as u8 + length))
        });
        found == Some(&abi::VERDICT_ALLOW)
    }
}

/// This node's pods by interface, with their names; other pods and addresses that they may talk with.
const OWN: [(u32, &str); 2] = [(11, "a1"), (12, "a2")];
const OTHERS: [&str; 7] = [
    "10.77.2.2",
    "10.77.3.2",
    "fd77:2::2",
    "10.77.2.9",
    "192.168.77.2",
    "198.51.100.7",
    "203.0.113.9",
];
const PORTS: [u16; 3] = [80, 81, 8080];

fn questions() -> impl Iterator<Item = (u32, u32, &'static str, u16)> {
    let own = OWN.into_iter().map(|(interface, _)| interface);
    own.flat_map(|interface| {
        [abi::DIR_INGRESS, abi::DIR_EGRESS]
            .into_iter()
            .flat_map(move |direction| {
                OTHERS
                    .into_iter()
                    .flat_map(move |other| PORTS.map(|port| (interface, direction, other, port)))
            })
    })
}

fn two_pods() -> (Snapshot, Local) {
    let mut snapshot = cluster(true);
    let mut second = pod("a", 1, 3);
    second.labels = BTreeMap::from([("app".into(), "b".into()), ("tier".into(), "x".into())]);
    snapshot.pods.insert(&pod_name("a2"), &second);
    let mut local = local();
    local.pod_interfaces.insert("10.77.1.3".parse().unwrap(), 12);
    (snapshot, local)
}

/// What the engine says of the same question, asked by name and address with all that is known.
fn expected(snapshot: &Snapshot, interface: u32, direction: u32, address: &str, port: u16) -> bool {
    use hauberk_policy::identity::Identity;
    use hauberk_policy::judge::{Direction, Verdict};
    use hauberk_policy::peer::{Remote, Who};

    let identity = |pod: &crate::snapshot::PackedPod| Identity {
        namespace: "default".into(),
        namespace_labels: snapshot.namespaces["default"].labels.clone(),
        labels: pod
            .labels()
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        service_account: pod.service_account().to_string(),
        ..Identity::default()
    };
    let (_, own) = OWN.into_iter().find(|(index, _)| *index == interface).unwrap();
    let own = identity(snapshot.pods.find(&pod_name(own)).unwrap());
    let at: IpAddr = address.parse().unwrap();
    let pod = snapshot.pods.iter().find(|pod| pod.addresses().contains(&at));
    let pod = pod.map(|pod| identity(pod));
    let node = snapshot.nodes.values().find(|node| node.addresses.contains(&at));
    let in_mesh = snapshot
        .nodes
        .values()
        .flat_map(|node| &node.pod_cidrs)
        .any(|prefix| prefix.contains(&at));
    let who = match (&pod, node) {
        (Some(pod), _) => Who::Pod(pod),
        (None, Some(node)) => Who::Node(&node.labels),
        (None, None) if in_mesh => Who::Unknown,
        (None, None) => Who::Outside,
    };
    let remote = Remote {
        who,
        place: Some(at.into()),
        names: BTreeSet::new(),
    };
    let direction = match direction {
        abi::DIR_INGRESS => Direction::Ingress,
        _ => Direction::Egress,
    };
    let traffic = Traffic {
        protocol: Protocol::Tcp,
        port,
    };
    let policies = Policies::new(snapshot.policies.values().map(|read| Arc::clone(&read.policy)));
    let decision = policies.judge(&own, direction, &remote, traffic, false);
    decision.verdict == Verdict::Allow
}

fn any_peer() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"podSelector": {"matchLabels": {"app": "b"}}}),
        json!({"podSelector": {"matchLabels": {"tier": "x"}}}),
        json!({"podSelector": {}}),
        json!({"namespaceSelector": {"matchLabels": {"team": "one"}}}),
        json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["198.51.100.0/24", "10.77.2.0/25"]}}),
        json!({"ipBlock": {"cidr": "::/0"}}),
        json!({"ipBlock": {"cidr": "10.77.2.2/32"}}),
        json!({"ipBlock": {"cidr": "10.0.0.0/8"}}),
    ])
}

fn any_policy() -> impl Strategy<Value = Value> {
    let subject = prop::sample::select(vec![
        json!({}),
        json!({"matchLabels": {"app": "a"}}),
        json!({"matchLabels": {"tier": "x"}}),
    ]);
    let ports = prop::sample::select(vec![
        json!([]),
        json!([{"port": 80}]),
        json!([{"port": 80, "endPort": 8080}, {"protocol": "UDP"}]),
    ]);
    let rule = (prop::collection::vec(any_peer(), 0..3), ports);
    let rules = prop::collection::vec(rule, 0..3);
    (subject, rules, any::<bool>()).prop_map(|(subject, rules, egress)| {
        let named = |name: &str| -> Vec<Value> {
            let rules = rules.iter();
            rules
                .map(|(peers, ports)| json!({name: peers, "ports": ports}))
                .collect()
        };
        match egress {
            true => json!({"podSelector": subject, "policyTypes": ["Egress"], "egress": named("to")}),
            false => json!({"podSelector": subject, "policyTypes": ["Ingress"], "ingress": named("from")}),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// A question is answered as before or as after, whatever of the tables is written already.
    #[test]
    fn tables_say_what_the_engine_says_also_while_they_change(
        states in prop::collection::vec(prop::collection::vec(any_policy(), 0..3), 1..4),
        order in any::<u64>(),
    ) {
        let (mut snapshot, mut local) = two_pods();
        let team = Namespace { labels: [("team".to_owned(), "one".to_owned())].into() };
        snapshot.namespaces.insert("default".into(), team);
        let mut memory = with_phases(Phase::Strict);
        let mut kernel: Option<Kernel> = None;
        for policies in states {
            let before: Vec<bool> = questions().map(|(i, d, a, p)| expected(&snapshot, i, d, a, p)).collect();
            snapshot.policies = Default::default();
            for (number, spec) in policies.into_iter().enumerate() {
                add(&mut snapshot, &format!("p{number}"), spec);
            }
            let after: Vec<bool> = questions().map(|(i, d, a, p)| expected(&snapshot, i, d, a, p)).collect();
            let mut steps = 0;
            loop {
                let desired = compute(&snapshot, &local, &mut memory).unwrap();
                let next = Kernel::of(&desired);
                if let Some(now) = &mut kernel {
                    let check = |kernel: &Kernel| {
                        for ((question, before), after) in questions().zip(&before).zip(&after) {
                            let (interface, direction, address, port) = question;
                            let said = kernel.allows(interface, direction, address, port);
                            prop_assert!(said == *before || said == *after, "{:?}", question);
                        }
                        Ok(())
                    };
                    now.verdicts.extend(next.verdicts.clone());
                    now.ports.extend(next.ports.clone());
                    check(now)?;
                    for (interface, pod) in &next.pods {
                        now.pods.insert(*interface, *pod);
                        check(now)?;
                    }
                    let mut entries: Vec<_> = next.ipcache.iter().collect();
                    entries.sort_by_key(|(key, _)| crate::snapshot::Digest::of(&(order, key.0, key.1)));
                    for (key, entry) in entries {
                        now.ipcache.insert(*key, *entry);
                        check(now)?;
                    }
                }
                kernel = Some(next);
                local.rule = Some(Arc::clone(&desired.rule));
                steps += 1;
                prop_assert!(steps <= 3, "three steps lead anywhere");
                if !desired.on_the_way {
                    break;
                }
            }
            for (question, after) in questions().zip(&after) {
                let (interface, direction, address, port) = question;
                let said = kernel.as_ref().unwrap().allows(interface, direction, address, port);
                prop_assert_eq!(said, *after, "{:?}", question);
            }
        }
    }
}

#[test]
fn what_means_nothing_is_named_and_opens_nothing() {
    let (mut snapshot, local) = two_pods();
    let object: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "odd"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.77.2.2/8"}}]}]},
    }))
    .unwrap();
    let read = Arc::new(read::network_policy(&object));
    snapshot.policies.insert(read.policy.origin.clone(), read);
    let desired = compute(&snapshot, &local, &mut with_phases(Phase::Strict)).unwrap();
    let degraded = desired.publish.condition("Degraded").unwrap();
    assert_eq!(degraded.reason, "PolicyNotUnderstood");
    for part in [
        "NetworkPolicy default/odd",
        "spec.ingress[0].from[0].ipBlock.cidr",
        "10.0.0.0/8",
    ] {
        assert!(degraded.message.contains(part), "{}", degraded.message);
    }
    assert!(!Kernel::of(&desired).allows(11, abi::DIR_INGRESS, "10.77.2.2", 80));
}

#[test]
fn pods_that_policies_do_not_tell_apart_share_a_number() {
    let (mut snapshot, local) = two_pods();
    let numbers = |snapshot: &Snapshot| {
        let desired = compute(snapshot, &local, &mut with_phases(Phase::Strict)).unwrap();
        ["10.77.1.2/32", "10.77.1.3/32", "10.77.2.2/32"].map(|prefix| desired.ipcache[&key(prefix)].identity)
    };
    let [a1, a2, b1] = numbers(&snapshot);
    assert!(a1 == a2 && a2 == b1, "nothing is asked for");
    add(
        &mut snapshot,
        "p",
        json!({"podSelector": {"matchLabels": {"app": "b"}}}),
    );
    let [a1, a2, b1] = numbers(&snapshot);
    assert!(a1 != a2 && a2 == b1, "tier is asked for by nobody");
}

#[test]
fn a_pod_that_the_api_does_not_show_yet_waits_where_a_policy_could_be_about_it() {
    let (mut snapshot, mut local) = two_pods();
    local.attached.push(Attached {
        pod: Some(pod_name("new")),
        addresses: vec!["10.77.1.9".parse().unwrap()],
        interface: 13,
        ..Attached::default()
    });
    let desired = compute(&snapshot, &local, &mut with_phases(Phase::Strict)).unwrap();
    assert!(Kernel::of(&desired).allows(13, abi::DIR_INGRESS, "10.77.2.2", 80));
    add(
        &mut snapshot,
        "p",
        json!({"podSelector": {"matchLabels": {"app": "b"}}}),
    );
    let desired = compute(&snapshot, &local, &mut with_phases(Phase::Strict)).unwrap();
    assert_eq!(desired.pods[&13].set, abi::SET_CLOSED);
}

#[test]
fn while_the_cni_enforces_everything_is_let_through_here() {
    let (mut snapshot, local) = two_pods();
    add(&mut snapshot, "p", json!({"podSelector": {}}));
    snapshot.mesh.as_mut().unwrap().spec.policy.enforcer = Some(Enforcer::Cni);
    let desired = compute(&snapshot, &local, &mut with_phases(Phase::Strict)).unwrap();
    let kernel = Kernel::of(&desired);
    assert!(questions().all(|(i, d, a, p)| kernel.allows(i, d, a, p)));
}
