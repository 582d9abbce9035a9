//! Packets to start from, and their mending: a packet whose checksums are wrong ends at the first check,
//! so some inputs have them put right after they were changed.

use hauberk_tunnel::packet::{
    Gso, Packet, VnetHdr,
    checksum::{Sum, pseudo_header},
    datagram,
    parse::{Fragment, Version, protocol},
    vnet::Partial,
};

/// How an input's first byte says what to mend.
const MEND_LENGTH: u8 = 1;
const MEND_IP_CHECKSUM: u8 = 2;
const MEND_CHECKSUM: u8 = 4;
/// Everything.
pub(super) const MEND_ALL: u8 = 7;

/// A UDP packet.
pub(super) fn udp(v6: bool, payload: usize) -> Vec<u8> {
    let (from, to) = if v6 {
        ("[fd77:1::2]:4000", "[fd77:2::3]:53")
    } else {
        ("10.77.1.2:4000", "10.77.2.3:53")
    };
    let mut out = vec![0; payload + 48];
    let payload: Vec<u8> = (0..payload).map(|i| (i * 7) as u8).collect();
    let (from, to) = (from.parse().expect("an address"), to.parse().expect("an address"));
    let len = datagram::build(from, to, &payload, &mut out).expect("fits");
    out.truncate(len);
    out
}

/// A TCP packet with timestamps.
pub(super) fn tcp(v6: bool, sequence: u32, payload: usize) -> Vec<u8> {
    let mut packet = udp(v6, payload + 32 - 8);
    let l4 = if v6 { 40 } else { 20 };
    packet[if v6 { 6 } else { 9 }] = protocol::TCP;
    packet[l4 + 4..l4 + 8].copy_from_slice(&sequence.to_be_bytes());
    packet[l4 + 12..l4 + 20].copy_from_slice(&[0x80, 0x10, 1, 0xf5, 0, 0, 0, 0]);
    packet[l4 + 20..l4 + 32].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]);
    mend(MEND_ALL, &mut packet);
    packet
}

/// An ICMP echo request.
pub(super) fn ping(v6: bool, payload: usize) -> Vec<u8> {
    let mut packet = udp(v6, payload);
    let l4 = if v6 { 40 } else { 20 };
    packet[if v6 { 6 } else { 9 }] = if v6 { protocol::ICMPV6 } else { protocol::ICMP };
    packet[l4..l4 + 8].copy_from_slice(&[if v6 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 1]);
    mend(MEND_ALL, &mut packet);
    packet
}

/// Lets routers fragment an IPv4 packet.
pub(super) fn may_fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] = 0;
    mend(MEND_ALL, &mut packet);
    packet
}

/// The vnet header of a super-packet, or of a packet with a partial checksum.
pub(super) fn vnet(packet: &[u8], gso: Gso, gso_size: u16) -> VnetHdr {
    let view = Packet::parse(packet).expect("a sample");
    let offset = if view.protocol() == protocol::TCP { 16 } else { 6 };
    let partial = Some(Partial {
        start: view.l4_offset() as u16,
        offset,
    });
    VnetHdr {
        gso,
        gso_size,
        hdr_len: 0,
        partial,
    }
}

/// Makes right what the bits ask for, where the packet is whole enough.
pub(super) fn mend(bits: u8, packet: &mut [u8]) {
    let is_v4 = match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => true,
        Some(6) if packet.len() >= 40 => false,
        _ => return,
    };
    if bits & MEND_LENGTH != 0 {
        let len = packet.len().min(65_535);
        let (at, len) = if is_v4 { (2, len) } else { (4, len - 40) };
        packet[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
    }
    let Ok(view) = Packet::parse(packet) else { return };
    let (l4, number, whole) = (
        view.l4_offset(),
        view.protocol(),
        view.fragment() == Fragment::Whole,
    );
    let len = view.bytes().len();
    let field = l4
        + match number {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => 2,
        };
    if bits & MEND_CHECKSUM != 0 && whole && field + 2 <= len {
        packet[field..field + 2].fill(0);
        let sum = transport_sum(&Packet::parse(packet).expect("parsed before")).finish();
        let sum = if sum == 0 { 0xffff } else { sum };
        packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    if bits & MEND_IP_CHECKSUM != 0 && is_v4 {
        let header = usize::from(packet[0] & 0xf) * 4;
        packet[10..12].fill(0);
        let sum = Sum::default().bytes(&packet[..header]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The sum over pseudo-header (but for ICMPv4) and transport.
pub(super) fn transport_sum(packet: &Packet<'_>) -> Sum {
    let addresses = match packet.version() {
        Version::V4 => &packet.bytes()[12..20],
        Version::V6 => &packet.bytes()[8..40],
    };
    match packet.protocol() {
        protocol::ICMP => Sum::default().bytes(packet.l4()),
        number => pseudo_header(addresses, number, packet.l4().len()).bytes(packet.l4()),
    }
}

/// The IPv4 header's checksum is right; there is none in IPv6.
pub(super) fn ip_checksum_is_right(packet: &Packet<'_>) -> bool {
    packet.version() == Version::V6
        || Sum::default()
            .bytes(&packet.bytes()[..usize::from(packet.bytes()[0] & 0xf) * 4])
            .is_valid()
}
