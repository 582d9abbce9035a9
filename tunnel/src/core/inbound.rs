//! From the socket to the TUN.

use std::net::SocketAddr;
use std::time::Instant;

use boringtun::noise::TunnResult;
use boringtun::noise::errors::WireGuardError;

use super::{Core, Edges, control};
use crate::drop_reason::DropReason;
use crate::lane::LaneEventKind;
use crate::packet::ecn;
use crate::peers::{DATA_OVERHEAD, PeerId};
use crate::socket::Received;

/// Message types and lengths (whitepaper §5.4).
const INITIATION: (u32, usize) = (1, 148);
const RESPONSE: (u32, usize) = (2, 92);
const COOKIE_REPLY: (u32, usize) = (3, 64);
const DATA: u32 = 4;

/// Where a datagram came from, and when.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) from: SocketAddr,
    pub(super) tos: u8,
    pub(super) now: Instant,
}

impl Core {
    /// One receive of the socket: datagrams from one address.
    pub(crate) fn datagrams_from_socket(
        &mut self,
        received: &Received,
        bytes: &[u8],
        now: Instant,
        edges: &mut impl Edges,
    ) {
        if received.truncated {
            return self.drops.add(DropReason::Oversized, 1);
        }
        if bytes.is_empty() {
            return self.drops.add(DropReason::NotWireGuard, 1);
        }
        let origin = Origin {
            from: received.from,
            tos: received.tos,
            now,
        };
        for datagram in bytes.chunks(received.segment.max(1)) {
            match message_type(datagram) {
                (Some(DATA), DATA_OVERHEAD..) => self.open(datagram, origin, edges),
                (Some(kind), length) if (kind, length) == INITIATION => {
                    self.initiation(datagram, origin, edges)
                }
                (Some(kind), length) if (kind, length) == RESPONSE => self.response(datagram, origin, edges),
                (Some(kind), length) if (kind, length) == COOKIE_REPLY => self.cookie_reply(datagram, origin),
                _ => self.drops.add(DropReason::NotWireGuard, 1),
            }
        }
    }

    /// Opens a data message and passes its packet on.
    #[inline]
    fn open(&mut self, datagram: &[u8], origin: Origin, edges: &mut impl Edges) {
        let receiver_index = word(datagram, 4);
        let Some(id) = self.peers.by_receiver_index(receiver_index) else {
            self.drops.add(DropReason::WrongIndex, 1);
            return self.revive(origin, edges);
        };
        let Some(tunn) = &mut self.peers.peer(id).tunn else {
            self.drops.add(DropReason::WrongIndex, 1);
            return self.revive(origin, edges);
        };
        let result = tunn.decapsulate(None, datagram, &mut self.opened);
        let (length, source) = match result {
            TunnResult::WriteToTunnelV4(packet, source) => (packet.len(), source.into()),
            TunnResult::WriteToTunnelV6(packet, source) => (packet.len(), source.into()),
            TunnResult::Done => return self.confirmed(id, receiver_index, datagram.len(), origin, edges),
            TunnResult::Err(error) => {
                let reason = drop_reason(&error);
                self.drops.add(reason, 1);
                if reason == DropReason::WrongIndex {
                    self.revive(origin, edges);
                }
                return;
            }
            TunnResult::WriteToNetwork(_) => unreachable!("a data message has no answer"),
        };
        self.confirmed(id, receiver_index, datagram.len(), origin, edges);
        if self.peers.by_inner_address(source) != Some(id) {
            return self.drops.add(DropReason::SpoofedSource, 1);
        }
        let packet = &mut self.opened[..length];
        if ecn::decapsulate(origin.tos, packet).is_err() {
            return self.drops.add(DropReason::EcnInvalid, 1);
        }
        if let Some((source, payload)) = control::message(packet, &self.control) {
            let peer = self.peers.peer(id);
            // A pod of the peer may send to that port as well; only the node itself is heard.
            if peer.control != Some(source) {
                return self.drops.add(DropReason::SpoofedSource, 1);
            }
            let (peer, payload) = (peer.public_key, payload.to_vec());
            return edges.event(LaneEventKind::Control { peer, payload });
        }
        let drops = &mut self.drops;
        self.coalescer.push(packet, &mut |header, packet| {
            if edges.deliver(header, packet).is_err() {
                drops.add(DropReason::TunWriteFailed, 1);
            }
        });
    }

    /// Delivers what was held back to be joined with more.
    pub(super) fn flush_inbound(&mut self, edges: &mut impl Edges) {
        let drops = &mut self.drops;
        self.coalescer.flush(&mut |header, packet| {
            if edges.deliver(header, packet).is_err() {
                drops.add(DropReason::TunWriteFailed, 1);
            }
        });
    }

    /// Notes what a data message shows: the peer is there, and it has the session.
    #[inline]
    fn confirmed(
        &mut self,
        id: PeerId,
        receiver_index: u32,
        length: usize,
        origin: Origin,
        edges: &mut impl Edges,
    ) {
        self.heard(id, length, origin, edges);
        let peer = self.peers.peer(id);
        if peer.unconfirmed == Some(receiver_index) {
            peer.unconfirmed = None;
            self.session_confirmed(id, origin.now, edges);
        }
    }

    /// Notes where an authenticated datagram came from: the only way that an endpoint is learnt.
    #[inline]
    pub(super) fn heard(&mut self, id: PeerId, length: usize, origin: Origin, edges: &mut impl Edges) {
        let peer = self.peers.peer(id);
        peer.rx_bytes += length as u64;
        if peer.endpoint != Some(origin.from) {
            let path_mtu = edges.path_mtu(origin.from);
            peer.move_to(origin.from, path_mtu);
        }
    }
}

fn message_type(datagram: &[u8]) -> (Option<u32>, usize) {
    (
        datagram.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)),
        datagram.len(),
    )
}

/// The little-endian word at `at`; the message's length was checked with its type.
pub(super) fn word(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(
        *message[at..]
            .first_chunk()
            .expect("every message's length is checked with its type"),
    )
}

/// What boringtun's refusal means to a lane.
pub(super) fn drop_reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::DuplicateCounter
        | WireGuardError::InvalidCounter
        | WireGuardError::WrongTai64nTimestamp
        | WireGuardError::InvalidTai64nTimestamp => DropReason::Replayed,
        WireGuardError::WrongIndex | WireGuardError::NoCurrentSession | WireGuardError::UnexpectedPacket => {
            DropReason::WrongIndex
        }
        WireGuardError::InvalidPacket => DropReason::InnerMalformed,
        WireGuardError::UnderLoad => DropReason::UnderLoad,
        _ => DropReason::BadAuthentication,
    }
}
