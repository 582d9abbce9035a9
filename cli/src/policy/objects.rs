//! The objects that have to do with policy: from manifests, or from the cluster.

use std::path::{Path, PathBuf};

use hauberk_policy::cluster::Objects;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

use crate::cluster::{ClusterError, connect, request, wait};
use crate::source::{self, Object, SourceError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// A file or directory cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A verdict without it might be wrong.
    #[error("{} is not YAML", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// A verdict without it might be wrong.
    #[error("{}: {kind} {name} cannot be read", path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// Neither a policy nor a pod.
    #[error("no Pod and no policy in {0}")]
    Nothing(String),
    /// The cluster does not say.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Objects, and what of them a person should know.
#[derive(Debug, Default)]
pub struct Found {
    /// Of every kind that has to do with policy.
    pub objects: Objects,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Those of files, and of directories' files that end in .yaml, .yml or .json. Kinds that have nothing to do with policy
/// are skipped.
pub fn of_files(paths: &[PathBuf]) -> Result<Found, ObjectsError> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(source::list(path)?.into_iter().filter(|path| is_manifest(path))),
            false => files.push(path.clone()),
        }
    }
    let read = source::read_files(files)?;
    if let Some((path, source)) = read.malformed.into_iter().next() {
        return Err(ObjectsError::Yaml { path, source });
    }
    let mut found = Found::default();
    for object in read.objects {
        found.take(object)?;
    }
    let objects = &found.objects;
    let policies =
        objects.network_policies.len() + objects.cluster_network_policies.len() + objects.mesh_policies.len();
    if policies + objects.pods.len() == 0 {
        let places: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(ObjectsError::Nothing(places.join(", ")));
    }
    Ok(found)
}

fn is_manifest(path: &Path) -> bool {
    let known = |extension: &std::ffi::OsStr| ["yaml", "yml", "json"].iter().any(|one| extension == *one);
    !source::is_hidden(path) && path.extension().is_some_and(known)
}

impl Found {
    fn take(&mut self, object: Object) -> Result<(), ObjectsError> {
        // `kubectl get -o yaml` prints a List.
        if object.kind().ends_with("List")
            && let Some(Value::Sequence(items)) = object.value.get("items")
        {
            for value in items {
                let path = object.path.clone();
                let value = value.clone();
                self.take(Object { path, value })?;
            }
            return Ok(());
        }
        let version = object.value.get("apiVersion").and_then(Value::as_str);
        let group = version.and_then(|version| version.split_once('/'));
        let group = group.map_or("", |(group, _)| group).to_owned();
        let Self { objects, warnings } = self;
        match (group.as_str(), object.kind()) {
            ("", "Namespace") => objects.namespaces.push(parse(object, warnings)?),
            ("", "Node") => objects.nodes.push(parse(object, warnings)?),
            ("", "Pod") => objects.pods.push(in_namespace(object, warnings)?),
            ("", "ServiceAccount") => objects.service_accounts.push(in_namespace(object, warnings)?),
            ("networking.k8s.io", "NetworkPolicy") => {
                objects.network_policies.push(in_namespace(object, warnings)?);
            }
            ("policy.networking.k8s.io", "ClusterNetworkPolicy") => {
                objects.cluster_network_policies.push(parse(object, warnings)?);
            }
            (hauberk_api::GROUP, "MeshPolicy") => objects.mesh_policies.push(in_namespace(object, warnings)?),
            (hauberk_api::GROUP, "NetworkSet") => objects.network_sets.push(in_namespace(object, warnings)?),
            _ => {}
        }
        Ok(())
    }
}

/// A field that is not known is often a misspelt one: kubectl would refuse it, and here it says nothing.
fn parse<T: DeserializeOwned>(object: Object, warnings: &mut Vec<String>) -> Result<T, ObjectsError> {
    let (path, kind, name) = (
        object.path.clone(),
        object.kind().to_owned(),
        object.name().to_owned(),
    );
    let place = format!("{}: {kind} {name}", path.display());
    let read = serde_ignored::deserialize(object.value, |field| {
        // A question mark stands for what an option holds.
        let field = field.to_string().replace(".?", "");
        warnings.push(format!("{place}: field {field} is not known, and says nothing"));
    });
    read.map_err(|source| ObjectsError::Object {
        path,
        kind,
        name,
        source,
    })
}

/// As kubectl would apply it with no other namespace chosen.
fn in_namespace<T>(object: Object, warnings: &mut Vec<String>) -> Result<T, ObjectsError>
where
    T: DeserializeOwned + Resource,
{
    let mut read: T = parse(object, warnings)?;
    read.meta_mut().namespace.get_or_insert_with(|| "default".into());
    Ok(read)
}

/// Those of the cluster that kubectl talks to; a kind that it does not serve has no objects.
pub fn of_cluster() -> Result<Found, ObjectsError> {
    wait(async {
        let client = connect().await?;
        let objects = Objects {
            namespaces: all(&client, "list Namespaces").await?,
            nodes: all(&client, "list Nodes").await?,
            pods: all(&client, "list Pods").await?,
            service_accounts: all(&client, "list ServiceAccounts").await?,
            network_policies: all(&client, "list NetworkPolicies").await?,
            cluster_network_policies: all(&client, "list ClusterNetworkPolicies").await?,
            mesh_policies: all(&client, "list MeshPolicies").await?,
            network_sets: all(&client, "list NetworkSets").await?,
        };
        Ok(Found {
            objects,
            ..Found::default()
        })
    })
}

async fn all<T>(client: &Client, action: &'static str) -> Result<Vec<T>, ObjectsError>
where
    T: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    match Api::<T>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(request(action)(error).into()),
    }
}
