//! The machine around the lab: its programs, its mounts, its processes.
#![allow(unsafe_code)]

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::unistd::setsid;

use crate::{LabError, error::file};

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Result<Output, LabError> {
    run_reading(command, Stdio::null())
}

/// Runs `command` to its end with `stdin` as its standard input.
pub(crate) fn run_reading(command: &mut Command, stdin: impl Into<Stdio>) -> Result<Output, LabError> {
    let output = command
        .stdin(stdin)
        .output()
        .map_err(|source| not_started(command, source))?;
    judge(command, output)
}

/// Runs `command` with `input` on its standard input. The input must be short enough for a pipe to hold the
/// answer while it is being written, as those of `ip -batch` and `nft -f` are.
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Result<Output, LabError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| not_started(command, source))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ended early says why on stderr.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|source| LabError::System {
        what: "cannot wait for a child".into(),
        source,
    })?;
    judge(command, output)
}

fn not_started(command: &Command, source: io::Error) -> LabError {
    LabError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    }
}

fn judge(command: &Command, output: Output) -> Result<Output, LabError> {
    if output.status.success() {
        return Ok(output);
    }
    let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if stderr.is_empty() {
        stderr = output.status.to_string();
    }
    let mut said: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .collect();
    // A script is not worth repeating.
    if said.get(1).is_some_and(|arg| *arg == "-c") {
        said.remove(2);
    }
    let command = said
        .iter()
        .map(|s| s.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    Err(LabError::Command { command, stderr })
}

/// Makes `command` outlive this process's terminal and signals, silently.
pub(crate) fn detached(command: &mut Command) -> &mut Command {
    // SAFETY: `setsid` is one system call; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(|| Ok(setsid().map(|_| ())?)) }
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// Where cgroup2 is mounted; on hybrid systems that is not `/sys/fs/cgroup`.
pub(crate) fn cgroup2_root() -> Result<PathBuf, LabError> {
    let mounts =
        fs::read_to_string("/proc/mounts").map_err(file("cannot read", Path::new("/proc/mounts")))?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .ok_or(LabError::NoCgroup2)
}

/// A process, told apart from later ones of the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    started: u64,
}

impl Owner {
    pub(crate) fn this_process() -> Result<Self, LabError> {
        let pid = std::process::id();
        let started = started(pid).map_err(|source| LabError::System {
            what: "cannot read this process's start".into(),
            source,
        })?;
        Ok(Self { pid, started })
    }

    /// From the file that its `Display` was written to; where that is not there or not whole yet, any live process with
    /// the number that stands in the lab's id counts as the owner.
    pub(crate) fn read(path: &Path, id: &str) -> Option<Self> {
        if let Ok(text) = fs::read_to_string(path) {
            let (pid, started) = text.trim().split_once(' ')?;
            return Some(Self {
                pid: pid.parse().ok()?,
                started: started.parse().ok()?,
            });
        }
        let pid = id.rsplit('-').nth(1)?.parse().ok()?;
        Some(Self {
            pid,
            started: started(pid).ok()?,
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        started(self.pid).is_ok_and(|started| started == self.started)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

/// When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5).
fn started(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    // The name, field 2, may have spaces and parentheses in it.
    let (_, rest) = stat.rsplit_once(')').ok_or_else(invalid)?;
    // A zombie's descriptors are closed and its lab is nobody's.
    let mut fields = rest.split_whitespace();
    if fields.next() == Some("Z") {
        return Err(io::ErrorKind::NotFound.into());
    }
    fields
        .nth(18)
        .and_then(|field| field.parse().ok())
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_one_of_its_number_is_not() {
        let this = Owner::this_process().unwrap();
        assert!(this.is_alive());
        assert!(
            !Owner {
                started: this.started - 1,
                ..this
            }
            .is_alive()
        );
    }
}
