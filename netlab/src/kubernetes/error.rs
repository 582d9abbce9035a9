//! What can go wrong with a control plane.

use std::{path::PathBuf, process::ExitStatus};

use crate::LabError;

/// Why the control plane cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// There are no programs to start.
    #[error("{0}")]
    NoPrograms(String),
    /// The folder of programs lacks one that the spec asks for.
    #[error(
        "there is no {}: envtest's folders have none; unset KUBEBUILDER_ASSETS so that it is built",
        .0.display()
    )]
    NoProgram(PathBuf),
    /// What the control plane stands on: its directory, namespace, processes.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Making keys and certificates.
    #[error("cannot make the control plane's certificates")]
    Certificate(#[from] rcgen::Error),
    /// A component did not stay.
    #[error("{component} ended by itself ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which one.
        component: &'static str,
        /// How.
        status: ExitStatus,
        /// Its last words.
        log: String,
    },
    /// The API server refused, or could not be asked.
    #[error("cannot {what}")]
    Api {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
}

/// Wraps an error of the client's with what was tried.
pub(super) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> KubernetesError {
    move |source| KubernetesError::Api {
        what: what.into(),
        source: source.into(),
    }
}
