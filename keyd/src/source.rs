//! Where the cluster's objects come from and where this node's own go: a directory of manifests.
//!
//! Stages: 1. read everything, 2. watch, 3. on each change parse what changed, keep the last good
//! version of what no longer parses, and publish a new [`Update`]. It judges no object; conflicts are the
//! snapshot's matter.

pub mod dir;
mod merge;
mod publish;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hauberk_api::{MeshStatus, NodeTunnel};
use tokio::sync::watch;

use crate::manifest::{Notice, Problem};
use crate::snapshot::Snapshot;

/// The cluster at one moment, and what could not be read of it.
#[derive(Clone, Debug, Default)]
pub struct Update {
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
pub struct Source {
    directory: PathBuf,
    _watch: dir::Watch,
}

impl Source {
    /// Starts to watch a directory of manifests. Everything in it has been read when this returns.
    pub fn dir(path: &Path) -> Result<(Self, watch::Receiver<Update>), SourceError> {
        let (watch, updates) = dir::Watch::start(path)?;
        Ok((
            Self {
                directory: path.to_owned(),
                _watch: watch,
            },
            updates,
        ))
    }

    /// Publishes this node's NodeTunnel if it differs from what is published; says whether it did.
    pub fn publish_tunnel(&self, tunnel: &NodeTunnel) -> Result<bool, SourceError> {
        publish::tunnel(&self.directory, tunnel)
    }

    /// Publishes the Mesh's status if it differs from what is published; says whether it did.
    pub fn publish_mesh_status(&self, status: &MeshStatus) -> Result<bool, SourceError> {
        publish::mesh_status(&self.directory, status)
    }

    /// Writes `state-NODE.json` beside the manifests, for `hauberk status`.
    pub fn publish_state(&self, node: &str, json: &[u8]) -> Result<(), SourceError> {
        let path = self.directory.join(format!("state-{node}.json"));
        crate::durable::write(&path, json, 0o644).map_err(|source| SourceError::Write { path, source })
    }
}
