//! Which of the other nodes' generations may be used: those that the node's certificate vouches for.
//!
//! A generation is judged once, with the certificate authorities of the trust bundle. What was accepted stays so
//! while it does not change, also past its expiry: that keeps new peers out and cuts no established one off. A
//! generation that is older than one that was accepted before is refused, and so are keys that another node was accepted
//! with. It never judges this node's own.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_api::{GenerationSpec, LaneSpec, NodeTunnel, PublicKey};
use hauberk_certs::binding::{self, Newest, VerifiedBinding};
use hauberk_certs::{
    BundleError, IdentityError, Lane, NodeIdentity, Statement, TrustBundle, TrustDomain, UnixTime,
};
use tokio::sync::watch;

use crate::manifest::Problem;
use crate::snapshot::Snapshot;

/// The ConfigMap, in keyd's namespace, by which the controller tells nodes whom to trust.
pub(crate) const BUNDLE: &str = "hauberk-trust-bundle";
/// Its entries: certificates in PEM, the SPIFFE trust domain, the cluster's id.
pub(crate) const BUNDLE_PEM: &str = "trust-bundle.pem";
pub(crate) const TRUST_DOMAIN: &str = "trust-domain";
pub(crate) const CLUSTER: &str = "cluster";

/// What the trust bundle says.
#[derive(Clone, Debug)]
pub(crate) struct Anchors {
    /// Whose certificates count.
    pub(crate) bundle: Arc<TrustBundle>,
    /// Where nodes' identities are at home.
    pub(crate) trust_domain: TrustDomain,
    /// The cluster that bindings are made for.
    pub(crate) cluster: String,
}

