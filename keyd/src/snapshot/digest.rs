//! What something says, as one short value: by it the same is known again.

use std::fmt;
use std::hash::{Hash, Hasher};

use ring::digest::{Context, SHA256};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first half of the SHA-256 of what a value hashes. Nobody finds a second value for a given digest; two that are
/// found for each other have the same author. Another build of keyd may digest the same value to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// That of a value. Values of different types that could be taken for each other need a word in front.
    pub fn of(value: &impl Hash) -> Self {
        let mut sha = Sha(Context::new(&SHA256));
        value.hash(&mut sha);
        let digest = sha.0.finish();
        Self(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }
}

/// Takes in what a value hashes; a text ends with a byte that no text has, and a list begins with its length.
struct Sha(Context);

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("a digest has more than 64 bits, and is taken by `Digest::of`")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
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
        let of = |parts: &[&str]| Digest::of(&parts);
        assert_eq!(of(&["app", "shop"]), of(&["app", "shop"]));
        assert_ne!(of(&["app", "shop"]), of(&["apps", "hop"]));
        assert_ne!(of(&["app", "shop"]), of(&["app"]));
        assert_ne!(of(&["app", ""]), of(&["app"]));
    }

    #[test]
    fn a_digest_is_read_back_as_it_was_written() {
        let digest = Digest::of(&"web");
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
    }
}
