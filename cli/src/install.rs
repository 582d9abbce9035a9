//! `hauberk install`: puts what deploy/hauberk.yaml holds into the cluster, or upgrades it.
//!
//! Stages: 1. look whether this cluster's wiring was proved, 2. find out where nodes reach the API server, 3. apply the
//! objects in their order, as server-side apply does, and wait for the kinds before what is of them, 4. wait until
//! keyd is ready on every node. It never switches encryption on or off, and changes no setting of a Mesh that is
//! there.

mod address;
mod manifest;
mod rollout;
mod wiring;

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, ValidationDirective};
use kube::{Client, ResourceExt};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::args::InstallArgs;
use crate::cluster::{self, ClusterError, request};
use crate::print;
use crate::uninstall::nodes;

pub use address::Address;
pub use manifest::{Bundle, Namespace, Object};
use rollout::Rollout;

/// The owner of the fields that are applied.
const FIELD_MANAGER: &str = "hauberk";
/// From there tokens name their node, on which the admission policies stand.
const OLDEST_MINOR: u32 = 30;
/// The API server serves a new kind after well below a second.
const SERVED_PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(250);
/// The label of all that belongs to an installation.
const PART_OF: &str = "app.kubernetes.io/part-of";
const PRODUCT: &str = "hauberk";
/// The node daemon.
pub const DAEMON_SET: &str = "hauberk-keyd";

/// Why Hauberk is not installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The cluster does not answer, or refuses.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The cluster is too old.
    #[error(
        "the cluster is Kubernetes 1.{0}; 1.{OLDEST_MINOR} or newer is needed, where tokens name their node"
    )]
    TooOld(u32),
    /// Its wiring was not proved.
    #[error("not installed: {0}")]
    Unproved(String),
    /// Helm keeps the objects.
    #[error("{namespace}/{DAEMON_SET} was installed by Helm; use: helm {verb}")]
    OfHelm {
        namespace: Namespace,
        verb: &'static str,
    },
    /// It is in another namespace.
    #[error("Hauberk is in namespace {0}, and there can be one in a cluster; give --namespace={0}")]
    Elsewhere(String),
    /// The namespace is somebody else's.
    #[error(
        "namespace {0} is there already and is not Hauberk's: privileged pods would be allowed to all in it, and \
         hauberk uninstall would delete it; give another, which will be made, or, if it is only for Hauberk: \
         kubectl label namespace {0} {PART_OF}={PRODUCT}"
    )]
    Foreign(Namespace),
    /// Nothing says where nodes reach the API server.
    #[error(
        "it cannot be told where nodes reach the API server: the cluster has no ConfigMap kube-public/cluster-info, \
         and kubectl's address {0} is of this machine only; give --api-server HOST:PORT"
    )]
    NoAddress(String),
    /// An object is refused.
    #[error("{object} cannot be applied; what came before it is installed, so mend this and install again")]
    Apply {
        object: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// A kind is not served.
    #[error("{0} is not served after {n} s; see: kubectl describe crd {0}", n = SERVED_PATIENCE.as_secs())]
    NotServed(String),
    /// It does not start in time.
    #[error("not ready in time: {0}; install again to go on waiting, or see: kubectl -n {1} describe pods")]
    NotReady(String, Namespace),
    /// Standard output is gone.
    #[error("cannot write")]
    Write(#[from] std::io::Error),
}

/// Installs, and says how it goes on.
pub fn run(args: &InstallArgs) -> Result<(), InstallError> {
    cluster::wait(async {
        if let (true, Some(address)) = (args.dry_run, &args.api_server) {
            return Ok(print(
                Bundle::new(&args.namespace, args.image.as_deref(), address).text(),
            )?);
        }
        let config = cluster::config().await?;
        let url = config.cluster_url.to_string();
        let client = cluster::client(config)?;
        let address = match &args.api_server {
            Some(address) => address.clone(),
            None => address::find(&client, &url).await?,
        };
        let bundle = Bundle::new(&args.namespace, args.image.as_deref(), &address);
        if args.dry_run {
            return Ok(print(bundle.text())?);
        }
        may_install(&client, &args.namespace).await?;
        nodes::take_back(&client, &args.namespace).await?;
        print(&format!(
            "installing into namespace {}; nodes reach the API server at {address}\n",
            args.namespace
        ))?;
        for object in bundle.objects() {
            apply(&client, &object).await?;
        }
        wait(&client, args).await
    })
}

/// Refuses what would not work, before anything is changed.
async fn may_install(client: &Client, namespace: &Namespace) -> Result<(), InstallError> {
    let version = client
        .apiserver_version()
        .await
        .map_err(request("ask for its version"))?;
    // Providers append to it, as in `33+`.
    let minor = version.minor.trim_end_matches(|c: char| !c.is_ascii_digit());
    if let Ok(minor) = minor.parse::<u32>()
        && version.major == "1"
        && minor < OLDEST_MINOR
    {
        return Err(InstallError::TooOld(minor));
    }
    refuse_elsewhere(client, namespace).await?;
    refuse_helms(client, namespace, "upgrade").await?;
    let spaces: Api<NamespaceObject> = Api::all(client.clone());
    let space = spaces
        .get_opt(namespace.as_str())
        .await
        .map_err(request("read the namespace"))?;
    if space.is_some_and(|space| !is_ours(&space)) {
        return Err(InstallError::Foreign(namespace.clone()));
    }
    let refusals = wiring::look(client).await?;
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(InstallError::Unproved(refusals.join("; ")))
    }
}

