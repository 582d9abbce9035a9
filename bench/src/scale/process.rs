//! What the kernel says of a process: resident memory, CPU time and how often it woke, from `/proc/PID`.

use std::{fs, io, time::Duration};

use super::error::{ScaleError, file};

/// `USER_HZ`, which is 100 on every architecture that Linux shares with Rust.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now (`VmRSS`).
    pub resident: u64,
    /// The most so far (`VmHWM`).
    pub peak: u64,
}

/// A process's memory now.
pub fn memory(pid: u32) -> Result<Memory, ScaleError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(file(&path))?;
    parse_status(&text).ok_or_else(|| file(&path)(io::ErrorKind::InvalidData.into()))
}

/// What a process has used so far, all of its threads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// How often a thread went to sleep, and so had been woken (`voluntary_ctxt_switches`).
    pub wakeups: u64,
}

/// What a process has used until now. A thread that ended takes its wakeups with it.
pub fn usage(pid: u32) -> Result<Usage, ScaleError> {
    let threads = format!("/proc/{pid}/task");
    let mut wakeups = 0;
    for thread in fs::read_dir(&threads).map_err(file(&threads))? {
        let path = thread.map_err(file(&threads))?.path().join("status");
        // It may have ended since the directory was read.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        wakeups += parse_wakeups(&text).ok_or_else(|| file(&path)(io::ErrorKind::InvalidData.into()))?;
    }
    Ok(Usage {
        cpu: cpu_time(pid)?,
        wakeups,
    })
}

fn cpu_time(pid: u32) -> Result<Duration, ScaleError> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(file(&path))?;
    parse_stat(&text).ok_or_else(|| file(&path)(io::ErrorKind::InvalidData.into()))
}

fn parse_status(text: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory {
        resident: kib("VmRSS:")?,
        peak: kib("VmHWM:")?,
    })
}

fn parse_wakeups(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// The name may have spaces and brackets, so fields are counted from the last bracket (proc_pid_stat(5)).
fn parse_stat(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_brackets() {
        let text = "12 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 8 0 1 2 3";
        assert_eq!(parse_stat(text), Some(Duration::from_secs(3)));
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn only_voluntary_switches_are_wakeups() {
        let text = "voluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(parse_wakeups(text), Some(150));
        assert_eq!(parse_wakeups("Name:\tkeyd\n"), None);
    }

    #[test]
    fn memory_is_read_with_its_peak() {
        let text = "Name:\tkeyd\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\n";
        let memory = Memory {
            resident: 1024,
            peak: 2048,
        };
        assert_eq!(parse_status(text), Some(memory));
    }
}
