//! The cluster's pods, packed: there are more of them than of anything else, and they change most often.
//!
//! A [`PackedPod`] has what keyd uses in as little memory as that takes: texts that pods share are [`Symbol`]s, a UID is
//! its 16 bytes. The pods of one cluster at two moments share all that is the same. [`Pods`] is a fixed number of short
//! lists, by a hash of the pod's name: a change makes one list anew, a copy copies none, and what differs between two
//! copies is found by looking at the lists that are not the same.

mod uid;

use std::cmp::Ordering;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_policy::identity::NamedPort;
use hauberk_policy::ports::Protocol;
use k8s_openapi::jiff::Timestamp;

use super::symbol::Symbol;
use super::{Digest, ObjectName, Pod};
use uid::Uid;

/// Ten thousand pods are ten in a list; a copy of all is as many pointers.
const LISTS: usize = 1024;

/// A pod in little memory.
#[derive(Debug, PartialEq, Eq)]
pub struct PackedPod {
    namespace: Symbol,
    name: Box<str>,
    /// The latest of all times where that is not known.
    created: Timestamp,
    uid: Option<Uid>,
    node: Option<Symbol>,
    /// The pod's own addresses, and then those that it may use beside them.
    addresses: Box<[IpAddr]>,
    own_addresses: u16,
    owns_addresses: bool,
    is_anonymous: bool,
    service_account: Symbol,
    /// By their keys.
    labels: Box<[(Symbol, Symbol)]>,
    ports: Box<[(Symbol, Protocol, u16)]>,
    looks: Digest,
}

impl PackedPod {
    fn new(name: &ObjectName, pod: &Pod) -> Self {
        let own = &pod.addresses[..pod.addresses.len().min(usize::from(u16::MAX))];
        let (labels, ports) = (pod.labels.iter(), pod.ports.iter());
        Self {
            namespace: Symbol::new(&name.namespace),
            name: name.name.as_str().into(),
            created: pod.origin.created.unwrap_or(Timestamp::MAX),
            uid: pod.origin.uid.as_deref().map(Uid::new),
            node: pod.node.as_deref().map(Symbol::new),
            addresses: [own, &pod.extra_addresses].concat().into(),
            own_addresses: own.len() as u16,
            owns_addresses: pod.owns_addresses(),
            is_anonymous: pod.is_anonymous,
            service_account: Symbol::new(&pod.service_account),
            labels: labels
                .map(|(key, value)| (Symbol::new(key), Symbol::new(value)))
                .collect(),
            ports: ports
                .map(|port| (Symbol::new(&port.name), port.protocol, port.number))
                .collect(),
            looks: Digest::of(&(
                &name.namespace,
                &pod.service_account,
                &pod.labels,
                &pod.ports,
                pod.is_anonymous,
            )),
        }
    }

    /// Its namespace and name.
    pub fn name(&self) -> ObjectName {
        ObjectName {
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
        }
    }

    /// Whether that is its name.
    pub fn is_named(&self, name: &ObjectName) -> bool {
        *self.name == *name.name && self.namespace.with(|namespace| namespace == name.namespace)
    }

    /// The node that it is bound to.
    pub fn node(&self) -> Option<&Symbol> {
        self.node.as_ref()
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses[..usize::from(self.own_addresses)]
    }

    /// Addresses that it may also use as a source, by annotation.
    pub fn extra_addresses(&self) -> &[IpAddr] {
        &self.addresses[usize::from(self.own_addresses)..]
    }

    /// Whether the addresses in its status are its own.
    pub fn owns_addresses(&self) -> bool {
        self.owns_addresses
    }

    /// Its ServiceAccount.
    pub fn service_account(&self) -> &Symbol {
        &self.service_account
    }

    /// Its labels, by their keys.
    pub fn labels(&self) -> &[(Symbol, Symbol)] {
        &self.labels
    }

    /// Names that its containers give to ports.
    pub fn ports(&self) -> impl Iterator<Item = NamedPort> {
        let ports = self.ports.iter();
        ports.map(|(name, protocol, number)| NamedPort {
            name: name.to_string(),
            protocol: *protocol,
            number: *number,
        })
    }

    /// Whether no label of its counts.
    pub fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Symbol {
        &self.namespace
    }

    /// All that policies could tell it by: pods that have it in common are one to every policy.
    pub fn looks(&self) -> Digest {
        self.looks
    }

