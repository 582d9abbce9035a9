//! This node's NodeTunnel into the API, by server-side apply.
//!
//! Stages: 1. wait for a wish, for the object as the API has it, or for new credentials, 2. sign the
//! generations, 3. apply what differs: the object, then its status, 4. tell people by an Event what became of a
//! condition. What fails is tried again with growing, random pauses, and the latest wish counts. It never
//! deletes: the object goes with its Node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hauberk_api::{GenerationSpec, NodeTunnel, NodeTunnelStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio::time::timeout;

use super::bindings::Bindings;
use super::credentials::Signer;
use super::told;
use crate::source::publish::keep_times;

/// The owner of the fields that keyd applies.
const FIELD_MANAGER: &str = "hauberk-keyd";
/// Wishes come in swarms while pairs change; every node is told of each write.
const GATHER: Duration = Duration::from_millis(200);
/// A connection that is half open would never answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the publisher waits for.
pub(super) struct Inputs {
    /// What keyd wants to be said.
    pub(super) wanted: watch::Receiver<Option<NodeTunnel>>,
    /// The object as the API has it.
    pub(super) published: watch::Receiver<Option<NodeTunnel>>,
    /// What generations are signed with.
    pub(super) signer: watch::Receiver<Option<Arc<Signer>>>,
}

/// Publishes until the wishes end.
pub(super) async fn run(
    client: Client,
    node: String,
    mut inputs: Inputs,
    trouble: watch::Sender<Option<String>>,
) {
    let mut publisher = Publisher {
        tunnels: Api::all(client.clone()),
        bindings: Bindings::default(),
        events: Recorder::new(
            client,
            Reporter {
                controller: "hauberk-keyd".to_owned(),
                instance: Some(node),
            },
        ),
    };
    let mut backoff = DefaultBackoff::default();
    loop {
        tokio::select! {
            changed = inputs.wanted.changed() => if changed.is_err() { return },
            Ok(()) = inputs.published.changed() => {}
            Ok(()) = inputs.signer.changed() => {}
        }
        loop {
            tokio::time::sleep(GATHER).await;
            let Some(wanted) = inputs.wanted.borrow_and_update().clone() else {
                break;
            };
            let published = inputs.published.borrow_and_update().clone();
            let signer = inputs.signer.borrow_and_update().clone();
            let publishing = timeout(PATIENCE, publisher.publish(wanted, published, signer.as_ref()));
            let outcome = publishing.await.context("the API server does not answer");
            let error = match outcome.flatten() {
                Ok(()) => {
                    kube::runtime::utils::Backoff::reset(&mut backoff);
                    trouble.send_if_modified(|known| known.take().is_some());
                    break;
                }
                Err(error) => format!("NodeTunnel not published; tried again: {}", told(&error)),
            };
            let is_new = trouble.send_if_modified(|known| known.replace(error.clone()).is_none());
            if is_new {
                tracing::warn!(
                    error,
                    "the API does not have this node's NodeTunnel as it should be"
                );
            }
            let pause = backoff.next().unwrap_or(Duration::from_secs(30));
            tokio::time::sleep(pause).await;
        }
    }
}

struct Publisher {
    tunnels: Api<NodeTunnel>,
    bindings: Bindings,
    events: Recorder,
}

impl Publisher {
    async fn publish(
        &mut self,
        mut wanted: NodeTunnel,
        published: Option<NodeTunnel>,
        signer: Option<&Arc<Signer>>,
    ) -> anyhow::Result<()> {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let status = wanted.status.take().unwrap_or_default();
        let before = published.as_ref().and_then(|found| found.status.clone());
        let before = before.unwrap_or_default().conditions;
        let signed = signer.map(|signer| self.bindings.sign(&mut wanted, signer));
        if !matches!(signed, Some(Ok(()))) {
            keep_signed(&mut wanted, published.as_ref());
        }
        let owned = |tunnel: &NodeTunnel| tunnel.metadata.owner_references.clone();
        let same = |found: &&NodeTunnel| found.spec == wanted.spec && owned(found) == owned(&wanted);
        let object = match published.as_ref().filter(same) {
            Some(_) => Ok(()),
            None => {
                let apply = Patch::Apply(&wanted);
                self.tunnels.patch(&name, &parameters, &apply).await.map(drop)
            }
        };
        // What keeps the object from being written is said by the status, which is another request.
        let status = self.publish_status(&name, status, &before).await;
        signed.transpose()?;
        object?;
        Ok(status?)
    }

