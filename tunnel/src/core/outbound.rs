//! From the TUN to the socket.

use std::net::IpAddr;

use boringtun::noise::TunnResult;

use super::batch::{SendBatch, Way};
use super::{Core, Edges, HANDSHAKE_TOS, Identity, MESSAGE_BUFFER};
use crate::drop_reason::{DropReason, Drops};
use crate::packet::too_big::{self, too_big};
use crate::packet::{CutError, Packet, VnetHdr, ecn, vnet};
use crate::peers::{DATA_OVERHEAD, PeerId, Peers};
use crate::socket::{Batch, SendError};

impl Core {
    /// One read of the TUN: a packet or super-packet behind its `virtio_net_hdr`.
    pub(crate) fn packet_from_tun(&mut self, frame: &[u8], edges: &mut impl Edges) {
        let (Ok(header), Some(bytes)) = (VnetHdr::decode(frame), frame.get(vnet::LEN..)) else {
            return self.drops.add(DropReason::Malformed, 1);
        };
        let Ok(packet) = Packet::parse(bytes) else {
            return self.drops.add(DropReason::Malformed, 1);
        };
        let destination = packet.destination();
        let Some(id) = self.peers.by_inner_address(destination) else {
            let reason = if is_of_the_link(destination) {
                DropReason::LinkLocal
            } else {
                DropReason::NoPeer
            };
            return self.drops.add(reason, 1);
        };
        let peer = self.peers.peer(id);
        if peer.endpoint.is_none() {
            return self.drops.add(DropReason::NoEndpoint, 1);
        }
        let mtu = usize::from(peer.mtu);
        let tos = ecn::encapsulate(packet.tos());

        let (cutter, mut outbound) = self.cutter_and_outbound(edges);
        match cutter.cut(header, bytes, mtu, |segment| {
            outbound.seal(id, tos, segment.padded)
        }) {
            Ok(_) => outbound.handshake_if_waiting(id),
            Err(CutError::Malformed) => outbound.drops.add(DropReason::Malformed, 1),
            Err(CutError::BadChecksum) => outbound.drops.add(DropReason::BadChecksum, 1),
            Err(CutError::TooBig { mtu }) => {
                outbound.drops.add(DropReason::TooBig, 1);
                outbound.refuse(bytes, mtu);
            }
        }
    }

    /// The way out, borrowed from the core.
    pub(super) fn outbound<'a, E: Edges>(&'a mut self, edges: &'a mut E) -> Outbound<'a, E> {
        Outbound {
            identity: &self.identity,
            peers: &mut self.peers,
            batch: &mut self.batch,
            drops: &mut self.drops,
            edges,
        }
    }

    fn cutter_and_outbound<'a, E: Edges>(
        &'a mut self,
        edges: &'a mut E,
    ) -> (&'a mut crate::packet::Cutter, Outbound<'a, E>) {
        let Self {
            identity,
            cutter,
            peers,
            batch,
            drops,
            ..
        } = self;
        (
            cutter,
            Outbound {
                identity,
                peers,
                batch,
                drops,
                edges,
            },
        )
    }
}

/// What to do while a handshake is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// Nothing: boringtun repeats it every five seconds.
    Once,
    /// Repeat it now.
    Again,
}

/// Whether packets to an address never leave their link.
fn is_of_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}

/// Seals packets and sends them.
pub(super) struct Outbound<'a, E> {
    identity: &'a Identity,
    pub(super) peers: &'a mut Peers,
    batch: &'a mut SendBatch,
    pub(super) drops: &'a mut Drops,
    pub(super) edges: &'a mut E,
}

