//! Keeps what runs on a node to one core, as if nodes were machines.
//!
//! By the affinity of threads, which new ones inherit: a kubelet refuses to start where its cgroup has fewer cores than
//! the machine.

use std::{collections::BTreeSet, ffi::OsStr, fs, io, path::Path};

use nix::{
    errno::Errno,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::machine;
use crate::{LabError, Node};

/// Returns when nobody is left who may use another core.
pub(super) fn keep_to(node: &Node, core: usize) -> Result<(), LabError> {
    let failed = |source: Errno| LabError::System {
        what: format!("cannot keep node {} to core {core}", node.name()),
        source: source.into(),
    };
    let mut only = CpuSet::new();
    only.set(core).map_err(failed)?;
    // Who was started meanwhile may have inherited what was before.
    loop {
        let mut moved = 0;
        for thread in threads(node)? {
            let set = match sched_getaffinity(thread) {
                Ok(present) if present == only => continue,
                Ok(_) => sched_setaffinity(thread, &only),
                Err(error) => Err(error),
            };
            match set {
                Ok(()) => moved += 1,
                Err(Errno::ESRCH) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if moved == 0 {
            return Ok(());
        }
    }
}

fn threads(node: &Node) -> Result<Vec<Pid>, LabError> {
    let mut processes = BTreeSet::new();
    for cgroup in machine::cgroups(node)? {
        collect(&cgroup, &mut processes).map_err(crate::error::file("cannot read", &cgroup))?;
    }
    let threads = processes.iter().flat_map(|process| {
        let tasks = fs::read_dir(format!("/proc/{process}/task"));
        tasks.into_iter().flatten().flatten()
    });
    let number = |name: &OsStr| name.to_str()?.parse().ok().map(Pid::from_raw);
    Ok(threads.filter_map(|thread| number(&thread.file_name())).collect())
}

fn collect(cgroup: &Path, processes: &mut BTreeSet<String>) -> io::Result<()> {
    let listed = match fs::read_to_string(cgroup.join("cgroup.procs")) {
        // A container's may go at any time, also while it is read.
        Err(error) if [Some(libc::ENOENT), Some(libc::ENODEV)].contains(&error.raw_os_error()) => {
            return Ok(());
        }
        listed => listed?,
    };
    processes.extend(listed.lines().map(str::to_owned));
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), processes)?;
        }
    }
    Ok(())
}
