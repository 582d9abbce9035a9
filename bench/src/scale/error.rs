//! Why there is no measurement of scale.

use std::{io, path::PathBuf};

use hauberk_netlab::{LabError, iperf::IperfError, kubernetes::KubernetesError};
use thiserror::Error;

use crate::program::NoProgram;

/// Why there is no measurement.
#[derive(Debug, Error)]
pub enum ScaleError {
    /// More pods than have room.
    #[error(
        "{pods} pods on {nodes} nodes without a keyd are more than {} on each; give more --nodes",
        super::objects::MOST_PODS
    )]
    TooManyPods { pods: usize, nodes: usize },
    /// The namespaces.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The control plane.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The traffic between two nodes.
    #[error("no traffic from pod to pod")]
    Traffic(#[from] IperfError),
    /// Without it nothing is known of requests.
    #[error("the API server's audit log has no request of a keyd, though all are ready; see {}", log.display())]
    Unaudited { log: PathBuf },
    /// keyd is not where it should be.
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    /// The API server refused.
    #[error("cannot {what}")]
    Api {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// Keys and signatures of the synthetic nodes.
    #[error("cannot sign for the synthetic nodes: {0}")]
    Sign(String),
    /// A file of the kernel's, or of keyd's.
    #[error("cannot use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A pinned map.
    #[error("cannot read keyd's map {}", path.display())]
    Map {
        path: PathBuf,
        #[source]
        source: aya::maps::MapError,
    },
    /// A command of the system failed.
    #[error("{what}: {why}")]
    Setup { what: String, why: String },
    /// Something did not come about.
    #[error("not within {patience} s: {what}{}", if said.is_empty() { String::new() } else { format!("; it said: {said}") })]
    Late {
        what: String,
        patience: u64,
        said: String,
    },
}

/// Puts into words what was asked of the API server.
pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> ScaleError {
    let what = what.into();
    move |source| ScaleError::Api {
        what,
        source: Box::new(source),
    }
}

/// Names the file.
pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ScaleError {
    let path = path.into();
    move |source| ScaleError::File { path, source }
}
