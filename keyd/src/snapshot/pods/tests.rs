//! Pods come, change and go.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn name(number: u8) -> ObjectName {
    ObjectName {
        namespace: ["shop", "web"][usize::from(number % 2)].into(),
        name: format!("pod-{}", number / 2),
    }
}

fn pod(address: u8) -> Pod {
    Pod {
        node: Some("a".into()),
        addresses: vec![[10, 77, 1, address].into()],
        extra_addresses: vec![[10, 99, 1, address].into()],
        labels: BTreeMap::from([("app".into(), format!("number-{address}"))]),
        ..Pod::default()
    }
}

#[test]
fn a_packed_pod_tells_all_that_it_was_told() {
    let mut pods = Pods::default();
    assert!(pods.insert(&name(3), &pod(7)));
    let packed = pods.find(&name(3)).unwrap();
    assert!(packed.is_named(&name(3)) && !packed.is_named(&name(2)));
    assert_eq!(packed.name(), name(3));
    assert_eq!(packed.node(), Some(&Symbol::new("a")));
    assert_eq!(packed.addresses(), pod(7).addresses);
    assert_eq!(packed.extra_addresses(), pod(7).extra_addresses);
    assert_eq!(packed.labels(), [(Symbol::new("app"), Symbol::new("number-7"))]);
    assert!(packed.owns_addresses());
}

proptest! {
    #[test]
    fn what_differs_from_any_earlier_moment_is_found(
        changes in prop::collection::vec((0..24_u8, prop::option::of(0..4_u8)), 0..60),
        moment in any::<prop::sample::Index>(),
    ) {
        let (mut pods, mut naive) = (Pods::default(), BTreeMap::new());
        let (mut earlier, mut naive_then) = (Pods::default(), BTreeMap::new());
        for (place, (number, address)) in changes.iter().enumerate() {
            if place == moment.index(changes.len()) {
                (earlier, naive_then) = (pods.clone(), naive.clone());
            }
            let before = match address {
                Some(address) => {
                    let differs = pods.insert(&name(*number), &pod(*address));
                    let before = naive.insert(name(*number), *address);
                    prop_assert_eq!(differs, before != Some(*address));
                    before
                }
                None => naive.remove(&name(*number)),
            };
            if address.is_none() {
                prop_assert_eq!(pods.remove(&name(*number)), before.is_some());
            }
        }
        prop_assert_eq!(pods.len(), naive.len());
        let known = |pods: &Pods| -> BTreeMap<ObjectName, u8> {
            let address = |pod: &PackedPod| match pod.addresses() {
                [IpAddr::V4(address)] => address.octets()[3],
                _ => unreachable!("each has one"),
            };
            pods.iter().map(|pod| (pod.name(), address(pod))).collect()
        };
        prop_assert_eq!(&known(&pods), &naive);
        prop_assert_eq!(&known(&earlier), &naive_then);
        let found: Vec<_> = pods
            .changes_since(&earlier)
            .map(|change| change.now.or(change.before).unwrap().name())
            .collect();
        let names: std::collections::BTreeSet<_> = naive.keys().chain(naive_then.keys()).collect();
        let differs = names.into_iter().filter(|name| naive.get(name) != naive_then.get(name)).cloned();
        let differs: std::collections::BTreeSet<_> = differs.collect();
        prop_assert_eq!(found.len(), differs.len());
        prop_assert_eq!(found.into_iter().collect::<std::collections::BTreeSet<_>>(), differs);
        prop_assert_eq!(pods == earlier, naive == naive_then);
    }
}
