//! Processes of the lab: where they run, and that they end.
#![allow(unsafe_code)]

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// Between two looks at whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where a command is going to run.
pub trait CommandPlacement {
    /// Only on this CPU, counted from 0. Starting it fails where there is no such CPU.
    fn on_cpu(&mut self, cpu: usize) -> &mut Self;
}

impl CommandPlacement for Command {
    fn on_cpu(&mut self, cpu: usize) -> &mut Self {
        let mut set = CpuSet::new();
        let valid = set.set(cpu);
        let pin = move || {
            valid?;
            Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
        };
        // SAFETY: between fork and exec `pin` makes one system call with values that it owns; it allocates
        // nothing and takes no lock.
        unsafe { self.pre_exec(pin) }
    }
}

/// A child process that is killed and waited for, with its process group, when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`, which should come from [`Netns::command`](crate::Netns::command): it must lead a
    /// process group of its own.
    ///
    /// # Errors
    /// As [`Command::spawn`]; also when the namespace or the CPU it should run in does not exist.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        Ok(Self {
            child: command.spawn()?,
        })
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
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal; one that has ended is left alone.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.is_running() {
            kill(self.pid(), signal)?;
        }
        Ok(())
    }

    /// Asks it to end by SIGTERM and waits; kills it after `patience`.
    pub fn terminate(mut self, patience: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        match self.wait(patience)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// `kill -9` of its process group, and waits.
    pub fn kill(mut self) -> io::Result<ExitStatus> {
        self.kill_group();
        self.child.wait()
    }

    /// Waits for its end; `None` when it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Only while the leader is not yet waited for is the group's number certainly its own.
    fn kill_group(&mut self) {
        if self.is_running() && killpg(self.pid(), Signal::SIGKILL).is_err() {
            // Not the leader of a group.
            let _ = self.child.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
        let _ = self.child.wait();
    }
}
