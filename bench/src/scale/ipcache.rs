//! What a keyd has programmed, read from its pinned map `IPCACHE`: who has an address.
//!
//! An entry of 128 bits with an identity is a pod's. keyd's numbers of peers and identities are its own, so that
//! entries are judged by each other: a pod's peer must be that of the prefix it lies in, and pods, whose labels
//! all differ, must have identities that all differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use aya::maps::{
    Map, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use hauberk_abi::{ABI_VERSION, Addr, IP_NODE, IpcacheEntry};
use ipnet::IpNet;

use super::error::ScaleError;

/// Bits of an address in the map.
const ADDRESS_BITS: u8 = 128;
/// Bits before an IPv4 address in the mapped form.
const MAPPED_BITS: u8 = 96;

/// A keyd's map.
pub struct Ipcache {
    map: LpmTrie<MapData, Addr, IpcacheEntry>,
    path: PathBuf,
}

/// What a pod's address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// keyd's number of the node; 0 for this one.
    pub peer: u32,
    /// keyd's number of the pod's identity.
    pub identity: u32,
}

/// What a map should hold.
#[derive(Debug, Default)]
pub struct Expected {
    /// Addresses of pods, and the prefix of its node that each lies in.
    pub pods: BTreeMap<IpAddr, IpNet>,
    /// Prefixes of nodes.
    pub prefixes: BTreeSet<IpNet>,
    /// Addresses of nodes.
    pub nodes: BTreeSet<IpAddr>,
}

impl Ipcache {
    /// Opens the map in a keyd's pin directory.
    pub fn open(pin_dir: &Path) -> Result<Self, ScaleError> {
        let path = pin_dir.join(format!("v{ABI_VERSION}/maps/IPCACHE"));
        let open = || LpmTrie::try_from(Map::LpmTrie(MapData::from_pin(&path)?));
        match open() {
            Ok(map) => Ok(Self { map, path }),
            Err(source) => Err(ScaleError::Map { path, source }),
        }
    }

    /// The pod that has an address, if one has.
    pub fn holder(&self, address: IpAddr) -> Result<Option<Holder>, ScaleError> {
        let found = self.longest(address, ADDRESS_BITS)?;
        Ok(found.filter(|entry| entry.identity != 0).map(|entry| Holder {
            peer: entry.peer,
            identity: entry.identity,
        }))
    }

    /// The number of the node whose prefix this is.
    pub fn peer_of(&self, prefix: IpNet) -> Result<Option<u32>, ScaleError> {
        let found = self.longest(prefix.network(), key_of(prefix).1)?;
        Ok(found.map(|entry| entry.peer))
    }

    /// Compares all of it with what it should hold; says what is wrong, one line each.
    pub fn wrong(&self, expected: &Expected) -> Result<Vec<String>, ScaleError> {
        let entries = self.map.iter().map(|entry| {
            let (key, value) = entry?;
            Ok(((key.data(), key.prefix_len() as u8), value))
        });
        let entries = entries.collect::<Result<BTreeMap<_, _>, MapError>>();
        entries
            .map(|entries| wrong(&entries, expected))
            .map_err(|source| self.failed(source))
    }

    fn longest(&self, address: IpAddr, bits: u8) -> Result<Option<IpcacheEntry>, ScaleError> {
        match self.map.get(&Key::new(u32::from(bits), mapped(address)), 0) {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: MapError) -> ScaleError {
        let path = self.path.clone();
        ScaleError::Map { path, source }
    }
}

fn wrong(entries: &BTreeMap<(Addr, u8), IpcacheEntry>, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    let mut identities = BTreeMap::new();
    for (address, prefix) in &expected.pods {
        let key = key_of(IpNet::from(*address));
        let node = entries.get(&key_of(*prefix)).map(|entry| entry.peer);
        match entries.get(&key) {
            None => wrong.push(format!("pod {address}: not there")),
            Some(entry) if entry.identity == 0 => wrong.push(format!("pod {address}: no identity")),
            // This node's own pods have no peer, and its prefix may have no entry.
            Some(entry) if node.is_some_and(|node| node != entry.peer) => {
                wrong.push(format!(
                    "pod {address}: leads to peer {}, not {node:?}",
                    entry.peer
                ));
            }
            Some(entry) => *identities.entry(entry.identity).or_insert(0) += 1,
        }
        known.insert(key);
    }
    // A pod has an address of each family.
    let shared = identities.iter().filter(|(_, addresses)| **addresses != 2);
    wrong.extend(shared.map(|(number, addresses)| format!("identity {number}: {addresses} addresses")));
    for address in &expected.nodes {
        let key = key_of(IpNet::from(*address));
        if entries.get(&key).is_none_or(|entry| entry.flags & IP_NODE == 0) {
            wrong.push(format!("node {address}: not there"));
        }
        known.insert(key);
    }
    for prefix in &expected.prefixes {
        if !entries.contains_key(&key_of(*prefix)) {
            wrong.push(format!("prefix {prefix}: not there"));
        }
        known.insert(key_of(*prefix));
    }
    let strange = entries.keys().filter(|key| !known.contains(key));
    wrong.extend(strange.map(|(address, bits)| {
        let address = std::net::Ipv6Addr::from(*address).to_canonical();
        format!("{address} with {bits} bits: nobody's")
    }));
    wrong
}

fn key_of(net: IpNet) -> (Addr, u8) {
    let bits = match net {
        IpNet::V4(v4) => MAPPED_BITS + v4.prefix_len(),
        IpNet::V6(v6) => v6.prefix_len(),
    };
    (mapped(net.network()), bits)
}

fn mapped(address: IpAddr) -> Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
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

    #[test]
    fn a_stale_a_missing_and_a_misled_address_are_each_found() {
        let expected = Expected {
            pods: [("10.1.0.2", "10.1.0.0/24"), ("fd00::2", "fd00::/64")]
                .map(|(pod, prefix)| (pod.parse().unwrap(), net(prefix)))
                .into(),
            prefixes: [net("10.1.0.0/24"), net("fd00::/64")].into(),
            nodes: ["192.0.2.1".parse().unwrap()].into(),
        };
        let good: BTreeMap<_, _> = [
            (key_of(net("10.1.0.0/24")), entry(3, 0, 0)),
            (key_of(net("fd00::/64")), entry(3, 0, 0)),
            (key_of(net("10.1.0.2/32")), entry(3, 9, 0)),
            (key_of(net("fd00::2/128")), entry(3, 9, 0)),
            (key_of(net("192.0.2.1/32")), entry(3, 0, IP_NODE)),
        ]
        .into();
        assert_eq!(wrong(&good, &expected), [""; 0]);

        let pod = key_of(net("10.1.0.2/32"));
        let mut misled = good.clone();
        misled.insert(pod, entry(4, 9, 0));
        assert_eq!(
            wrong(&misled, &expected)[0],
            "pod 10.1.0.2: leads to peer 4, not Some(3)"
        );
        let mut missing = good.clone();
        missing.remove(&pod);
        assert_eq!(wrong(&missing, &expected)[0], "pod 10.1.0.2: not there");
        let mut stale = good;
        stale.insert(key_of(net("10.1.0.3/32")), entry(3, 7, 0));
        assert_eq!(wrong(&stale, &expected), ["10.1.0.3 with 128 bits: nobody's"]);
    }
}
