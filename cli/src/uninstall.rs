//! `hauberk uninstall`: takes Hauberk out of the cluster, and leaves nothing on any node.
//!
//! Stages, in this order: 1. encryption off, and wait until every pair of nodes is; 2. keyd off the nodes; 3. a pod on
//! each node takes away what keyd left; 4. the objects, in the reverse of the order in which they were applied. A run
//! that was interrupted is resumed by the next: the DaemonSet goes last of what has to do with nodes, since it knows
//! which and how.

pub mod nodes;

use std::time::Duration;

use hauberk_api::{MESH_NAME, Mesh, NodeTunnel};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as NamespaceObject, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::args::UninstallArgs;
use crate::cluster::{self, ClusterError, request};
use crate::install::{self, Bundle, DAEMON_SET, InstallError, Namespace, is_ours};
use crate::print;

/// A status of before the flag was turned may still be read for so long.
const SETTLE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(250);
/// The signer of nodes' certificates.
const SIGNER: &str = "hauberk.dev/node";

/// Why Hauberk is still there.
#[derive(Debug, Error)]
pub enum UninstallError {
    /// The cluster does not answer, or refuses.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Helm keeps the objects.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Pairs of nodes still encrypt.
    #[error(
        "encryption is still on at {nodes} after {n} s, and nothing was removed; see: hauberk status; a node that is gone \
         for good keeps it so until its Node is deleted", n = patience.as_secs()
    )]
    NotOff { nodes: String, patience: Duration },
    /// Nodes go by what the Mesh said before it was deleted.
    #[error(
        "encryption is on at {0}, and without a Mesh named {MESH_NAME} it cannot be switched off: install again, which \
         makes one with encryption off, and uninstall then"
    )]
    NoMesh(String),
    /// keyd, or the pods that clean, do not end.
    #[error("{what} after {n} s: {nodes}; bring these nodes back, or delete their Nodes, and uninstall again", n = patience.as_secs())]
    Nodes {
        what: &'static str,
        nodes: String,
        patience: Duration,
    },
    /// An object does not go.
    #[error("{0} is still there after {n} s; its finalizers keep it: kubectl get -o yaml shows whose they are", n = .1.as_secs())]
    Stays(String, Duration),
    /// Standard output is gone.
    #[error("cannot write")]
    Write(#[from] std::io::Error),
}

/// Uninstalls.
pub fn run(args: &UninstallArgs) -> Result<(), UninstallError> {
    cluster::wait(async {
        let client = cluster::connect().await?;
        if !args.nodes_only {
            install::refuse_elsewhere(&client, &args.namespace).await?;
            install::refuse_helms(&client, &args.namespace, "uninstall").await?;
        }
        switch_off(&client, args.timeout).await?;
        let sets: Api<DaemonSet> = Api::namespaced(client.clone(), args.namespace.as_str());
        let set = sets
            .get_opt(DAEMON_SET)
            .await
            .map_err(request("read the DaemonSet"))?;
        if let Some(set) = set {
            nodes::clean(&client, &args.namespace, &set, args.timeout).await?;
            gone(sets.delete(DAEMON_SET, &DeleteParams::foreground()).await)
                .map_err(request("delete the DaemonSet"))?;
            until_gone(&sets, DAEMON_SET, args.timeout).await?;
        }
        if args.nodes_only {
            return Ok(print("every node is clean\n")?);
        }
        objects(&client, args).await?;
        Ok(print("uninstalled\n")?)
    })
}

async fn switch_off(client: &Client, patience: Duration) -> Result<(), UninstallError> {
    let meshes: Api<Mesh> = Api::all(client.clone());
    let Some(mesh) = cluster::find_mesh(&meshes).await? else {
        let nodes = encrypting(client).await?;
        return match nodes.is_empty() {
            true => Ok(()),
            false => Err(UninstallError::NoMesh(nodes.join(", "))),
        };
    };
    let mut settled = Instant::now();
    if mesh.spec.encryption.enabled {
        let patch = Patch::Merge(json!({"spec": {"encryption": {"enabled": false}}}));
        let patched = meshes.patch(MESH_NAME, &PatchParams::default(), &patch).await;
        patched.map_err(request("change the Mesh"))?;
        print("encryption is switched off; waiting until every pair of nodes is\n")?;
        settled += SETTLE;
    }
    let began = Instant::now();
    loop {
        let nodes = encrypting(client).await?;
        if nodes.is_empty() && Instant::now() >= settled {
            return Ok(());
        }
        if began.elapsed() > patience + SETTLE {
            let nodes = nodes.join(", ");
            return Err(UninstallError::NotOff { nodes, patience });
        }
        sleep(LOOK).await;
    }
}

