//! What the leader keeps in order: the Mesh's status, the startup taint, tunnels of nodes that are gone.

use std::time::Duration;

use anyhow::Context;
use hauberk_api::{MESH_NAME, Mesh, MeshSpec, NodeTunnel, STARTUP_TAINT, condition};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use super::summarise;
use crate::snapshot::Snapshot;
use crate::source::{Update, keep_times};

/// The owner of the fields that the controller applies.
const FIELD_MANAGER: &str = "hauberk-controller";
/// What failed is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);
/// Conditions of many nodes change at once; each write of the status wakes them all.
const GATHER: Duration = Duration::from_millis(200);

/// Works on each change of the cluster's objects.
pub(super) async fn run(client: &Client, mut updates: watch::Receiver<Update>) -> anyhow::Result<()> {
    let upkeep = Upkeep {
        meshes: Api::all(client.clone()),
        nodes: Api::all(client.clone()),
        tunnels: Api::all(client.clone()),
    };
    loop {
        let update = updates.borrow_and_update().clone();
        let failed = update.in_sync && !upkeep.all(&update.snapshot).await;
        tokio::select! {
            changed = updates.changed() => changed.context("the source of objects has ended")?,
            () = tokio::time::sleep(AGAIN), if failed => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

struct Upkeep {
    meshes: Api<Mesh>,
    nodes: Api<Node>,
    tunnels: Api<NodeTunnel>,
}

impl Upkeep {
    /// Says whether all of it succeeded.
    async fn all(&self, snapshot: &Snapshot) -> bool {
        let mut outcomes = vec![("status of Mesh default", self.status(snapshot).await)];
        let mesh = snapshot.mesh.as_ref();
        let encrypts = mesh.is_some_and(|mesh| mesh.spec.encryption.enabled);
        for (name, node) in snapshot.nodes.iter().filter(|(_, node)| node.starting) {
            let is_ready = snapshot.tunnels.get(name).is_some_and(|tunnel| {
                let owned = tunnel.metadata.owner_references.iter().flatten();
                let own = owned
                    .into_iter()
                    .any(|owner| Some(&owner.uid) == node.origin.uid.as_ref());
                let ready = tunnel.condition(condition::READY);
                // Ready without keys, where keys are wanted, reaches nobody.
                let reachable = !encrypts || tunnel.newest_generation().is_some();
                own && reachable && ready.is_some_and(|ready| ready.status == "True")
            });
            if is_ready {
                outcomes.push(("startup taint", self.untaint(name).await));
            }
        }
        for name in snapshot
            .tunnels
            .keys()
            .filter(|name| !snapshot.nodes.contains_key(*name))
        {
            outcomes.push(("NodeTunnel of a Node that is gone", self.clear_away(name).await));
        }
        for (what, outcome) in &outcomes {
            if let Err(error) = outcome {
                tracing::warn!(%error, what, "not written; tried again");
            }
        }
        outcomes.iter().all(|(_, outcome)| outcome.is_ok())
    }

    async fn status(&self, snapshot: &Snapshot) -> kube::Result<()> {
        let Some(mesh) = &snapshot.mesh else {
            return Ok(());
        };
        let mut status = summarise(snapshot);
        let before = mesh.status.as_ref().map_or(&[][..], |status| &status.conditions);
        keep_times(&mut status.conditions, before);
        if mesh.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut told = Mesh::new(MESH_NAME, MeshSpec::default());
        told.status = Some(status);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.meshes
            .patch_status(MESH_NAME, &parameters, &Patch::Apply(&told))
            .await
            .map(drop)
    }

    /// Takes the startup taint off; a write by somebody else in between refuses this one.
    async fn untaint(&self, name: &str) -> kube::Result<()> {
        let Some(node) = self.nodes.get_opt(name).await? else {
            return Ok(());
        };
        let mut taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        taints.retain(|taint| taint.key != STARTUP_TAINT);
        let patch = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints },
        });
        self.nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        tracing::info!(node = name, "startup taint removed");
        Ok(())
    }

    /// Deletes the tunnel of a Node that the API server says is not there, whatever the watches show.
    async fn clear_away(&self, name: &str) -> kube::Result<()> {
        if self.nodes.get_opt(name).await?.is_some() {
            return Ok(());
        }
        let Some(tunnel) = self.tunnels.get_opt(name).await? else {
            return Ok(());
        };
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: tunnel.metadata.uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        self.tunnels.delete(name, &parameters).await?;
        tracing::info!(node = name, "NodeTunnel deleted with its Node");
        Ok(())
    }
}
