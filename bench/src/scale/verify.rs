//! Judges a whole map by what it should hold: pure.
//!
//! keyd's numbers of peers and identities are its own, so that nobody outside knows what they should be. But each
//! belongs to one node, or to one pod's labels, for ever: all that is a node's has one peer's number, which nobody
//! else has or had; a pod's address has that number too, and both of a pod's addresses have one identity, which no
//! other pod has or had, because no two pods here have the same labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use hauberk_abi::{Addr, IP_NODE, IpcacheEntry};
use ipnet::IpNet;

/// The name of a node or pod; none is given twice.
pub type Name = Arc<str>;
/// A map's content, by address and length of the prefix in bits.
pub type Entries = BTreeMap<(Addr, u8), IpcacheEntry>;

/// Bits before an IPv4 address in the mapped form.
const MAPPED_BITS: u8 = 96;

/// What a map should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Addresses of pods: whose each is, and the prefix of its node that it lies in.
    pub pods: BTreeMap<IpAddr, (Name, IpNet)>,
    /// Prefixes and own addresses of nodes: whose each is.
    pub nodes: BTreeMap<IpNet, Name>,
    /// What came or went while it was looked at: may be there or not.
    pub open: BTreeSet<IpNet>,
}

/// Whose the numbers in one keyd's map were found to be, so far.
#[derive(Debug, Default)]
pub struct Known {
    peers: Numbers,
    identities: Numbers,
}

#[derive(Debug, Default)]
struct Numbers {
    owners: BTreeMap<u32, Name>,
    numbers: BTreeMap<Name, u32>,
}

impl Known {
    /// Compares a map with what it should hold; says what is wrong, one line each.
    pub fn wrong(&mut self, entries: &Entries, expected: &Expected) -> Vec<String> {
        let mut wrong = Vec::new();
        for (net, node) in &expected.nodes {
            match entries.get(&key_of(*net)) {
                None => wrong.push(format!("{net} of node {node}: not there")),
                Some(entry) if is_host(*net) && entry.flags & IP_NODE == 0 => {
                    wrong.push(format!("{net} of node {node}: not a node's"));
                }
                Some(entry) => wrong.extend(self.peers.dispute("peer", entry.peer, node)),
            }
        }
        for (address, (pod, prefix)) in &expected.pods {
            let of_node = entries.get(&key_of(*prefix)).map(|entry| entry.peer);
            match entries.get(&key_of(IpNet::from(*address))) {
                None => wrong.push(format!("{address} of pod {pod}: not there")),
                Some(entry) if entry.identity == 0 => {
                    wrong.push(format!("{address} of pod {pod}: no identity"));
                }
                Some(entry) => {
                    if of_node != Some(entry.peer) {
                        let peer = entry.peer;
                        wrong.push(format!(
                            "{address} of pod {pod}: leads to peer {peer}, {prefix} to {of_node:?}"
                        ));
                    }
                    wrong.extend(self.identities.dispute("identity", entry.identity, pod));
                }
            }
        }
        let expected: BTreeSet<_> = expected
            .nodes
            .keys()
            .chain(&expected.open)
            .map(|net| key_of(*net))
            .chain(expected.pods.keys().map(|address| key_of(IpNet::from(*address))))
            .collect();
        let strange = entries.keys().filter(|key| !expected.contains(key));
        wrong.extend(strange.map(|(address, bits)| {
            let address = std::net::Ipv6Addr::from(*address).to_canonical();
            format!("{address} with {bits} bits: nobody's")
        }));
        wrong
    }
}

impl Numbers {
    /// Notes whose a number is; says so where it was another's, or where the owner had another.
    fn dispute(&mut self, what: &str, number: u32, owner: &Name) -> Option<String> {
        let had = *self.numbers.entry(Arc::clone(owner)).or_insert(number);
        let was = self.owners.entry(number).or_insert_with(|| Arc::clone(owner));
        if was != owner {
            return Some(format!("{what} {number} of {owner}: is {was}'s"));
        }
        (had != number).then(|| format!("{what} {number} of {owner}: it had {had}"))
    }
}

/// A prefix as a key of the map.
pub fn key_of(net: IpNet) -> (Addr, u8) {
    match net {
        IpNet::V4(v4) => (
            v4.network().to_ipv6_mapped().octets(),
            MAPPED_BITS + v4.prefix_len(),
        ),
        IpNet::V6(v6) => (v6.network().octets(), v6.prefix_len()),
    }
}

