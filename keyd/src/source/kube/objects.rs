//! The cluster's objects as the watches have shown them so far, and the snapshot that is made of them.
//!
//! An object that cannot be read is a problem with its name, and its last good version stays in force. A list
//! that is read again changes only what differs. Nothing is in sync before every kind was listed once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hauberk_api::{MeshStatus, NodeTunnel};
use hauberk_certs::UnixTime;
use hauberk_policy::policy::Origin as PolicyOrigin;

use super::trust::{Anchors, Trust};
use super::watches::{Event, Item, Kind};
use crate::manifest::{Object, Problem};
use crate::snapshot::{ObjectName, Shared, Snapshot};
use crate::source::Update;

/// What the other nodes' bindings prove.
struct Judged {
    tunnels: Shared<BTreeMap<String, NodeTunnel>>,
    problems: Vec<Problem>,
}

/// What the watches have shown.
pub(super) struct Objects {
    snapshot: Snapshot,
    /// A node's judge of the others' bindings; for the controller all tunnels count.
    trust: Option<Trust>,
    /// What it said last, until something that it said it of differs.
    judged: Option<Judged>,
    problems: BTreeMap<(Kind, ObjectName), Problem>,
    /// Kinds that are being listed, and what was seen of them.
    listing: BTreeMap<Kind, BTreeSet<ObjectName>>,
    unlisted: BTreeSet<Kind>,
    failing: BTreeMap<Kind, String>,
}

impl Objects {
    /// Nothing seen yet of `kinds`.
    pub(super) fn new(kinds: &[Kind], trust: Option<Trust>) -> Self {
        Self {
            snapshot: Snapshot::default(),
            trust,
            judged: None,
            problems: BTreeMap::new(),
            listing: BTreeMap::new(),
            unlisted: kinds.iter().copied().collect(),
            failing: BTreeMap::new(),
        }
    }

    /// Takes in one event; says whether an [`Update`] would differ.
    pub(super) fn take_in(&mut self, event: Event) -> bool {
        match event {
            Event::Failed(kind, error) => self.fail(kind, error),
            Event::Listing(kind) => {
                self.listing.insert(kind, BTreeSet::new());
                false
            }
            Event::Seen(kind, name, read) => {
                if let Some(seen) = self.listing.get_mut(&kind) {
                    seen.insert(name.clone());
                }
                // Of a list only its end says that the API server is back.
                let back = !self.listing.contains_key(&kind) && self.recover(kind);
                self.see(kind, name, read) || back
            }
            Event::Gone(kind, name) => self.recover(kind) | self.forget(kind, &name),
            Event::Listed(kind) => {
                let seen = self.listing.remove(&kind).unwrap_or_default();
                let gone: Vec<_> = self
                    .names(kind)
                    .into_iter()
                    .filter(|name| !seen.contains(name))
                    .collect();
                let mut differs = self.unlisted.remove(&kind) | self.recover(kind);
                for name in gone {
                    differs |= self.forget(kind, &name);
                }
                differs
            }
        }
    }

    /// The cluster as it is known at `now`; without objects until all are known.
    pub(super) fn update(&mut self, now: UnixTime) -> Update {
        let unreachable = self.unreachable();
        if !self.unlisted.is_empty() {
            return Update {
                unreachable,
                ..Update::default()
            };
        }
        let mut snapshot = self.snapshot.clone();
        let keys_published = snapshot.has_keys();
        let mut problems: Vec<_> = self.problems.values().cloned().collect();
        if let Some(trust) = &mut self.trust {
            let judged = self.judged.get_or_insert_with(|| {
                let problems = trust.keep_verified(&mut snapshot, now);
                Judged {
                    tunnels: snapshot.tunnels.clone(),
                    problems,
                }
            });
            snapshot.tunnels = judged.tunnels.clone();
            problems.extend(judged.problems.iter().cloned());
        }
        Update {
            in_sync: true,
            unreachable,
            keys_published,
            snapshot: Arc::new(snapshot),
            problems: Arc::new(problems),
            ..Update::default()
        }
    }

    /// Has the bindings judged anew with the next update: time has passed.
    pub(super) fn judge_again(&mut self) {
        self.judged = None;
    }

    /// A node's tunnel as the API has it, proved or not.
    pub(super) fn tunnel(&self, node: &str) -> Option<&NodeTunnel> {
        self.snapshot.tunnels.get(node)
    }

    fn unreachable(&self) -> Option<String> {
        let (kind, error) = self.failing.first_key_value()?;
        let kinds: Vec<_> = self.failing.keys().map(|kind| kind.name()).collect();
        let state = match self.unlisted.contains(kind) {
            true => "nothing is changed before they were read",
            false => "what was read before stays in force",
        };
        Some(format!("cannot watch {}; {state}: {error}", kinds.join(", ")))
    }

    fn fail(&mut self, kind: Kind, error: String) -> bool {
        if !self.failing.contains_key(&kind) {
            tracing::warn!(
                kind = kind.name(),
                error,
                "the API server does not let keyd watch; tried again"
            );
        }
        self.failing.insert(kind, error.clone()) != Some(error)
    }

    fn recover(&mut self, kind: Kind) -> bool {
        let failed = self.failing.remove(&kind).is_some();
        if failed {
            tracing::info!(kind = kind.name(), "watched again");
        }
        failed
    }

    fn see(&mut self, kind: Kind, name: ObjectName, read: Result<Item, Problem>) -> bool {
        let key = (kind, name);
        match read {
            Ok(item) => {
                let mended = self.problems.remove(&key).is_some();
                self.put(kind, key.1, item) || mended
            }
            Err(problem) => {
                if self.problems.get(&key) == Some(&problem) {
                    return false;
                }
                tracing::warn!(%problem, "object not used; a version of it that was good before stays in force");
                self.problems.insert(key, problem);
                true
            }
        }
    }

