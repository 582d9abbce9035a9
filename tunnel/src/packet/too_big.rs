//! The answer to a packet that fits no tunnel: ICMP "fragmentation needed" (RFC 792, RFC 1191 §4) or
//! ICMPv6 "packet too big" (RFC 4443 §3.2).
//!
//! Its source is the original destination, as in the kernel's own tunnels (net/ipv4/ip_tunnel_core.c):
//! so it passes strict `rp_filter` and is RELATED to the connection for NAT.

use std::net::IpAddr;

use super::{
    checksum::{Sum, pseudo_header},
    parse::{Fragment, Packet, Version, protocol},
};

/// The longest answer: IPv6's least MTU (RFC 4443 §2.4(c)).
pub const MAX_LEN: usize = 1280;

/// IPv4's answers stay below what every host must take (RFC 1812 §4.3.2.3).
const MAX_LEN_V4: usize = 576;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;

/// IPv6's least MTU: no smaller one may be told (RFC 8201 §4).
const MIN_MTU_V6: usize = 1280;

const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
const HOP_LIMIT: u8 = 64;

/// Writes the answer to `packet` into `out` and returns its length, or `None` where none may be sent:
/// to ICMP errors, later fragments, multicast, senders that have no address of their own, or when the
/// sender cannot send less (IPv6 at 1280 bytes).
pub fn too_big(packet: &[u8], mtu: usize, out: &mut [u8; MAX_LEN]) -> Option<usize> {
    let packet = Packet::parse(packet).ok()?;
    if packet.fragment() == Fragment::Later
        || !names_one_host(packet.source())
        || !names_one_host(packet.destination())
        || may_be_icmp_error(&packet)
    {
        return None;
    }
    match packet.version() {
        Version::V4 => Some(answer_v4(&packet, mtu, out)),
        Version::V6 if packet.bytes().len() > MIN_MTU_V6 => {
            Some(answer_v6(&packet, mtu.max(MIN_MTU_V6), out))
        }
        Version::V6 => None,
    }
}

fn answer_v4(packet: &Packet<'_>, mtu: usize, out: &mut [u8; MAX_LEN]) -> usize {
    let original = packet.bytes();
    let quoted = original.len().min(MAX_LEN_V4 - V4_HEADER - ICMP_HEADER);
    let len = V4_HEADER + ICMP_HEADER + quoted;
    let (ip, icmp) = out[..len].split_at_mut(V4_HEADER);
    ip.fill(0);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    ip[6] = 0x40; // DF: an answer of 576 bytes needs no fragments, and so no identification (RFC 6864)
    ip[8] = HOP_LIMIT;
    ip[9] = protocol::ICMP;
    ip[12..16].copy_from_slice(&original[16..20]);
    ip[16..20].copy_from_slice(&original[12..16]);
    let sum = Sum::default().bytes(ip).finish();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    icmp[..ICMP_HEADER].fill(0);
    icmp[0] = UNREACHABLE;
    icmp[1] = FRAGMENTATION_NEEDED;
    icmp[6..8].copy_from_slice(&u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes());
    icmp[ICMP_HEADER..].copy_from_slice(&original[..quoted]);
    let sum = Sum::default().bytes(icmp).finish();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    len
}

fn answer_v6(packet: &Packet<'_>, mtu: usize, out: &mut [u8; MAX_LEN]) -> usize {
    let original = packet.bytes();
    let quoted = original.len().min(MAX_LEN - V6_HEADER - ICMP_HEADER);
    let len = V6_HEADER + ICMP_HEADER + quoted;
    let (ip, icmp) = out[..len].split_at_mut(V6_HEADER);
    ip.fill(0);
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(icmp.len() as u16).to_be_bytes());
    ip[6] = protocol::ICMPV6;
    ip[7] = HOP_LIMIT;
    ip[8..24].copy_from_slice(&original[24..40]);
    ip[24..40].copy_from_slice(&original[8..24]);

    icmp[..ICMP_HEADER].fill(0);
    icmp[0] = PACKET_TOO_BIG;
    icmp[4..8].copy_from_slice(&u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes());
    icmp[ICMP_HEADER..].copy_from_slice(&original[..quoted]);
    let sum = pseudo_header(&ip[8..40], protocol::ICMPV6, icmp.len())
        .bytes(icmp)
        .finish();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    len
}

/// RFC 1122 §3.2.2 and RFC 4443 §2.4(e): no errors to or about anything but one host.
fn names_one_host(address: IpAddr) -> bool {
    match address {
        // 240.0.0.0/4 holds the limited broadcast address, and no host.
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_loopback() || v4.octets()[0] >= 224),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast()),
    }
}

