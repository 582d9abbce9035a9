//! What the machine must offer, checked before anything is changed; every error is one line with a remedy.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Something the programs need is missing.
#[derive(Debug, Error)]
pub enum RequirementError {
    /// A capability is missing from the effective set.
    #[error("{0} is missing: run as root, or give the process CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Capability(&'static str),
    /// The pin directory is on some other file system.
    #[error(
        "{path} is not on a BPF file system: `mount -t bpf bpf /sys/fs/bpf` and choose a directory below it"
    )]
    Bpffs {
        /// The directory asked for.
        path: PathBuf,
    },
    /// TCX was asked for on a kernel without.
    #[error(
        "this kernel has no TCX (it came with Linux 6.6): choose clsact, or leave the choice to the loader"
    )]
    Tcx,
    /// The kernel is older than what the programs are tested on.
    #[error("Linux {0} is too old: 6.1 or newer is needed")]
    Kernel(String),
}

/// How programs can be attached here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// By TCX links (Linux 6.6 and newer).
    Tcx,
    /// By filters of a clsact qdisc.
    Clsact,
}

/// Checks capabilities, the kernel and the file system of `pin_dir` (which need not exist yet), and says
/// how programs are attached on this kernel.
pub fn check(_pin_dir: &Path) -> Result<Attachment, RequirementError> {
    todo!()
}
