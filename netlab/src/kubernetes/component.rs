//! One component as a process, with a log that outlives it.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{KubernetesError, programs::Programs};
use crate::{LabError, Netns, Process, error::file};

/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 15;

#[derive(Debug)]
pub(super) struct Component {
    name: &'static str,
    process: Process,
    log: PathBuf,
}

impl Component {
    /// Starts the component in `netns`; its log is `NAME.log` in `dir`, continued when there is one
    /// already.
    pub(super) fn start(
        name: &'static str,
        arguments: &[String],
        programs: &Programs,
        netns: &Netns,
        dir: &Path,
    ) -> Result<Self, KubernetesError> {
        let mut command = netns.command(programs.path(name)?);
        command.args(arguments).current_dir(dir);
        Self::run(name, command, dir)
    }

    /// Starts it by a command of the lab's; its log is in `dir`, as above.
    pub(super) fn run(name: &'static str, mut command: Command, dir: &Path) -> Result<Self, KubernetesError> {
        let log = dir.join(format!("{name}.log"));
        let writer = OpenOptions::new().create(true).append(true).open(&log);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writer.map_err(file("cannot open", &log))?);
        let process = Process::spawn(&mut command).map_err(|source| LabError::Start {
            program: command.get_program().display().to_string(),
            source,
        })?;
        Ok(Self { name, process, log })
    }

    /// That it still runs.
    pub(super) fn check(&mut self) -> Result<(), KubernetesError> {
        match self.process.wait(Duration::ZERO) {
            Ok(Some(status)) => Err(KubernetesError::Ended {
                component: self.name,
                status,
                log: self.log_end(),
            }),
            // A process that cannot be asked after is missed by whoever talks to it.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// SIGTERM, and SIGKILL after `patience`.
    pub(super) fn terminate(self, patience: Duration) -> Result<ExitStatus, KubernetesError> {
        let name = self.name;
        self.process.terminate(patience).map_err(not_ended(name))
    }

    pub(super) fn kill(self) -> Result<ExitStatus, KubernetesError> {
        let name = self.name;
        self.process.kill().map_err(not_ended(name))
    }

    /// The last lines that it wrote.
    pub(super) fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

fn not_ended(name: &'static str) -> impl FnOnce(std::io::Error) -> KubernetesError {
    move |source| {
        let what = format!("cannot end {name}");
        LabError::System { what, source }.into()
    }
}
