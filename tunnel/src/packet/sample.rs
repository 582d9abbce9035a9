//! Packets for tests, with checksums from a naive reference.

use super::{
    parse::{Fragment, Packet, Version, protocol},
    vnet::{Gso, Partial, VnetHdr},
};

/// RFC 1071 as its text has it: 16-bit words, one after the other.
pub(super) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What goes into a sample.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) v6: bool,
    pub(super) protocol: u8,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// IPv4 only.
    pub(super) id: u16,
    /// IPv4 only.
    pub(super) dont_fragment: bool,
    /// IPv4 only; whole words.
    pub(super) ip_options: Vec<u8>,
    /// IPv6 only.
    pub(super) flow_label: u32,
    pub(super) ports: (u16, u16),
    pub(super) sequence: u32,
    pub(super) tcp_flags: u8,
    pub(super) window: u16,
    pub(super) urgent: u16,
    /// Whole words.
    pub(super) tcp_options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

pub(super) const ACK: u8 = 0x10;
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];

impl Sample {
    pub(super) fn tcp(v6: bool, payload: usize) -> Self {
        Self {
            v6,
            protocol: protocol::TCP,
            tos: 0x28,
            ttl: 63,
            id: 0xfffe,
            dont_fragment: true,
            ip_options: Vec::new(),
            flow_label: 0x12345,
            ports: (40_000, 443),
            sequence: 0xffff_fc00,
            tcp_flags: ACK,
            window: 501,
            urgent: 0,
            tcp_options: TIMESTAMPS.to_vec(),
            payload: (0..payload).map(|i| (i * 7 + (i >> 8)) as u8).collect(),
        }
    }

    pub(super) fn udp(v6: bool, payload: usize) -> Self {
        Self {
            protocol: protocol::UDP,
            ..Self::tcp(v6, payload)
        }
    }

    /// ICMP echo.
    pub(super) fn ping(v6: bool, payload: usize) -> Self {
        Self {
            protocol: if v6 { protocol::ICMPV6 } else { protocol::ICMP },
            ..Self::tcp(v6, payload)
        }
    }

    pub(super) fn l4_offset(&self) -> usize {
        if self.v6 { 40 } else { 20 + self.ip_options.len() }
    }

    /// All headers, in bytes.
    pub(super) fn headers(&self) -> usize {
        let l4 = if self.protocol == protocol::TCP {
            20 + self.tcp_options.len()
        } else {
            8
        };
        self.l4_offset() + l4
    }

    fn checksum_offset(&self) -> usize {
        match self.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => 2,
        }
    }

    /// The packet with complete checksums.
    pub(super) fn build(&self) -> Vec<u8> {
        let mut packet = self.headers_and_payload();
        self.complete(&mut packet);
        packet
    }

    /// Makes the transport's checksum right.
    pub(super) fn complete(&self, packet: &mut [u8]) {
        let field = self.l4_offset() + self.checksum_offset();
        packet[field..field + 2].fill(0);
        let sum = match !naive_l4_sum(packet) {
            0 if self.protocol == protocol::UDP => 0xffff,
            sum => sum,
        };
        packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// The packet as a TUN gives it: its checksum partial.
    pub(super) fn partial(&self, gso: Gso, gso_size: u16) -> (VnetHdr, Vec<u8>) {
        let mut packet = self.headers_and_payload();
        let (l4, offset) = (self.l4_offset(), self.checksum_offset());
        let sum = naive_pseudo_sum(&packet);
        packet[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
        let vnet = VnetHdr {
            gso,
            gso_size,
            hdr_len: self.headers() as u16,
            partial: Some(Partial {
                start: l4 as u16,
                offset: offset as u16,
            }),
        };
        (vnet, packet)
    }

    pub(super) fn gso(&self) -> Gso {
        match (self.protocol, self.v6) {
            (protocol::UDP, _) => Gso::Udp,
            (_, false) => Gso::Tcp4,
            (_, true) => Gso::Tcp6,
        }
    }

    fn headers_and_payload(&self) -> Vec<u8> {
        let len = self.headers() + self.payload.len();
        let mut out = Vec::with_capacity(len);
        if self.v6 {
            let first = 6 << 28 | u32::from(self.tos) << 20 | self.flow_label & 0xf_ffff;
            out.extend(first.to_be_bytes());
            out.extend(((len - 40) as u16).to_be_bytes());
            out.extend([self.protocol, self.ttl]);
            out.extend([0xfd, 0x77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            out.extend([0xfd, 0x77, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        } else {
            out.extend([0x45 + (self.ip_options.len() / 4) as u8, self.tos]);
            out.extend((len as u16).to_be_bytes());
            out.extend(self.id.to_be_bytes());
            out.extend([
                if self.dont_fragment { 0x40 } else { 0 },
                0,
                self.ttl,
                self.protocol,
                0,
                0,
            ]);
            out.extend([10, 77, 1, 2, 10, 77, 2, 3]);
            out.extend(&self.ip_options);
            let sum = !naive_sum(&out);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        if matches!(self.protocol, protocol::TCP | protocol::UDP) {
            out.extend(self.ports.0.to_be_bytes());
            out.extend(self.ports.1.to_be_bytes());
        }
        match self.protocol {
            protocol::TCP => {
                out.extend(self.sequence.to_be_bytes());
                out.extend(0x0102_0304u32.to_be_bytes());
                out.extend([0x50 + ((self.tcp_options.len() / 4) << 4) as u8, self.tcp_flags]);
                out.extend(self.window.to_be_bytes());
                out.extend([0, 0]);
                out.extend(self.urgent.to_be_bytes());
                out.extend(&self.tcp_options);
            }
            protocol::UDP => {
                out.extend(((8 + self.payload.len()) as u16).to_be_bytes());
                out.extend([0, 0]);
            }
            protocol::ICMPV6 => out.extend([128, 0, 0, 0, 0, 1, 0, 1]),
            _ => out.extend([8, 0, 0, 0, 0, 1, 0, 1]),
        }
        out.extend(&self.payload);
        out
    }
}

fn naive_pseudo_sum(packet: &[u8]) -> u16 {
    let packet = Packet::parse(packet).expect("tests make whole packets");
    let mut bytes = match (packet.version(), packet.protocol()) {
        (_, protocol::ICMP) => return 0,
        (Version::V4, _) => packet.bytes()[12..20].to_vec(),
        (Version::V6, _) => packet.bytes()[8..40].to_vec(),
    };
    bytes.extend([0, packet.protocol()]);
    bytes.extend((packet.l4().len() as u16).to_be_bytes());
    naive_sum(&bytes)
}

/// The sum over pseudo-header, transport header and payload: 0xffff when the checksum is right.
pub(super) fn naive_l4_sum(packet: &[u8]) -> u16 {
    let view = Packet::parse(packet).expect("tests make whole packets");
    let both = [
        naive_pseudo_sum(packet).to_be_bytes(),
        naive_sum(view.l4()).to_be_bytes(),
    ]
    .concat();
    naive_sum(&both)
}

/// Checks every checksum of a packet; a fragment has none but the IP header's.
pub(super) fn assert_valid(packet: &[u8]) {
    let view = Packet::parse(packet).expect("a packet");
    assert_eq!(view.bytes().len(), packet.len(), "the IP length is the packet's");
    if view.version() == Version::V4 {
        assert_eq!(
            naive_sum(&packet[..view.l4_offset()]),
            0xffff,
            "IP header checksum"
        );
    }
    if view.fragment() == Fragment::Whole {
        assert_eq!(naive_l4_sum(packet), 0xffff, "transport checksum");
    }
}
