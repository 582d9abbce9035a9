//! Judges one packet: may it be merged, and with which flow.

use super::Merge;
use crate::packet::{
    checksum::{Sum, pseudo_header},
    parse::{Extensions, Fragment, Packet, Version, protocol},
    vnet::MIN_TCP_GSO_SIZE,
};

pub(super) const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Whom a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Source and destination, IPv4's in the first 8 bytes.
    addresses: [u8; 32],
    ports: [u8; 4],
    protocol: u8,
    version: u8,
}

impl Flow {
    pub(super) const NONE: Self = Self {
        addresses: [0; 32],
        ports: [0; 4],
        protocol: 0,
        version: 0,
    };

    pub(super) fn is_tcp(&self) -> bool {
        self.protocol == protocol::TCP
    }
}

pub(super) enum Judgement<'a> {
    /// May be merged with others of its flow.
    Candidate(Candidate<'a>),
    /// May not, and what came before it in the flow goes first.
    EndsFlow(Flow, &'a [u8]),
    /// Belongs to nothing that is ever merged.
    Alone(&'a [u8]),
}

/// A packet that may be merged. Its IP header's checksum is right; its transport checksum is verified
/// while the payload is copied.
pub(super) struct Candidate<'a> {
    pub(super) flow: Flow,
    /// The packet, without padding.
    pub(super) packet: &'a [u8],
    /// Where the transport header starts.
    pub(super) l4: usize,
    /// Where the payload starts.
    pub(super) headers: usize,
}

/// Parses and judges.
#[inline]
pub(super) fn judge(bytes: &[u8], merge: Merge) -> Judgement<'_> {
    let Ok(packet) = Packet::parse(bytes) else {
        return Judgement::Alone(bytes);
    };
    let bytes = packet.bytes();
    let wanted = match (packet.protocol(), packet.version()) {
        (protocol::TCP, Version::V4) => merge.tcp4,
        (protocol::TCP, Version::V6) => merge.tcp6,
        (protocol::UDP, _) => merge.udp,
        _ => false,
    };
    if !wanted || packet.fragment() == Fragment::Later {
        return Judgement::Alone(bytes);
    }
    let (Some(flow), l4) = (flow(&packet), packet.l4_offset()) else {
        return Judgement::Alone(bytes);
    };
    let headers = match packet.protocol() {
        protocol::TCP => tcp_headers(&packet),
        _ => udp_headers(&packet),
    };
    let mergeable = packet.fragment() == Fragment::Whole
        && packet.extensions() == Extensions::None
        && (packet.version() == Version::V6 || Sum::default().bytes(&bytes[..l4]).is_valid());
    match headers {
        // A segment without payload (a pure ACK) has nothing to merge.
        Some(headers) if mergeable && headers < bytes.len() => Judgement::Candidate(Candidate {
            flow,
            packet: bytes,
            l4,
            headers,
        }),
        _ => Judgement::EndsFlow(flow, bytes),
    }
}

fn flow(packet: &Packet<'_>) -> Option<Flow> {
    let ports = *packet.l4().first_chunk::<4>()?;
    let from = packet.address_bytes();
    let mut addresses = [0; 32];
    addresses[..from.len()].copy_from_slice(from);
    Some(Flow {
        addresses,
        ports,
        protocol: packet.protocol(),
        version: packet.bytes()[0] >> 4,
    })
}

/// Where the payload starts, if only flags are set that merging keeps.
fn tcp_headers(packet: &Packet<'_>) -> Option<usize> {
    let header = packet.l4().first_chunk::<20>()?;
    let len = usize::from(header[12] >> 4) * 4;
    (len >= 20 && len <= packet.l4().len() && header[13] & (SYN | RST | URG | CWR) == 0)
        .then_some(packet.l4_offset() + len)
}

/// Where the payload starts, if the datagram has a checksum and claims its true length.
fn udp_headers(packet: &Packet<'_>) -> Option<usize> {
    let header = packet.l4().first_chunk::<8>()?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    (len == packet.l4().len() && header[6..8] != [0, 0]).then_some(packet.l4_offset() + 8)
}

impl Candidate<'_> {
    pub(super) fn is_v4(&self) -> bool {
        self.flow.version == 4
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.packet[self.headers..]
    }

    pub(super) fn tcp_flags(&self) -> u8 {
        self.packet[self.l4 + 13]
    }

    /// Whether anything may follow it in a super-packet.
    pub(super) fn may_start(&self) -> bool {
        !self.flow.is_tcp()
            || self.tcp_flags() & (PSH | FIN) == 0 && self.payload().len() >= usize::from(MIN_TCP_GSO_SIZE)
    }

    /// Whether the transport checksum is right, given the payload's sum.
    #[inline]
    pub(super) fn is_intact(&self, payload: Sum) -> bool {
        let l4_len = self.packet.len() - self.l4;
        pseudo_header(self.address_bytes(), self.flow.protocol, l4_len)
            .bytes(&self.packet[self.l4..self.headers])
            .sum(payload)
            .is_valid()
    }

    fn address_bytes(&self) -> &[u8] {
        &self.flow.addresses[..if self.is_v4() { 8 } else { 32 }]
    }
}
