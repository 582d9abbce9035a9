//! Interrupt moderation: a lane that small packets wake again and again sleeps by the clock for a while
//! instead, so that it finds several at a time.
//!
//! Without it a flood of small packets costs a wake each, and on a shared core every wake takes the CPU from
//! the program that sends them.

use std::time::{Duration, Instant};

/// How long a lane under a flood sleeps: some ten packets of 1 Gb/s.
pub(super) const PAUSE: Duration = Duration::from_micros(40);
/// Wakes closer together than this are a flood's: a round trip through two lanes takes longer.
const CLOSE: Duration = Duration::from_micros(25);
/// Close wakes in a row that make a flood.
const FLOOD: u32 = 8;

/// Watches how a lane is woken.
#[derive(Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    close: u32,
    rested: bool,
}

impl Pace {
    /// The lane was woken because there was something to do.
    pub(super) fn woken(&mut self, now: Instant) {
        let is_close = self.last.is_some_and(|last| now.duration_since(last) < CLOSE);
        self.close = if is_close { self.close + 1 } else { 0 };
        self.last = Some(now);
        self.rested = false;
    }

    /// The lane has found work.
    pub(super) fn worked(&mut self) {
        self.rested = false;
    }

    /// Nothing is to be done: whether to sleep for a [`PAUSE`] rather than until woken. Not twice in a row.
    pub(super) fn rests(&mut self) -> bool {
        if self.close < FLOOD {
            return false;
        }
        if self.rested {
            self.close = 0;
            return false;
        }
        self.rested = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flood_is_slept_through_and_only_while_it_lasts() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            now += Duration::from_micros(50);
            pace.woken(now);
            assert!(!pace.rests());
        }
        for _ in 0..FLOOD {
            now += Duration::from_micros(10);
            pace.woken(now);
        }
        for _ in 0..3 {
            assert!(pace.rests());
            pace.worked();
        }
        assert!(pace.rests());
        assert!(!pace.rests(), "nothing came during the last pause");
        assert!(!pace.rests());
    }
}