/// Why the trust bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnchorsError {
    #[error("entry {0} is missing; the controller writes it")]
    Missing(&'static str),
    #[error("entry {BUNDLE_PEM} cannot be used")]
    Bundle(#[source] BundleError),
    #[error("entry {TRUST_DOMAIN} cannot be used")]
    TrustDomain(#[source] IdentityError),
}

impl PartialEq for Anchors {
    fn eq(&self, other: &Self) -> bool {
        let text = |anchors: &Self| anchors.bundle.to_pem();
        self.cluster == other.cluster && self.trust_domain == other.trust_domain && text(self) == text(other)
    }
}

impl Anchors {
    /// Reads the ConfigMap's data.
    pub(super) fn read(data: &BTreeMap<String, String>) -> Result<Self, AnchorsError> {
        let entry = |name| data.get(name).ok_or(AnchorsError::Missing(name));
        let bundle = TrustBundle::from_pem(entry(BUNDLE_PEM)?).map_err(AnchorsError::Bundle)?;
        let trust_domain = entry(TRUST_DOMAIN)?.parse().map_err(AnchorsError::TrustDomain)?;
        Ok(Self {
            bundle: Arc::new(bundle),
            trust_domain,
            cluster: entry(CLUSTER)?.clone(),
        })
    }
}

/// What a binding is about.
pub(super) fn statement(
    cluster: &str,
    node: &NodeIdentity,
    addresses: &[IpAddr],
    generation: &GenerationSpec,
) -> Statement {
    let lanes = generation.lanes.iter().map(|lane| Lane {
        public_key: *lane.public_key.as_bytes(),
        port: lane.port,
    });
    Statement {
        cluster: cluster.to_owned(),
        node: node.clone(),
        generation: generation.id,
        lanes: lanes.collect(),
        addresses: addresses.to_vec(),
    }
}

/// Judges bindings.
pub(super) struct Trust {
    own: String,
    anchors: Option<Anchors>,
    told: watch::Sender<Option<Anchors>>,
    accepted: BTreeMap<String, Accepted>,
}

/// What was accepted of a node.
#[derive(Default)]
struct Accepted {
    uid: String,
    newest: Newest,
    /// The newest first.
    generations: Vec<AcceptedGeneration>,
}

struct AcceptedGeneration {
    addresses: Vec<IpAddr>,
    generation: GenerationSpec,
    verified: VerifiedBinding,
}

impl Trust {
    /// Trusts nobody until the first [`Anchors`]; tells them to `told`.
    pub(super) fn new(own: &str, told: watch::Sender<Option<Anchors>>) -> Self {
        Self {
            own: own.to_owned(),
            anchors: None,
            told,
            accepted: BTreeMap::new(),
        }
    }

    /// The node that judges.
    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// Takes over what the trust bundle says now; says whether it differs.
    pub(super) fn set_anchors(&mut self, anchors: Option<Anchors>) -> bool {
        let differs = self.anchors != anchors;
        if differs {
            self.anchors.clone_from(&anchors);
            self.told.send_replace(anchors);
        }
        differs
    }

    /// Takes out of the other nodes' tunnels every generation that nothing vouches for, and says why.
    pub(super) fn keep_verified(&mut self, snapshot: &mut Snapshot, now: UnixTime) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.accepted.retain(|name, _| snapshot.nodes.contains_key(name));
        let held = self.held();
        for (name, tunnel) in snapshot.tunnels.iter_mut() {
            let uid = snapshot
                .nodes
                .get(name)
                .and_then(|node| node.origin.uid.as_deref());
            let Some(uid) = uid.filter(|_| *name != self.own) else {
                continue;
            };
            let accepted = self.accepted.entry(name.clone()).or_default();
            if accepted.uid != uid {
                *accepted = Accepted {
                    uid: uid.to_owned(),
                    ..Accepted::default()
                };
            }
            for error in accepted.judge(name, tunnel, self.anchors.as_ref(), &held, now) {
                problems.push(Problem::of_file(&format!("NodeTunnel {name}"), error));
            }
        }
        problems
    }

    /// The keys that each node was accepted with.
    fn held(&self) -> BTreeMap<PublicKey, String> {
        let generations = self
            .accepted
            .iter()
            .flat_map(|(name, accepted)| accepted.generations.iter().map(move |one| (name, one)));
        generations
            .flat_map(|(name, one)| one.generation.lanes.iter().map(move |lane| (name, lane)))
            .map(|(name, lane)| (lane.public_key, name.clone()))
            .collect()
    }
}

/// A binding does not show that its node has the keys' private halves: whoever copies another's gets nothing by it.
fn own_keys(
    name: &str,
    generation: &GenerationSpec,
    held: &BTreeMap<PublicKey, String>,
) -> Result<(), String> {
    let owner = |lane: &LaneSpec| held.get(&lane.public_key).filter(|owner| *owner != name);
    match generation.lanes.iter().find_map(owner) {
        Some(owner) => Err(format!("its keys are those of NodeTunnel {owner}")),
        None => Ok(()),
    }
}

impl Accepted {
    /// `held`: keys that other nodes were accepted with.
    fn judge(
        &mut self,
        name: &str,
        tunnel: &mut NodeTunnel,
        anchors: Option<&Anchors>,
        held: &BTreeMap<PublicKey, String>,
        now: UnixTime,
    ) -> Vec<String> {
        let mut errors = Vec::new();
        let addresses = &tunnel.spec.addresses;
        let mut newest_first: Vec<_> = tunnel.spec.generations.iter().collect();
        newest_first.sort_by_key(|generation| Reverse(generation.id));
        let mut before = std::mem::take(&mut self.generations);
        for generation in newest_first {
            let known = before
                .iter()
                .position(|one| one.generation == *generation && one.addresses == *addresses);
            let judged = match known {
                Some(known) => Ok(before.swap_remove(known).verified),
                None => own_keys(name, generation, held)
                    .and_then(|()| self.verify(name, addresses, generation, anchors, now)),
            };
            // While keys rotate two stand side by side: the older one is no replay then. The one that serves is, if
            // a newer one was seen.
            let judged = judged.and_then(|verified| match self.generations.is_empty() {
                true => self
                    .newest
                    .note(&verified)
                    .map(|()| verified)
                    .map_err(|error| told(error.into())),
                false => Ok(verified),
            });
            match judged {
                Ok(verified) => self.generations.push(AcceptedGeneration {
                    addresses: addresses.clone(),
                    generation: generation.clone(),
                    verified,
                }),
                Err(error) => errors.push(format!("generation {}: {error}", generation.id)),
            }
        }
        let kept = self.generations.iter().rev();
        tunnel.spec.generations = kept.map(|one| one.generation.clone()).collect();
        errors
    }

    fn verify(
        &self,
        name: &str,
        addresses: &[IpAddr],
        generation: &GenerationSpec,
        anchors: Option<&Anchors>,
        now: UnixTime,
    ) -> Result<VerifiedBinding, String> {
        let anchors = anchors.ok_or_else(|| format!("there is no ConfigMap {BUNDLE} to judge it by"))?;
        let text = generation.binding.as_deref().ok_or("it has no binding")?;
        let identity = NodeIdentity::new(anchors.trust_domain.clone(), name, &self.uid)
            .map_err(|error| told(error.into()))?;
        let expected = statement(&anchors.cluster, &identity, addresses, generation);
        binding::verify(text, &anchors.bundle, expected, now).map_err(|error| told(error.into()))
    }
}

/// With all its causes.
fn told(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests;
