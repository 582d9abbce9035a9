//! Splits a UDP super-packet (USO) into the datagrams that the application meant.
//!
//! Their size is the application's, so it is never changed: where a datagram does not fit, IPv4 without
//! DF is fragmented and everything else is too big.

use super::{CutError, Out, Segment, fragment, ip_header::IpHeader, partial::UDP_OFFSET};
use crate::packet::{
    checksum::{Sum, copy_and_sum, pseudo_header},
    parse::{Extensions, Fragment, Packet, Version, protocol},
    vnet::{Partial, VnetHdr},
};

const UDP_HEADER: usize = 8;

/// Most datagrams in a super-packet: UDP_MAX_SEGMENTS in the kernel's include/linux/udp.h.
const MAX_DATAGRAMS: usize = 128;

/// Splits a USO super-packet. `whole` holds a datagram that must be fragmented.
pub(super) fn split<S: FnMut(Segment<'_>)>(
    vnet: VnetHdr,
    packet: &Packet<'_>,
    out: &mut Out<'_, S>,
    whole: &mut [u8],
) -> Result<(), CutError> {
    let (l4, size) = (packet.l4_offset(), usize::from(vnet.gso_size));
    if packet.protocol() != protocol::UDP
        || packet.fragment() != Fragment::Whole
        || packet.extensions() == Extensions::Pinning
        || packet.l4().len() < UDP_HEADER
    {
        return Err(CutError::Malformed);
    }
    let (header, payload) = packet.bytes().split_at(l4 + UDP_HEADER);
    let datagrams = payload.len().div_ceil(size).max(1);
    if datagrams > MAX_DATAGRAMS {
        return Err(CutError::Malformed);
    }
    let with_checksum = match vnet.partial {
        Some(Partial {
            start,
            offset: UDP_OFFSET,
        }) if usize::from(start) == l4 => true,
        Some(_) => return Err(CutError::Malformed),
        // RFC 768: zero means none was made; IPv6 has no such form (RFC 8200 §8.1).
        None if packet.version() == Version::V4 && header[l4 + 6..] == [0, 0] => false,
        None if pseudo_header(packet.address_bytes(), protocol::UDP, packet.l4().len())
            .bytes(packet.l4())
            .is_valid() =>
        {
            true
        }
        None => return Err(CutError::BadChecksum),
    };
    let ip = IpHeader::of(packet)?;
    let pseudo = pseudo_header(packet.address_bytes(), protocol::UDP, 0);
    let build = |buf: &mut [u8], index: usize| {
        let part = &payload[index * size..payload.len().min((index + 1) * size)];
        let (head, room) = buf.split_at_mut(header.len());
        head.copy_from_slice(header);
        let body = copy_and_sum(&mut room[..part.len()], part);
        let len = header.len() + part.len();
        ip.adapt(head, len, index);
        finish_header(
            &mut head[l4..],
            (len - l4) as u16,
            with_checksum.then_some((pseudo, body)),
        );
        len
    };
    if header.len() + payload.len().min(size) <= out.mtu {
        for index in 0..datagrams {
            let len = build(out.buf, index);
            out.give(len);
        }
        return Ok(());
    }
    if packet.dont_fragment() || !fragment::can_fragment(packet, out.mtu) {
        return Err(out.too_big());
    }
    for index in 0..datagrams {
        let len = build(whole, index);
        if len <= out.mtu {
            out.buf[..len].copy_from_slice(&whole[..len]);
            out.give(len);
        } else {
            let datagram = Packet::parse(&whole[..len]).map_err(|_| CutError::Malformed)?;
            fragment::fragment(&datagram, out)?;
        }
    }
    Ok(())
}

/// Writes length and checksum of one datagram.
#[inline]
fn finish_header(udp: &mut [u8], len: u16, sums: Option<(Sum, Sum)>) {
    udp[4..6].copy_from_slice(&len.to_be_bytes());
    udp[6..8].fill(0);
    if let Some((pseudo, body)) = sums {
        let sum = pseudo.word(len).bytes(udp).sum(body).finish();
        // RFC 768: a checksum that comes out as zero is sent as all ones.
        let sum = if sum == 0 { 0xffff } else { sum };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
    }
}
