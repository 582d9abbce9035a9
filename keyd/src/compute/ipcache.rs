//! Who has an address: prefixes of nodes, addresses of nodes, pods, and what lies behind external peers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_abi as abi;
use hauberk_policy::compile::SetId;
use ipnet::{IpNet, Ipv4Net};

use super::policy::{Holder, Policing};
use super::{Attached, Local, lpm_key};
use crate::memory::KnownNode;
use crate::snapshot::{Claims, PackedPod, Snapshot, Symbol};

/// What addresses are read from.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) claims: &'a Claims,
    /// The addresses that CNI gave pods of this node.
    pub(super) held: &'a BTreeMap<IpAddr, &'a Attached>,
    pub(super) local: &'a Local,
    /// Covered prefixes.
    pub(super) covered: &'a BTreeSet<IpNet>,
    /// Nodes as they are remembered.
    pub(super) lost: &'a BTreeMap<String, KnownNode>,
    /// Prefixes of external peers, with the peers' numbers.
    pub(super) external: &'a [(u32, IpNet)],
}

/// The kernel's maps of addresses and pods.
#[derive(Default)]
pub(super) struct Addresses {
    pub(super) ipcache: BTreeMap<(abi::Addr, u8), abi::IpcacheEntry>,
    /// By interface; a pod without a set is closed.
    pub(super) pods: BTreeMap<u32, Option<SetId>>,
    pub(super) pod_addresses: BTreeSet<abi::PodAddress>,
    pub(super) remote: RemoteEntries,
}

impl Addresses {
    /// Fills in what is covered, nodes, networks and pods.
    pub(super) fn of(sight: &Sight, policing: &mut Policing) -> Self {
        let Sight {
            snapshot,
            claims,
            held,
            local,
            ..
        } = *sight;
        let mut addresses = Self::default();
        for prefix in sight.covered {
            let identity = policing.number(Holder::Unknown, *prefix);
            addresses.insert(
                *prefix,
                abi::IpcacheEntry {
                    identity,
                    ..Default::default()
                },
            );
        }
        addresses.insert_lost(sight, policing);
        for (node, prefixes) in &claims.node_prefixes {
            for prefix in prefixes {
                addresses.insert(*prefix, remote_entry(node, *prefix, local, policing));
            }
        }
        addresses.insert_external(sight, policing);
        addresses.insert_networks(sight, policing);
        addresses.insert_gateways(sight, policing);
        for (node, own) in &claims.node_addresses {
            for prefix in own.iter().copied().map(IpNet::from) {
                let mut entry = remote_entry(node, prefix, local, policing);
                entry.identity = policing.number(policing.classes.node(node, snapshot), prefix);
                entry.flags = if *node == local.node {
                    abi::IP_NODE | abi::IP_SELF
                } else {
                    abi::IP_NODE
                };
                addresses.insert(prefix, entry);
            }
        }
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
            let object = attached.object(snapshot);
            let (holder, set) = match object {
                Some(pod) => policing.pod(pod, snapshot),
                None => policing.unseen(attached.namespace(), snapshot),
            };
            let extra = object.map_or(&[][..], PackedPod::extra_addresses);
            let own = std::slice::from_ref(address);
            let extra = free(extra, object);
            addresses.insert_local(own, &extra, &holder, Some((attached.interface, set)), policing);
        }
        let by_interface: BTreeMap<u32, &Attached> = held
            .values()
            .map(|attached| (attached.interface, *attached))
            .collect();
        let here = Symbol::new(&local.node);
        let remote = remote_entries(claims, local, policing);
        let mut own_pods = Vec::new();
        for (address, pod) in &claims.pods {
            let Some(node) = pod.node() else { continue };
            if *node == here {
                own_pods.push(pod);
            } else if let Some(entry) = remote.get(node).and_then(|prefixes| entry_in(prefixes, *address)) {
                let at = IpNet::from(*address);
                let identity = policing.number(policing.classes.pod(pod, snapshot), at);
                addresses.insert(at, abi::IpcacheEntry { identity, ..entry });
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
            let extra = free(pod.extra_addresses(), Some(pod));
            let (holder, set) = policing.pod(pod, snapshot);
            let interface = interface.map(|interface| (interface, set));
            addresses.insert_local(&own, &extra, &holder, interface, policing);
        }
        addresses.remote = remote;
        addresses
    }

    /// What a Node that is gone had stays its own, until somebody else has it.
    fn insert_lost(&mut self, sight: &Sight, policing: &mut Policing) {
        let lost = sight
            .lost
            .iter()
            .filter(|(name, _)| !sight.claims.node_prefixes.contains_key(*name));
        for (name, known) in lost {
            let peer = policing.numbering.numbers.peer(name);
            let hosts = known.addresses.iter().copied().map(IpNet::from);
            let entries = known
                .prefixes
                .iter()
                .map(|prefix| (*prefix, 0))
                .chain(hosts.map(|host| (host, abi::IP_NODE)));
            for (prefix, flags) in entries {
                let entry = abi::IpcacheEntry {
                    peer,
                    identity: policing.number(Holder::Unknown, prefix),
                    flags,
                    ..Default::default()
                };
                self.insert(prefix, entry);
            }
        }
    }

