//! This node's NodeTunnel into the API, by server-side apply.
//!
//! Stages: 1. wait for a wish, for the object as the API has it, or for new credentials, 2. sign the
//! generations, 3. apply what differs: the object, then its status, 4. tell people by an Event what became of a
//! condition. What fails is tried again with growing, random pauses, and the latest wish counts. It never
//! deletes: the object goes with its Node.

use std::sync::Arc;
use std::time::Duration;

use hauberk_api::{NodeTunnel, NodeTunnelStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client, Resource};
use tokio::sync::watch;

use super::bindings::Bindings;
use super::credentials::Signer;
use super::told;
use crate::source::publish::keep_times;

/// The owner of the fields that keyd applies.
const FIELD_MANAGER: &str = "hauberk-keyd";
/// Wishes come in swarms while pairs change; every node is told of each write.
const GATHER: Duration = Duration::from_millis(200);

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
            let error = match publisher.publish(wanted, published, signer.as_ref()).await {
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
        let mut status = wanted.status.take().unwrap_or_default();
        let before = published.as_ref().and_then(|found| found.status.clone());
        let before = before.unwrap_or_default().conditions;
        match signer {
            Some(signer) => self.bindings.sign(&mut wanted, signer)?,
            // Nobody would accept unsigned keys.
            None => wanted.spec.generations.clear(),
        }
        let owned = |tunnel: &NodeTunnel| tunnel.metadata.owner_references.clone();
        let same = |found: &&NodeTunnel| found.spec == wanted.spec && owned(found) == owned(&wanted);
        if published.as_ref().filter(same).is_none() {
            self.tunnels
                .patch(&name, &parameters, &Patch::Apply(&wanted))
                .await?;
        }
        keep_times(&mut status.conditions, &before);
        if status.conditions != before {
            let mut told = NodeTunnel::new(&name, hauberk_api::NodeTunnelSpec::default());
            told.status = Some(NodeTunnelStatus {
                conditions: status.conditions.clone(),
            });
            let stored = self
                .tunnels
                .patch_status(&name, &parameters, &Patch::Apply(&told))
                .await?;
            for condition in status.conditions.iter().filter(|new| is_news(new, &before)) {
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

/// Another status or reason than before; a message alone may change often.
fn is_news(condition: &Condition, before: &[Condition]) -> bool {
    !before.iter().any(|old| {
        old.type_ == condition.type_ && old.status == condition.status && old.reason == condition.reason
    })
}
