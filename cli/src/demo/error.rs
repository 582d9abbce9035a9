//! Why a step of the demo could not be carried out, as against a condition that did not hold.

use std::path::PathBuf;

use hauberk_netlab::{LabError, iperf::IperfError};
use thiserror::Error;

use crate::{encryption::EncryptionError, status::StatusError};

/// Why a step could not be carried out.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The daemon is not where it should be.
    #[error("{} is missing; build it with `make build`", .0.display())]
    NoKeyd(PathBuf),
    /// The namespaces, or keyd in them.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A socket or a file of the demo's own.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// `hauberk status` fails.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// `hauberk enable` or `disable` fails.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    /// A stream of iperf3 fails.
    #[error(transparent)]
    Iperf(#[from] IperfError),
    /// A program of the system fails.
    #[error("`{command}` failed: {why}")]
    Command { command: String, why: String },
    /// A manifest that the lab wrote is not what the demo knows.
    #[error("cannot edit the Mesh's manifest: {0}")]
    Manifest(String),
}