    /// Whether it may have that UID: a manifest need not say.
    pub fn may_have_uid(&self, uid: &str) -> bool {
        self.uid.as_ref().is_none_or(|known| *known == Uid::new(uid))
    }

    /// By what a claim is settled between two pods: the one that is less has it. The older comes first, then the lower
    /// UID; those without come last, by namespace and name.
    pub fn cmp_age(&self, other: &Self) -> Ordering {
        let age = |pod: &Self| (pod.created, pod.uid.is_none());
        let by_name = || self.cmp_name(other);
        age(self)
            .cmp(&age(other))
            .then_with(|| self.uid.cmp(&other.uid))
            .then_with(by_name)
    }

    /// By namespace and name.
    pub fn cmp_name(&self, other: &Self) -> Ordering {
        let by_namespace = || self.namespace.to_string().cmp(&other.namespace.to_string());
        match self.namespace == other.namespace {
            true => self.name.cmp(&other.name),
            false => by_namespace(),
        }
    }
}

/// Pods, each under its name.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// None of them, or all. A list is ordered by [`PackedPod::cmp_name`].
    lists: Vec<Arc<[Arc<PackedPod>]>>,
}

/// A pod that is there, or is another, since an earlier moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// As it was.
    pub before: Option<&'a Arc<PackedPod>>,
    /// As it is.
    pub now: Option<&'a Arc<PackedPod>>,
}

impl Pods {
    /// The pod with that name.
    pub fn find(&self, name: &ObjectName) -> Option<&Arc<PackedPod>> {
        let list = self.lists.get(place(&name.name))?;
        list.iter().find(|pod| pod.is_named(name))
    }

    /// Puts a pod in; says whether it was another before, or not there.
    pub fn insert(&mut self, name: &ObjectName, pod: &Pod) -> bool {
        let packed = PackedPod::new(name, pod);
        if self.find(name).is_some_and(|known| **known == packed) {
            return false;
        }
        if self.lists.is_empty() {
            self.lists = vec![Arc::default(); LISTS];
        }
        let list = &mut self.lists[place(&name.name)];
        let others = list.iter().filter(|known| !known.is_named(name)).cloned();
        let mut all: Vec<_> = others.chain([Arc::new(packed)]).collect();
        all.sort_unstable_by(|one, other| one.cmp_name(other));
        *list = all.into();
        true
    }

    /// Takes a pod out; says whether it was there.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        if self.find(name).is_none() {
            return false;
        }
        let list = &mut self.lists[place(&name.name)];
        *list = list
            .iter()
            .filter(|known| !known.is_named(name))
            .cloned()
            .collect();
        true
    }

    /// All of them, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PackedPod>> {
        self.lists.iter().flat_map(|list| list.iter())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What differs from an earlier moment. Costs as much as differs, if this was made from that by changes.
    pub fn changes_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Change<'a>> {
        let list = |pods: &'a Self, place: usize| pods.lists.get(place).map_or(&[][..], |list| list);
        (0..LISTS)
            .map(move |place| (list(before, place), list(self, place)))
            .filter(|(before, now)| !std::ptr::eq(*before, *now))
            .flat_map(|(before, now)| changes(before, now))
    }
}

impl PartialEq for Pods {
    fn eq(&self, other: &Self) -> bool {
        self.changes_since(other).next().is_none()
    }
}

impl FromIterator<(ObjectName, Pod)> for Pods {
    fn from_iter<I: IntoIterator<Item = (ObjectName, Pod)>>(pods: I) -> Self {
        let mut all = Self::default();
        for (name, pod) in pods {
            all.insert(&name, &pod);
        }
        all
    }
}

/// The same in every process, so that it needs no memory of its own; who gathers many pods in one list makes the
/// changes of these a little slower, and no other's.
fn place(name: &str) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
    hash as usize % LISTS
}

/// What differs between two ordered lists.
fn changes<'a>(before: &'a [Arc<PackedPod>], now: &'a [Arc<PackedPod>]) -> impl Iterator<Item = Change<'a>> {
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    let step = move || {
        let order = match (before.peek(), now.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp_name(new),
        };
        Some(Change {
            before: before.next_if(|_| order.is_le()),
            now: now.next_if(|_| order.is_ge()),
        })
    };
    let differs = |change: &Change<'_>| match (change.before, change.now) {
        (Some(before), Some(now)) => !Arc::ptr_eq(before, now) && before != now,
        _ => true,
    };
    std::iter::from_fn(step).filter(differs)
}

#[cfg(test)]
mod tests;
