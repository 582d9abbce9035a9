//! The mesh's objects in a cluster, reached as kubectl reaches it (KUBECONFIG, `~/.kube/config`, or a pod's
//! ServiceAccount).
//!
//! What a node says of itself is in the conditions of its NodeTunnel. Counters are not there: every node watches
//! every NodeTunnel, so they stay on their node and are shown as unknown.

use std::collections::BTreeSet;

use hauberk_api::{MESH_NAME, Mesh, NodeTunnel, condition};
use k8s_openapi::api::core::v1 as core;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;

use crate::encryption::Outcome;
use crate::status::{self, Node, Status};

/// How the cluster is called in messages.
const PLACE: &str = "Mesh default of the cluster";

/// Why the cluster has no answer.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No kubeconfig.
    #[error("no cluster is known; set KUBECONFIG, or give --source dir:PATH")]
    Kubeconfig(#[source] kube::config::InferConfigError),
    /// The runtime or the client cannot be made.
    #[error("cannot talk to {url}")]
    Client {
        url: String,
        #[source]
        source: kube::Error,
    },
    /// The kinds, or the object, are not there.
    #[error("there is no Mesh named `default` in the cluster; is Hauberk installed?")]
    NoMesh,
    /// The API server refused or did not answer.
    #[error("the API server did not let us {action}")]
    Request {
        action: &'static str,
        #[source]
        source: kube::Error,
    },
    /// No thread to wait in.
    #[error("cannot wait for the network")]
    Runtime(#[from] std::io::Error),
}

/// Sets `spec.encryption.enabled` of the Mesh.
pub fn set_enabled(enabled: bool) -> Result<Outcome, ClusterError> {
    wait(async {
        let meshes: Api<Mesh> = Api::all(connect().await?);
        let mesh = mesh(&meshes).await?;
        if mesh.spec.encryption.enabled == enabled {
            return Ok(Outcome::Unchanged(PLACE.to_owned()));
        }
        let patch = json!({ "spec": { "encryption": { "enabled": enabled } } });
        meshes
            .patch(MESH_NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(request("change the Mesh"))?;
        Ok(Outcome::Changed(PLACE.to_owned()))
    })
}

/// The status of the whole mesh.
pub fn status() -> Result<Status, ClusterError> {
    wait(async {
        let client = connect().await?;
        let mesh = mesh(&Api::all(client.clone())).await?;
        let all = ListParams::default();
        let nodes: Api<core::Node> = Api::all(client.clone());
        let nodes = nodes.list_metadata(&all).await.map_err(request("list Nodes"))?;
        let tunnels: Api<NodeTunnel> = Api::all(client);
        let tunnels = tunnels.list(&all).await.map_err(request("list NodeTunnels"))?;
        let names: BTreeSet<_> = nodes
            .items
            .iter()
            .map(PartialObjectMeta::<core::Node>::name_any)
            .collect();
        let states = tunnels.items.iter().map(node).collect();
        Ok(status::sum_up(&[mesh], names, states))
    })
}

fn node(tunnel: &NodeTunnel) -> Node {
    let encrypted = tunnel.condition(condition::ENCRYPTED);
    let degraded = tunnel.condition(condition::DEGRADED);
    let degraded = degraded.filter(|degraded| degraded.status == "True");
    Node {
        encrypted: encrypted.is_some_and(|found| found.status == "True"),
        reason: encrypted.map_or_else(|| "NoState".to_owned(), |found| found.reason.clone()),
        generation: tunnel.newest_generation().map_or(0, |newest| newest.id),
        problems: degraded.map(|found| found.message.clone()).into_iter().collect(),
        ..Node::silent(&tunnel.name_any())
    }
}

async fn mesh(meshes: &Api<Mesh>) -> Result<Mesh, ClusterError> {
    find_mesh(meshes).await?.ok_or(ClusterError::NoMesh)
}

/// The Mesh, if there is one, and if there is such a kind.
pub async fn find_mesh(meshes: &Api<Mesh>) -> Result<Option<Mesh>, ClusterError> {
    match meshes.get(MESH_NAME).await {
        // Of a kind that is not served the answer is no Status, so `get_opt` does not know it.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        found => found.map(Some).map_err(request("read the Mesh")),
    }
}

/// A client of the cluster. Nothing is sent yet.
pub async fn connect() -> Result<Client, ClusterError> {
    client(config().await?)
}

/// How kubectl would reach the cluster.
pub async fn config() -> Result<kube::Config, ClusterError> {
    kube::Config::infer().await.map_err(ClusterError::Kubeconfig)
}

/// A client with this configuration.
pub fn client(config: kube::Config) -> Result<Client, ClusterError> {
    let url = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| ClusterError::Client { url, source })
}

/// What the API server refused.
pub fn request(action: &'static str) -> impl Fn(kube::Error) -> ClusterError {
    move |source| ClusterError::Request { action, source }
}

/// Runs what talks to the cluster to its end.
pub fn wait<T, E: From<ClusterError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ClusterError::from)?.block_on(work)
}
