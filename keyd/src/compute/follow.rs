//! What a change of other nodes' pods means, without computing all anew.
//!
//! In a large cluster nearly every change is of a pod on another node, and says no more than who has its addresses.
//! A [`Follower`] keeps what is needed to tell that, and answers in the time that the change takes. Whatever could mean
//! more is left to [`super::compute`]: any other object, a pod of this node, an address that somebody else has or may
//! have as well, one that its pod may not have, a pod unlike all that policies have told apart so far. So no conflict is settled here, and what comes out is what
//! [`super::compute`] would say.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use hauberk_abi as abi;

use super::ipcache::{RemoteEntries, entry_in};
use super::{DesiredState, Local, Rule, lpm_key};
use crate::memory::Memory;
use crate::snapshot::{Claims, ObjectName, PackedPod, Snapshot, Symbol};

/// Numbered contents that are not forgotten yet, beyond twice the pods.
const CONTENTS_LEFT: usize = 1024;

/// An address, its key and its entry.
type Claim = (IpAddr, (abi::Addr, u8), abi::IpcacheEntry);

/// Entries of map `IPCACHE` to put in, or to take out.
pub type AddressChanges = BTreeMap<(abi::Addr, u8), Option<abi::IpcacheEntry>>;

/// What makes `now` of `before`.
pub fn address_changes(
    before: &BTreeMap<(abi::Addr, u8), abi::IpcacheEntry>,
    now: &BTreeMap<(abi::Addr, u8), abi::IpcacheEntry>,
) -> AddressChanges {
    let gone = before.keys().filter(|key| !now.contains_key(key));
    let written = now.iter().filter(|(key, entry)| before.get(key) != Some(entry));
    gone.map(|key| (*key, None))
        .chain(written.map(|(key, entry)| (*key, Some(*entry))))
        .collect()
}

/// Follows pods of other nodes from a computed state on.
#[derive(Debug, Default)]
pub struct Follower {
    /// What the state says.
    snapshot: Snapshot,
    here: Option<Symbol>,
    remote: RemoteEntries,
    /// Addresses that something else than one pod of another node has.
    taken: HashSet<IpAddr>,
    contested: BTreeSet<IpAddr>,
    /// Pods that CNI told of: they have the identity of the API's object by that name.
    attached: HashSet<ObjectName>,
    /// What policies tell apart.
    rule: Arc<Rule>,
}

impl Follower {
    pub(super) fn new(
        snapshot: &Snapshot,
        claims: &Claims,
        local: &Local,
        remote: RemoteEntries,
        desired: &DesiredState,
    ) -> Self {
        let hosts = desired.ipcache.iter().filter(|((_, length), _)| *length == 128);
        let hosts = hosts.map(|((address, _), entry)| (Ipv6Addr::from(*address).to_canonical(), entry));
        let is_pods = |address: &IpAddr, entry: &abi::IpcacheEntry| {
            let node = claims.pods.get(address).and_then(|pod| pod.node());
            let prefixes = node.and_then(|node| remote.get(node));
            let expected = prefixes.and_then(|prefixes| entry_in(prefixes, *address));
            let identity = entry.identity;
            expected.is_some_and(|expected| abi::IpcacheEntry { identity, ..expected } == *entry)
        };
        let taken = hosts.filter(|(address, entry)| !is_pods(address, entry));
        Self {
            snapshot: snapshot.clone(),
            here: Some(Symbol::new(&local.node)),
            taken: taken.map(|(address, _)| address).collect(),
            contested: claims.contested.clone(),
            attached: local
                .attached
                .iter()
                .filter_map(|attached| attached.pod.clone())
                .collect(),
            remote,
            rule: Arc::clone(&desired.rule),
        }
    }

    /// What makes of `desired` what `snapshot` says; there is no answer where all has to be computed anew. Numbers given are
    /// noted in `memory`.
    pub fn follow(
        &self,
        snapshot: &Snapshot,
        desired: &DesiredState,
        memory: &mut Memory,
    ) -> Option<AddressChanges> {
        let numbers = &mut memory.numbers;
        let before = Snapshot {
            pods: snapshot.pods.clone(),
            ..self.snapshot.clone()
        };
        if before != *snapshot || numbers.contents() > 2 * snapshot.pods.len() + CONTENTS_LEFT {
            return None;
        }
        let changes = || snapshot.pods.changes_since(&self.snapshot.pods);
        let mut entries = AddressChanges::new();
        for pod in changes().filter_map(|change| change.before) {
            for (_, key, _) in self.claims(pod)? {
                entries.insert(key, None);
            }
        }
        for pod in changes().filter_map(|change| change.now) {
            for (address, key, entry) in self.claims(pod)? {
                let has = entries
                    .get(&key)
                    .map_or(desired.ipcache.contains_key(&key), Option::is_some);
                if has {
                    return None;
                }
                let classes = &self.rule.classes;
                let identity = classes.follow(pod, address.into(), snapshot, numbers)?;
                entries.insert(key, Some(abi::IpcacheEntry { identity, ..entry }));
            }
        }
        entries.retain(|key, entry| desired.ipcache.get(key) != entry.as_ref());
        Some(entries)
    }

    /// Takes in what [`Follower::follow`] answered, once it is in force.
    pub fn advance(&mut self, snapshot: &Snapshot, desired: &mut DesiredState, changes: AddressChanges) {
        for (key, entry) in changes {
            match entry {
                Some(entry) => desired.ipcache.insert(key, entry),
                None => desired.ipcache.remove(&key),
            };
        }
        self.snapshot = snapshot.clone();
    }

    /// The entries that a pod's addresses have, but for its identity; no answer where that is not for it alone to say.
    fn claims(&self, pod: &PackedPod) -> Option<Vec<Claim>> {
        let is_attached = || self.attached.iter().any(|name| pod.is_named(name));
        if pod.node() == self.here.as_ref() || is_attached() {
            return None;
        }
        let prefixes = pod.node().and_then(|node| self.remote.get(node));
        let Some(prefixes) = prefixes.filter(|_| pod.owns_addresses()) else {
            return Some(Vec::new());
        };
        let entry = |address: &IpAddr| {
            let taken = self.taken.contains(address) || self.contested.contains(address);
            if taken || self.rule.classes.is_network((*address).into()) {
                return None;
            }
            Some((
                *address,
                lpm_key((*address).into()),
                entry_in(prefixes, *address)?,
            ))
        };
        pod.addresses().iter().map(entry).collect()
    }
}
