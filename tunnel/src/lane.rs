//! A lane: one thread, one TUN device, one UDP socket, one WireGuard key pair, its own sessions.
//!
//! [`Lane`] is the owner's handle. Everything else lives on the lane's thread; the handle sends it
//! commands and wakes it. Nothing here is on a packet's way.

mod config;
mod error;
mod event;
mod stats;

use boringtun::x25519::PublicKey;

pub use config::{LaneConfig, Offloads, PeerConfig, QueueGauge};
pub use error::LaneError;
pub use event::{LaneEvent, LaneEventKind};
pub use stats::{LaneStats, PeerStats};

/// A running lane. Dropping it stops it.
#[derive(Debug)]
pub struct Lane {}

impl Lane {
    /// Starts a lane. `events` is called on the lane's thread and must not block.
    ///
    /// # Errors
    /// [`LaneError`] when the device, the socket, the userspace API's socket or the thread cannot be had.
    pub fn start(config: LaneConfig, events: impl FnMut(LaneEvent) + Send + 'static) -> Result<Self, LaneError> {
        let _ = (config, events);
        todo!()
    }

    /// The public half of the lane's key at its start.
    pub fn public_key(&self) -> PublicKey {
        todo!()
    }

    /// The UDP port in use at its start.
    pub fn port(&self) -> u16 {
        todo!()
    }

    /// The kernel's cookie of the UDP socket (`SO_COOKIE`): how an eBPF program knows the lane's datagrams.
    pub fn socket_cookie(&self) -> u64 {
        todo!()
    }

    /// The TUN's name.
    pub fn tun_name(&self) -> &str {
        todo!()
    }

    /// The TUN's interface index.
    pub fn tun_ifindex(&self) -> u32 {
        todo!()
    }

    /// Adds a peer, or changes it to this. Sessions survive unless the pre-shared key changes.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`], or [`LaneError::Stopped`].
    pub fn set_peer(&self, peer: PeerConfig) -> Result<(), LaneError> {
        let _ = peer;
        todo!()
    }

    /// Removes a peer with its sessions; returns whether it was there.
    ///
    /// # Errors
    /// [`LaneError::Stopped`].
    pub fn remove_peer(&self, peer: &PublicKey) -> Result<bool, LaneError> {
        let _ = peer;
        todo!()
    }

    /// Starts a handshake with the peer now, unless one is under way; [`LaneEventKind::HandshakeDone`] follows.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`] when it is not known, or [`LaneError::Stopped`].
    pub fn connect(&self, peer: &PublicKey) -> Result<(), LaneError> {
        let _ = peer;
        todo!()
    }

    /// Sends a control message to the peer through the tunnel; it may be lost. At most 1,024 bytes.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`] when the peer or a control address is not known, or the message is too long;
    /// [`LaneError::Stopped`].
    pub fn send_control(&self, peer: &PublicKey, payload: Vec<u8>) -> Result<(), LaneError> {
        let _ = (peer, payload);
        todo!()
    }

    /// The lane's numbers now.
    ///
    /// # Errors
    /// [`LaneError::Stopped`].
    pub fn stats(&self) -> Result<LaneStats, LaneError> {
        todo!()
    }

    /// Stops the lane and waits for its thread. A persistent TUN stays.
    pub fn stop(self) {}

    /// Stops the lane and removes its TUN, persistent or not.
    pub fn destroy(self) {}
}