    /// Addresses that this node's own devices have among its pods', as a bridge does: what is masqueraded on its way to a pod
    /// comes from there. (The kernel takes none of them for a source of what comes from outside, `fib_validate_source`.)
    fn insert_gateways(&mut self, sight: &Sight, policing: &mut Policing) {
        let node = &sight.local.node;
        let prefixes = sight.claims.node_prefixes.get(node).into_iter().flatten();
        let is_pods = |address: &&IpAddr| prefixes.clone().any(|prefix| prefix.contains(*address));
        for address in sight.local.addresses.iter().filter(is_pods) {
            let at = IpNet::from(*address);
            let entry = abi::IpcacheEntry {
                identity: policing.number(policing.classes.node(node, sight.snapshot), at),
                flags: abi::IP_NODE | abi::IP_SELF,
                ..Default::default()
            };
            self.insert(at, entry);
        }
    }

    fn insert_external(&mut self, sight: &Sight, policing: &mut Policing) {
        for (number, prefix) in sight.external {
            let entry = abi::IpcacheEntry {
                peer: *number,
                identity: policing.number(Holder::Outside, *prefix),
                flags: 0,
                ifindex: sight.local.via.get(prefix).copied().unwrap_or(0),
            };
            self.insert(*prefix, entry);
        }
    }

    /// Networks of policies: an address in one has the network's identity, and is whose it was without.
    fn insert_networks(&mut self, sight: &Sight, policing: &mut Policing) {
        let mut networks: Vec<IpNet> = policing.classes.networks().collect();
        if !networks.is_empty() {
            // Or an IPv6 network that all mapped addresses lie in would be taken for theirs.
            networks.push(IpNet::V4(Ipv4Net::default()));
        }
        networks.sort_unstable_by_key(IpNet::prefix_len);
        let of_nodes = sight.claims.node_prefixes.values().flatten();
        let of_lost = sight.lost.values().flat_map(|known| &known.prefixes);
        let mesh: HashSet<IpNet> = sight
            .covered
            .iter()
            .chain(of_nodes)
            .chain(of_lost)
            .copied()
            .collect();
        for network in networks {
            let around = |length| {
                IpNet::new(network.addr(), length)
                    .expect("no longer than it was")
                    .trunc()
            };
            let mut lengths = (0..=network.prefix_len()).rev().map(around);
            let entry = lengths
                .clone()
                .find_map(|wider| self.ipcache.get(&lpm_key(wider)).copied());
            let holder = match lengths.any(|wider| mesh.contains(&wider)) {
                true => Holder::Unknown,
                false => Holder::Outside,
            };
            let entry = abi::IpcacheEntry {
                identity: policing.number(holder, network),
                flags: 0,
                ..entry.unwrap_or_default()
            };
            self.insert(network, entry);
        }
    }

    /// Adds one prefix.
    pub(super) fn insert(&mut self, prefix: IpNet, entry: abi::IpcacheEntry) {
        self.ipcache.insert(lpm_key(prefix), entry);
    }

    /// The addresses of a pod of this node, with its interface and its set of policies where it has one.
    fn insert_local(
        &mut self,
        own: &[IpAddr],
        extra: &[IpAddr],
        holder: &Holder,
        interface: Option<(u32, Option<SetId>)>,
        policing: &mut Policing,
    ) {
        // Without an interface the address is nobody's: the host's stack knows best where it is.
        let (flags, at) = interface.map_or((0, 0), |(ifindex, _)| (abi::IP_LOCAL_POD, ifindex));
        for address in own.iter().copied().map(IpNet::from) {
            let entry = abi::IpcacheEntry {
                peer: abi::NO_PEER,
                identity: policing.number(holder.clone(), address),
                flags,
                ifindex: at,
            };
            self.insert(address, entry);
        }
        let Some((ifindex, set)) = interface else { return };
        self.pods.entry(ifindex).or_insert(set);
        for address in own.iter().chain(extra) {
            let (addr, _) = lpm_key(IpNet::from(*address));
            self.pod_addresses.insert(abi::PodAddress { ifindex, addr });
        }
    }
}

/// What is known of each prefix of the other nodes, by the symbol of their name.
pub(super) type RemoteEntries = HashMap<Symbol, Vec<(IpNet, abi::IpcacheEntry)>>;

fn remote_entries(claims: &Claims, local: &Local, policing: &mut Policing) -> RemoteEntries {
    let others = claims
        .node_prefixes
        .iter()
        .filter(|(node, _)| **node != local.node);
    let mut entries_of = |node: &str, prefixes: &[IpNet]| {
        let entry = |prefix: &IpNet| (*prefix, remote_entry(node, *prefix, local, policing));
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
fn remote_entry(node: &str, prefix: IpNet, local: &Local, policing: &mut Policing) -> abi::IpcacheEntry {
    let identity = policing.number(Holder::Unknown, prefix);
    if node == local.node {
        return abi::IpcacheEntry {
            identity,
            ..Default::default()
        };
    }
    abi::IpcacheEntry {
        peer: policing.numbering.numbers.peer(node),
        identity,
        flags: 0,
        ifindex: local.via.get(&prefix).copied().unwrap_or(0),
    }
}
