//! The message by which two nodes tell each other the phase of their pair: a UDP payload of fixed size,
//! sent between node addresses inside the pair's own session, so that WireGuard has authenticated it.
//!
//! Layout, all numbers in network byte order: magic `HBKC`, version, phase (the kernel's number), flags,
//! a zero byte, then epoch, number, seen epoch and seen number, 8 bytes each. A reader of another version
//! drops it; every field is checked, and bytes that it does not know have to be zero.

use crate::pair::Phase;

/// Bytes of a message.
pub const SIZE: usize = 40;

const MAGIC: [u8; 4] = *b"HBKC";
const VERSION: u8 = 1;
const FLAG_WANTS_ON: u8 = 1 << 0;
const FLAG_ASKS: u8 = 1 << 1;

/// What one node tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlMessage {
    /// The sender's start; a restarted sender has another. Never 0.
    pub epoch: u64,
    /// Rises with every message of an epoch.
    pub number: u64,
    /// The latest epoch of the receiver that the sender has seen; 0 if none.
    pub seen_epoch: u64,
    /// The latest number of that epoch that the sender has seen.
    pub seen_number: u64,
    /// The phase that the sender's kernel has.
    pub phase: Phase,
    /// The sender's flag is on.
    pub wants_on: bool,
    /// The sender asks for an answer.
    pub asks: bool,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlMessageError {
    /// Another size.
    #[error("{0} bytes where {SIZE} are needed")]
    Size(usize),
    /// Not ours.
    #[error("does not start with the magic number")]
    Magic,
    /// Another version.
    #[error("version {0}, which this keyd does not know")]
    Version(u8),
    /// A field out of range.
    #[error("field {0} is out of range")]
    Range(&'static str),
}

impl ControlMessage {
    /// As bytes.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.phase.number() as u8;
        bytes[6] = if self.wants_on { FLAG_WANTS_ON } else { 0 } | if self.asks { FLAG_ASKS } else { 0 };
        let numbers = [self.epoch, self.number, self.seen_epoch, self.seen_number];
        for (field, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlMessageError> {
        let bytes: &[u8; SIZE] = bytes
            .try_into()
            .map_err(|_| ControlMessageError::Size(bytes.len()))?;
        if bytes[..4] != MAGIC {
            return Err(ControlMessageError::Magic);
        }
        if bytes[4] != VERSION {
            return Err(ControlMessageError::Version(bytes[4]));
        }
        let phase = Phase::ALL
            .into_iter()
            .find(|phase| phase.number() == u32::from(bytes[5]))
            .ok_or(ControlMessageError::Range("phase"))?;
        let flags = bytes[6];
        if flags & !(FLAG_WANTS_ON | FLAG_ASKS) != 0 {
            return Err(ControlMessageError::Range("flags"));
        }
        if bytes[7] != 0 {
            return Err(ControlMessageError::Range("padding"));
        }
        let number =
            |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("the slice has eight bytes"));
        let epoch = number(8);
        if epoch == 0 {
            return Err(ControlMessageError::Range("epoch"));
        }
        Ok(Self {
            epoch,
            number: number(16),
            seen_epoch: number(24),
            seen_number: number(32),
            phase,
            wants_on: flags & FLAG_WANTS_ON != 0,
            asks: flags & FLAG_ASKS != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> ControlMessage {
        ControlMessage {
            epoch: 0x0102_0304_0506_0708,
            number: 9,
            seen_epoch: u64::MAX,
            seen_number: 3,
            phase: Phase::Sending,
            wants_on: true,
            asks: false,
        }
    }

    #[test]
    fn the_layout_on_the_wire_is_the_documented_one() {
        let bytes = message().encode();
        assert_eq!(
            bytes[..16],
            *b"HBKC\x01\x02\x01\x00\x01\x02\x03\x04\x05\x06\x07\x08"
        );
        assert_eq!(ControlMessage::decode(&bytes), Ok(message()));
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_the_fields_name() {
        let spoilt = |at: usize, value: u8| {
            let mut bytes = message().encode();
            bytes[at] = value;
            ControlMessage::decode(&bytes)
        };
        assert_eq!(spoilt(0, 0), Err(ControlMessageError::Magic));
        assert_eq!(spoilt(4, 2), Err(ControlMessageError::Version(2)));
        assert_eq!(spoilt(5, 4), Err(ControlMessageError::Range("phase")));
        assert_eq!(spoilt(6, 4), Err(ControlMessageError::Range("flags")));
        assert_eq!(spoilt(7, 1), Err(ControlMessageError::Range("padding")));
        assert_eq!(
            ControlMessage::decode(&message().encode()[1..]),
            Err(ControlMessageError::Size(39))
        );
    }

    proptest! {
        #[test]
        fn bytes_that_decode_encode_to_the_same_bytes(mut bytes: [u8; SIZE], head: bool) {
            if head {
                bytes[..5].copy_from_slice(b"HBKC\x01");
                bytes[5] %= 4;
                bytes[6] %= 4;
                bytes[7] = 0;
            }
            if let Ok(message) = ControlMessage::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
