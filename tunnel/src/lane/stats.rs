//! A lane's numbers.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use x25519_dalek::PublicKey;

use super::config::Offloads;
use crate::drop_reason::Drops;

/// A lane's numbers since it started.
#[derive(Clone, Debug)]
pub struct LaneStats {
    /// Packets the lane dropped, by reason.
    pub drops: Drops,
    /// Packets the kernel dropped because the TUN's queue was full.
    pub tun_tx_dropped: u64,
    /// Datagrams the kernel dropped because the UDP socket's buffer was full.
    pub socket_rx_dropped: u64,
    /// Seconds the lane's thread was not waiting.
    pub busy_seconds: f64,
    /// Offloads that were found to work.
    pub offloads: Offloads,
    /// Every peer.
    pub peers: Vec<PeerStats>,
}

/// One peer's numbers.
#[derive(Clone, Debug)]
pub struct PeerStats {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it was last heard from, or where it is said to be.
    pub endpoint: Option<SocketAddr>,
    /// Time since the last handshake was confirmed.
    pub last_handshake: Option<Duration>,
    /// When that was.
    pub last_handshake_at: Option<SystemTime>,
    /// UDP payload bytes sent to it.
    pub tx_bytes: u64,
    /// UDP payload bytes received from it and authenticated.
    pub rx_bytes: u64,
    /// Largest inner packet that fits the path to it, in bytes.
    pub tunnel_mtu: u16,
}
