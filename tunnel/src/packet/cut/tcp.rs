//! Cuts TCP: a super-packet, or a segment that was made for a larger MTU.
//!
//! Each segment repeats the headers with all options; sequence number, urgent pointer and IP
//! identification advance; CWR stays on the first, PSH and FIN on the last (RFC 9293 §3.8, RFC 3168
//! §6.1.2; net/ipv4/tcp_offload.c does the same).

use super::{CutError, Out, Segment, ip_header::IpHeader, partial::TCP_OFFSET};
use crate::packet::{
    checksum::{self, copy_and_sum},
    parse::{Extensions, Fragment, Packet, protocol},
    vnet::{MIN_TCP_GSO_SIZE, Partial, VnetHdr},
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Cuts a TSO super-packet.
pub(super) fn cut_super_packet<S: FnMut(Segment<'_>)>(
    vnet: VnetHdr,
    packet: &Packet<'_>,
    out: &mut Out<'_, S>,
) -> Result<(), CutError> {
    if packet.protocol() != protocol::TCP
        || packet.fragment() != Fragment::Whole
        || vnet.gso_size < MIN_TCP_GSO_SIZE
    {
        return Err(CutError::Malformed);
    }
    let tcp = Tcp::of(packet).ok_or(CutError::Malformed)?;
    let trusted = match vnet.partial {
        Some(Partial {
            start,
            offset: TCP_OFFSET,
        }) if usize::from(start) == packet.l4_offset() => true,
        Some(_) => return Err(CutError::Malformed),
        None => false,
    };
    tcp.cut(packet, usize::from(vnet.gso_size), trusted, out)
}

/// Cuts one segment that does not fit; `None` when it is no TCP that can be cut. `trusted` says that its
/// checksum is the kernel's to be completed, and not the sender's to be verified.
pub(super) fn cut_packet<S: FnMut(Segment<'_>)>(
    packet: &Packet<'_>,
    trusted: bool,
    out: &mut Out<'_, S>,
) -> Option<Result<(), CutError>> {
    Some(Tcp::of(packet)?.cut(packet, usize::MAX, trusted, out))
}

/// A TCP packet that can be cut.
struct Tcp {
    /// IP and TCP headers together, in bytes.
    headers: usize,
    flags: u8,
    sequence: u32,
    urgent: u16,
}

impl Tcp {
    fn of(packet: &Packet<'_>) -> Option<Self> {
        let header = packet.l4().first_chunk::<20>()?;
        let len = usize::from(header[12] >> 4) * 4;
        let flags = header[13];
        // SYN and RST stand for the whole packet; a pinned length or destination cannot be repeated.
        if len < 20
            || len > packet.l4().len()
            || flags & (SYN | RST) != 0
            || packet.extensions() == Extensions::Pinning
        {
            return None;
        }
        Some(Self {
            headers: packet.l4_offset() + len,
            flags,
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            urgent: u16::from_be_bytes([header[18], header[19]]),
        })
    }

    #[inline]
    fn cut<S: FnMut(Segment<'_>)>(
        &self,
        packet: &Packet<'_>,
        gso_size: usize,
        trusted: bool,
        out: &mut Out<'_, S>,
    ) -> Result<(), CutError> {
        let (l4, headers) = (packet.l4_offset(), self.headers);
        let size = gso_size.min(out.mtu.saturating_sub(headers));
        if size == 0 {
            return Err(out.too_big());
        }
        let pseudo = |len| checksum::pseudo_header(packet.address_bytes(), protocol::TCP, len);
        if !trusted && !pseudo(packet.l4().len()).bytes(packet.l4()).is_valid() {
            return Err(CutError::BadChecksum);
        }
        let ip = IpHeader::of(packet)?;
        let (header, payload) = packet.bytes().split_at(headers);
        let pseudo = pseudo(0);
        out.buf[..headers].copy_from_slice(header);
        let last = payload.len().saturating_sub(1) / size;
        let mut index = 0;
        loop {
            let start = index * size;
            let part = &payload[start..payload.len().min(start + size)];
            let len = headers + part.len();
            let (header, room) = out.buf.split_at_mut(headers);
            let body = copy_and_sum(&mut room[..part.len()], part);
            let (ip_header, tcp_header) = header.split_at_mut(l4);
            ip.adapt(ip_header, len, index);
            self.adapt(tcp_header, start, index == last);
            let sum = pseudo
                .word((len - l4) as u16)
                .bytes(tcp_header)
                .sum(body)
                .finish();
            tcp_header[16..18].copy_from_slice(&sum.to_be_bytes());
            out.give(len);
            if index == last {
                return Ok(());
            }
            index += 1;
        }
    }

    /// Writes what changes in the TCP header of the segment that starts `start` bytes into the payload;
    /// its checksum is left zero.
    #[inline]
    fn adapt(&self, header: &mut [u8], start: usize, last: bool) {
        let mut flags = self.flags;
        let mut urgent = self.urgent;
        if start > 0 {
            flags &= !CWR;
            // The pointer counts from this segment's own first byte to the byte after the urgent data
            // (RFC 6093 §3.1, as implemented).
            urgent = u16::try_from(start).map_or(0, |start| urgent.saturating_sub(start));
            if urgent == 0 {
                flags &= !URG;
            }
        }
        if !last {
            flags &= !(PSH | FIN);
        }
        header[4..8].copy_from_slice(&self.sequence.wrapping_add(start as u32).to_be_bytes());
        header[13] = flags;
        header[16..18].fill(0);
        header[18..20].copy_from_slice(&urgent.to_be_bytes());
    }
}
