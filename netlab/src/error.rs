//! What can go wrong while a lab is built or used.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the lab cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The caller is not root.
    #[error("network namespaces need root: run it with sudo")]
    NotRoot,
    /// The spec contradicts itself.
    #[error("lab spec: {0}")]
    Spec(String),
    /// A program of the system failed.
    #[error("{command} failed: {stderr}")]
    Command {
        /// What was run.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// A program of the system could not be started.
    #[error("{program} cannot be started; is it installed?")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A file or directory of the lab.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried, as in "cannot write".
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call of the lab's own.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The machine has no cgroup2 mounted.
    #[error("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with it")]
    NoCgroup2,
    /// The fabric's eBPF program.
    #[error("the fabric's eBPF program: {0}")]
    Program(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something that was waited for did not happen.
    #[error("not so within {} s: {what}\n{seen}", after.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        after: std::time::Duration,
        /// What was there instead.
        seen: String,
    },
    /// Packet capture.
    #[error("capture on the fabric")]
    Capture(#[from] pcap::Error),
    /// A capture lost packets, so that it proves nothing.
    #[error("the capture lost {dropped} packets besides the {seen} that it has, and so proves nothing")]
    CaptureIncomplete {
        /// Packets lost by the kernel's buffer or the interface.
        dropped: u64,
        /// Packets captured.
        seen: usize,
    },
}

/// Wraps an I/O error with what was tried and where.
pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::File {
        what,
        path: path.to_owned(),
        source,
    }
}
