//! One network namespace: programs and closures run inside it.
//!
//! Only the network namespace is entered. `/sys` therefore goes on showing the machine's own devices, while
//! `/proc/sys/net` and netlink show the namespace's.
#![allow(unsafe_code)]

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::process::CommandExt,
    panic,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::LabError;

/// Where `ip netns` keeps names.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A network namespace of the lab.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    cgroup: PathBuf,
}

impl Netns {
    pub(crate) fn new(name: String, cgroup: &Path) -> Self {
        let path = Path::new(DIRECTORY).join(&name);
        Self {
            name,
            path,
            cgroup: cgroup.to_owned(),
        }
    }

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
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // Opened here, where memory may be allocated; a failure shows when the command is started.
        let files = self.open();
        let enter = move || match &files {
            Ok((namespace, cgroup)) => {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                (&*cgroup).write_all(b"0")
            }
            Err(errno) => Err(io::Error::from_raw_os_error(*errno)),
        };
        // SAFETY: between fork and exec `enter` makes two system calls on descriptors that it owns; it
        // allocates nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
        command.process_group(0);
        command
    }

    fn open(&self) -> Result<(File, File), i32> {
        let errno = |e: io::Error| e.raw_os_error().unwrap_or(libc::EINVAL);
        let namespace = File::open(&self.path).map_err(errno)?;
        let procs = OpenOptions::new()
            .write(true)
            .open(self.cgroup.join("cgroup.procs"))
            .map_err(errno)?;
        Ok((namespace, procs))
    }

    /// Runs `f` on a thread inside the namespace and returns what it returns. Sockets made there stay in the
    /// namespace wherever they are used afterwards, and keep it alive.
    ///
    /// # Errors
    /// The namespace is gone.
    ///
    /// # Panics
    /// When `f` does, with its panic.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let in_namespace = || {
            let namespace = File::open(&self.path)?;
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        };
        let result: io::Result<T> = thread::scope(|scope| {
            scope
                .spawn(in_namespace)
                .join()
                .unwrap_or_else(|cause| panic::resume_unwind(cause))
        });
        result.map_err(|source| LabError::File {
            what: "cannot enter",
            path: self.path.clone(),
            source,
        })
    }
}