fn is_host(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(peer: u32, identity: u32, flags: u32) -> IpcacheEntry {
        IpcacheEntry {
            peer,
            identity,
            flags,
            ifindex: 0,
        }
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn key(text: &str) -> (Addr, u8) {
        key_of(net(text))
    }

    /// Two nodes; the first has a pod of two addresses, the second a pod of one.
    fn cluster() -> (Entries, Expected) {
        let pods = [
            ("10.1.0.2", "pod", "10.1.0.0/24"),
            ("fd00::2", "pod", "fd00::/64"),
            ("10.2.0.2", "other", "10.2.0.0/24"),
        ];
        let nodes = [
            ("10.1.0.0/24", "node"),
            ("fd00::/64", "node"),
            ("192.0.2.1/32", "node"),
            ("10.2.0.0/24", "second"),
        ];
        let expected = Expected {
            pods: pods
                .map(|(address, pod, prefix)| (address.parse().unwrap(), (pod.into(), net(prefix))))
                .into(),
            nodes: nodes.map(|(of_node, node)| (net(of_node), node.into())).into(),
            open: BTreeSet::new(),
        };
        let entries = [
            (key("10.1.0.0/24"), entry(3, 0, 0)),
            (key("fd00::/64"), entry(3, 0, 0)),
            (key("10.1.0.2/32"), entry(3, 9, 0)),
            (key("fd00::2/128"), entry(3, 9, 0)),
            (key("192.0.2.1/32"), entry(3, 0, IP_NODE)),
            (key("10.2.0.0/24"), entry(4, 0, 0)),
            (key("10.2.0.2/32"), entry(4, 10, 0)),
        ];
        (entries.into(), expected)
    }

    /// What is said of the cluster when this entry is as given, or not there.
    fn said(at: &str, entry: Option<IpcacheEntry>) -> Vec<String> {
        let (mut entries, expected) = cluster();
        match entry {
            Some(entry) => entries.insert(key(at), entry),
            None => entries.remove(&key(at)),
        };
        Known::default().wrong(&entries, &expected)
    }

    #[test]
    fn what_should_be_there_is_accepted_again_and_again() {
        let (entries, expected) = cluster();
        let mut known = Known::default();
        assert_eq!(known.wrong(&entries, &expected), [""; 0]);
        assert_eq!(known.wrong(&entries, &expected), [""; 0]);
    }

    #[test]
    fn a_stale_a_missing_and_a_misled_address_are_each_found() {
        assert_eq!(
            said("10.1.0.3/32", Some(entry(3, 7, 0))),
            ["10.1.0.3 with 128 bits: nobody's"]
        );
        assert_eq!(said("10.1.0.2/32", None), ["10.1.0.2 of pod pod: not there"]);
        assert_eq!(
            said("10.1.0.2/32", Some(entry(4, 9, 0))),
            ["10.1.0.2 of pod pod: leads to peer 4, 10.1.0.0/24 to Some(3)"]
        );
        assert_eq!(
            said("10.1.0.2/32", Some(entry(3, 0, 0))),
            ["10.1.0.2 of pod pod: no identity"]
        );
    }

    #[test]
    fn two_pods_with_one_identity_and_two_nodes_with_one_peer_are_found() {
        assert_eq!(
            said("10.1.0.2/32", Some(entry(3, 10, 0))),
            ["identity 10 of other: is pod's", "identity 9 of pod: it had 10"]
        );
        assert_eq!(
            said("10.2.0.0/24", Some(entry(3, 0, 0)))[0],
            "peer 3 of second: is node's"
        );
        assert_eq!(
            said("192.0.2.1/32", Some(entry(3, 0, 0))),
            ["192.0.2.1/32 of node node: not a node's"]
        );
    }

    #[test]
    fn an_address_that_passed_to_another_pod_with_its_old_identity_is_found_later() {
        let (entries, mut expected) = cluster();
        let mut known = Known::default();
        assert_eq!(known.wrong(&entries, &expected), [""; 0]);
        for address in ["10.1.0.2", "fd00::2"] {
            expected.pods.get_mut(&address.parse().unwrap()).unwrap().0 = "heir".into();
        }
        let said = "identity 9 of heir: is pod's";
        assert_eq!(known.wrong(&entries, &expected), [said, said]);
    }

    #[test]
    fn what_came_or_went_meanwhile_may_be_there_or_not() {
        let (mut entries, mut expected) = cluster();
        expected.open.insert(net("10.1.0.3/32"));
        assert_eq!(Known::default().wrong(&entries, &expected), [""; 0]);
        entries.insert(key("10.1.0.3/32"), entry(3, 7, 0));
        assert_eq!(Known::default().wrong(&entries, &expected), [""; 0]);
    }
}
