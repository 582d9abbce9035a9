//! AllowedIPs: inner prefixes and the peers they belong to, searched by the longest prefix.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::PeerId;

/// Prefixes of both families, each with exactly one owner.
#[derive(Default)]
pub(crate) struct AllowedIps {
    v4: PrefixMap<Ipv4Net, PeerId>,
    v6: PrefixMap<Ipv6Net, PeerId>,
}

impl AllowedIps {
    /// Gives a prefix to a peer; a former owner loses it. Host bits do not count.
    pub(crate) fn insert(&mut self, net: IpNet, id: PeerId) {
        match net.trunc() {
            IpNet::V4(net) => drop(self.v4.insert(net, id)),
            IpNet::V6(net) => drop(self.v6.insert(net, id)),
        }
    }

    /// Takes a prefix from a peer, if it is that peer's.
    pub(crate) fn remove(&mut self, net: IpNet, id: PeerId) {
        match net.trunc() {
            IpNet::V4(net) if self.v4.get(&net) == Some(&id) => drop(self.v4.remove(&net)),
            IpNet::V6(net) if self.v6.get(&net) == Some(&id) => drop(self.v6.remove(&net)),
            _ => {}
        }
    }

    /// Takes every prefix from a peer.
    pub(crate) fn remove_peer(&mut self, id: PeerId) {
        self.v4.retain(|_, owner| *owner != id);
        self.v6.retain(|_, owner| *owner != id);
    }

    /// The owner of the longest prefix that holds the address.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, id)| *id),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, id)| *id),
        }
    }

    /// A peer's prefixes.
    pub(crate) fn of(&self, id: PeerId) -> impl Iterator<Item = IpNet> {
        let v4 = self
            .v4
            .iter()
            .filter(move |(_, owner)| **owner == id)
            .map(|(net, _)| IpNet::V4(net));
        let v6 = self
            .v6
            .iter()
            .filter(move |(_, owner)| **owner == id)
            .map(|(net, _)| IpNet::V6(net));
        v4.chain(v6)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// A list that is searched from one end to the other.
    #[derive(Default)]
    struct Oracle(Vec<(IpNet, PeerId)>);

    impl Oracle {
        fn insert(&mut self, net: IpNet, id: PeerId) {
            self.0.retain(|(other, _)| *other != net.trunc());
            self.0.push((net.trunc(), id));
        }

        fn lookup(&self, address: IpAddr) -> Option<PeerId> {
            let holding = self.0.iter().filter(|(net, _)| net.contains(&address));
            holding.max_by_key(|(net, _)| net.prefix_len()).map(|(_, id)| *id)
        }
    }

    #[derive(Clone, Debug)]
    enum Change {
        Insert(IpNet, usize),
        Remove(IpNet, usize),
        RemovePeer(usize),
    }

    // Few distinct leading bits, so that prefixes nest and collide.
    fn v4() -> impl Strategy<Value = Ipv4Addr> {
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits & 0xc0c0_c0ff))
    }

    fn v6() -> impl Strategy<Value = Ipv6Addr> {
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits & 0x8001_8001_0000_0000_0000_0000_0000_00ff))
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![v4().prop_map(IpAddr::from), v6().prop_map(IpAddr::from)]
    }

    fn net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (v4(), 0_u8..=32).prop_map(|(a, len)| IpNet::new(a.into(), len).expect("a length within 32")),
            (v6(), 0_u8..=128).prop_map(|(a, len)| IpNet::new(a.into(), len).expect("a length within 128")),
        ]
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            8 => (net(), 0_usize..6).prop_map(|(net, id)| Change::Insert(net, id)),
            2 => (net(), 0_usize..6).prop_map(|(net, id)| Change::Remove(net, id)),
            1 => (0_usize..6).prop_map(Change::RemovePeer),
        ]
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_list_searched_from_end_to_end(
            changes in prop::collection::vec(change(), 0..60),
            addresses in prop::collection::vec(address(), 60),
        ) {
            let (mut fast, mut oracle) = (AllowedIps::default(), Oracle::default());
            for change in &changes {
                match *change {
                    Change::Insert(net, id) => {
                        fast.insert(net, PeerId(id));
                        oracle.insert(net, PeerId(id));
                    }
                    Change::Remove(net, id) => {
                        fast.remove(net, PeerId(id));
                        oracle.0.retain(|entry| *entry != (net.trunc(), PeerId(id)));
                    }
                    Change::RemovePeer(id) => {
                        fast.remove_peer(PeerId(id));
                        oracle.0.retain(|(_, owner)| *owner != PeerId(id));
                    }
                }
            }
            let inside = oracle.0.iter().map(|(net, _)| net.broadcast());
            for address in addresses.into_iter().chain(inside) {
                prop_assert_eq!(fast.lookup(address), oracle.lookup(address), "{}", address);
            }
            for id in (0..6).map(PeerId) {
                let mut mine: Vec<_> = fast.of(id).collect();
                let mut expected: Vec<_> = oracle.0.iter().filter(|e| e.1 == id).map(|e| e.0).collect();
                mine.sort();
                expected.sort();
                prop_assert_eq!(mine, expected);
            }
        }
    }

    #[test]
    fn a_prefix_moves_to_the_peer_that_names_it_last() {
        let mut allowed = AllowedIps::default();
        let net: IpNet = "10.1.0.0/16".parse().expect("a prefix");
        allowed.insert(net, PeerId(1));
        allowed.insert("10.1.2.3/16".parse().expect("a prefix"), PeerId(2));
        assert_eq!(
            allowed.lookup("10.1.9.9".parse().expect("an address")),
            Some(PeerId(2))
        );
        assert_eq!(allowed.of(PeerId(1)).count(), 0);
        allowed.remove(net, PeerId(1));
        assert_eq!(allowed.of(PeerId(2)).count(), 1);
    }
}
