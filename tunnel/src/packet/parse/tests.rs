//! What is found in headers, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::packet::sample::Sample;

#[test]
fn addresses_tos_and_transport_are_found() {
    let v4 = Sample::udp(false, 10).build();
    let packet = Packet::parse(&v4).expect("a packet");
    assert_eq!(packet.source(), IpAddr::from([10, 77, 1, 2]));
    assert_eq!(packet.destination(), IpAddr::from([10, 77, 2, 3]));
    assert_eq!(
        (packet.tos(), packet.protocol(), packet.l4_offset()),
        (0x28, protocol::UDP, 20)
    );
    assert!(packet.dont_fragment());
    let v6 = Sample::udp(true, 10).build();
    let packet = Packet::parse(&v6).expect("a packet");
    assert_eq!(packet.source(), "fd77:1::2".parse::<IpAddr>().expect("valid"));
    assert_eq!(
        packet.destination(),
        "fd77:2::3".parse::<IpAddr>().expect("valid")
    );
    assert_eq!(
        (packet.tos(), packet.protocol(), packet.l4_offset()),
        (0x28, protocol::UDP, 40)
    );
}

#[test]
fn padding_after_the_packet_is_cut_off() {
    for v6 in [false, true] {
        let whole = Sample::tcp(v6, 5).build();
        let padded = [&whole[..], &[0; 11]].concat();
        assert_eq!(Packet::parse(&padded).expect("a packet").bytes(), whole);
    }
}

#[test]
fn truncated_and_contradictory_headers_are_refused() {
    for v6 in [false, true] {
        let whole = Sample::tcp(v6, 5).build();
        for len in 1..whole.len() {
            assert_eq!(
                Packet::parse(&whole[..len]).err(),
                Some(ParseError::Short),
                "{len}"
            );
        }
    }
    assert_eq!(Packet::parse(&[]).err(), Some(ParseError::Version));
    assert_eq!(Packet::parse(&[0x50; 40]).err(), Some(ParseError::Version));
    let mut v4 = Sample::tcp(false, 5).build();
    v4[0] = 0x44;
    assert_eq!(
        Packet::parse(&v4).err(),
        Some(ParseError::Header),
        "header of 16 bytes"
    );
    let mut v4 = Sample::tcp(false, 5).build();
    v4[2..4].copy_from_slice(&[0, 19]);
    assert_eq!(
        Packet::parse(&v4).err(),
        Some(ParseError::Header),
        "total shorter than the header"
    );
}

#[test]
fn extension_headers_are_followed_to_the_transport() {
    let mut packet = Sample::udp(true, 10).build();
    packet.splice(
        40..40,
        [protocol::DESTINATION_OPTIONS, 1].into_iter().chain([0; 14]),
    );
    packet.splice(56..56, [protocol::UDP, 0, 0, 0, 0, 0, 0, 0]);
    packet[6] = protocol::HOP_BY_HOP;
    packet[5] += 24;
    let view = Packet::parse(&packet).expect("a packet");
    assert_eq!((view.protocol(), view.l4_offset()), (protocol::UDP, 64));
    assert_eq!(view.extensions(), Extensions::Copyable);
    assert_eq!(view.fragment(), Fragment::Whole);
}

#[test]
fn fragments_are_told_apart() {
    for (field, expected) in [
        (0u16, Fragment::Whole),
        (1, Fragment::First),
        (0x58 | 1, Fragment::Later),
        (0x58, Fragment::Later),
    ] {
        let mut v6 = Sample::udp(true, 10).build();
        v6[6] = protocol::FRAGMENT;
        v6[40..44].copy_from_slice(&[protocol::UDP, 0, (field >> 8) as u8, field as u8]);
        let packet = Packet::parse(&v6).expect("a packet");
        assert_eq!((packet.fragment(), packet.protocol()), (expected, protocol::UDP));
    }
    for (field, expected) in [
        (0x4000u16, Fragment::Whole),
        (0x2000, Fragment::First),
        (0x2001, Fragment::Later),
        (1, Fragment::Later),
    ] {
        let mut v4 = Sample::udp(false, 10).build();
        v4[6..8].copy_from_slice(&field.to_be_bytes());
        assert_eq!(Packet::parse(&v4).expect("a packet").fragment(), expected);
    }
}

#[test]
fn a_source_route_pins_the_packet() {
    for (options, expected) in [
        (vec![1, 1, 1, 0], Extensions::Copyable),
        (vec![131, 3, 4, 0], Extensions::Pinning),
        (vec![1, 137, 3, 4], Extensions::Pinning),
        (vec![7, 9, 4, 0], Extensions::Pinning),
        (vec![1, 1, 1, 7], Extensions::Pinning),
    ] {
        let packet = Sample {
            ip_options: options,
            ..Sample::udp(false, 10)
        }
        .build();
        assert_eq!(Packet::parse(&packet).expect("a packet").extensions(), expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in 4..=6u8) {
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | *first & 0xf;
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            let _ = (packet.source(), packet.destination(), packet.tos(), packet.l4(), packet.dont_fragment());
        }
    }
}
