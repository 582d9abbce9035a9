//! Two cores and the wire between them, which the test holds in its hands.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use x25519_dalek::{PublicKey, StaticSecret};

use crate::core::{Core, Edges, PeerChange};
use crate::drop_reason::DropReason;
use crate::lane::{LaneEventKind, PeerConfig};
use crate::packet::VnetHdr;
use crate::packet::coalesce::Merge;
use crate::socket::{Batch, Received, SendError};

/// One datagram under way.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) to: SocketAddr,
    pub(super) tos: u8,
    pub(super) bytes: Vec<u8>,
}

/// One node's edges: what it sends waits in `sent`, what it delivers in `delivered`.
#[derive(Default)]
pub(super) struct Channels {
    pub(super) sent: VecDeque<Datagram>,
    pub(super) delivered: Vec<(VnetHdr, Vec<u8>)>,
    pub(super) events: Vec<LaneEventKind>,
    /// Calls of `send`.
    pub(super) sends: usize,
    /// What the path really carries, and what the node is told when it asks.
    pub(super) path_mtu: u16,
}

impl Edges for Channels {
    fn send(&mut self, batch: &Batch) -> Result<(), SendError> {
        self.sends += 1;
        let headers = if batch.to.is_ipv4() { 28 } else { 48 };
        if batch.segment.min(batch.bytes.len()) + headers > usize::from(self.path_mtu) {
            return Err(SendError::TooBig);
        }
        let datagrams = batch.bytes.chunks(batch.segment);
        self.sent.extend(datagrams.map(|d| Datagram {
            to: batch.to,
            tos: batch.tos,
            bytes: d.to_vec(),
        }));
        Ok(())
    }

    fn deliver(&mut self, header: &VnetHdr, packet: &[u8]) -> io::Result<()> {
        self.delivered.push((*header, packet.to_vec()));
        Ok(())
    }

    fn path_mtu(&mut self, _to: SocketAddr) -> Option<u16> {
        Some(self.path_mtu)
    }

    fn event(&mut self, kind: LaneEventKind) {
        self.events.push(kind);
    }
}

pub(super) struct Node {
    pub(super) core: Core,
    pub(super) edges: Channels,
    pub(super) address: SocketAddr,
    pub(super) now: Instant,
}

pub(super) const CONTROL_PORT: u16 = 23_399;

impl Node {
    /// Node number `n`: 10.0.n.0/24 and fd00:n::/64 are its, 192.0.2.n:1000+n is where it is.
    pub(super) fn new(n: u8) -> Self {
        let merge = Merge {
            tcp4: true,
            tcp6: true,
            udp: true,
        };
        let control = vec![SocketAddr::new([10, 0, n, 254].into(), CONTROL_PORT)];
        Self {
            core: Core::new(Some(secret(n)), control, merge),
            edges: Channels {
                path_mtu: 1_500,
                ..Channels::default()
            },
            address: SocketAddr::new([192, 0, 2, n].into(), 1_000 + u16::from(n)),
            now: Instant::now(),
        }
    }

    pub(super) fn add_peer(&mut self, config: PeerConfig) {
        self.core
            .change_peer(PeerChange::from(config), &mut self.edges)
            .expect("a good peer");
    }

    /// A read of the TUN.
    pub(super) fn tun(&mut self, header: VnetHdr, packet: &[u8]) {
        let frame = [&header.encode(), packet].concat();
        self.core.packet_from_tun(&frame, &mut self.edges);
        self.core.finish(&mut self.edges);
    }

    /// An arrival from `from`.
    pub(super) fn arrive(&mut self, from: SocketAddr, tos: u8, bytes: &[u8]) {
        let received = Received {
            from,
            tos,
            length: bytes.len(),
            segment: bytes.len(),
            truncated: false,
        };
        self.core
            .datagrams_from_socket(&received, bytes, self.now, &mut self.edges);
        self.core.finish(&mut self.edges);
    }

    /// Arrivals that came with one receive.
    pub(super) fn arrive_together(&mut self, from: SocketAddr, bytes: &[u8], segment: usize) {
        let received = Received {
            from,
            tos: 0,
            length: bytes.len(),
            segment,
            truncated: false,
        };
        self.core
            .datagrams_from_socket(&received, bytes, self.now, &mut self.edges);
        self.core.finish(&mut self.edges);
    }

    pub(super) fn tick(&mut self) {
        self.core.tick(self.now, &mut self.edges);
    }

    pub(super) fn later(&mut self, time: Duration) {
        self.now += time;
    }

    pub(super) fn drops(&self, reason: DropReason) -> u64 {
        self.core.drops().count(reason)
    }

    pub(super) fn mtu(&self) -> u16 {
        self.core.peer_stats(self.now)[0].tunnel_mtu
    }

    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        self.core.peer_stats(self.now)[0].endpoint
    }

    pub(super) fn handshakes(&self) -> usize {
        self.edges
            .events
            .iter()
            .filter(|event| matches!(event, LaneEventKind::HandshakeDone { .. }))
            .count()
    }

    pub(super) fn take_packets(&mut self) -> Vec<Vec<u8>> {
        self.edges.delivered.drain(..).map(|(_, packet)| packet).collect()
    }
}

pub(super) fn secret(n: u8) -> StaticSecret {
    StaticSecret::from([n; 32])
}

pub(super) fn peer_config(n: u8) -> PeerConfig {
    PeerConfig {
        public_key: PublicKey::from(&secret(n)),
        preshared_key: None,
        endpoint: Some(SocketAddr::new([192, 0, 2, n].into(), 1_000 + u16::from(n))),
        allowed_ips: vec![
            format!("10.0.{n}.0/24").parse().expect("a prefix"),
            format!("fd00:{n}::/64").parse().expect("a prefix"),
        ],
        persistent_keepalive: None,
        control: Some(SocketAddr::new([10, 0, n, 254].into(), CONTROL_PORT)),
    }
}

/// Nodes 1 and 2, which know each other and have not spoken.
pub(super) fn strangers() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.add_peer(peer_config(2));
    b.add_peer(peer_config(1));
    (a, b)
}

/// Nodes 1 and 2 with a session.
pub(super) fn friends() -> (Node, Node) {
    let (mut a, mut b) = strangers();
    a.core
        .connect(&PublicKey::from(&secret(2)), a.now, &mut a.edges)
        .expect("the peer is known");
    settle(&mut a, &mut b);
    assert_eq!((a.handshakes(), b.handshakes()), (1, 1));
    (a, b)
}

/// Carries everything that is under way, until nothing is.
pub(super) fn settle(a: &mut Node, b: &mut Node) {
    loop {
        let quiet = a.edges.sent.is_empty() && b.edges.sent.is_empty();
        if quiet {
            return;
        }
        carry(a, b);
        carry(b, a);
    }
}

/// Carries what `from` has sent.
pub(super) fn carry(from: &mut Node, to: &mut Node) {
    while let Some(datagram) = from.edges.sent.pop_front() {
        if datagram.to == to.address {
            to.arrive(from.address, datagram.tos, &datagram.bytes);
        }
    }
}
