//! Who has an address: prefixes of nodes, addresses of nodes, pods, and what lies behind external peers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_abi as abi;
use ipnet::IpNet;

use super::{Attached, Local, lpm_key};
use crate::memory::{Memory, Numbers};
use crate::snapshot::{Claims, PackedPod, Snapshot, Symbol};

/// The kernel's maps of addresses and pods.
#[derive(Default)]
pub(super) struct Addresses {
    pub(super) ipcache: BTreeMap<(abi::Addr, u8), abi::IpcacheEntry>,
    pub(super) pods: BTreeMap<u32, abi::Pod>,
    pub(super) pod_addresses: BTreeSet<abi::PodAddress>,
    pub(super) remote: RemoteEntries,
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
        let mut in_use = HashSet::with_capacity(claims.pods.len());
        let of_nodes: BTreeSet<IpAddr> = claims.node_addresses.values().flatten().copied().collect();
        // Whoever may annotate a pod could make it speak as a node, or as a neighbour.
        let free = |extra: &[IpAddr], pod: Option<&PackedPod>| -> Vec<IpAddr> {
            let is_anothers = |address: &IpAddr| {
                let owner = claims.pods.get(address);
                let attached = held.get(address);
                of_nodes.contains(address)
                    || owner.is_some_and(|owner| pod.is_none_or(|pod| !std::ptr::eq(&**owner, pod)))
                    || attached.is_some_and(|attached| pod.is_none_or(|pod| !attached.is_of(pod)))
            };
            extra
                .iter()
                .copied()
                .filter(|address| !is_anothers(address))
                .collect()
        };
        // CNI knows whose an interface is, and comes first.
        for (address, attached) in held {
            let identity = attached.identity(snapshot);
            let number = numbers.identity(identity);
            in_use.insert(identity);
            let object = attached.object(snapshot);
            let extra = object.map_or(&[][..], PackedPod::extra_addresses);
            let own = std::slice::from_ref(address);
            let extra = free(extra, object);
            addresses.insert_local(own, &extra, number, Some(attached.interface));
        }
        let by_interface: BTreeMap<u32, &Attached> = held
            .values()
            .map(|attached| (attached.interface, *attached))
            .collect();
        let here = Symbol::new(&local.node);
        let remote = remote_entries(claims, local, numbers);
        let mut own_pods = Vec::new();
        for (address, pod) in &claims.pods {
            let number = numbers.identity(pod.identity());
            in_use.insert(pod.identity());
            let Some(node) = pod.node() else { continue };
            if *node == here {
                own_pods.push(pod);
            } else if let Some(entry) = remote.get(node).and_then(|prefixes| entry_in(prefixes, *address)) {
                let identity = number;
                addresses.insert(IpNet::from(*address), abi::IpcacheEntry { identity, ..entry });
            }
        }
        // In the order of names, since of two pods on one interface the first has it.
        own_pods.sort_by(|one, other| one.cmp_name(other));
        own_pods.dedup_by(|one, other| Arc::ptr_eq(one, other));
        for pod in own_pods {
            let has = |address: &IpAddr| {
                claims
                    .pods
                    .get(address)
                    .is_some_and(|owner| Arc::ptr_eq(owner, pod))
            };
            let own: Vec<_> = pod.addresses().iter().copied().filter(has).collect();
            let at = |address: &IpAddr| {
                let attached = held.get(address).map(|attached| attached.interface);
                attached.or_else(|| local.pod_interfaces.get(address).copied())
            };
            let is_free = |interface: &u32| {
                let attached = by_interface.get(interface);
                attached.is_none_or(|attached| attached.is_of(pod))
            };
            let interface = own.iter().find_map(at).filter(is_free);
            let number = numbers.identity(pod.identity());
            let extra = free(pod.extra_addresses(), Some(pod));
            addresses.insert_local(&own, &extra, number, interface);
        }
        numbers.retain_identities(&in_use);
        addresses.remote = remote;
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

    fn insert_local(&mut self, own: &[IpAddr], extra: &[IpAddr], identity: u32, interface: Option<u32>) {
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
        self.pods.entry(ifindex).or_insert(abi::Pod { set: super::OPEN });
        for address in own.iter().chain(extra) {
            let (addr, _) = lpm_key(IpNet::from(*address));
            self.pod_addresses.insert(abi::PodAddress { ifindex, addr });
        }
    }
}

/// What is known of each prefix of the other nodes, by the symbol of their name.
pub(super) type RemoteEntries = HashMap<Symbol, Vec<(IpNet, abi::IpcacheEntry)>>;

pub(super) fn remote_entries(claims: &Claims, local: &Local, numbers: &mut Numbers) -> RemoteEntries {
    let others = claims
        .node_prefixes
        .iter()
        .filter(|(node, _)| **node != local.node);
    let mut entries_of = |node: &str, prefixes: &[IpNet]| {
        let entry = |prefix: &IpNet| (*prefix, remote_entry(node, *prefix, local, numbers));
        prefixes.iter().map(entry).collect()
    };
    others
        .map(|(node, prefixes)| (Symbol::new(node), entries_of(node, prefixes)))
        .collect()
}

/// The entry of the prefix that an address lies in.
pub(super) fn entry_in(
    prefixes: &[(IpNet, abi::IpcacheEntry)],
    address: IpAddr,
) -> Option<abi::IpcacheEntry> {
    let (_, entry) = prefixes.iter().find(|(prefix, _)| prefix.contains(&address))?;
    Some(*entry)
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
