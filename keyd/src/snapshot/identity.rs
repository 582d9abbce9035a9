//! Identities: what policies can tell pods apart by, as one short value.

use std::fmt;

use ring::digest::{Context, SHA256};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Namespace, ServiceAccount and labels of a pod: the first half of their SHA-256. Nobody finds a second pod for a
/// given value; two that are found for each other have the same owner, since the namespace is part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity([u8; 16]);

impl Identity {
    /// The identity of pods with these labels, in the order of their keys.
    pub fn of<'a>(
        namespace: &str,
        service_account: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut digest = Context::new(&SHA256);
        // Each text with its length, so that none can go over into the next.
        let mut add = |text: &str| {
            digest.update(&(text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        };
        add(namespace);
        add(service_account);
        for (key, value) in labels {
            add(key);
            add(value);
        }
        let digest = digest.finish();
        Self(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = u128::from_str_radix(&text, 16).map_err(D::Error::custom)?;
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_none_goes_over_into_the_next() {
        let none = std::iter::empty;
        let of = |key, value| Identity::of("web", "default", std::iter::once((key, value)));
        assert_eq!(of("app", "shop"), of("app", "shop"));
        assert_ne!(of("app", "shop"), of("apps", "hop"));
        assert_ne!(of("app", "shop"), Identity::of("web", "default", none()));
        assert_ne!(
            Identity::of("we", "bdefault", none()),
            Identity::of("web", "default", none())
        );
    }

    #[test]
    fn an_identity_is_read_back_as_it_was_written() {
        let identity = Identity::of("web", "", std::iter::empty());
        let text = serde_json::to_string(&identity).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), identity);
    }
}
