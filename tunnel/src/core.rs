//! A lane's logic without its devices: packets, datagrams and the time come in, what follows goes out
//! through [`Edges`].
//!
//! Out: [`Core::packet_from_tun`] → peer by AllowedIPs (once) → cut → sealed → one [`Batch`].
//! In: [`Core::datagrams_from_socket`] → session by receiver index → opened → source checked → ECN →
//! coalesced → delivered. [`Core::finish`] ends a round of either. [`Core::tick`] drives the timers.
//! No sockets, clocks, threads or log lines here; per packet no lock, and no allocation but for the bounded
//! memory of those that wait for a peer's session.

mod batch;
mod configure;
mod control;
mod handshake;
mod inbound;
mod outbound;
mod tick;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::rate_limiter::RateLimiter;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::drop_reason::Drops;
use crate::lane::{LaneEventKind, PeerStats};
use crate::packet::coalesce::Merge;
use crate::packet::{Coalescer, Cutter, VnetHdr};
use crate::peers::Peers;
use crate::socket::{Batch, RECEIVE_BUFFER, SendError};
use batch::SendBatch;
pub(crate) use configure::{Allow, PeerChange};
pub(crate) use control::MAX_CONTROL;
pub(crate) use tick::TICK;

/// Handshakes a lane answers each second before it asks for cookies. boringtun's own device takes 100; an
/// initiation is counted twice here, when it is verified and when its peer takes it.
const HANDSHAKES_PER_SECOND: u64 = 200;

/// TOS of handshake messages: AF41, as the kernel's WireGuard (drivers/net/wireguard/messages.h).
const HANDSHAKE_TOS: u8 = 0x88;

/// Longer than every WireGuard message but data.
const MESSAGE_BUFFER: usize = 256;

/// What a core acts through.
pub(crate) trait Edges {
    /// Sends datagrams.
    fn send(&mut self, batch: &Batch) -> Result<(), SendError>;
    /// Writes a packet or super-packet to the TUN.
    fn deliver(&mut self, header: &VnetHdr, packet: &[u8]) -> io::Result<()>;
    /// Bytes of the largest outer packet on the path to an endpoint, if known.
    fn path_mtu(&mut self, to: SocketAddr) -> Option<u16>;
    /// Tells the lane's owner.
    fn event(&mut self, kind: LaneEventKind);
}

/// Who the lane is.
struct Identity {
    private: StaticSecret,
    public: PublicKey,
    limiter: Arc<RateLimiter>,
    /// A key that its owner gave, rather than one that stands in for it.
    given: bool,
}

impl Identity {
    fn new(private: Option<StaticSecret>) -> Self {
        let given = private.is_some();
        let private = private.unwrap_or_else(|| {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            getrandom::getrandom(&mut *bytes).expect("the kernel has random numbers");
            StaticSecret::from(*bytes)
        });
        let public = PublicKey::from(&private);
        Self {
            private,
            public,
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND)),
            given,
        }
    }
}

/// A lane's state.
pub(crate) struct Core {
    identity: Identity,
    peers: Peers,
    /// Own addresses of control messages.
    control: Vec<SocketAddr>,
    drops: Drops,
    batch: SendBatch,
    cutter: Cutter,
    coalescer: Coalescer,
    /// One opened datagram.
    opened: Box<[u8]>,
    /// When the peers were last searched for the sender of a datagram of no session.
    last_search: Option<Instant>,
    last_second: Option<Instant>,
}

impl Core {
    pub(crate) fn new(private_key: Option<StaticSecret>, control: Vec<SocketAddr>, merge: Merge) -> Self {
        Self {
            identity: Identity::new(private_key),
            peers: Peers::default(),
            control,
            drops: Drops::default(),
            batch: SendBatch::default(),
            cutter: Cutter::new(),
            coalescer: Coalescer::new(merge),
            opened: vec![0; RECEIVE_BUFFER].into(),
            last_search: None,
            last_second: None,
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.identity.public
    }

    /// The private key, if one was given.
    pub(crate) fn private_key(&self) -> Option<&StaticSecret> {
        self.identity.given.then_some(&self.identity.private)
    }

    pub(crate) fn drops(&self) -> &Drops {
        &self.drops
    }

    pub(crate) fn drops_mut(&mut self) -> &mut Drops {
        &mut self.drops
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(crate) fn peer_stats(&self, now: Instant) -> Vec<PeerStats> {
        let stats = self.peers.iter().map(|(_, peer)| PeerStats {
            public_key: peer.public_key,
            endpoint: peer.endpoint,
            last_handshake: peer
                .last_handshake
                .map(|(at, _)| now.saturating_duration_since(at)),
            last_handshake_at: peer.last_handshake.map(|(_, at)| at),
            tx_bytes: peer.tx_bytes,
            rx_bytes: peer.rx_bytes,
            tunnel_mtu: peer.mtu,
        });
        stats.collect()
    }

    /// Ends a round: sends and delivers what was held back to be joined with more.
    pub(crate) fn finish(&mut self, edges: &mut impl Edges) {
        self.outbound(edges).flush();
        self.flush_inbound(edges);
    }
}
