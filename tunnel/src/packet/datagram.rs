//! Builds and reads the UDP datagrams that lanes exchange inside the tunnel (control messages).

use std::net::{IpAddr, SocketAddr};

use super::{
    checksum::{Sum, pseudo_header},
    parse::{Fragment, Packet, Version, protocol},
};

const UDP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;

/// Writes a UDP packet with all checksums into `out` and returns its length; `None` when `out` is too
/// short, the payload too long, or the addresses are not of one family.
pub fn build(source: SocketAddr, destination: SocketAddr, payload: &[u8], out: &mut [u8]) -> Option<usize> {
    let l4 = match source {
        SocketAddr::V4(_) => 20,
        SocketAddr::V6(_) => 40,
    };
    let udp_len = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let len = u16::try_from(l4 + usize::from(udp_len)).ok()?;
    let (ip, udp) = out.get_mut(..usize::from(len))?.split_at_mut(l4);
    ip.fill(0);
    let addresses = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&len.to_be_bytes());
            ip[6] = 0x40; // DF: never fragmented, so its identification may stay 0 (RFC 6864)
            ip[8] = HOP_LIMIT;
            ip[9] = protocol::UDP;
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&destination.octets());
            let sum = Sum::default().bytes(ip).finish();
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            &ip[12..20]
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
            ip[6] = protocol::UDP;
            ip[7] = HOP_LIMIT;
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..40].copy_from_slice(&destination.octets());
            &ip[8..40]
        }
        _ => return None,
    };
    udp[0..2].copy_from_slice(&source.port().to_be_bytes());
    udp[2..4].copy_from_slice(&destination.port().to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[6..8].fill(0);
    udp[UDP_HEADER..].copy_from_slice(payload);
    let sum = pseudo_header(addresses, protocol::UDP, udp.len())
        .bytes(udp)
        .finish();
    // RFC 768: a checksum that comes out as zero is sent as all ones.
    let sum = if sum == 0 { 0xffff } else { sum };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    Some(usize::from(len))
}

/// Source, destination and payload of a whole UDP packet whose checksum is right.
pub fn read<'a>(packet: &Packet<'a>) -> Option<(SocketAddr, SocketAddr, &'a [u8])> {
    if packet.protocol() != protocol::UDP || packet.fragment() != Fragment::Whole {
        return None;
    }
    let udp = packet.l4();
    let (header, payload) = udp.split_first_chunk::<UDP_HEADER>()?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let unchecked = packet.version() == Version::V4 && word(6) == 0;
    if usize::from(word(4)) != udp.len()
        || !(unchecked
            || pseudo_header(packet.address_bytes(), protocol::UDP, udp.len())
                .bytes(udp)
                .is_valid())
    {
        return None;
    }
    Some((
        (packet.source(), word(0)).into(),
        (packet.destination(), word(2)).into(),
        payload,
    ))
}
