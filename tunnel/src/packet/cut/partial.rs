//! Completes a checksum that the kernel left to the device (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
//!
//! The offsets come with the packet, and a pod can choose them through a packet socket. So a completed
//! field must be the transport's own checksum or lie behind the transport header: nothing that a lookup
//! or a policy has already read may change here.

use super::CutError;
use crate::packet::{
    checksum::Sum,
    parse::{Fragment, Packet, protocol},
    vnet::Partial,
};

/// Where TCP has its checksum, from the start of its header (RFC 9293 §3.1).
pub(super) const TCP_OFFSET: u16 = 16;
/// Where UDP has it (RFC 768).
pub(super) const UDP_OFFSET: u16 = 6;
const ICMP_OFFSET: u16 = 2;

/// Offsets that were checked against one packet.
#[derive(Clone, Copy)]
pub(super) struct Checked {
    start: usize,
    field: usize,
}

/// Checks that the field may be written.
pub(super) fn check(packet: &Packet<'_>, partial: Partial) -> Result<Checked, CutError> {
    let (start, l4) = (usize::from(partial.start), packet.l4_offset());
    let field = start + usize::from(partial.offset);
    // (least length of the transport header, offset of its checksum)
    let (header, own) = match packet.protocol() {
        protocol::TCP => (usize::MAX, TCP_OFFSET),
        protocol::UDP => (8, UDP_OFFSET),
        protocol::ICMPV6 | protocol::ICMP => (4, ICMP_OFFSET),
        _ => (0, u16::MAX),
    };
    let is_own = start == l4 && partial.offset == own;
    let is_behind = start >= l4 && field >= l4.saturating_add(header);
    if packet.fragment() != Fragment::Whole
        || !(is_own || is_behind)
        || field + 2 > packet.bytes().len()
        || start > packet.bytes().len()
    {
        return Err(CutError::Malformed);
    }
    Ok(Checked { start, field })
}

impl Checked {
    /// Puts the complete checksum into `packet`, the bytes that were checked or a copy of them.
    pub(super) fn complete(self, packet: &mut [u8]) {
        let sum = Sum::default().bytes(&packet[self.start..]).finish();
        // Zero would mean "no checksum" in UDP; its one's complement twin is right everywhere.
        let sum = if sum == 0 { 0xffff } else { sum };
        packet[self.field..self.field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
