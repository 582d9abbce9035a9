//! Processes of the lab: where they run, and that they end.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

/// Where a command is going to run.
pub trait CommandPlacement {
    /// Only on this CPU, counted from 0.
    fn on_cpu(&mut self, cpu: usize) -> &mut Self;
}

impl CommandPlacement for Command {
    fn on_cpu(&mut self, _cpu: usize) -> &mut Self {
        todo!()
    }
}

/// A child process that is killed and waited for, with its process group, when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`, which should come from [`Netns::command`](crate::Netns::command).
    pub fn spawn(_command: &mut Command) -> io::Result<Self> {
        todo!()
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        todo!()
    }

    /// Asks it to end by SIGTERM and waits; kills it after `patience`.
    pub fn terminate(self, _patience: Duration) -> io::Result<ExitStatus> {
        todo!()
    }

    /// `kill -9`, and waits.
    pub fn kill(self) -> io::Result<ExitStatus> {
        todo!()
    }

    /// Waits for its end; `None` when it still runs after `patience`.
    pub fn wait(&mut self, _patience: Duration) -> io::Result<Option<ExitStatus>> {
        todo!()
    }
}
