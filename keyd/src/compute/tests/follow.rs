//! What follows single pods says what computing all anew says.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A pod as it may come: on this node, on others, on one that is not there; with addresses of its own, of others, of
/// nodes, and from elsewhere; finished or not; with two sets of labels.
fn any_pod() -> impl Strategy<Value = Pod> {
    let node = prop::option::of(prop::sample::select(vec!["a", "b", "b", "c", "c", "d"]));
    let addresses = [
        "10.77.1.3",
        "10.77.2.2",
        "10.77.2.3",
        "10.77.2.4",
        "10.77.3.2",
        "10.77.3.3",
        "10.77.3.4",
        "fd77:2::3",
        "fd77:3::3",
        "192.168.77.2",
        "198.51.100.7",
        "10.99.0.1",
    ];
    let addresses = prop::sample::subsequence(addresses.to_vec(), 0..3);
    (node, addresses, 0..8_u8, 0..3_i64).prop_map(|(node, addresses, kind, age)| Pod {
        origin: crate::snapshot::Origin {
            created: k8s_openapi::jiff::Timestamp::from_second(age).ok(),
            uid: None,
        },
        node: node.map(str::to_owned),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        finished: kind == 0,
        labels: BTreeMap::from([("kind".into(), (kind / 4).to_string())]),
        ..Pod::default()
    })
}

/// The pod of this node that CNI told of, an external peer and a node that is gone are there as well.
fn start(enforcer: Enforcer) -> (Snapshot, Local, Memory) {
    let mut snapshot = cluster(true);
    snapshot.mesh.as_mut().unwrap().spec.policy.enforcer = Some(enforcer);
    let office = ExternalPeer::new("office", external("10.99.0.1/32", 9));
    snapshot.external_peers.insert("office".into(), office);
    let kind = json!({"podSelector": {"matchLabels": {"kind": "0"}}, "ingress": [{"from": [
        {"ipBlock": {"cidr": "10.77.2.0/29", "except": ["10.77.2.3/32"]}},
    ]}]});
    policy::add(&mut snapshot, "kind", kind);
    let mut local = local();
    local.attached.push(Attached {
        pod: Some(pod_name("p0")),
        addresses: vec!["10.77.1.9".parse().unwrap()],
        interface: 12,
        ..Attached::default()
    });
    (snapshot, local, with_phases(Phase::Strict))
}

/// What single pods do not change: tables that say more, of classes that no address has any more, say nothing else.
fn but_for_tables(desired: &DesiredState) -> DesiredState {
    let pods = desired
        .pods
        .keys()
        .map(|interface| (*interface, abi::Pod::default()));
    DesiredState {
        pods: pods.collect(),
        verdicts: BTreeMap::new(),
        ports: BTreeMap::new(),
        rule: Arc::default(),
        ..desired.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn following_says_what_computing_anew_says(
        steps in prop::collection::vec(
            prop::collection::vec((0..8_u8, prop::option::weighted(0.7, any_pod())), 1..3),
            1..20,
        ),
        enforcer in prop::sample::select(vec![Enforcer::Cni, Enforcer::Hauberk]),
    ) {
        let (mut snapshot, local, mut memory) = start(enforcer);
        let (mut desired, mut follower) = compute_and_follow(&snapshot, &local, &mut memory).unwrap();
        for step in steps {
            for (number, pod) in step {
                let name = pod_name(&format!("p{number}"));
                match pod {
                    Some(pod) => snapshot.pods.insert(&name, &pod),
                    None => snapshot.pods.remove(&name),
                };
            }
            let before = desired.clone();
            let followed = follower.follow(&snapshot, &desired, &mut memory);
            prop_assert_eq!(&desired, &before, "nothing is in force yet");
            let anew = compute(&snapshot, &local, &mut memory.clone()).unwrap();
            match followed {
                Some(changes) => {
                    follower.advance(&snapshot, &mut desired, changes.clone());
                    prop_assert_eq!(but_for_tables(&desired), but_for_tables(&anew));
                    prop_assert_eq!(&address_changes(&before.ipcache, &anew.ipcache), &changes);
                    let mut changed = before.ipcache;
                    for (key, entry) in changes {
                        match entry {
                            Some(entry) => prop_assert_ne!(changed.insert(key, entry), Some(entry)),
                            None => prop_assert!(changed.remove(&key).is_some()),
                        }
                    }
                    prop_assert_eq!(changed, anew.ipcache);
                }
                None => {
                    prop_assert_eq!(&desired, &before);
                    (desired, follower) = compute_and_follow(&snapshot, &local, &mut memory).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_remote_pod_that_comes_moves_and_goes_is_followed_and_a_local_one_or_a_node_is_not() {
    let (mut snapshot, local, mut memory) = start(Enforcer::Hauberk);
    let (mut desired, mut follower) = compute_and_follow(&snapshot, &local, &mut memory).unwrap();
    let key = key("10.77.2.7/32");
    let mut follow = |snapshot: &Snapshot| {
        let changes = follower.follow(snapshot, &desired, &mut memory)?;
        let seen = (changes.len(), changes.get(&key).copied().flatten().is_some());
        follower.advance(snapshot, &mut desired, changes);
        Some(seen)
    };
    snapshot.pods.insert(&pod_name("new"), &pod("b", 2, 7));
    assert_eq!(follow(&snapshot), Some((2, true)));
    assert_eq!(follow(&snapshot), Some((0, false)), "nothing has changed");
    snapshot.pods.remove(&pod_name("new"));
    snapshot.pods.insert(&pod_name("next"), &pod("b", 2, 7));
    assert_eq!(
        follow(&snapshot),
        Some((0, false)),
        "the next pod is as the one before"
    );
    snapshot.pods.remove(&pod_name("next"));
    assert_eq!(follow(&snapshot), Some((2, false)));
    let mut with_node = snapshot.clone();
    with_node.nodes.insert("d".into(), node(4));
    assert_eq!(follow(&with_node), None);
    snapshot.pods.insert(&pod_name("here"), &pod("a", 1, 7));
    assert_eq!(follow(&snapshot), None);
}
