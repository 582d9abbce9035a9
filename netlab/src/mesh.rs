//! keyd on the lab's nodes, and the controller beside them: what tests, bench and demo all start from.
//!
//! The lab knows keyd as a program only: how it is started, the manifests it reads and the `state-NAME.json` that
//! it writes.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Lab, LabError, ManifestSpec, Process, Replicas, set_encryption};

/// How often a node's state is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(20);
/// How long keyd may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// keyd on every node of a lab, and one controller. All end when this is dropped.
pub struct Mesh {
    keyd: PathBuf,
    logs: PathBuf,
    settings: BTreeMap<String, String>,
    nodes: BTreeMap<String, Process>,
    controller: Option<Process>,
    replicas: Replicas,
}

impl Mesh {
    /// Writes the lab's manifests and starts `keyd controller`, then `keyd node` on every node of the cluster.
    ///
    /// `settings` are environment variables for all of them. Nobody waits until they are ready: see [`Mesh::wait`].
    pub fn start(
        lab: &Lab,
        keyd: &Path,
        manifests: &ManifestSpec,
        settings: &[(&str, &str)],
    ) -> Result<Self, LabError> {
        let logs = lab.dir().join("logs");
        let shared = lab.dir().join("manifests");
        for dir in [&logs, &shared] {
            fs::create_dir_all(dir).map_err(|source| file("cannot create", dir, source))?;
        }
        lab.write_manifests(&shared, manifests)?;
        let names: Vec<_> = members(lab).collect();
        let replicas = Replicas::start(&shared, &lab.dir().join("replicas"), &names)?;
        let settings = settings
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
        let mut mesh = Self {
            keyd: keyd.into(),
            logs,
            settings,
            nodes: BTreeMap::new(),
            controller: None,
            replicas,
        };
        mesh.start_controller(lab)?;
        for name in names {
            mesh.start_node(lab, name)?;
        }
        Ok(mesh)
    }

    /// Starts keyd on a node where it does not run.
    pub fn start_node(&mut self, lab: &Lab, name: &str) -> Result<(), LabError> {
        let node = lab.node(name);
        let uapi = lab.dir().join("uapi").join(name);
        fs::create_dir_all(&uapi).map_err(|source| file("cannot create", &uapi, source))?;
        let mut command = node.command(&self.keyd);
        command
            .arg("node")
            .arg("--source")
            .arg(source(self.replicas.dir(name)))
            .args(["--node", name]);
        command
            .arg("--state-dir")
            .arg(node.state_dir())
            .arg("--memory-dir")
            .arg(node.memory_dir())
            .arg("--pin-dir")
            .arg(node.pin_dir());
        command
            .arg("--cgroup")
            .arg(node.cgroup())
            .arg("--uapi-dir")
            .arg(uapi);
        let process = self.spawn(&mut command, name)?;
        self.nodes.insert(name.into(), process);
        Ok(())
    }

    /// Starts the controller, which reads the directory that all nodes' replicas come from.
    pub fn start_controller(&mut self, lab: &Lab) -> Result<(), LabError> {
        let mut command = lab.fabric().netns().command(&self.keyd);
        command
            .arg("controller")
            .arg("--source")
            .arg(source(self.replicas.shared()));
        self.controller = Some(self.spawn(&mut command, "controller")?);
        Ok(())
    }

    /// `kill -9` of keyd on a node.
    ///
    /// # Panics
    /// When it was not started.
    pub fn kill(&mut self, name: &str) -> io::Result<()> {
        self.taken(name).kill().map(drop)
    }

    /// SIGTERM to keyd on a node, and waits for its end.
    ///
    /// # Panics
    /// When it was not started.
    pub fn terminate(&mut self, name: &str) -> io::Result<std::process::ExitStatus> {
        self.taken(name).terminate(PATIENCE)
    }

    /// keyd's process on a node.
    ///
    /// # Panics
    /// When it was not started.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.nodes
            .get_mut(name)
            .unwrap_or_else(|| panic!("keyd does not run on {name}"))
    }

    /// The directories that the nodes read.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// Turns the flag on or off, for all nodes at once but for what the replicas hold back.
    pub fn set_encryption(&self, enabled: bool) -> Result<(), LabError> {
        set_encryption(self.replicas.shared(), enabled)
    }

    /// What a node last said of itself; null before its first word.
    pub fn state(&self, name: &str) -> serde_json::Value {
        let path = self.replicas.shared().join(format!("state-{name}.json"));
        // A file that is not there yet and one that is being replaced are the same to whoever waits.
        fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Waits until `holds` of every node's state (node names in the lab's order); returns how long it took.
    ///
    /// # Errors
    /// [`LabError::Late`] with the last states and the end of the logs when `patience` is over.
    pub fn wait(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<Duration, LabError> {
        let begin = Instant::now();
        loop {
            if self.nodes.keys().all(|name| holds(&self.state(name))) {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > patience {
                return Err(LabError::Late {
                    what: what.into(),
                    after: patience,
                    seen: self.describe(),
                });
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until every node has put its objects into force.
    ///
    /// # Errors
    /// As [`Mesh::wait`].
    pub fn wait_ready(&self) -> Result<Duration, LabError> {
        self.wait("every node is ready", Duration::from_secs(15), |state| {
            state["ready"] == true
        })
    }

    /// Waits until every node says that all its pairs are Strict.
    ///
    /// # Errors
    /// As [`Mesh::wait`].
    pub fn wait_encrypted(&self) -> Result<Duration, LabError> {
        self.wait("every node is encrypted", Duration::from_secs(20), |state| {
            state["encrypted"] == true
        })
    }

    /// What a process has logged: a node's name, or `controller`.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.logs.join(format!("{name}.log"))).unwrap_or_default()
    }

    fn describe(&self) -> String {
        let node = |name: &String| {
            let log = self.log(name);
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            format!("{name}: {}\n{end}\n", self.state(name))
        };
        self.nodes.keys().map(node).collect()
    }

    fn taken(&mut self, name: &str) -> Process {
        self.nodes
            .remove(name)
            .unwrap_or_else(|| panic!("keyd does not run on {name}"))
    }

    fn spawn(&self, command: &mut Command, name: &str) -> Result<Process, LabError> {
        let path = self.logs.join(format!("{name}.log"));
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|source| file("cannot open", &path, source))?;
        command
            .envs(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let program = self.keyd.display().to_string();
        Process::spawn(command).map_err(|source| LabError::Start { program, source })
    }
}

fn members(lab: &Lab) -> impl Iterator<Item = &str> {
    lab.nodes()
        .iter()
        .filter(|node| node.in_cluster())
        .map(|node| node.name())
}

fn source(dir: &Path) -> String {
    format!("dir:{}", dir.display())
}

fn file(what: &'static str, path: &Path, source: io::Error) -> LabError {
    LabError::File {
        what,
        path: path.into(),
        source,
    }
}
