//! This node's pods: those that CNI tells of are taken in, put in force, answered; others are found.
//!
//! Answers are given where everything is settled, so that what is said to be in force is. A question whose pod is not
//! in force yet waits, and is looked at again whenever the node settles; failures are tried again each second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_abi::IP_LOCAL_POD;
use tokio::sync::watch;

use super::Node;
use super::pairs::Actions;
use crate::cni::ask::{Answer, Key, Request};
use crate::cni::attachments::AttachError;
use crate::cni::serve::Asked;
use crate::compute::{self, Tunnel, conditions};
use crate::pair::Phase;
use crate::snapshot::{PackedPod, Snapshot, Symbol};

/// A question whose answer is still to come.
pub(super) struct Waiting {
    key: Key,
    standing: watch::Sender<Answer>,
}

impl Node {
    /// Takes in what the plugin tells, puts it in force and answers.
    pub(super) async fn take_in(&mut self, all: Vec<Asked>) -> anyhow::Result<()> {
        // The interfaces of new pods are younger than the tables.
        self.reread().await;
        for Asked { request, standing } in all {
            match self.take(request) {
                Ok(Some(key)) => self.waiting.push(Waiting { key, standing }),
                Ok(None) => drop(standing.send_replace(Answer::Done)),
                Err(reason) => {
                    tracing::warn!(reason, "CNI was refused");
                    standing.send_replace(Answer::Refused { reason });
                }
            }
        }
        self.settle(Actions::new()).await
    }

    /// Interfaces by address; a pod found by one of its addresses is found by all of them.
    pub(super) fn pod_interfaces(&mut self, snapshot: &Snapshot) -> BTreeMap<IpAddr, u32> {
        let mut found = self.wiring.pod_interfaces(&self.own_pod_addresses(snapshot));
        for pod in self.own_pods(snapshot) {
            let interface = pod
                .addresses()
                .iter()
                .find_map(|address| found.get(address).copied());
            if let Some(interface) = interface {
                for address in pod.addresses() {
                    found.entry(*address).or_insert(interface);
                }
            }
        }
        found
    }

    /// Addresses of this node's pods, by the API.
    pub(super) fn own_pod_addresses(&self, snapshot: &Snapshot) -> BTreeSet<IpAddr> {
        let own = self.own_pods(snapshot).filter(|pod| pod.owns_addresses());
        own.flat_map(|pod| pod.addresses().iter().copied()).collect()
    }

    fn own_pods<'a>(&self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Arc<PackedPod>> {
        let here = Symbol::new(&self.options.node);
        let pods = snapshot.pods.iter();
        pods.filter(move |pod| pod.node() == Some(&here))
    }

    /// Takes in one request; the attachment that has to be in force before it is answered, if any has.
    fn take(&mut self, request: Request) -> Result<Option<Key>, String> {
        let tables = self.wiring.tables();
        match request {
            Request::Add(attachment) => {
                let key = attachment.key.clone();
                match self.attachments.add(attachment, tables) {
                    Ok(()) => Ok(Some(key)),
                    // Where nothing is encrypted a wiring that is not known is no reason to keep pods from starting.
                    Err(AttachError::NoInterface(_)) if self.guards_nothing() => Ok(None),
                    Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
                }
            }
            Request::Check(attachment) if self.attachments.knows(&attachment, tables) => {
                Ok(Some(attachment.key))
            }
            Request::Check(_) if self.guards_nothing() => Ok(None),
            Request::Check(attachment) => {
                let key = attachment.key;
                Err(format!("{key} was not added, or not with these addresses"))
            }
            Request::Del(key) => {
                self.attachments.remove(&key);
                Ok(None)
            }
            Request::Gc { network, valid } => {
                self.attachments.collect(&network, &valid);
                Ok(None)
            }
        }
    }

    /// Answers the questions whose pods are in force, or never will be.
    pub(super) fn answer(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|question| {
            let answer = self.standing(&question.key);
            let goes_on = matches!(answer, Answer::NotYet { .. });
            question.standing.send_replace(answer);
            goes_on && !question.standing.is_closed()
        });
        self.waiting = waiting;
    }

    /// How far an attachment has come.
    fn standing(&self, key: &Key) -> Answer {
        let refused = |reason: &str| Answer::Refused {
            reason: format!("{key}: {reason}"),
        };
        let Some(attached) = self.attachments.find(key) else {
            return refused("its interface is gone, or it was removed meanwhile");
        };
        if self.guards_nothing() {
            return Answer::Done;
        }
        if let Some(reason) = &self.not_ready {
            return Answer::NotYet {
                reason: format!("keyd is not ready: {reason}"),
            };
        }
        if !self.failures.is_empty() {
            return Answer::NotYet {
                reason: conditions::listed(self.failures.iter().map(String::as_str)),
            };
        }
        let Some(desired) = &self.desired else {
            return Answer::NotYet {
                reason: "nothing is settled yet".to_owned(),
            };
        };
        let is_its = |address: &IpAddr| {
            let entry = desired.ipcache.get(&compute::lpm_key((*address).into()));
            entry.is_some_and(|entry| entry.flags & IP_LOCAL_POD != 0 && entry.ifindex == attached.interface)
        };
        if desired.tunnel == Tunnel::Down || attached.addresses.iter().any(is_its) {
            return Answer::Done;
        }
        refused(
            "none of its addresses is its own: they are outside this Node's podCIDRs, a node's, or a newer pod's",
        )
    }

    /// Whether there is no Mesh, or its flag is off and nothing is encrypted any more. A node that has not read the
    /// cluster's objects does not know that; nor does one that has never read a Mesh while others publish keys, for a
    /// Mesh that is deleted, or that this version cannot read, switches nothing off.
    fn guards_nothing(&self) -> bool {
        let memory = &self.memory;
        let updates = self.updates.borrow();
        let enabled = match &memory.mesh {
            Some(mesh) => mesh.encryption.enabled,
            None => updates.keys_published,
        };
        let encrypts = memory.phases.values().any(|phase| *phase > Phase::Off) || memory.drop_unknown;
        updates.in_sync && !enabled && !encrypts && !self.is_up()
    }
}
