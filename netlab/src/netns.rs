//! One network namespace: programs and closures run inside it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::LabError;

/// A network namespace of the lab.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    cgroup: PathBuf,
}

impl Netns {
    /// Its name in `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter --net=PATH`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that will run inside the namespace and its node's cgroup, in a process group of its own.
    /// It dies with the lab, whatever becomes of its parent.
    pub fn command(&self, _program: impl AsRef<std::ffi::OsStr>) -> Command {
        todo!()
    }

    /// Runs `f` on a thread inside the namespace and returns what it returns. Sockets made there stay in the
    /// namespace wherever they are used afterwards.
    ///
    /// # Panics
    /// When `f` does, with its panic.
    pub fn run<T: Send>(&self, _f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        todo!()
    }
}
