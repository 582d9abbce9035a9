//! What every cut must keep: the bytes, the checksums, the flags and the order.

use proptest::prelude::*;

use super::*;
use crate::packet::{
    sample::{ACK, Sample, assert_valid},
    vnet::Partial,
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Cuts, and checks what holds for every segment.
fn cut(vnet: VnetHdr, packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, CutError> {
    let mut segments = Vec::new();
    let count = Cutter::new().cut(vnet, packet, mtu, |segment| {
        assert!(segment.padded.len() <= mtu);
        assert!(segment.padded.len() == mtu || segment.padded.len() % PADDING == 0);
        assert!(segment.padded.len() - segment.len < PADDING);
        assert!(segment.padded[segment.len..].iter().all(|byte| *byte == 0));
        segments.push(segment.padded[..segment.len].to_vec());
    })?;
    assert_eq!(count, segments.len());
    Ok(segments)
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn sequence(tcp: &[u8]) -> u32 {
    u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
}

/// Checks segments against the sample they were cut from.
fn assert_segments_of(sample: &Sample, segments: &[Vec<u8>]) {
    let (l4, headers) = (sample.l4_offset(), sample.headers());
    let mut stream = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        assert_valid(segment);
        let tcp = &segment[l4..];
        assert_eq!(sequence(tcp), sample.sequence.wrapping_add(stream.len() as u32));
        let (first, last) = (index == 0, index + 1 == segments.len());
        let flag = |flag: u8| tcp[13] & flag != 0;
        let had = |flag: u8| sample.tcp_flags & flag != 0;
        assert_eq!(flag(CWR), had(CWR) && first, "CWR on the first only");
        assert_eq!(flag(PSH), had(PSH) && last, "PSH on the last only");
        assert_eq!(flag(FIN), had(FIN) && last, "FIN on the last only");
        let urgent = usize::from(sample.urgent).saturating_sub(stream.len());
        assert_eq!(usize::from(word(tcp, 18)), urgent);
        assert_eq!(flag(URG), had(URG) && (first || urgent > 0));
        let kept = !(CWR | PSH | FIN | URG);
        assert_eq!(tcp[13] & kept, sample.tcp_flags & kept);
        assert_eq!(
            &segment[l4 + 20..headers],
            &sample.tcp_options,
            "options are repeated"
        );
        if !sample.v6 {
            assert_eq!(
                word(segment, 4),
                sample.id.wrapping_add(index as u16),
                "identification counts up"
            );
            assert_eq!(&segment[20..l4], &sample.ip_options);
        }
        stream.extend_from_slice(&segment[headers..]);
    }
    assert_eq!(stream, sample.payload, "the stream is the same");
    let lengths: Vec<_> = segments.iter().map(Vec::len).collect();
    assert!(
        lengths[..lengths.len() - 1].iter().all(|len| *len == lengths[0]),
        "equal but the last"
    );
}

prop_compose! {
    fn tcp_sample(max_payload: usize)(
        v6: bool, payload in 2..max_payload, seed: u8, tos: u8, id: u16, dont_fragment: bool,
        ip_options in prop_oneof![Just(vec![]), Just(vec![1, 1, 1, 0]), Just(vec![148, 4, 0, 0])],
        sequence: u32, flags in any::<u8>(), urgent: u16, options in 0..11usize,
    ) -> Sample {
        let mut sample = Sample::tcp(v6, payload);
        sample.payload.iter_mut().for_each(|byte| *byte ^= seed);
        Sample {
            tos, id, dont_fragment, sequence, urgent,
            ip_options: if v6 { vec![] } else { ip_options },
            // Everything but SYN and RST.
            tcp_flags: flags & !0x06 | ACK,
            tcp_options: vec![1; options * 4],
            ..sample
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_tcp_super_packet_keeps_its_stream(sample in tcp_sample(20_000), mtu in 200..9000usize, gso in 8..9000u16) {
        let (vnet, packet) = sample.partial(sample.gso(), gso);
        let segments = cut(vnet, &packet, mtu).expect("can be cut");
        prop_assert!(segments[0].len() - sample.headers() <= usize::from(gso));
        assert_segments_of(&sample, &segments);
    }

    #[test]
    fn a_tcp_segment_for_a_larger_mtu_keeps_its_stream(sample in tcp_sample(3000), share in 0..100usize) {
        let packet = sample.build();
        let mtu = mtu_below(&sample, share);
        assert_segments_of(&sample, &cut(VnetHdr::default(), &packet, mtu).expect("can be cut"));
        let (vnet, packet) = sample.partial(Gso::None, 0);
        assert_segments_of(&sample, &cut(vnet, &packet, mtu).expect("can be cut"));
    }

    #[test]
    fn a_flipped_bit_is_never_laundered(
        sample in tcp_sample(1500), udp: bool, share in 0..100usize, at in any::<prop::sample::Index>(), bit in 0..8u32,
    ) {
        let sample = if udp { Sample { protocol: protocol::UDP, ..sample } } else { sample };
        let mut packet = sample.build();
        let mtu = mtu_below(&sample, share);
        // IPv6's own header is under no checksum but for its addresses.
        let first = if sample.v6 { 8 } else { 0 };
        let at = first + at.index(packet.len() - first);
        packet[at] ^= 1u8 << bit;
        for gso in [Gso::None, sample.gso()] {
            let vnet = VnetHdr { gso, gso_size: if gso == Gso::None { 0 } else { 100 }, ..VnetHdr::default() };
            if let Ok(segments) = cut(vnet, &packet, mtu) {
                let unchanged = segments.len() == 1 && packet.starts_with(&segments[0]);
                // Fragments carry the transport's checksum as it is: the receiver judges.
                let fragments = !sample.v6 && gso == Gso::None && at >= sample.l4_offset() && segments[0][6] & 0x20 != 0;
                let zeroed = udp && word(&packet, sample.l4_offset() + 6) == 0;
                prop_assert!(unchanged || fragments || zeroed, "{gso:?}: byte {at}");
            }
        }
    }

    #[test]
    fn fragments_reassemble_to_the_packet(
        payload in 0..5000usize, mtu in 68..1500usize, again in 68..600usize, udp: bool, partial: bool,
        ip_options in prop_oneof![Just(vec![]), Just(vec![7, 4, 4, 0, 148, 4, 0, 0]), Just(vec![148, 4, 0, 0, 1, 7, 3, 4])],
    ) {
        let sample = if udp { Sample::udp(false, payload) } else { Sample::ping(false, payload) };
        let sample = Sample { dont_fragment: false, ip_options, ..sample };
        let whole = sample.build();
        let (vnet, packet) = if partial { sample.partial(Gso::None, 0) } else { (VnetHdr::default(), whole.clone()) };
        let fragments = cut(vnet, &packet, mtu).expect("may be fragmented");
        prop_assert_eq!(reassemble(&fragments), whole.clone());
        let smaller: Vec<_> = fragments
            .iter()
            .flat_map(|fragment| cut(VnetHdr::default(), fragment, again).expect("may be fragmented again"))
            .collect();
        prop_assert_eq!(reassemble(&smaller), whole);
    }

    #[test]
    fn a_udp_super_packet_is_split_at_its_own_size(
        v6: bool, with_checksum: bool, size in 1..1300usize, datagrams in 1..50usize, cut_short in 0..1300usize, df: bool,
    ) {
        let payload = (size * datagrams - cut_short % size).min(65_000);
        let sample = Sample { dont_fragment: df, ..Sample::udp(v6, payload) };
        let (mut vnet, mut packet) = sample.partial(Gso::Udp, size as u16);
        if !v6 && !with_checksum {
            vnet.partial = None;
            packet[26..28].fill(0);
        }
        let segments = cut(vnet, &packet, 1400).expect("fits");
        prop_assert_eq!(segments.len(), payload.div_ceil(size));
        let mut stream = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let udp = &segment[sample.l4_offset()..];
            prop_assert_eq!(usize::from(word(udp, 4)), udp.len());
            prop_assert!(udp.len() - 8 == size || index + 1 == segments.len());
            if !v6 && !with_checksum {
                prop_assert_eq!(word(udp, 6), 0);
            } else {
                assert_valid(segment);
            }
            if !v6 {
                prop_assert_eq!(word(segment, 4), sample.id.wrapping_add(index as u16));
            }
            stream.extend_from_slice(&udp[8..]);
        }
        prop_assert_eq!(stream, sample.payload);
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut packet in prop::collection::vec(any::<u8>(), 0..2000), v6: bool, header: [u8; 10], mtu in 0..1600usize,
        fix_length: bool,
    ) {
        if fix_length && packet.len() >= 60 {
            let len = packet.len() as u16;
            packet[0] = if v6 { 0x60 } else { 0x40 | packet[0] & 0xf };
            let at = if v6 { 4 } else { 2 };
            let len = if v6 { len - 40 } else { len };
            packet[at..at + 2].copy_from_slice(&len.to_be_bytes());
        }
        if let Ok(vnet) = VnetHdr::decode(&header) {
            let _ = cut(vnet, &packet, mtu);
        }
        let _ = cut(VnetHdr::default(), &packet, mtu);
    }
}

/// An MTU that holds the headers and a share, in percent, of the payload, but not all of it.
fn mtu_below(sample: &Sample, share: usize) -> usize {
    sample.headers() + (sample.payload.len() * share / 100).max(1)
}

/// Puts fragments together as RFC 791 §3.2 has it.
fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (index, fragment) in fragments.iter().enumerate() {
        assert_valid(fragment);
        let view = Packet::parse(fragment).expect("a packet");
        let field = word(fragment, 6);
        assert_eq!(
            usize::from(field & 0x1fff) * 8,
            payload.len(),
            "in order, without gaps"
        );
        assert_eq!(
            field & 0x2000 != 0,
            index + 1 != fragments.len(),
            "MF on all but the last"
        );
        payload.extend_from_slice(view.l4());
    }
    let l4 = Packet::parse(&fragments[0]).expect("a packet").l4_offset();
    let mut packet = [&fragments[0][..l4], &payload].concat();
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[6] &= 0x40;
    packet[10..12].fill(0);
    let sum = !crate::packet::sample::naive_sum(&packet[..l4]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn what_fits_passes_unchanged_with_its_wrong_checksum() {
    for v6 in [false, true] {
        let mut packet = Sample::tcp(v6, 500).build();
        *packet.last_mut().expect("not empty") ^= 1;
        assert_eq!(cut(VnetHdr::default(), &packet, 1420), Ok(vec![packet.clone()]));
    }
}

#[test]
fn a_partial_checksum_is_completed() {
    for v6 in [false, true] {
        for sample in [Sample::tcp(v6, 501), Sample::udp(v6, 33), Sample::ping(v6, 8)] {
            let (vnet, packet) = sample.partial(Gso::None, 0);
            assert_eq!(cut(vnet, &packet, 1420), Ok(vec![sample.build()]));
        }
    }
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
    let mut sample = Sample::udp(false, 2);
    sample.payload = vec![0, 0];
    let sum = word(&sample.build(), 26);
    sample.payload = sum.to_be_bytes().to_vec();
    let (vnet, packet) = sample.partial(Gso::None, 0);
    let segments = cut(vnet, &packet, 1420).expect("fits");
    assert_eq!(word(&segments[0], 26), 0xffff);
    let (vnet, packet) = sample.partial(Gso::Udp, 2);
    assert_eq!(cut(vnet, &packet, 1420), Ok(segments));
}

#[test]
fn a_partial_checksum_cannot_overwrite_what_lookups_have_read() {
    let l4 = 20;
    for (sample, start, offset) in [
        (Sample::tcp(false, 50), 0, 16),  // the destination address
        (Sample::tcp(false, 50), l4, 2),  // a port
        (Sample::tcp(false, 50), l4, 40), // TCP carries nothing that has a checksum of its own
        (Sample::udp(false, 50), l4, 4),  // the length
        (Sample::udp(false, 50), l4, 7),  // half the checksum
        (Sample::udp(false, 50), l4, 57), // past the end
        (Sample::udp(false, 50), 90, 0),  // past the end
        (Sample::ping(false, 50), l4, 0), // the ICMP type
        (Sample::udp(false, 50), u16::MAX, u16::MAX),
    ] {
        let vnet = VnetHdr {
            partial: Some(Partial { start, offset }),
            ..VnetHdr::default()
        };
        assert_eq!(
            cut(vnet, &sample.build(), 1420),
            Err(CutError::Malformed),
            "{start} {offset}"
        );
    }
    // A tunnel of the pod's own: the checksum of the packet inside, with the outer one zero.
    let mut outer = Sample::udp(false, 60).build();
    outer[26..28].fill(0);
    let vnet = VnetHdr {
        partial: Some(Partial {
            start: 48,
            offset: 16,
        }),
        ..VnetHdr::default()
    };
    assert_eq!(cut(vnet, &outer, 1420).map(|segments| segments.len()), Ok(1));
}

#[test]
fn what_may_not_be_cut_is_too_big() {
    let too_big = Err(CutError::TooBig { mtu: 1420 });
    let whole = VnetHdr::default();
    assert_eq!(cut(whole, &Sample::udp(false, 1450).build(), 1420), too_big, "DF");
    assert_eq!(
        cut(whole, &Sample::udp(true, 1450).build(), 1420),
        too_big,
        "IPv6"
    );
    assert_eq!(cut(whole, &Sample::ping(true, 1450).build(), 1420), too_big);
    let syn = Sample {
        tcp_flags: SYN,
        ..Sample::tcp(false, 1450)
    };
    assert_eq!(cut(whole, &syn.build(), 1420), too_big, "SYN with data");
    let (vnet, packet) = Sample::udp(true, 14_500).partial(Gso::Udp, 1450);
    assert_eq!(cut(vnet, &packet, 1420), too_big, "datagrams keep their size");
    let (vnet, packet) = Sample::tcp(true, 14_500).partial(Gso::Tcp6, 1400);
    assert_eq!(
        cut(vnet, &packet, 60),
        Err(CutError::TooBig { mtu: 60 }),
        "headers alone"
    );
}

#[test]
fn ipv6_headers_that_pin_length_or_destination_are_not_repeated() {
    for (kind, cuttable) in [
        (protocol::DESTINATION_OPTIONS, true),
        (protocol::ROUTING, false),
        (protocol::FRAGMENT, false),
    ] {
        let sample = Sample::tcp(true, 1400);
        let mut packet = sample.build();
        packet.splice(40..40, [protocol::TCP, 0, 0, 0, 0, 0, 0, 0]);
        packet[6] = kind;
        let len = packet.len() as u16 - 40;
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        let segments = cut(VnetHdr::default(), &packet, 1280);
        if cuttable {
            let segments = segments.expect("options are repeated");
            assert_eq!(segments.len(), 2);
            segments.iter().for_each(|segment| assert_valid(segment));
        } else {
            assert_eq!(segments, Err(CutError::TooBig { mtu: 1280 }));
        }
    }
}

#[test]
fn a_udp_super_packet_too_big_for_the_tunnel_is_fragmented_where_it_may_be() {
    let sample = Sample {
        dont_fragment: false,
        ..Sample::udp(false, 4400)
    };
    let (vnet, packet) = sample.partial(Gso::Udp, 1450);
    let segments = cut(vnet, &packet, 1420).expect("may be fragmented");
    assert_eq!(segments.len(), 2 + 2 + 2 + 1);
    let datagrams: Vec<_> = segments.chunks(2).map(reassemble).collect();
    datagrams.iter().for_each(|datagram| assert_valid(datagram));
    let stream: Vec<_> = datagrams
        .iter()
        .flat_map(|datagram| datagram[28..].to_vec())
        .collect();
    assert_eq!(stream, sample.payload);
}

#[test]
fn a_vnet_header_that_contradicts_the_packet_is_malformed() {
    let (vnet, tcp4) = Sample::tcp(false, 3000).partial(Gso::Tcp4, 1000);
    let (_, tcp6) = Sample::tcp(true, 3000).partial(Gso::Tcp6, 1000);
    let (_, udp4) = Sample::udp(false, 3000).partial(Gso::Udp, 1000);
    let malformed = Err(CutError::Malformed);
    assert_eq!(cut(vnet, &tcp6, 1420), malformed);
    assert_eq!(cut(vnet, &udp4, 1420), malformed);
    assert_eq!(
        cut(
            VnetHdr {
                gso: Gso::Udp,
                ..vnet
            },
            &tcp4,
            1420
        ),
        malformed
    );
    assert_eq!(cut(VnetHdr { gso_size: 7, ..vnet }, &tcp4, 1420), malformed);
    let elsewhere = Some(Partial {
        start: 24,
        offset: 16,
    });
    assert_eq!(
        cut(
            VnetHdr {
                partial: elsewhere,
                ..vnet
            },
            &tcp4,
            1420
        ),
        malformed
    );
    let mut fragment = tcp4.clone();
    fragment[6] = 0x20;
    assert_eq!(cut(vnet, &fragment, 1420), malformed);
    let (vnet, udp) = Sample::udp(false, 129).partial(Gso::Udp, 1);
    assert_eq!(
        cut(vnet, &udp, 1420),
        malformed,
        "more datagrams than the kernel ever puts together"
    );
}
