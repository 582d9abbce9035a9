//! UIDs in 16 bytes, where they are what Kubernetes gives: UUIDs.

use std::cmp::Ordering;
use std::fmt;

/// Hexadecimal digits between the hyphens of a UUID (RFC 9562, section 4).
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// A UID; ordered as its text is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Uid {
    /// A UUID in lower case.
    Uuid([u8; 16]),
    /// What somebody else made up.
    Other(Box<str>),
}

impl Uid {
    /// From the text of `metadata.uid`.
    pub(super) fn new(text: &str) -> Self {
        uuid(text).map_or_else(|| Self::Other(text.into()), Self::Uuid)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self {
            Self::Uuid(bytes) => format!("{:032x}", u128::from_be_bytes(*bytes)),
            Self::Other(text) => return f.write_str(text),
        };
        let mut rest = bits.as_str();
        for (place, digits) in GROUPS.into_iter().enumerate() {
            let (group, after) = rest.split_at(digits);
            let hyphen = if place > 0 { "-" } else { "" };
            write!(f, "{hyphen}{group}")?;
            rest = after;
        }
        Ok(())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Ord for Uid {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // All have their hyphens in the same places, and digits come before letters.
            (Self::Uuid(one), Self::Uuid(other)) => one.cmp(other),
            _ => self.to_string().cmp(&other.to_string()),
        }
    }
}

impl PartialOrd for Uid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The bytes of a UUID that is written as Kubernetes writes it.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut groups = text.split('-');
    let mut bits = 0_u128;
    for digits in GROUPS {
        let group = groups.next().filter(|group| group.len() == digits)?;
        if !group
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return None;
        }
        bits = bits << (4 * digits) | u128::from_str_radix(group, 16).ok()?;
    }
    groups.next().is_none().then(|| bits.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_told_and_ordered_as_their_texts() {
        let texts = [
            "",
            "00000000-0000-0000-0000-000000000001",
            "0b8a2f6e-53f1-4a67-9c5e-0123456789ab",
            "0b8a2f6e-53f1-4a67-9c5e-0123456789abc",
            "0b8a2f6e53f14a679c5e0123456789ab",
            "1",
            "F0000000-0000-0000-0000-000000000000",
            "f0000000-0000-0000-0000-000000000000",
            "static-pod",
        ];
        for one in texts {
            assert_eq!(Uid::new(one).to_string(), one);
            for other in texts {
                assert_eq!(Uid::new(one).cmp(&Uid::new(other)), one.cmp(other));
            }
        }
    }
}
