//! The message by which two nodes tell each other the phase of their pair: a UDP payload of fixed size,
//! sent between node addresses inside the pair's own session, so that WireGuard has authenticated it.
//!
//! All numbers in network byte order. A reader of another version drops it; nothing here is trusted to
//! be in range before it is checked.

use crate::pair::Phase;

/// Bytes of a message.
pub const SIZE: usize = 56;

/// What one node tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlMessage {
    /// The sender's start; a restarted sender has another.
    pub epoch: u64,
    /// Rises with every message of an epoch.
    pub number: u64,
    /// The latest epoch of the receiver that the sender has seen; 0 if none.
    pub seen_epoch: u64,
    /// The latest number of that epoch.
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
    /// A phase or flag out of range.
    #[error("field {0} is out of range")]
    Range(&'static str),
}

impl ControlMessage {
    /// As bytes.
    pub fn encode(&self) -> [u8; SIZE] {
        todo!()
    }

    /// From bytes.
    pub fn decode(_bytes: &[u8]) -> Result<Self, ControlMessageError> {
        todo!()
    }
}
