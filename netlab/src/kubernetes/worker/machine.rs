//! A node as a machine of its own: beside the lab's network namespace it has its own root file system,
//! `/sys`, cgroups, processes and host name.
//!
//! Its root is an overlay over the machine's, so that it has all of its programs and writes nothing to it.
//! `/run` is new at each boot, the rest stays until the lab goes. In each cgroup hierarchy its own cgroup
//! is the root, and its `/sys/fs/bpf` is the node's pin directory: what runs on it, with its defaults, cannot
//! reach beyond the lab. Its first process takes all others along when it ends.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{LabError, Netns, Node, Process, error::file};

const ENTER: &str = include_str!("enter.sh");
const BOOT: &str = include_str!("boot.sh");
const RUN: &str = include_str!("run.sh");
/// Where the node has the components' programs.
pub(super) const PROGRAMS: &str = "/opt/kubernetes";
/// What boot.sh finds in the node's directory.
const DIRECTORIES: [&str; 4] = ["disk", "changes", "work", "root"];
/// Until the kernel has ended all processes of a node.
const END_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A node that is up; everything on it ends when dropped.
#[derive(Debug)]
pub(super) struct Machine {
    /// `None` only while it is dropped.
    first: Option<Process>,
    pid: u32,
    netns: Netns,
}

impl Machine {
    /// Makes the node's directory. Returns where those files are that are the node's alone: at `etc/cni`
    /// there is its `/etc/cni`, and so on for what boot.sh lists.
    pub(super) fn format(dir: &Path) -> Result<PathBuf, LabError> {
        for name in DIRECTORIES {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(file("cannot make", &path))?;
        }
        Ok(dir.join("disk"))
    }

    /// Boots the node from `dir`; `programs` is the folder that it has as [`PROGRAMS`].
    pub(super) fn boot(node: &Node, dir: &Path, programs: &Path) -> Result<Self, LabError> {
        let mut command = node.command("sh");
        command
            .args(["-c", ENTER, "enter", &cgroup(node), BOOT])
            .arg(dir)
            .arg(node.name())
            .args([programs, node.pin_dir()])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut first = Process::spawn(&mut command).map_err(|source| LabError::Start {
            program: "sh".into(),
            source,
        })?;
        let child = first.child();
        let mut said = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        // Nothing, or half a line, is no number.
        let _ = BufReader::new(stdout).read_line(&mut said);
        let Ok(pid) = said.trim().parse() else {
            let mut stderr = String::new();
            let _ = child
                .stderr
                .take()
                .expect("it was piped")
                .read_to_string(&mut stderr);
            return Err(LabError::Command {
                command: format!("the boot of node {}", node.name()),
                stderr: stderr.trim().into(),
            });
        };
        let netns = node.netns().clone();
        Ok(Self {
            first: Some(first),
            pid,
            netns,
        })
    }

    /// A command that will run on the node, in all of its namespaces.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.netns.command("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--wd=/", "--"])
            .args(["sh", "-c", RUN, "run"])
            .arg(program);
        command
    }

    /// A first process is a zombie only once all others are dead.
    fn has_ended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        status.map_or(true, |text| text.contains("\nState:\tZ"))
    }

    /// A file of the node's, seen from outside; only while the node is up.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(path.trim_start_matches('/'))
    }
}

/// The node's cgroup below the root of each hierarchy.
pub(super) fn cgroup(node: &Node) -> String {
    let lab = node.cgroup().parent().and_then(Path::file_name);
    let lab = lab.expect("a node's cgroup is in its lab's");
    format!("{}/{}", lab.display(), node.name())
}

/// The node's cgroup in each hierarchy.
pub(super) fn cgroups(node: &Node) -> Result<Vec<PathBuf>, LabError> {
    let mounts = Path::new("/proc/mounts");
    let mounts = fs::read_to_string(mounts).map_err(file("cannot read", mounts))?;
    let roots = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let root = fields.next()?;
        matches!(fields.next()?, "cgroup" | "cgroup2").then_some(root)
    });
    let cgroup = cgroup(node);
    Ok(roots.map(|root| Path::new(root).join(&cgroup)).collect())
}

/// Writes a file to a node's disk.
pub(super) fn write(disk: &Path, path: &str, content: &str) -> Result<(), LabError> {
    let path = disk.join(path);
    let parent = path.parent().expect("it is below the disk");
    fs::create_dir_all(parent).map_err(file("cannot make", parent))?;
    fs::write(&path, content).map_err(file("cannot write", &path))
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.first.take());
        let started = Instant::now();
        while !self.has_ended() && started.elapsed() < END_PATIENCE {
            thread::sleep(LOOK_EVERY);
        }
    }
}
