//! Where the cluster's objects come from and where this node's own go: the Kubernetes API, or a directory of
//! manifests.
//!
//! Stages: 1. read everything, 2. watch, 3. on each change parse what changed, keep the last good
//! version of what no longer parses, and publish a new [`Update`]. It judges no object; conflicts are the
//! snapshot's matter.

pub mod dir;
pub mod kube;
mod merge;
mod publish;
#[cfg(test)]
mod tests;

pub(crate) use publish::keep_times;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hauberk_api::NodeTunnel;

use tokio::sync::watch;

use crate::manifest::{Notice, Problem};
use crate::options::{NodeOptions, SourceSpec};
use crate::snapshot::Snapshot;

/// The cluster at one moment, and what could not be read of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Whether everything has been read once; nothing is put in force before.
    pub in_sync: bool,
    /// Why the objects may be out of date, if they may.
    pub unreachable: Option<String>,
    /// Some NodeTunnel has keys, whether they may be believed or not.
    pub keys_published: bool,
    /// The objects.
    pub snapshot: Arc<Snapshot>,
    /// What is wrong with the manifests now; the last good versions are in the snapshot.
    pub problems: Arc<Vec<Problem>>,
    /// What was ignored on purpose.
    pub notices: Arc<Vec<Notice>>,
}

/// Why a source does not work.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory cannot be read.
    #[error("cannot read the manifest directory {}; does it exist, and may keyd read it?", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be watched.
    #[error("cannot watch {}; is fs.inotify.max_user_instances or max_user_watches used up?", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The library's answer.
        #[source]
        source: notify::Error,
    },
    /// It is not known how to reach the API server.
    #[error("no API server is known; in a pod mount its ServiceAccount's token, elsewhere set KUBECONFIG")]
    Kubeconfig(#[source] ::kube::config::InferConfigError),
    /// There is no client for the API server.
    #[error("cannot make a client for the API server at {url}")]
    Client {
        /// Its address.
        url: String,
        /// Why.
        #[source]
        source: ::kube::Error,
    },
    /// An own object cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A running source. Dropping it stops the watch.
pub enum Source {
    /// A directory of manifests.
    Dir(dir::Watch),
    /// The Kubernetes API.
    Kube(kube::Cluster),
}

impl Source {
    /// Opens the source of `keyd node`. A directory has been read when this returns; of the API nothing has.
    pub async fn open(options: &NodeOptions) -> Result<(Self, watch::Receiver<Update>), SourceError> {
        match &options.source {
            SourceSpec::Dir(path) => {
                let (watch, updates) = dir::Watch::start(path)?;
                Ok((Self::Dir(watch), updates))
            }
            SourceSpec::Kube => {
                let (cluster, updates) = kube::Cluster::of_node(options).await?;
                Ok((Self::Kube(cluster), updates))
            }
        }
    }

    /// Publishes this node's NodeTunnel where it differs from what is published; to the API in the background,
    /// where it is tried until it succeeds.
    pub fn publish_tunnel(&self, tunnel: &NodeTunnel) -> Result<(), SourceError> {
        match self {
            Self::Dir(watch) => watch.publish_tunnel(tunnel).map(drop),
            Self::Kube(cluster) => {
                cluster.publish_tunnel(tunnel);
                Ok(())
            }
        }
    }

    /// Writes `state-NODE.json` beside the manifests, for `hauberk status`. The API takes no counters.
    pub fn publish_state(&self, node: &str, json: &[u8]) -> Result<(), SourceError> {
        let Self::Dir(watch) = self else { return Ok(()) };
        let path = watch.path().join(format!("state-{node}.json"));
        crate::durable::write(&path, json, 0o644).map_err(|source| SourceError::Write { path, source })
    }

    /// What keeps this node's own objects from being published, if anything does.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Dir(_) => None,
            Self::Kube(cluster) => cluster.trouble(),
        }
    }
}
