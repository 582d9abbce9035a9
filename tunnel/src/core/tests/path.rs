//! Super-packets, MTU and what is too big.

use super::packets::{pattern, tcp, tcp_payload, udp, udp_df, v4, v6};
use super::two::{friends, settle};
use crate::drop_reason::DropReason;
use crate::packet::VnetHdr;
use crate::packet::vnet::Gso;

#[test]
fn a_super_packet_leaves_in_few_sends_and_arrives_as_super_packets() {
    for (source, destination) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let (mut a, mut b) = friends();
        let payload = pattern(60_000);
        let (header, packet) = tcp(source, destination, 1_000, &payload);
        a.edges.sends = 0;
        a.tun(header, &packet);
        assert_eq!(a.edges.sends, 1);
        assert!(a.edges.sent.iter().all(|d| d.bytes.len() + 28 <= 1_500));

        let segment = a.edges.sent[0].bytes.len();
        let together: Vec<u8> = a.edges.sent.drain(..).flat_map(|d| d.bytes).collect();
        b.arrive_together(a.address, &together, segment);
        assert_eq!(b.edges.delivered.len(), 1);
        let (header, packet) = &b.edges.delivered[0];
        assert!(matches!(header.gso, Gso::Tcp4 | Gso::Tcp6));
        assert_eq!(tcp_payload(packet), (1_000, &payload[..]));
    }
}

#[test]
fn super_packets_that_exceed_one_send_are_spread() {
    let (mut a, mut b) = friends();
    let payload = pattern(64_000);
    a.edges.sends = 0;
    for n in 0..3 {
        let (header, packet) = tcp(v4(1), v4(2), n * 64_000, &payload);
        a.tun(header, &packet);
    }
    assert!(a.edges.sends <= 6);
    settle(&mut a, &mut b);
    let mut received = vec![0; 3 * 64_000];
    for packet in b.take_packets() {
        let (sequence, bytes) = tcp_payload(&packet);
        received[sequence as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    assert_eq!(received, payload.repeat(3));
}

#[test]
fn a_shrinking_path_costs_one_batch_and_is_followed() {
    let (mut a, mut b) = friends();
    assert_eq!(a.mtu(), 1_440);
    a.edges.path_mtu = 1_400;
    let (header, packet) = tcp(v4(1), v4(2), 0, &pattern(30_000));
    a.tun(header, &packet);
    assert!(a.drops(DropReason::PathMtuShrunk) > 0);
    assert_eq!(a.mtu(), 1_340);
    a.edges.sent.clear();
    a.tun(header, &packet);
    assert!(a.edges.sent.iter().all(|d| d.bytes.len() + 28 <= 1_400));
    settle(&mut a, &mut b);
    assert_eq!(
        b.take_packets()
            .iter()
            .map(|p| tcp_payload(p).1.len())
            .sum::<usize>(),
        30_000
    );
}

#[test]
fn a_path_that_grows_is_noticed_within_a_second() {
    let (mut a, _) = friends();
    a.edges.path_mtu = 9_000;
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"traffic"));
    a.later(std::time::Duration::from_secs(1));
    a.tick();
    assert_eq!(a.mtu(), 8_940);
}

#[test]
fn a_packet_that_may_not_be_cut_is_answered_with_too_big() {
    let (mut a, _) = friends();
    for packet in [
        udp_df(v4(1), v4(2), &pattern(1_472), true),
        udp(v6(1), v6(2), &pattern(1_452)),
    ] {
        a.edges.sent.clear();
        a.tun(VnetHdr::default(), &packet);
        assert!(a.edges.sent.is_empty());
        let answers = a.take_packets();
        assert_eq!(answers.len(), 1);
        let (icmp, mtu) = match answers[0][0] >> 4 {
            4 => (
                answers[0][20],
                u32::from(u16::from_be_bytes([answers[0][26], answers[0][27]])),
            ),
            _ => (
                answers[0][40],
                u32::from_be_bytes(*answers[0][44..].first_chunk().expect("an MTU")),
            ),
        };
        assert!(matches!(icmp, 3 | 2));
        assert_eq!(mtu, 1_440);
    }
    assert_eq!(a.drops(DropReason::TooBig), 2);
}

#[test]
fn an_ipv4_packet_that_may_be_cut_is_fragmented_inside_the_tunnel() {
    let (mut a, mut b) = friends();
    a.tun(VnetHdr::default(), &udp_df(v4(1), v4(2), &pattern(1_472), false));
    assert!(a.edges.sent.len() > 1);
    settle(&mut a, &mut b);
    let fragments = b.take_packets();
    assert_eq!(fragments.iter().map(|f| f.len() - 20).sum::<usize>(), 1_480);
}

#[test]
fn at_1280_tcp_passes_and_larger_ipv6_datagrams_are_dropped_and_counted() {
    let (mut a, mut b) = friends();
    a.edges.path_mtu = 1_280;
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"traffic"));
    a.later(std::time::Duration::from_secs(1));
    a.tick();
    assert_eq!(a.mtu(), 1_220);
    settle(&mut a, &mut b);
    b.take_packets();

    let (header, packet) = tcp(v6(1), v6(2), 0, &pattern(20_000));
    a.tun(header, &packet);
    settle(&mut a, &mut b);
    assert_eq!(
        b.take_packets()
            .iter()
            .map(|p| tcp_payload(p).1.len())
            .sum::<usize>(),
        20_000
    );

    a.tun(VnetHdr::default(), &udp(v6(1), v6(2), &pattern(1_232)));
    assert_eq!(a.drops(DropReason::TooBig), 1);
    assert!(a.edges.sent.is_empty());
}

#[test]
fn congestion_marked_on_the_way_reaches_the_inner_packet() {
    let (mut a, mut b) = friends();
    let mut packet = udp(v6(1), v6(2), b"ECN");
    packet[1] |= 0x20;
    a.tun(VnetHdr::default(), &packet);
    let datagram = a.edges.sent.pop_front().expect("was sent");
    assert_eq!(datagram.tos, 2);
    b.arrive(a.address, 3, &datagram.bytes);
    assert_eq!(b.take_packets()[0][1], 0x30);
}

#[test]
fn packets_are_padded_to_sixteen_bytes() {
    let (mut a, _) = friends();
    for length in 0..40 {
        a.tun(VnetHdr::default(), &udp(v4(1), v4(2), &pattern(length)));
        let datagram = a.edges.sent.pop_front().expect("was sent");
        assert_eq!(datagram.bytes.len() % 16, 0);
    }
}
