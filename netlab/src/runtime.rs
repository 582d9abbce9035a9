//! What a lab adds to the machine, and its removal, which is one shell script for all occasions: when the lab
//! is dropped, when its process dies (the guardian runs it), on a signal, and for labs of dead owners.
//!
//! A lab owns `/run/hauberk-lab/ID` (a tmpfs, with a bpffs inside), the namespaces `ID-*` in `/run/netns`, and
//! the cgroup `hauberk-lab-ID`. The file `owner` in its directory says whose it is.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, exit, id},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    mount::{MsFlags, mount},
    unistd::Uid,
};

use crate::{
    LabError,
    error::file,
    system::{self, Owner},
};

const DIRECTORY: &str = "/run/hauberk-lab";
const REMOVE: &str = include_str!("runtime/remove.sh");
/// Waits for a line, which says that the lab is gone already. It reads end of file when its lab's process
/// died, however it died.
const GUARD: &str = "read -r line && exit; ";

/// Labs of this process that are to be removed on a signal.
static LIVE: Mutex<Vec<Traces>> = Mutex::new(Vec::new());

/// Where the traces of one lab are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Traces {
    id: String,
    directory: PathBuf,
    cgroup: PathBuf,
}

impl Traces {
    fn of(id: &str, cgroup_root: &Path) -> Self {
        Self {
            id: id.into(),
            directory: Path::new(DIRECTORY).join(id),
            cgroup: cgroup_root.join(format!("hauberk-lab-{id}")),
        }
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script, "hauberk-lab", &self.id])
            .args([&self.directory, &self.cgroup]);
        shell
    }

    fn remove(&self) -> Result<(), LabError> {
        system::run(&mut self.shell(REMOVE)).map(|_| ())
    }
}

/// A lab's directory, cgroup and guardian; removed with all namespaces of the lab when dropped.
#[derive(Debug)]
pub(crate) struct Runtime {
    traces: Traces,
    guardian: Child,
}

impl Runtime {
    pub(crate) fn create(name_hint: &str) -> Result<Self, LabError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        if !Uid::effective().is_root() {
            return Err(LabError::NotRoot);
        }
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let traces = Traces::of(
            &format!("{name_hint}-{}-{number}", id()),
            &system::cgroup2_root()?,
        );
        // First of all, so that nothing is ever without somebody to remove it.
        let guardian = system::detached(&mut traces.shell(&format!("{GUARD}{REMOVE}")))
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Start {
                program: "sh".into(),
                source,
            })?;
        live().push(traces.clone());
        let runtime = Self { traces, guardian };
        runtime.fill()?;
        Ok(runtime)
    }

    fn fill(&self) -> Result<(), LabError> {
        let Traces {
            directory, cgroup, ..
        } = &self.traces;
        fs::create_dir_all(directory).map_err(file("cannot make", directory))?;
        mount_at("tmpfs", directory, Some("mode=0700"))?;
        let owner = directory.join("owner");
        fs::write(&owner, Owner::this_process()?.to_string()).map_err(file("cannot write", &owner))?;
        let bpf = directory.join("bpf");
        fs::create_dir(&bpf).map_err(file("cannot make", &bpf))?;
        mount_at("bpf", &bpf, Some("mode=0700"))?;
        fs::create_dir(cgroup).map_err(file("cannot make the cgroup", cgroup))
    }

    pub(crate) fn id(&self) -> &str {
        &self.traces.id
    }

    /// A tmpfs.
    pub(crate) fn directory(&self) -> &Path {
        &self.traces.directory
    }

    /// A bpffs.
    pub(crate) fn bpf(&self) -> PathBuf {
        self.traces.directory.join("bpf")
    }

    pub(crate) fn cgroup(&self) -> &Path {
        &self.traces.cgroup
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Err(e) = self.traces.remove() {
            eprintln!("the lab {} could not be removed entirely: {e}", self.traces.id);
        }
        live().retain(|traces| *traces != self.traces);
        if let Some(mut pipe) = self.guardian.stdin.take() {
            let _ = pipe.write_all(b"gone\n");
        }
        let _ = self.guardian.wait();
    }
}

/// Removes what killed runs left behind: labs whose owner is dead. Returns their ids.
///
/// # Errors
/// Something of a lab could not be removed; the others are, nevertheless.
pub fn sweep() -> Result<Vec<String>, LabError> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return Ok(Vec::new());
    };
    let cgroup_root = system::cgroup2_root()?;
    let mut swept = Vec::new();
    let mut result = Ok(());
    for entry in entries.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let traces = Traces::of(&id, &cgroup_root);
        if Owner::read(&entry.path().join("owner"), &id).is_some_and(|owner| owner.is_alive()) {
            continue;
        }
        match traces.remove() {
            Ok(()) => swept.push(id),
            Err(e) => result = Err(e),
        }
    }
    result.map(|()| swept)
}

/// From now on SIGINT, SIGTERM and SIGHUP remove all labs of this process and end it with code 130.
///
/// For binaries that set no signal handler of their own. Without it, a lab whose process is killed is
/// removed a moment later by the lab's guardian.
///
/// # Errors
/// The process has such a handler already.
pub fn clean_up_on_signals() -> Result<(), LabError> {
    ctrlc::set_handler(|| {
        for traces in live().iter() {
            if let Err(e) = traces.remove() {
                eprintln!("the lab {} could not be removed entirely: {e}", traces.id);
            }
        }
        exit(130);
    })
    .map_err(|e| LabError::System {
        what: "cannot handle signals".into(),
        source: std::io::Error::other(e),
    })
}

fn live() -> std::sync::MutexGuard<'static, Vec<Traces>> {
    // The list is whole even where a thread panicked while it held the lock.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mount_at(kind: &str, at: &Path, options: Option<&str>) -> Result<(), LabError> {
    mount(
        Some(kind),
        at,
        Some(kind),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        options,
    )
    .map_err(|e| file("cannot mount at", at)(e.into()))
}
