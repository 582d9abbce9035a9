//! Control messages: datagrams between nodes' own addresses, inside the tunnel.

use std::net::SocketAddr;

use super::{Core, Edges};
use crate::drop_reason::DropReason;
use crate::packet::datagram;
use crate::packet::{Packet, cut};
use crate::peers::{PeerId, padded};

/// Longest payload: it fits every tunnel without being cut.
pub(crate) const MAX_CONTROL: usize = 1_024;
/// The payload, IPv6's and UDP's headers, and the padding.
const BUFFER: usize = MAX_CONTROL + 40 + 8 + cut::PADDING;

/// The source and the payload of a control message for this node; `None` for any other packet.
#[inline]
pub(super) fn message<'a>(packet: &'a [u8], own: &[SocketAddr]) -> Option<(SocketAddr, &'a [u8])> {
    // Cheap first: hardly any packet is for the node's own address and port.
    if own.is_empty() {
        return None;
    }
    let packet = Packet::parse(packet).ok()?;
    let destination = packet.destination();
    if !own.iter().any(|address| address.ip() == destination) {
        return None;
    }
    let (source, destination, payload) = datagram::read(&packet)?;
    own.contains(&destination).then_some((source, payload))
}

impl Core {
    /// The own addresses from now on.
    pub(crate) fn set_control(&mut self, control: Vec<SocketAddr>) {
        self.control = control;
    }

    /// Whether a control message can be addressed to the peer.
    pub(crate) fn control_way(&mut self, id: PeerId) -> Option<(SocketAddr, SocketAddr)> {
        let to = self.peers.peer(id).control?;
        let from = self.control.iter().find(|own| own.is_ipv4() == to.is_ipv4())?;
        Some((*from, to))
    }

    /// Sends a control message, when there is a session or as soon as there is one.
    pub(crate) fn send_control(&mut self, id: PeerId, payload: &[u8], edges: &mut impl Edges) {
        let mut packet = [0; BUFFER];
        let length = self
            .control_way(id)
            .and_then(|(from, to)| datagram::build(from, to, payload, &mut packet));
        let Some(length) = length else {
            return self.drops.add(DropReason::ControlUnroutable, 1);
        };
        let length = padded(length, self.peers.peer(id).mtu);
        let mut outbound = self.outbound(edges);
        outbound.seal(id, 0, &packet[..length]);
        outbound.handshake_if_waiting(id);
        outbound.flush();
    }
}
