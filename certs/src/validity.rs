//! From when to when something holds, and what is said when it doesn't.

use std::time::Duration;

use rcgen::CertificateParams;
use rustls_pki_types::UnixTime;

/// How far whatever is signed here reaches back, so that a clock that is late by less still accepts it.
pub const BACKDATE: Duration = Duration::from_secs(2 * 3600);

/// The last second that a certificate can name: 9999-12-31T23:59:59Z (RFC 5280 §4.1.2.5).
const LAST: u64 = 253_402_300_799;

/// A span of time, both ends included (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: UnixTime,
    not_after: UnixTime,
}

/// It was right, will be right, but is not right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// It begins later.
    #[error("not valid for another {seconds} s")]
    NotYetValid {
        /// Seconds until it begins.
        seconds: u64,
    },
    /// It has ended.
    #[error("expired {}", hours_ago(*seconds))]
    Expired {
        /// Seconds since it ended.
        seconds: u64,
    },
}

/// In hours, so that the text of one state stays the same for a while.
fn hours_ago(seconds: u64) -> String {
    match seconds / 3600 {
        0 => "less than 1 h ago".into(),
        hours => format!("{hours} h ago"),
    }
}

impl Validity {
    /// From `not_before` to `not_after`; none if that ends before it begins.
    pub fn new(not_before: UnixTime, not_after: UnixTime) -> Option<Self> {
        (not_before <= not_after).then_some(Self {
            not_before,
            not_after,
        })
    }

    /// From [`BACKDATE`] before `now` until `lifetime` after it.
    pub(crate) fn starting(now: UnixTime, lifetime: Duration) -> Self {
        let now = now.as_secs().min(LAST);
        Self {
            not_before: seconds(now.saturating_sub(BACKDATE.as_secs())),
            not_after: seconds(now.saturating_add(lifetime.as_secs()).min(LAST)),
        }
    }

    /// As a certificate says it. None if it ends before it begins; dates before 1970 count as 1970.
    pub(crate) fn of_certificate(validity: &x509_parser::certificate::Validity) -> Option<Self> {
        let time = |time: x509_parser::time::ASN1Time| seconds(time.timestamp().try_into().unwrap_or(0));
        Self::new(time(validity.not_before), time(validity.not_after))
    }

    /// Its first second.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Its last second.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Whether `now` is in it.
    ///
    /// # Errors
    /// It has not begun, or has ended.
    pub fn check(&self, now: UnixTime) -> Result<(), TimeError> {
        if now < self.not_before {
            let seconds = self.not_before.as_secs() - now.as_secs();
            return Err(TimeError::NotYetValid { seconds });
        }
        if now > self.not_after {
            let seconds = now.as_secs() - self.not_after.as_secs();
            return Err(TimeError::Expired { seconds });
        }
        Ok(())
    }

    /// What both spans cover; none if they don't meet.
    pub(crate) fn and(&self, other: &Self) -> Option<Self> {
        Self::new(
            self.not_before.max(other.not_before),
            self.not_after.min(other.not_after),
        )
    }

    /// Its second nearest to `now`.
    pub(crate) fn nearest(&self, now: UnixTime) -> UnixTime {
        now.clamp(self.not_before, self.not_after)
    }

    /// Writes it into a certificate that is about to be signed.
    pub(crate) fn apply(&self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let time = |time: UnixTime| epoch + Duration::from_secs(time.as_secs().min(LAST));
        params.not_before = time(self.not_before);
        params.not_after = time(self.not_after);
    }
}

/// So many seconds after the beginning of 1970.
pub(crate) const fn seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_valid_and_the_seconds_around_them_are_not() {
        let span = Validity::new(seconds(10), seconds(20)).unwrap();
        assert_eq!(span.check(seconds(9)), Err(TimeError::NotYetValid { seconds: 1 }));
        assert_eq!(span.check(seconds(10)), Ok(()));
        assert_eq!(span.check(seconds(20)), Ok(()));
        assert_eq!(span.check(seconds(21)), Err(TimeError::Expired { seconds: 1 }));
        assert_eq!(Validity::new(seconds(20), seconds(10)), None);
    }

    #[test]
    fn spans_meet_where_both_hold() {
        let span = |a, b| Validity::new(seconds(a), seconds(b)).unwrap();
        assert_eq!(span(10, 20).and(&span(15, 30)), Some(span(15, 20)));
        assert_eq!(span(10, 20).and(&span(21, 30)), None);
    }

    #[test]
    fn absurd_clocks_do_not_panic() {
        for now in [0, LAST, u64::MAX] {
            let span = Validity::starting(seconds(now), Duration::MAX);
            span.apply(&mut CertificateParams::default());
            let _ = span.check(seconds(u64::MAX));
        }
    }
}
