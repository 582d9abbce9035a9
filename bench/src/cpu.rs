//! How many cores were busy, and which there are.
//!
//! Busy time comes from `/proc/stat`, not from the processes: what the kernel does for them in softirq
//! (veth, TUN, UDP) is charged to no process.

use std::{io, time::Instant};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Which cores are asked about.
#[derive(Debug, Clone)]
pub enum Watched {
    /// Every core of the machine.
    All,
    /// These.
    Cores(Vec<usize>),
}

/// Busy time so far, in clock ticks, and when it was read.
#[derive(Debug)]
pub struct Reading {
    watched: Watched,
    ticks: u64,
    at: Instant,
}

impl Reading {
    /// Reads `/proc/stat`.
    pub fn start(watched: Watched) -> io::Result<Self> {
        let ticks = busy_ticks(&std::fs::read_to_string("/proc/stat")?, &watched);
        Ok(Self {
            watched,
            ticks,
            at: Instant::now(),
        })
    }

    /// Cores busy on average since the start: 1.5 is one and a half cores' worth of work.
    pub fn cores_busy(&self) -> io::Result<f64> {
        let ticks = busy_ticks(&std::fs::read_to_string("/proc/stat")?, &self.watched);
        let seconds = ticks.saturating_sub(self.ticks) as f64 / TICKS_PER_SECOND;
        Ok(seconds / self.at.elapsed().as_secs_f64())
    }
}

/// `USER_HZ`, which the kernel keeps at 100 for user space on every architecture it shares with Rust.
const TICKS_PER_SECOND: f64 = 100.0;
/// Columns of a `cpuN` line that are not work: idle and iowait (proc_stat(5)).
const IDLE_COLUMNS: [usize; 2] = [3, 4];
/// user nice system idle iowait irq softirq steal; guest time is already part of user.
const COLUMNS: usize = 8;

fn busy_ticks(stat: &str, watched: &Watched) -> u64 {
    let is_watched = |core: &str| match watched {
        Watched::All => core.parse::<usize>().is_ok(),
        Watched::Cores(cores) => core.parse().is_ok_and(|core| cores.contains(&core)),
    };
    stat.lines()
        .filter_map(|line| line.strip_prefix("cpu")?.split_once(' '))
        .filter(|(core, _)| is_watched(core))
        .flat_map(|(_, columns)| columns.split_whitespace().take(COLUMNS).enumerate())
        .filter(|(column, _)| !IDLE_COLUMNS.contains(column))
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum()
}

/// The cores that this process may use, in order.
pub fn available() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&core| set.is_set(core).unwrap_or(false))
        .collect())
}

/// Keeps the calling thread on one core from now on.
pub fn pin_this_thread(core: usize) -> io::Result<()> {
    pin(Pid::from_raw(0), core)
}

/// Moves every thread of a running process to one core; threads that they start stay there too.
pub fn pin_process(process: u32, core: usize) -> io::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        if let Some(thread) = task?.file_name().to_str().and_then(|id| id.parse().ok()) {
            pin(Pid::from_raw(thread), core)?;
        }
    }
    Ok(())
}

fn pin(thread: Pid, core: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(core)?;
    Ok(sched_setaffinity(thread, &only)?)
}

/// Has the calling thread take no more from now on than others leave it. Where that is not allowed it goes on as before.
pub fn give_way() {
    const LEAST: i32 = 19;
    let _ = rustix::process::nice(LEAST);
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  300 0 60 2000 10 0 50 5 0 0\n\
        cpu0 100 0 20 1000 10 0 40 5 0 0\n\
        cpu1 200 0 40 1000 0 0 10 0 50 0\n\
        intr 12345 0 0\n";

    #[test]
    fn softirq_is_busy_idle_and_iowait_are_not_guest_is_not_counted_twice() {
        assert_eq!(busy_ticks(STAT, &Watched::Cores(vec![0])), 165);
        assert_eq!(busy_ticks(STAT, &Watched::Cores(vec![1])), 250);
    }

    #[test]
    fn all_cores_are_summed_without_the_line_that_sums_them_already() {
        assert_eq!(busy_ticks(STAT, &Watched::All), 415);
    }

    #[test]
    fn a_pinned_thread_has_one_core_and_its_parent_keeps_its_own() {
        let before = available().unwrap();
        let core = before[0];
        let inside = std::thread::spawn(move || {
            pin_this_thread(core).unwrap();
            available().unwrap()
        });
        assert_eq!(inside.join().unwrap(), [core]);
        assert_eq!(available().unwrap(), before);
    }
}