    async fn publish_status(
        &self,
        name: &str,
        mut status: NodeTunnelStatus,
        before: &[Condition],
    ) -> kube::Result<()> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        keep_times(&mut status.conditions, before);
        if status.conditions != before {
            let mut told = NodeTunnel::new(name, hauberk_api::NodeTunnelSpec::default());
            told.status = Some(NodeTunnelStatus {
                conditions: status.conditions.clone(),
            });
            let stored = self
                .tunnels
                .patch_status(name, &parameters, &Patch::Apply(&told))
                .await?;
            for condition in status.conditions.iter().filter(|new| is_news(new, before)) {
                self.tell(&stored, condition).await;
            }
        }
        Ok(())
    }

    /// Events are for people: one that is lost is no failure.
    async fn tell(&self, tunnel: &NodeTunnel, condition: &Condition) {
        let is_good = (condition.status == "True") != (condition.type_ == hauberk_api::condition::DEGRADED);
        let event = Event {
            type_: if is_good {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: condition.reason.clone(),
            note: Some(format!(
                "{} is {}: {}",
                condition.type_, condition.status, condition.message
            )),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.events.publish(&event, &tunnel.object_ref(&())).await {
            tracing::debug!(%error, "Event not recorded");
        }
    }
}

/// Without a certificate of now: what was signed before holds on, with the addresses that it was signed with, and nobody
/// would accept unsigned keys.
fn keep_signed(wanted: &mut NodeTunnel, published: Option<&NodeTunnel>) {
    let addresses = published.map(|found| found.spec.addresses.clone());
    let published = published.map_or(&[][..], |found| &found.spec.generations);
    wanted.spec.generations = std::mem::take(&mut wanted.spec.generations)
        .into_iter()
        .filter_map(|own| {
            let is_it = |found: &&GenerationSpec| {
                found.id == own.id && found.lanes == own.lanes && found.binding.is_some()
            };
            published.iter().find(is_it).cloned()
        })
        .collect();
    if let Some(addresses) = addresses.filter(|_| !wanted.spec.generations.is_empty()) {
        wanted.spec.addresses = addresses;
    }
}

/// Another status or reason than before; a message alone may change often.
fn is_news(condition: &Condition, before: &[Condition]) -> bool {
    !before.iter().any(|old| {
        old.type_ == condition.type_ && old.status == condition.status && old.reason == condition.reason
    })
}

#[cfg(test)]
mod tests {
    use hauberk_api::{LaneSpec, NodeTunnelSpec, PublicKey};

    use super::*;

    #[test]
    fn without_a_certificate_what_was_signed_stays_and_nothing_else() {
        let generation = |id, binding: Option<&str>| GenerationSpec {
            id,
            lanes: vec![LaneSpec {
                public_key: PublicKey::from_bytes([id as u8; 32]),
                port: 1,
            }],
            binding: binding.map(str::to_owned),
        };
        let tunnel = |generations| {
            let spec = NodeTunnelSpec {
                generations,
                addresses: Vec::new(),
            };
            NodeTunnel::new("a", spec)
        };
        let mut wanted = tunnel(vec![
            generation(2, None),
            generation(3, None),
            generation(4, None),
        ]);
        let mut others = generation(3, Some("AQ=="));
        others.lanes[0].port = 2;
        let published = tunnel(vec![
            generation(1, Some("AQ==")),
            generation(2, Some("AQ==")),
            others,
            generation(4, None),
        ]);
        wanted.spec.addresses = vec!["192.0.2.2".parse().unwrap()];
        keep_signed(&mut wanted, Some(&published));
        assert_eq!(
            wanted.spec.addresses, published.spec.addresses,
            "the signature is over those"
        );
        assert_eq!(wanted.spec.generations, [generation(2, Some("AQ=="))]);
        keep_signed(&mut wanted, None);
        assert!(wanted.spec.generations.is_empty());
    }
}
