//! One super-packet while it grows.

use super::candidate::{Candidate, FIN, Flow, PSH};
use crate::packet::{
    checksum::{Sum, copy_and_sum, pseudo_header},
    cut::MAX_PACKET,
    parse::protocol,
    vnet::{Gso, Partial, VnetHdr},
};

/// Most datagrams in a UDP super-packet: UDP_MAX_SEGMENTS before Linux 6.10.
const MAX_DATAGRAMS: usize = 64;

const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// The first segment's headers followed by the payloads of all.
#[derive(Debug)]
pub(super) struct SuperPacket {
    flow: Flow,
    buf: Box<[u8]>,
    len: usize,
    l4: usize,
    headers: usize,
    /// Payload bytes of each segment but the last.
    size: usize,
    segments: usize,
    /// PSH and FIN of the last segment.
    last_flags: u8,
    complete: bool,
}

impl SuperPacket {
    pub(super) fn new() -> Self {
        Self {
            flow: Flow::NONE,
            buf: vec![0; MAX_PACKET].into(),
            len: 0,
            l4: 0,
            headers: 0,
            size: 0,
            segments: 0,
            last_flags: 0,
            complete: false,
        }
    }

    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Whether nothing more may be appended.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Starts anew with a first segment; `false` when its checksum is wrong.
    #[inline]
    pub(super) fn start(&mut self, first: &Candidate<'_>) -> bool {
        let (headers, len) = (first.headers, first.packet.len());
        let sum = copy_and_sum(&mut self.buf[headers..len], first.payload());
        if !first.is_intact(sum) {
            return false;
        }
        self.buf[..headers].copy_from_slice(&first.packet[..headers]);
        self.flow = first.flow;
        self.len = len;
        self.l4 = first.l4;
        self.headers = headers;
        self.size = len - headers;
        self.segments = 1;
        self.last_flags = 0;
        self.complete = false;
        true
    }

    /// Appends the next segment of the same flow; `false` when it does not follow or its checksum is
    /// wrong, and then nothing has changed.
    #[inline]
    pub(super) fn append(&mut self, next: &Candidate<'_>) -> bool {
        let size = next.payload().len();
        if size > self.size
            || self.len + size > MAX_PACKET
            || !self.same_ip_header(next)
            || !(if next.flow.is_tcp() {
                self.follows_in_tcp(next)
            } else {
                self.follows_in_udp()
            })
        {
            return false;
        }
        // Bytes past `len` are not part of the super-packet until the sum has been judged.
        let sum = copy_and_sum(&mut self.buf[self.len..self.len + size], next.payload());
        if !next.is_intact(sum) {
            return false;
        }
        self.len += size;
        self.segments += 1;
        if next.flow.is_tcp() {
            self.last_flags = next.tcp_flags() & (PSH | FIN);
        }
        self.complete = self.last_flags != 0 || size < self.size || self.len + self.size > MAX_PACKET;
        true
    }

    /// Everything in the IP header that a receiver can tell apart.
    fn same_ip_header(&self, next: &Candidate<'_>) -> bool {
        let (ours, theirs) = (&self.buf, next.packet);
        if next.is_v4() {
            let word = |bytes: &[u8]| u16::from_be_bytes([bytes[4], bytes[5]]);
            // RFC 6864 §4.1: with DF the identification means nothing; without, the kernel that segments
            // this again counts up by one.
            let id_follows =
                ours[6] & 0x40 != 0 || word(theirs) == word(ours).wrapping_add(self.segments as u16);
            ours[1] == theirs[1] && ours[6..9] == theirs[6..9] && id_follows
        } else {
            // Version, traffic class, flow label; then the hop limit.
            ours[..4] == theirs[..4] && ours[7] == theirs[7]
        }
    }

    fn follows_in_tcp(&self, next: &Candidate<'_>) -> bool {
        if self.headers != next.headers {
            return false;
        }
        let (ours, theirs) = (
            &self.buf[self.l4..self.headers],
            &next.packet[next.l4..next.headers],
        );
        let sequence = |tcp: &[u8]| u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        sequence(theirs) == sequence(ours).wrapping_add((self.len - self.headers) as u32)
            // Acknowledgement number, data offset and reserved bits.
            && ours[8..13] == theirs[8..13]
            && (ours[13] ^ theirs[13]) & !(PSH | FIN) == 0
            // Window; then, past the checksum, the urgent pointer and all options.
            && ours[14..16] == theirs[14..16]
            && ours[18..] == theirs[18..]
    }

    fn follows_in_udp(&self) -> bool {
        self.segments < MAX_DATAGRAMS
    }

    /// Gives out the super-packet: as it came when it is a single segment.
    pub(super) fn finish(&mut self, write: &mut impl FnMut(&VnetHdr, &[u8])) {
        let packet = &mut self.buf[..self.len];
        if self.segments == 1 {
            write(&VnetHdr::default(), packet);
            return;
        }
        let is_v4 = self.l4 == 20;
        let len = self.len as u16;
        let (ip, l4) = packet.split_at_mut(self.l4);
        let addresses = if is_v4 {
            ip[2..4].copy_from_slice(&len.to_be_bytes());
            ip[10..12].fill(0);
            let sum = Sum::default().bytes(ip).finish();
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            &ip[12..20]
        } else {
            ip[4..6].copy_from_slice(&(l4.len() as u16).to_be_bytes());
            &ip[8..40]
        };
        let (number, gso, field) = if self.flow.is_tcp() {
            l4[13] |= self.last_flags;
            (
                protocol::TCP,
                if is_v4 { Gso::Tcp4 } else { Gso::Tcp6 },
                TCP_CHECKSUM,
            )
        } else {
            let udp_len = l4.len() as u16;
            l4[4..6].copy_from_slice(&udp_len.to_be_bytes());
            (protocol::UDP, Gso::Udp, UDP_CHECKSUM)
        };
        let pseudo = pseudo_header(addresses, number, l4.len()).fold();
        l4[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        let vnet = VnetHdr {
            gso,
            gso_size: self.size as u16,
            hdr_len: self.headers as u16,
            partial: Some(Partial {
                start: self.l4 as u16,
                offset: field as u16,
            }),
        };
        write(&vnet, packet);
    }
}
