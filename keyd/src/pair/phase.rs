//! The words of the flip: phases and what a node wants.

use hauberk_abi as abi;
use hauberk_api::UnreachableNodes;
use serde::{Deserialize, Serialize};

/// Where a pair of nodes stands, as one of them has it in its kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Clear is sent and accepted.
    #[default]
    Off,
    /// Handshake done; clear is sent, both forms are accepted.
    Ready,
    /// Ciphertext is sent, both forms are accepted.
    Sending,
    /// Ciphertext is sent, clear is refused.
    Strict,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Off, Self::Ready, Self::Sending, Self::Strict];

    /// The kernel's number for it.
    pub fn number(self) -> u32 {
        match self {
            Self::Off => abi::PHASE_OFF,
            Self::Ready => abi::PHASE_READY,
            Self::Sending => abi::PHASE_SENDING,
            Self::Strict => abi::PHASE_STRICT,
        }
    }

    /// The name used in `hauberk status` and in conditions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Ready => "Ready",
            Self::Sending => "Sending",
            Self::Strict => "Strict",
        }
    }
}

/// What a node's own flag says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Send in clear.
    #[default]
    Off,
    /// Encrypt; covered traffic of a peer that cannot take part meets this end.
    On(UnreachableNodes),
}

impl Want {
    /// Whether it asks for encryption.
    pub fn is_on(self) -> bool {
        matches!(self, Self::On(_))
    }
}
