//! Pods of this node that CNI told of: they have their addresses at once, whatever the API says of them so far.
//!
//! The API is seconds late, in both directions: a new pod is not there yet, and an ended one still claims an address
//! that a new container has. An attachment is judged as a pod of the API is: its addresses are this node's to give,
//! and no node's own. Nothing that other nodes compute depends on attachments.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Local;
use crate::snapshot::{Claims, ObjectName, PackedPod, Snapshot};

/// An interface that CNI gave a pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// The pod, where CNI was told.
    pub pod: Option<ObjectName>,
    /// The pod's UID, where CNI was told.
    pub uid: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The host's end.
    pub interface: u32,
}

impl Attached {
    /// Whether this is the interface of that pod. A pod made anew under its name has another UID; so has the API's
    /// picture of a static pod, which may carry any label and therefore lends it none.
    pub(super) fn is_of(&self, pod: &PackedPod) -> bool {
        let same = |uid: &String| pod.may_have_uid(uid);
        self.pod.as_ref().is_some_and(|name| pod.is_named(name)) && self.uid.as_ref().is_none_or(same)
    }

    /// The API's object of it.
    pub(super) fn object<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a PackedPod> {
        let pod = snapshot.pods.find(self.pod.as_ref()?)?;
        self.is_of(pod).then_some(pod)
    }

    /// Its namespace; empty where CNI was not told.
    pub(super) fn namespace(&self) -> &str {
        self.pod.as_ref().map_or("", |pod| &pod.namespace)
    }
}

/// The attachment that has each address. What is not this node's to give is noted as refused in `claims`, and pods
/// of the API lose there what an attachment of another pod has.
pub(super) fn settle<'a>(local: &'a Local, claims: &mut Claims) -> BTreeMap<IpAddr, &'a Attached> {
    let mut held = BTreeMap::new();
    let of_nodes: BTreeSet<IpAddr> = claims.node_addresses.values().flatten().copied().collect();
    let prefixes = claims
        .node_prefixes
        .get(&local.node)
        .map_or(&[][..], Vec::as_slice);
    for attached in local.attached.iter().rev() {
        let name = attached
            .pod
            .as_ref()
            .map_or("a container".to_owned(), |pod| format!("Pod {pod}"));
        for address in &attached.addresses {
            if of_nodes.contains(address) {
                claims
                    .refused
                    .insert(format!("address {address} that CNI gave {name}: it is a node's"));
            } else if !prefixes.iter().any(|prefix| prefix.contains(address)) {
                claims.refused.insert(format!(
                    "address {address} that CNI gave {name}: outside this Node's podCIDRs"
                ));
            } else {
                held.entry(*address).or_insert(attached);
            }
        }
    }
    for (address, attached) in &held {
        if claims.pods.get(address).is_some_and(|pod| !attached.is_of(pod)) {
            claims.pods.remove(address);
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Node, Origin, Pod, Pods};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn name(name: &str) -> ObjectName {
        ObjectName {
            namespace: "web".into(),
            name: name.into(),
        }
    }

    fn snapshot() -> Snapshot {
        let node = |address, prefix: &str| Node {
            addresses: vec![ip(address)],
            pod_cidrs: vec![prefix.parse().expect("a prefix")],
            ..Node::default()
        };
        let pod = Pod {
            origin: Origin {
                uid: Some("old".into()),
                ..Origin::default()
            },
            node: Some("a".into()),
            addresses: vec![ip("10.77.1.5")],
            labels: BTreeMap::from([("app".into(), "shop".into())]),
            ..Pod::default()
        };
        let nodes = BTreeMap::from([
            ("a".into(), node("192.168.77.1", "10.77.1.0/24")),
            ("b".into(), node("192.168.77.2", "10.77.2.0/24")),
        ]);
        Snapshot {
            nodes: nodes.into(),
            pods: Pods::from_iter([(name("shop"), pod)]),
            ..Snapshot::default()
        }
    }

    fn local(attached: Vec<Attached>) -> Local {
        Local {
            node: "a".into(),
            attached,
            ..Local::default()
        }
    }

    fn attached(pod: &str, uid: &str, address: &str, interface: u32) -> Attached {
        Attached {
            pod: Some(name(pod)),
            uid: Some(uid.into()),
            addresses: vec![ip(address)],
            interface,
        }
    }

    #[test]
    fn a_new_container_has_its_address_before_the_api_gives_it_up() {
        let snapshot = snapshot();
        let mut claims = snapshot.claims();
        let local = local(vec![
            attached("gone", "x", "10.77.1.5", 7),
            attached("new", "y", "10.77.1.5", 8),
        ]);
        let held = settle(&local, &mut claims);
        assert_eq!(held[&ip("10.77.1.5")].interface, 8);
        assert!(claims.pods.is_empty());
        assert_eq!(held[&ip("10.77.1.5")].object(&snapshot), None);
    }

    #[test]
    fn an_address_that_is_not_this_nodes_to_give_is_refused() {
        let snapshot = snapshot();
        for address in ["192.168.77.2", "10.77.2.9", "198.51.100.1"] {
            let mut claims = snapshot.claims();
            let local = local(vec![attached("shop", "old", address, 7)]);
            assert!(settle(&local, &mut claims).is_empty());
            assert_eq!(claims.refused.len(), 1, "{address}");
            assert_eq!(claims.pods.len(), 1, "the API's own is its own still");
        }
    }

    #[test]
    fn a_pod_made_anew_under_its_name_does_not_inherit_labels() {
        let snapshot = snapshot();
        let has_object = |attached: &Attached| attached.object(&snapshot).is_some();
        let of = |uid| has_object(&attached("shop", uid, "10.77.1.5", 7));
        assert_eq!((of("old"), of("new")), (true, false));
        let unnamed = Attached {
            uid: None,
            ..attached("shop", "", "10.77.1.5", 7)
        };
        assert!(has_object(&unnamed));
    }
}
