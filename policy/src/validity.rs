//! When a policy holds.

use hauberk_api::{PolicyValidity, Weekday, WeeklyWindow};
use jiff::civil::Time as CivilTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// What a clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It is this time.
    Says(Timestamp),
    /// It was not set yet, or jumped, so that nobody knows.
    Untrusted,
}

/// Whether a policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It does.
    Holds,
    /// Not now: too early, too late, or in no window.
    Over,
    /// Nobody knows.
    Unsure,
}

/// When a policy holds, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Validity {
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    windows: Option<Vec<Window>>,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    days: Option<Vec<Weekday>>,
    start: CivilTime,
    end: CivilTime,
}

/// Why a validity means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// Not in the IANA time zone database.
    #[error("{0:?} is no time zone, such as Europe/Berlin or UTC")]
    Zone(String),
    /// No time of a day.
    #[error("{text:?} is no time of a day, such as 06:00 or 22:30")]
    Hour {
        /// The window's place in the list.
        window: usize,
        /// `start` or `end`.
        end: &'static str,
        /// As written.
        text: String,
    },
    /// It never holds.
    #[error("notAfter is not later than notBefore")]
    Empty,
}

impl ValidityError {
    /// The field below `spec.validity`.
    pub fn field(&self) -> String {
        match self {
            Self::Zone(_) => "timeZone".into(),
            Self::Hour { window, end, .. } => format!("windows[{window}].{end}"),
            Self::Empty => "notAfter".into(),
        }
    }
}

impl Validity {
    /// Reads one.
    pub fn parse(validity: &PolicyValidity) -> Result<Self, ValidityError> {
        let zone = match validity.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| ValidityError::Zone(name.to_owned()))?,
        };
        let (not_before, not_after) = (
            validity.not_before.as_ref().map(|time| time.0),
            validity.not_after.as_ref().map(|time| time.0),
        );
        if let (Some(from), Some(to)) = (not_before, not_after)
            && to <= from
        {
            return Err(ValidityError::Empty);
        }
        let windows = validity.windows.as_ref().map(|windows| {
            let numbered = windows.iter().enumerate();
            numbered
                .map(|(number, window)| Window::parse(number, window))
                .collect()
        });
        Ok(Self {
            not_before,
            not_after,
            windows: windows.transpose()?,
            zone,
        })
    }

    /// Whether it holds; its end is not part of it.
    pub fn at(&self, clock: Clock) -> Word {
        let Clock::Says(now) = clock else {
            return Word::Unsure;
        };
        let begun = self.not_before.is_none_or(|from| from <= now);
        let lasts = self.not_after.is_none_or(|to| now < to);
        let local = now.to_zoned(self.zone.clone());
        let in_window = || {
            let windows = self.windows.as_ref();
            windows.is_none_or(|windows| windows.iter().any(|window| window.has(&local)))
        };
        match begun && lasts && in_window() {
            true => Word::Holds,
            false => Word::Over,
        }
    }
}

impl Window {
    fn parse(number: usize, window: &WeeklyWindow) -> Result<Self, ValidityError> {
        let hour = |end: &'static str, text: &str| {
            let parsed = CivilTime::strptime("%H:%M", text);
            parsed.map_err(|_| ValidityError::Hour {
                window: number,
                end,
                text: text.to_owned(),
            })
        };
        Ok(Self {
            days: window.days.clone(),
            start: hour("start", &window.start)?,
            end: hour("end", &window.end)?,
        })
    }

    fn has(&self, local: &Zoned) -> bool {
        let on = |local: &Zoned| {
            let day = weekday(local);
            self.days.as_ref().is_none_or(|days| days.contains(&day))
        };
        let time = local.time();
        if self.start < self.end {
            return on(local) && (self.start..self.end).contains(&time);
        }
        // Over midnight: it began today, or yesterday.
        let yesterday = || local.checked_sub(1.day()).is_ok_and(|yesterday| on(&yesterday));
        (time >= self.start && on(local)) || (time < self.end && yesterday())
    }
}

fn weekday(local: &Zoned) -> Weekday {
    use jiff::civil::Weekday as Civil;
    match local.weekday() {
        Civil::Monday => Weekday::Monday,
        Civil::Tuesday => Weekday::Tuesday,
        Civil::Wednesday => Weekday::Wednesday,
        Civil::Thursday => Weekday::Thursday,
        Civil::Friday => Weekday::Friday,
        Civil::Saturday => Weekday::Saturday,
        Civil::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(text: &str) -> Validity {
        let read: PolicyValidity = serde_json::from_str(text).unwrap();
        Validity::parse(&read).unwrap()
    }

    fn at(text: &str) -> Clock {
        Clock::Says(text.parse().unwrap())
    }

    #[test]
    fn it_holds_from_its_beginning_up_to_its_end() {
        let validity = validity(r#"{"notBefore":"2026-11-23T10:00:00Z","notAfter":"2026-11-23T11:00:00Z"}"#);
        let times = ["09:59:59", "10:00:00", "10:59:59", "11:00:00"];
        let words = times.map(|time| validity.at(at(&format!("2026-11-23T{time}Z"))));
        assert_eq!(words, [Word::Over, Word::Holds, Word::Holds, Word::Over]);
        assert_eq!(validity.at(Clock::Untrusted), Word::Unsure);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins_in_its_own_zone() {
        let validity = validity(
            r#"{"timeZone":"Europe/Berlin","windows":[{"days":["Friday"],"start":"22:00","end":"06:00"}]}"#,
        );
        // Friday, 27 November 2026; Berlin is an hour ahead of UTC.
        let cases = [
            ("2026-11-27T20:59:00Z", Word::Over),
            ("2026-11-27T21:00:00Z", Word::Holds),
            ("2026-11-28T04:59:00Z", Word::Holds),
            ("2026-11-28T05:00:00Z", Word::Over),
            ("2026-11-28T21:30:00Z", Word::Over),
            ("2026-11-27T04:00:00Z", Word::Over),
        ];
        for (time, expected) in cases {
            assert_eq!(validity.at(at(time)), expected, "{time}");
        }
    }

    #[test]
    fn what_means_nothing_is_told_with_its_field() {
        let cases = [
            (r#"{"timeZone":"Europe/Berlyn"}"#, "timeZone", "Europe/Berlyn"),
            (
                r#"{"windows":[{"start":"25:00","end":"06:00"}]}"#,
                "windows[0].start",
                "25:00",
            ),
            (
                r#"{"notBefore":"2026-01-02T00:00:00Z","notAfter":"2026-01-01T00:00:00Z"}"#,
                "notAfter",
                "notBefore",
            ),
        ];
        for (text, field, names) in cases {
            let error = Validity::parse(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert_eq!(error.field(), field);
            assert!(error.to_string().contains(names), "{error}");
        }
    }
}
