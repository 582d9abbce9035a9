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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::sample::assert_valid;

    #[test]
    fn what_is_built_can_be_read() {
        for (source, destination) in [
            ("192.168.77.1:23399", "192.168.77.2:23399"),
            ("[fd77::1]:23399", "[fd77::2]:5"),
        ] {
            let (source, destination) = (
                source.parse().expect("valid"),
                destination.parse().expect("valid"),
            );
            for payload in [&b""[..], b"odd", b"even"] {
                let mut out = [0xaa; 128];
                let len = build(source, destination, payload, &mut out).expect("fits");
                assert_valid(&out[..len]);
                let packet = Packet::parse(&out).expect("a packet");
                assert_eq!(read(&packet), Some((source, destination, payload)));
                for at in 0..len {
                    let mut corrupt = out;
                    corrupt[at] ^= 1;
                    // Source port and payload are under the checksum; of IP only the addresses are.
                    if at >= packet.l4_offset() {
                        assert_eq!(
                            Packet::parse(&corrupt).ok().and_then(|packet| read(&packet)),
                            None,
                            "{at}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_built() {
        let v4 = "192.0.2.1:1".parse().expect("valid");
        let v6 = "[::1]:1".parse().expect("valid");
        assert_eq!(build(v4, v4, b"x", &mut [0; 28]), None);
        assert_eq!(build(v4, v6, b"x", &mut [0; 100]), None);
        assert_eq!(build(v6, v4, b"x", &mut [0; 100]), None);
        assert_eq!(build(v4, v4, &vec![0; 65_508], &mut vec![0; 70_000]), None);
    }
}
