//! Who has an address: prefixes of nodes, addresses of nodes, pods, and what lies behind external peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hauberk_abi as abi;
use ipnet::IpNet;

use super::{Attached, Identity, Local, lpm_key};
use crate::memory::{Memory, Numbers};
use crate::snapshot::{Claims, Snapshot};

/// The kernel's maps of addresses and pods.
#[derive(Default)]
pub(super) struct Addresses {
    pub(super) ipcache: BTreeMap<(abi::Addr, u8), abi::IpcacheEntry>,
    pub(super) pods: BTreeMap<u32, abi::Pod>,
    pub(super) pod_addresses: BTreeSet<abi::PodAddress>,
}

impl Addresses {
    /// Fills in nodes and pods; `held` are the addresses that CNI gave pods of this node.
    pub(super) fn of(
        snapshot: &Snapshot,
        claims: &Claims,
        held: &BTreeMap<IpAddr, &Attached>,
        local: &Local,
        memory: &mut Memory,
    ) -> Self {
        let mut addresses = Self::default();
        addresses.insert_lost(claims, memory);
        let numbers = &mut memory.numbers;
        for (node, prefixes) in &claims.node_prefixes {
            for prefix in prefixes {
                addresses.insert(*prefix, remote_entry(node, *prefix, local, numbers));
            }
        }
        for (node, own) in &claims.node_addresses {
            for prefix in own.iter().copied().map(IpNet::from) {
                let mut entry = remote_entry(node, prefix, local, numbers);
                entry.flags = if *node == local.node {
                    abi::IP_NODE | abi::IP_SELF
                } else {
                    abi::IP_NODE
                };
                addresses.insert(prefix, entry);
            }
        }
        let mut in_use = BTreeSet::new();
        let of_nodes: BTreeSet<IpAddr> = claims.node_addresses.values().flatten().copied().collect();
        // CNI knows whose an interface is, and comes first.
        for (address, attached) in held {
            let identity = attached.identity(snapshot);
            let number = numbers.identity(&identity);
            in_use.insert(identity);
            let object = attached.object(snapshot);
            let extra = object.map_or(&[][..], |(_, pod)| &pod.extra_addresses);
            let own = std::slice::from_ref(address);
            addresses.insert_local(own, extra, number, Some(attached.interface), &of_nodes);
        }
        let by_interface: BTreeMap<u32, &Attached> = held
            .values()
            .map(|attached| (attached.interface, *attached))
            .collect();
        for (name, own) in &claims.pod_addresses {
            let pod = &snapshot.pods[name];
            let identity = Identity::of(name, pod);
            let number = numbers.identity(&identity);
            in_use.insert(identity);
            if pod.node.as_deref() == Some(&local.node) {
                let at = |address: &IpAddr| {
                    let attached = held.get(address).map(|attached| attached.interface);
                    attached.or_else(|| local.pod_interfaces.get(address).copied())
                };
                let is_free = |interface: &u32| {
                    let attached = by_interface.get(interface);
                    attached.is_none_or(|attached| attached.is_of(name, pod))
                };
                let interface = own.iter().find_map(at).filter(is_free);
                addresses.insert_local(own, &pod.extra_addresses, number, interface, &of_nodes);
            } else if let Some(node) = &pod.node {
                addresses.insert_remote(node, own, number, claims, local, numbers);
            }
        }
        numbers.retain_identities(&in_use);
        addresses
    }

    /// What a Node that is gone had stays its own, until somebody else has it.
    fn insert_lost(&mut self, claims: &Claims, memory: &mut Memory) {
        let Memory { nodes, numbers, .. } = memory;
        for (name, known) in nodes
            .iter()
            .filter(|(name, _)| !claims.node_prefixes.contains_key(*name))
        {
            let peer = numbers.peer(name);
            let hosts = known.addresses.iter().copied().map(IpNet::from);
            let entries = known
                .prefixes
                .iter()
                .map(|prefix| (*prefix, 0))
                .chain(hosts.map(|host| (host, abi::IP_NODE)));
            for (prefix, flags) in entries {
                let entry = abi::IpcacheEntry {
                    peer,
                    flags,
                    ..Default::default()
                };
                self.insert(prefix, entry);
            }
        }
    }

    /// Adds one prefix.
    pub(super) fn insert(&mut self, prefix: IpNet, entry: abi::IpcacheEntry) {
        self.ipcache.insert(lpm_key(prefix), entry);
    }

    fn insert_local(
        &mut self,
        own: &[IpAddr],
        extra: &[IpAddr],
        identity: u32,
        interface: Option<u32>,
        of_nodes: &BTreeSet<IpAddr>,
    ) {
        // Without an interface the address is nobody's: the host's stack knows best where it is.
        let (flags, at) = interface.map_or((0, 0), |ifindex| (abi::IP_LOCAL_POD, ifindex));
        for address in own {
            let entry = abi::IpcacheEntry {
                peer: abi::NO_PEER,
                identity,
                flags,
                ifindex: at,
            };
            self.insert(IpNet::from(*address), entry);
        }
        let Some(ifindex) = interface else { return };
        self.pods
            .entry(ifindex)
            .or_insert(abi::Pod { identity, flags: 0 });
        let extra = extra.iter().filter(|address| !of_nodes.contains(address));
        for address in own.iter().chain(extra) {
            let (addr, _) = lpm_key(IpNet::from(*address));
            self.pod_addresses.insert(abi::PodAddress { ifindex, addr });
        }
    }

    fn insert_remote(
        &mut self,
        node: &str,
        own: &[IpAddr],
        identity: u32,
        claims: &Claims,
        local: &Local,
        numbers: &mut Numbers,
    ) {
        for address in own {
            let Some(prefix) = claims.node_prefixes[node]
                .iter()
                .find(|prefix| prefix.contains(address))
            else {
                continue;
            };
            let entry = abi::IpcacheEntry {
                identity,
                ..remote_entry(node, *prefix, local, numbers)
            };
            self.insert(IpNet::from(*address), entry);
        }
    }
}

/// What is known of all addresses in a node's prefix.
fn remote_entry(node: &str, prefix: IpNet, local: &Local, numbers: &mut Numbers) -> abi::IpcacheEntry {
    if node == local.node {
        return abi::IpcacheEntry::default();
    }
    let ifindex = local.via.get(&prefix).copied().unwrap_or(0);
    abi::IpcacheEntry {
        peer: numbers.peer(node),
        ifindex,
        ..Default::default()
    }
}
