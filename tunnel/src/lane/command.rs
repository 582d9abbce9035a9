//! What the owner's handle asks of the lane's thread.

use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;

use x25519_dalek::PublicKey;

use super::{LaneError, LaneStats};
use crate::core::PeerChange;

/// The way back to whoever asks.
pub(super) type Reply<T> = SyncSender<T>;

/// One question or order.
pub(super) enum Command {
    ChangePeer(Box<PeerChange>, Reply<Result<(), LaneError>>),
    RemovePeer(PublicKey, Reply<bool>),
    Connect(PublicKey, Reply<Result<(), LaneError>>),
    ConnectWaiting(PublicKey, Reply<Result<(), LaneError>>),
    SetControl(Vec<SocketAddr>, Reply<()>),
    SendControl(PublicKey, Vec<u8>, Reply<Result<(), LaneError>>),
    Stats(Reply<LaneStats>),
    Stop { destroy: bool },
}
