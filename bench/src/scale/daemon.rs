//! One real keyd on a node of the lab: started, asked over its socket, and watched from outside.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hauberk_netlab::{Node, Process};
use serde_json::Value;

use super::{
    error::{ScaleError, file},
    process::{self, Memory, Usage},
    stage::SYSTEM,
};

/// Until a keyd has read everything, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

/// A running keyd; killed when dropped.
pub struct Daemon {
    /// Its node's name.
    pub node: String,
    process: Process,
    socket: PathBuf,
    log: PathBuf,
    started: Instant,
}

impl Daemon {
    /// Starts keyd on a node. It is somebody by the kubeconfig, and logs into a file in `logs`.
    pub fn start(keyd: &Path, node: &Node, kubeconfig: &Path, logs: &Path) -> Result<Self, ScaleError> {
        let name = node.name();
        let uapi = logs.join(format!("uapi-{name}"));
        fs::create_dir_all(&uapi).map_err(file(&uapi))?;
        let mut command = node.command(keyd);
        command
            .args(["node", "--source", "kube", "--node", name, "--namespace", SYSTEM])
            .arg("--state-dir")
            .arg(node.state_dir())
            .arg("--memory-dir")
            .arg(node.memory_dir())
            .arg("--pin-dir")
            .arg(node.pin_dir())
            .arg("--cgroup")
            .arg(node.cgroup())
            .arg("--uapi-dir")
            .arg(uapi)
            .env("KUBECONFIG", kubeconfig);
        let log = logs.join(format!("keyd-{name}.log"));
        let started = Instant::now();
        Ok(Self {
            node: name.to_owned(),
            process: spawn(&mut command, &log)?,
            socket: node.state_dir().join("keyd.sock"),
            log,
            started,
        })
    }

    /// Waits until it has read its objects and put them in force; says how long after its start that was.
    pub fn wait_ready(&mut self) -> Result<Duration, ScaleError> {
        loop {
            if matches!(ask(&self.socket, "/readyz"), Ok((200, _))) {
                return Ok(self.started.elapsed());
            }
            if self.started.elapsed() > PATIENCE || !self.process.is_running() {
                return Err(ScaleError::Late {
                    what: format!("keyd on node {} is ready", self.node),
                    patience: PATIENCE.as_secs(),
                    said: last_line(&self.log),
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What it says of its node; null where it does not answer.
    pub fn state(&self) -> Value {
        let answer = ask(&self.socket, "/state");
        answer
            .ok()
            .and_then(|(_, body)| serde_json::from_str(&body).ok())
            .unwrap_or_default()
    }

    /// How many of its pairs are Strict.
    pub fn strict_pairs(&self) -> usize {
        let state = self.state();
        let peers = state["peers"].as_array().into_iter().flatten();
        peers.filter(|peer| peer["phase"] == "Strict").count()
    }

    /// Its memory now.
    pub fn memory(&self) -> Result<Memory, ScaleError> {
        process::memory(self.process.id())
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage, ScaleError> {
        process::usage(self.process.id())
    }
}

/// Starts one of our programs, logging into a file.
pub fn spawn(command: &mut Command, log: &Path) -> Result<Process, ScaleError> {
    let written = File::create(log).map_err(file(log))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(written);
    Process::spawn(command).map_err(file(command.get_program()))
}

/// What a program said last.
pub fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().next_back().unwrap_or_default().to_owned()
}

/// A GET over HTTP/1.1: status and body.
fn ask(socket: &Path, path: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: keyd\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let parsed = || {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    parsed().ok_or_else(|| io::ErrorKind::InvalidData.into())
}