/// Whether a namespace was made for Hauberk; other products give theirs the same label with their own name.
pub fn is_ours(space: &NamespaceObject) -> bool {
    space
        .labels()
        .get(PART_OF)
        .is_some_and(|product| product == PRODUCT)
}

/// What is not in a namespace is there once, and two keyds on a node would be one too many.
pub async fn refuse_elsewhere(client: &Client, namespace: &Namespace) -> Result<(), InstallError> {
    let daemon_sets: Api<DaemonSet> = Api::all(client.clone());
    let ours = ListParams::default()
        .fields(&format!("metadata.name={DAEMON_SET}"))
        .labels("app.kubernetes.io/name=hauberk");
    let found = daemon_sets
        .list_metadata(&ours)
        .await
        .map_err(request("list DaemonSets"))?;
    let mut places = found.iter().filter_map(ResourceExt::namespace);
    match places.find(|place| place != namespace.as_str()) {
        Some(place) => Err(InstallError::Elsewhere(place)),
        None => Ok(()),
    }
}

/// Two who apply the same objects would undo what the other did.
pub async fn refuse_helms(
    client: &Client,
    namespace: &Namespace,
    verb: &'static str,
) -> Result<(), InstallError> {
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace.as_str());
    let present = daemon_sets
        .get_opt(DAEMON_SET)
        .await
        .map_err(request("read the DaemonSet"))?;
    let manager = present.and_then(|set| set.labels().get("app.kubernetes.io/managed-by").cloned());
    match manager.as_deref() {
        Some("Helm") => Err(InstallError::OfHelm {
            namespace: namespace.clone(),
            verb,
        }),
        _ => Ok(()),
    }
}

async fn apply(client: &Client, object: &Object) -> Result<(), InstallError> {
    let parameters = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply(FIELD_MANAGER).force()
    };
    let api: Api<DynamicObject> = object.api(client);
    let applied = api
        .patch(&object.name(), &parameters, &Patch::Apply(&object.value))
        .await;
    applied.map_err(|source| InstallError::Apply {
        object: object.to_string(),
        source: source.into(),
    })?;
    if object.resource.kind == "CustomResourceDefinition" {
        wait_until_served(client, &object.name()).await?;
    }
    Ok(())
}

async fn wait_until_served(client: &Client, name: &str) -> Result<(), InstallError> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let began = Instant::now();
    loop {
        let definition = definitions
            .get(name)
            .await
            .map_err(request("read a definition"))?;
        let conditions = definition
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        let is_served = conditions
            .iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True");
        if is_served {
            return Ok(());
        }
        if began.elapsed() > SERVED_PATIENCE {
            return Err(InstallError::NotServed(name.to_owned()));
        }
        sleep(LOOK).await;
    }
}

async fn wait(client: &Client, args: &InstallArgs) -> Result<(), InstallError> {
    let began = Instant::now();
    let mut said = None;
    loop {
        let rollout = Rollout::look(client, &args.namespace).await?;
        if said.as_ref() != Some(&rollout) && !args.timeout.is_zero() {
            print(&format!("{rollout}\n"))?;
        }
        if rollout.is_done() || args.timeout.is_zero() {
            return Ok(print(
                "installed; switch encryption on with: hauberk enable encryption\n",
            )?);
        }
        if began.elapsed() > args.timeout {
            let why = rollout::why_not(client, &args.namespace).await?;
            let text = [rollout.to_string()]
                .into_iter()
                .chain(why)
                .collect::<Vec<_>>()
                .join("; ");
            return Err(InstallError::NotReady(text, args.namespace.clone()));
        }
        said = Some(rollout);
        sleep(LOOK).await;
    }
}
