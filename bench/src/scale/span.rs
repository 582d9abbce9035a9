//! What a stretch of time cost: requests, CPU time and wakeups of every keyd, and what a watcher was sent.

use std::time::Instant;

use super::{
    audit::{Asked, Mark},
    daemon::Daemon,
    error::ScaleError,
    process::Usage,
    stage::Stage,
    watchers::Watchers,
};

/// A stretch that has begun.
pub struct Span {
    begin: Instant,
    mark: Mark,
    usages: Vec<Usage>,
    received: (f64, f64),
}

/// What it was.
pub struct Spent {
    /// How long it took.
    pub seconds: f64,
    /// What all keyds asked together.
    pub asked: Asked,
    /// Seconds of CPU time in a second, of each keyd.
    pub busy: Vec<f64>,
    /// Times in a second that a thread woke, of each keyd.
    pub wakeups: Vec<f64>,
    /// Bytes of JSON that a watcher was sent.
    pub bytes: f64,
    /// Events that a watcher was sent.
    pub events: f64,
}

impl Span {
    /// Begins now.
    pub fn begin(stage: &Stage, watchers: &Watchers) -> Result<Self, ScaleError> {
        Ok(Self {
            mark: Mark::now(stage.cluster.audit_log())?,
            usages: usages(stage)?,
            received: watchers.received(),
            begin: Instant::now(),
        })
    }

    /// Ends now.
    pub fn end(self, stage: &Stage, watchers: &Watchers) -> Result<Spent, ScaleError> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let (bytes, events) = watchers.received();
        let now = usages(stage)?;
        let pairs = || now.iter().zip(&self.usages);
        Ok(Spent {
            seconds,
            busy: pairs()
                .map(|(now, before)| (now.cpu - before.cpu).as_secs_f64() / seconds)
                .collect(),
            // Threads that ended since have taken theirs with them.
            wakeups: pairs()
                .map(|(now, before)| now.wakeups.saturating_sub(before.wakeups) as f64 / seconds)
                .collect(),
            asked: self.mark.since()?,
            bytes: bytes - self.received.0,
            events: events - self.received.1,
        })
    }
}

impl Spent {
    /// Requests of a node in a minute, but for watches.
    pub fn requests(&self) -> f64 {
        self.asked.others.values().sum::<u64>() as f64 / self.node_minutes()
    }

    /// Watches that a node took up again in a minute.
    pub fn watches(&self) -> f64 {
        self.asked.watches as f64 / self.node_minutes()
    }

    /// Seconds of CPU time in a second, of a keyd on average.
    pub fn mean_busy(&self) -> f64 {
        self.busy.iter().sum::<f64>() / self.busy.len() as f64
    }

    /// Seconds of CPU time of a keyd, beyond what it takes in silence, which is `quiet` a second.
    pub fn cpu_beyond(&self, quiet: f64) -> f64 {
        (self.mean_busy() - quiet) * self.seconds
    }

    fn node_minutes(&self) -> f64 {
        self.busy.len() as f64 * self.seconds / 60.0
    }
}

fn usages(stage: &Stage) -> Result<Vec<Usage>, ScaleError> {
    stage.daemons.iter().map(Daemon::usage).collect()
}
