//! When a flow last moved, and how long it ever stood still: what TCP and UDP flows report to while they run.

use std::{
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Shared between a flow's threads and the step that watches it.
#[derive(Debug)]
pub struct Pulse {
    beats: Mutex<Beats>,
    moved: Condvar,
}

#[derive(Debug)]
struct Beats {
    count: u64,
    last: Instant,
    longest: Duration,
    broken: Option<String>,
}

impl Pulse {
    /// A flow that has not moved yet; its first gap is counted from `now`.
    pub fn new(now: Instant) -> Self {
        let beats = Beats {
            count: 0,
            last: now,
            longest: Duration::ZERO,
            broken: None,
        };
        Self {
            beats: Mutex::new(beats),
            moved: Condvar::new(),
        }
    }

    /// The flow moved.
    pub fn beat(&self, now: Instant) {
        let mut beats = self.lock();
        beats.count += 1;
        beats.longest = beats.longest.max(now.saturating_duration_since(beats.last));
        beats.last = now;
        self.moved.notify_all();
    }

    /// The flow will never move again. The first reason stays.
    pub fn break_off(&self, reason: String) {
        self.lock().broken.get_or_insert(reason);
        self.moved.notify_all();
    }

    /// Why the flow broke, if it did.
    pub fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    /// How often it moved so far.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// Forgets the stalls so far; the present one counts from `now`.
    pub fn forget_stalls(&self, now: Instant) {
        let mut beats = self.lock();
        beats.longest = Duration::ZERO;
        beats.last = beats.last.max(now);
    }

    /// The longest time it stood still, up to and including `now`.
    pub fn longest_stall(&self, now: Instant) -> Duration {
        let beats = self.lock();
        beats.longest.max(now.saturating_duration_since(beats.last))
    }

    /// Waits until it has moved `times` after now, and says how long that took; none when it takes longer than
    /// `patience` or the flow is broken.
    pub fn wait(&self, times: u64, patience: Duration) -> Option<Duration> {
        let began = Instant::now();
        let mut beats = self.lock();
        let target = beats.count + times;
        while beats.count < target {
            let left = patience.checked_sub(began.elapsed())?;
            if beats.broken.is_some() {
                return None;
            }
            beats = self
                .moved
                .wait_timeout(beats, left)
                .expect("no holder of the lock panics")
                .0;
        }
        Some(beats.last.saturating_duration_since(began))
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stall_includes_the_one_that_lasts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pulse = Pulse::new(start);
        pulse.beat(at(10));
        pulse.beat(at(310));
        pulse.beat(at(320));
        assert_eq!(pulse.longest_stall(at(330)), Duration::from_millis(300));
        assert_eq!(pulse.longest_stall(at(1320)), Duration::from_millis(1000));
        assert_eq!(pulse.count(), 3);
    }

    #[test]
    fn forgotten_stalls_do_not_come_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pulse = Pulse::new(start);
        pulse.beat(at(500));
        pulse.forget_stalls(at(900));
        pulse.beat(at(950));
        assert_eq!(pulse.longest_stall(at(950)), Duration::from_millis(50));
    }

    #[test]
    fn waiting_ends_with_a_beat_with_patience_or_with_the_flow() {
        let pulse = Pulse::new(Instant::now());
        assert_eq!(pulse.wait(1, Duration::from_millis(20)), None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                pulse.beat(Instant::now());
            });
            assert!(pulse.wait(1, Duration::from_secs(5)).is_some());
        });
        pulse.break_off("reset".to_owned());
        pulse.break_off("later".to_owned());
        assert_eq!(pulse.wait(1, Duration::from_secs(5)), None);
        assert_eq!(pulse.broken().as_deref(), Some("reset"));
    }
}
