//! A WireGuard public key: 32 bytes, written in base64 as `wg` does.

use std::{borrow::Cow, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A WireGuard public key, never the all-zero one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Why a text is not a public key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublicKeyError {
    /// Not base64.
    #[error("not a WireGuard key: it has to be base64 of 32 bytes, as `wg pubkey` prints it")]
    Base64,
    /// Another length than 32 bytes.
    #[error("not a WireGuard key: {0} bytes where 32 are needed")]
    Length(usize),
    /// The point at infinity: every secret shared with it is zero.
    #[error("not a WireGuard key: all zero")]
    Zero,
}

impl PublicKey {
    /// The key with these bytes, as a lane that made it knows it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text).map_err(|_| PublicKeyError::Base64)?;
        let bytes: [u8; 32] = bytes
            .try_into()
            .map_err(|bytes: Vec<u8>| PublicKeyError::Length(bytes.len()))?;
        if bytes == [0; 32] {
            return Err(PublicKeyError::Zero);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for PublicKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PublicKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            // A key is 44 characters. A key in hexadecimal, 64, gets to the rule and so to its message.
            "maxLength": 64,
            "x-kubernetes-validations": [
                // The last of 43 digits carries 4 bits, so its lowest 2 are zero.
                Rule::new("self.matches('^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$')")
                    .message("is no WireGuard key: it has to be base64 of 32 bytes, as `wg pubkey` prints it"),
                Rule::new("!self.matches('^A{43}=$')").message("is no WireGuard key: all zero"),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_wg_prints_it() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
    }

    #[test]
    fn what_is_not_a_key_is_refused_with_the_reason() {
        assert_eq!("not base64!".parse::<PublicKey>(), Err(PublicKeyError::Base64));
        assert_eq!("AAAA".parse::<PublicKey>(), Err(PublicKeyError::Length(3)));
        let zero = STANDARD.encode([0; 32]);
        assert_eq!(zero.parse::<PublicKey>(), Err(PublicKeyError::Zero));
    }
}
