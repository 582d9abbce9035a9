//! What a lane tells its owner without being asked.

use std::sync::Arc;

use x25519_dalek::PublicKey;

use super::error::LaneError;

/// Something happened on a lane.
#[derive(Debug)]
pub struct LaneEvent {
    /// Name of the lane's TUN: which lane.
    pub lane: Arc<str>,
    /// What happened.
    pub kind: LaneEventKind,
}

/// What happened on a lane.
#[derive(Debug)]
pub enum LaneEventKind {
    /// A new session is confirmed: both sides have shown that they hold its keys.
    HandshakeDone {
        /// The other side.
        peer: PublicKey,
    },
    /// The peer sent a control message through the tunnel.
    Control {
        /// Who sent it, by the session's key.
        peer: PublicKey,
        /// The message.
        payload: Vec<u8>,
    },
    /// The lane has ended by itself: its device is gone, or the kernel refuses it.
    Failed(LaneError),
}