    fn put(&mut self, kind: Kind, name: ObjectName, item: Item) -> bool {
        let differs = self.replace(name, item);
        if kind.concerns_trust() && differs {
            self.judge_again();
        }
        differs
    }

    fn replace(&mut self, name: ObjectName, item: Item) -> bool {
        let snapshot = &mut self.snapshot;
        match item {
            Item::Anchors(anchors) => self.set_anchors(Some(anchors)),
            Item::Object(Object::Node(name, node)) => replace(&mut snapshot.nodes, name, node),
            Item::Object(Object::Pod(_, pod)) => snapshot.pods.insert(&name, &pod),
            Item::Object(Object::NodeTunnel(mut tunnel)) => {
                // What the others say of themselves is the controller's matter, and must not wake every node.
                if self.trust.as_ref().is_some_and(|trust| trust.own() != name.name) {
                    tunnel.status = None;
                }
                replace(&mut snapshot.tunnels, name.name, *tunnel)
            }
            Item::Object(Object::ExternalPeer(peer)) => {
                replace(&mut snapshot.external_peers, name.name, *peer)
            }
            Item::Object(Object::Mesh(mut mesh)) => {
                // Of the status a node needs this alone; counts change with every node.
                if let Some(status) = mesh.status.as_mut().filter(|_| self.trust.is_some()) {
                    *status = MeshStatus {
                        sealed: status.sealed,
                        ..MeshStatus::default()
                    };
                }
                let differs = snapshot.mesh.as_ref() != Some(&*mesh);
                snapshot.mesh = Some(*mesh);
                differs
            }
            Item::Object(Object::Namespace(name, namespace)) => {
                replace(&mut snapshot.namespaces, name, namespace)
            }
            Item::Object(Object::ServiceAccount(name, account)) => {
                replace(&mut snapshot.service_accounts, name, account)
            }
            Item::Object(Object::Policy(read)) => {
                replace(&mut snapshot.policies, read.policy.origin.clone(), read)
            }
            // No watch reads it.
            Item::Object(Object::MeshStatus(_)) => false,
        }
    }

    fn forget(&mut self, kind: Kind, name: &ObjectName) -> bool {
        if kind.concerns_trust() {
            self.judge_again();
        }
        let snapshot = &mut self.snapshot;
        let had_problem = self.problems.remove(&(kind, name.clone())).is_some();
        let was_there = match kind {
            Kind::Node => snapshot.nodes.remove(&name.name).is_some(),
            Kind::Namespace => snapshot.namespaces.remove(&name.name).is_some(),
            Kind::Pod => snapshot.pods.remove(name),
            Kind::ServiceAccount => snapshot.service_accounts.remove(name).is_some(),
            Kind::NetworkPolicy => snapshot.policies.remove(&origin(kind, name)).is_some(),
            Kind::Mesh => snapshot.mesh.take().is_some(),
            Kind::NodeTunnel => snapshot.tunnels.remove(&name.name).is_some(),
            Kind::ExternalPeer => snapshot.external_peers.remove(&name.name).is_some(),
            Kind::TrustBundle => self.set_anchors(None),
        };
        was_there || had_problem
    }

    fn set_anchors(&mut self, anchors: Option<Anchors>) -> bool {
        self.trust
            .as_mut()
            .is_some_and(|trust| trust.set_anchors(anchors))
    }

    fn names(&self, kind: Kind) -> BTreeSet<ObjectName> {
        let cluster = |name: &String| ObjectName {
            namespace: String::new(),
            name: name.clone(),
        };
        let snapshot = &self.snapshot;
        let mut names: BTreeSet<_> = match kind {
            Kind::Node => snapshot.nodes.keys().map(cluster).collect(),
            Kind::Namespace => snapshot.namespaces.keys().map(cluster).collect(),
            Kind::Pod => snapshot.pods.iter().map(|pod| pod.name()).collect(),
            Kind::ServiceAccount => snapshot.service_accounts.keys().cloned().collect(),
            Kind::NetworkPolicy => {
                let of_kind = snapshot
                    .policies
                    .keys()
                    .filter(|origin| origin.kind == kind.name());
                let names = of_kind.map(|origin| ObjectName {
                    namespace: origin.namespace.clone(),
                    name: origin.name.clone(),
                });
                names.collect()
            }
            Kind::Mesh => snapshot
                .mesh
                .iter()
                .flat_map(|mesh| &mesh.metadata.name)
                .map(cluster)
                .collect(),
            Kind::NodeTunnel => snapshot.tunnels.keys().map(cluster).collect(),
            Kind::ExternalPeer => snapshot.external_peers.keys().map(cluster).collect(),
            Kind::TrustBundle => BTreeSet::new(),
        };
        let broken = self.problems.keys().filter(|(of, _)| *of == kind);
        names.extend(broken.map(|(_, name)| name.clone()));
        names
    }
}

/// What a policy of a kind is known by.
fn origin(kind: Kind, name: &ObjectName) -> PolicyOrigin {
    PolicyOrigin {
        kind: kind.name(),
        namespace: name.namespace.clone(),
        name: name.name.clone(),
    }
}

fn replace<K: Clone + Ord, V: Clone + PartialEq>(map: &mut Shared<BTreeMap<K, V>>, key: K, value: V) -> bool {
    let differs = map.get(&key) != Some(&value);
    if differs {
        map.insert(key, value);
    }
    differs
}