/// The nodes that do not say that they encrypt nothing: their own words, since the Mesh's status may be old.
async fn encrypting(client: &Client) -> Result<Vec<String>, UninstallError> {
    let tunnels: Api<NodeTunnel> = Api::all(client.clone());
    let found = match tunnels.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        found => found.map_err(request("list the NodeTunnels"))?,
    };
    let on = found.iter().filter(|tunnel| !tunnel.is_off());
    Ok(on.map(ResourceExt::name_any).collect())
}

/// All that `hauberk install` applied, and what the controller and nodes made.
async fn objects(client: &Client, args: &UninstallArgs) -> Result<(), UninstallError> {
    let namespace = &args.namespace;
    let spaces: Api<NamespaceObject> = Api::all(client.clone());
    let space = spaces
        .get_opt(namespace.as_str())
        .await
        .map_err(request("read the namespace"))?;
    let made_for_us = space.as_ref().is_some_and(is_ours);
    // The controller first: it would make some of it again.
    delete::<Deployment>(client, namespace, "hauberk-controller").await?;
    made(client, namespace).await?;
    let mut waited = Vec::new();
    for object in Bundle::of_namespace(namespace).objects().iter().rev() {
        let kind = object.resource.kind.as_str();
        let stays = match kind {
            "CustomResourceDefinition" | "Mesh" => args.keep_crds,
            // What somebody else keeps there goes with a namespace.
            "Namespace" => !made_for_us,
            _ => false,
        };
        if stays {
            continue;
        }
        let api = object.api(client);
        gone(api.delete(&object.name(), &DeleteParams::background()).await)
            .map_err(request("delete an object"))?;
        if matches!(kind, "Namespace" | "CustomResourceDefinition") {
            waited.push((object.to_string(), object.name(), api));
        }
    }
    for (text, name, api) in waited {
        print(&format!("waiting until {text} is gone\n"))?;
        until_gone(&api, &name, args.timeout)
            .await
            .map_err(|error| match error {
                UninstallError::Stays(_, patience) => UninstallError::Stays(text, patience),
                other => other,
            })?;
    }
    Ok(())
}

/// What was made while Hauberk ran.
async fn made(client: &Client, namespace: &Namespace) -> Result<(), UninstallError> {
    delete::<Lease>(client, namespace, "hauberk-controller").await?;
    delete::<ConfigMap>(client, namespace, "hauberk-trust-bundle").await?;
    delete::<Secret>(client, namespace, "hauberk-ca").await?;
    let tunnels: Api<NodeTunnel> = Api::all(client.clone());
    gone(
        tunnels
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await,
    )
    .map_err(request("delete the NodeTunnels"))?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let of_signer = ListParams::default().fields(&format!("spec.signerName={SIGNER}"));
    let found = requests
        .list(&of_signer)
        .await
        .map_err(request("list certificate requests"))?;
    for one in found {
        gone(requests.delete(&one.name_any(), &DeleteParams::default()).await)
            .map_err(request("delete a certificate request"))?;
    }
    Ok(())
}

async fn delete<K>(client: &Client, namespace: &Namespace, name: &str) -> Result<(), UninstallError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let objects: Api<K> = Api::namespaced(client.clone(), namespace.as_str());
    gone(objects.delete(name, &DeleteParams::default()).await).map_err(request("delete an object"))?;
    Ok(())
}

/// That something is not there any more, or its kind, is no failure.
fn gone<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

async fn until_gone<K>(api: &Api<K>, name: &str, patience: Duration) -> Result<(), UninstallError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let began = Instant::now();
    while api
        .get_opt(name)
        .await
        .map_err(request("look whether it is gone"))?
        .is_some()
    {
        if began.elapsed() > patience {
            return Err(UninstallError::Stays(name.to_owned(), patience));
        }
        sleep(LOOK).await;
    }
    Ok(())
}