/// Whether the packet is an ICMP error, or an ICMP message of a type that is not known to be a query.
fn may_be_icmp_error(packet: &Packet<'_>) -> bool {
    let kind = packet.l4().first().copied();
    match (packet.version(), packet.protocol()) {
        // Echo, router discovery, timestamp, information, address mask (RFC 792, RFC 950, RFC 1256).
        (Version::V4, protocol::ICMP) => !matches!(kind, Some(0 | 8 | 9 | 10 | 13..=18)),
        // RFC 4443 §2.1: informational messages have the high bit; 137 is Redirect (§2.4(e.2)).
        (Version::V6, protocol::ICMPV6) => !matches!(kind, Some(128..=136 | 138..)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::sample::{Sample, assert_valid};

    fn answer(packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
        let mut out = [0xaa; MAX_LEN];
        too_big(packet, mtu, &mut out).map(|len| out[..len].to_vec())
    }

    #[test]
    fn ipv4_gets_fragmentation_needed_from_the_original_destination() {
        let packet = Sample::udp(false, 1472).build();
        let answer = answer(&packet, 1420).expect("an answer");
        assert_valid(&answer);
        assert_eq!(answer.len(), 576);
        assert_eq!(answer[9], protocol::ICMP);
        assert_eq!(answer[12..16], packet[16..20]);
        assert_eq!(answer[16..20], packet[12..16]);
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(answer[24..28], [0, 0, 0x05, 0x8c]);
        assert_eq!(answer[28..], packet[..548]);
    }

    #[test]
    fn ipv6_gets_packet_too_big_from_the_original_destination() {
        let packet = Sample::udp(true, 1452).build();
        let answer = answer(&packet, 1420).expect("an answer");
        assert_valid(&answer);
        assert_eq!(answer.len(), 1280);
        assert_eq!(answer[6], protocol::ICMPV6);
        assert_eq!(answer[8..24], packet[24..40]);
        assert_eq!(answer[24..40], packet[8..24]);
        assert_eq!(answer[40..42], [2, 0]);
        assert_eq!(answer[44..48], [0, 0, 0x05, 0x8c]);
        assert_eq!(answer[48..], packet[..1232]);
    }

    #[test]
    fn ipv6_is_never_told_less_than_1280() {
        let packet = Sample::udp(true, 1300).build();
        assert_eq!(
            answer(&packet, 1200).expect("an answer")[44..48],
            [0, 0, 0x05, 0x00]
        );
        let least = Sample::udp(true, 1280 - 48).build();
        assert_eq!(answer(&least, 1200), None, "the sender cannot send less");
    }

    #[test]
    fn nobody_is_answered_who_must_not_be() {
        let v4 = Sample::ping(false, 1472).build();
        let v6 = Sample::ping(true, 1472).build();
        assert!(
            answer(&v4, 1420).is_some() && answer(&v6, 1420).is_some(),
            "echo requests are"
        );
        let with = |packet: &[u8], at: usize, byte: u8| {
            let mut packet = packet.to_vec();
            packet[at] = byte;
            answer(&packet, 1420)
        };
        assert_eq!(with(&v4, 20, 3), None, "ICMP error");
        assert_eq!(with(&v4, 20, 5), None, "ICMP redirect");
        assert_eq!(with(&v6, 40, 1), None, "ICMPv6 error");
        assert_eq!(with(&v6, 40, 137), None, "ICMPv6 redirect");
        assert_eq!(with(&v4, 7, 1), None, "later fragment");
        assert_eq!(with(&v4, 16, 224), None, "to multicast");
        assert_eq!(with(&v4, 12, 224), None, "from multicast");
        assert_eq!(with(&v4, 16, 255), None, "broadcast");
        assert_eq!(with(&v4, 12, 127), None, "from loopback");
        assert_eq!(with(&v6, 24, 0xff), None, "to multicast");
        assert_eq!(with(&v6, 8, 0xff), None, "from multicast");
        let mut later = Sample::udp(true, 1400).build();
        later[6] = protocol::FRAGMENT;
        later[40..48].copy_from_slice(&[protocol::UDP, 0, 0, 9, 0, 0, 0, 1]);
        assert_eq!(answer(&later, 1420), None, "later fragment");
        let mut nobody = v6.clone();
        nobody[8..24].fill(0);
        assert_eq!(answer(&nobody, 1420), None, "from nobody");
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_answered_validly(
            mut packet in prop::collection::vec(any::<u8>(), 0..1500), v6: bool, mtu in 0..70_000usize,
        ) {
            if packet.len() > 40 {
                packet[0] = if v6 { 0x60 } else { 0x45 };
                let len = (packet.len() - if v6 { 40 } else { 0 }) as u16;
                packet[if v6 { 4..6 } else { 2..4 }].copy_from_slice(&len.to_be_bytes());
            }
            if let Some(answer) = answer(&packet, mtu) {
                assert_valid(&answer);
            }
        }
    }
}