impl<E: Edges> Outbound<'_, E> {
    /// Seals a padded packet into the batch, or lets it wait for a session.
    #[inline]
    pub(super) fn seal(&mut self, id: PeerId, tos: u8, padded: &[u8]) {
        let peer = self.peers.peer(id);
        let Some(to) = peer.endpoint else {
            return self.drops.add(DropReason::NoEndpoint, 1);
        };
        if !peer.established {
            let dropped = peer.waiting.push(tos, padded);
            return self.drops.add(DropReason::HandshakeQueueFull, dropped);
        }
        let way = Way { peer: id, to, tos };
        if !self.batch.takes(way, padded.len() + DATA_OVERHEAD) {
            self.flush();
        }
        let tunn = self.peers.peer(id).tunn.as_mut();
        match tunn.map(|tunn| tunn.encapsulate(padded, self.batch.room())) {
            Some(TunnResult::WriteToNetwork(datagram)) => {
                let length = datagram.len();
                self.batch.push(way, length);
            }
            // `established` says that there is a session, and with one sealing cannot fail.
            _ => self.drops.add(DropReason::SendFailed, 1),
        }
    }

    /// Sends the batch.
    pub(super) fn flush(&mut self) {
        let Some((way, count, batch)) = self.batch.take() else {
            return;
        };
        let bytes = batch.bytes.len() as u64;
        match self.edges.send(&batch) {
            Ok(()) => self.peers.peer(way.peer).tx_bytes += bytes,
            Err(SendError::Other) => self.drops.add(DropReason::SendFailed, count as u64),
            Err(SendError::TooBig) => {
                let mtu = self.edges.path_mtu(way.to);
                let shrunk = mtu.is_some_and(|mtu| self.peers.peer(way.peer).set_path_mtu(mtu));
                let reason = if shrunk {
                    DropReason::PathMtuShrunk
                } else {
                    DropReason::SendFailed
                };
                self.drops.add(reason, count as u64);
            }
        }
    }

    /// Starts a handshake where packets wait for one and none is under way.
    pub(super) fn handshake_if_waiting(&mut self, id: PeerId) {
        let peer = self.peers.peer(id);
        if !peer.established && !peer.waiting.is_empty() {
            self.handshake(id, Begin::Once);
        }
    }

    /// Starts a handshake.
    pub(super) fn handshake(&mut self, id: PeerId, begin: Begin) {
        let mut message = [0; MESSAGE_BUFFER];
        let peer = self.peers.peer(id);
        if peer.endpoint.is_none() {
            return;
        }
        let initiation = self
            .identity
            .tunn(peer)
            .format_handshake_initiation(&mut message, begin == Begin::Again);
        if let TunnResult::WriteToNetwork(initiation) = initiation {
            self.send_message(id, initiation);
        }
    }

    /// Sends one message to the peer's endpoint at once, past the batch.
    pub(super) fn send_message(&mut self, id: PeerId, message: &[u8]) {
        let peer = self.peers.peer(id);
        let Some(to) = peer.endpoint else { return };
        match self.edges.send(&Batch {
            to,
            tos: HANDSHAKE_TOS,
            bytes: message,
            segment: message.len(),
        }) {
            Ok(()) => peer.tx_bytes += message.len() as u64,
            Err(_) => self.drops.add(DropReason::SendFailed, 1),
        }
    }

    /// Sends what waited for the peer's session.
    pub(super) fn release(&mut self, id: PeerId) {
        while self.peers.peer(id).established {
            let Some(waiting) = self.peers.peer(id).waiting.pop() else {
                break;
            };
            self.seal(id, waiting.tos, &waiting.packet);
        }
        // A keepalive that found no session waits within boringtun, which gives it out when called with nothing.
        let mut message = [0; MESSAGE_BUFFER];
        while let Some(tunn) = &mut self.peers.peer(id).tunn
            && let TunnResult::WriteToNetwork(datagram) = tunn.decapsulate(None, &[], &mut message)
        {
            let length = datagram.len();
            self.send_message(id, &message[..length]);
        }
    }

    /// Tells the sender of a packet what would fit.
    fn refuse(&mut self, packet: &[u8], mtu: usize) {
        let mut answer = [0; too_big::MAX_LEN];
        let Some(length) = too_big(packet, mtu, &mut answer) else {
            return;
        };
        if self
            .edges
            .deliver(&VnetHdr::default(), &answer[..length])
            .is_err()
        {
            self.drops.add(DropReason::TunWriteFailed, 1);
        }
    }
}
