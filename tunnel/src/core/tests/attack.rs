//! Datagrams and packets that must be dropped, and counted.

use std::net::SocketAddr;

use super::packets::{udp, v4, v6};
use super::two::{Datagram, Node, friends, settle};
use crate::drop_reason::DropReason;
use crate::packet::VnetHdr;

/// A data message from `a` for `b`, taken off the wire.
fn intercepted(a: &mut Node, payload: &[u8]) -> Datagram {
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), payload));
    a.edges.sent.pop_front().expect("a datagram was sent")
}

#[test]
fn a_replayed_datagram_is_dropped() {
    let (mut a, mut b) = friends();
    let datagram = intercepted(&mut a, b"once");
    b.arrive(a.address, 0, &datagram.bytes);
    assert_eq!(b.take_packets().len(), 1);
    b.arrive(a.address, 0, &datagram.bytes);
    assert_eq!(b.take_packets().len(), 0);
    assert_eq!(b.drops(DropReason::Replayed), 1);
}

#[test]
fn a_replayed_initiation_is_dropped() {
    let (mut a, mut b) = super::two::strangers();
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"hello"));
    let initiation = a.edges.sent[0].clone();
    settle(&mut a, &mut b);
    b.arrive(a.address, 0, &initiation.bytes);
    assert_eq!(b.drops(DropReason::Replayed), 1);
    assert!(b.edges.sent.is_empty());
}

#[test]
fn a_truncated_datagram_is_dropped() {
    let (mut a, mut b) = friends();
    let datagram = intercepted(&mut a, b"whole");
    for length in [0, 3, 16, 31, 32, datagram.bytes.len() - 1] {
        b.arrive(a.address, 0, &datagram.bytes[..length]);
    }
    assert_eq!(b.drops(DropReason::NotWireGuard), 4);
    assert_eq!(b.drops(DropReason::BadAuthentication), 2);
    assert_eq!(b.take_packets().len(), 0);
    b.arrive(a.address, 0, &datagram.bytes);
    assert_eq!(
        b.take_packets().len(),
        1,
        "the replay window moves only after authentication"
    );
}

#[test]
fn a_datagram_cut_off_by_the_receive_buffer_is_dropped() {
    let (a, mut b) = friends();
    let received = crate::socket::Received {
        from: a.address,
        tos: 0,
        length: 64,
        segment: 64,
        truncated: true,
    };
    b.core
        .datagrams_from_socket(&received, &[4; 64], b.now, &mut b.edges);
    assert_eq!(b.drops(DropReason::Oversized), 1);
}

#[test]
fn a_wrong_receiver_index_is_dropped() {
    let (mut a, mut b) = friends();
    let mut datagram = intercepted(&mut a, b"astray");
    // Another session of the same peer, then another peer.
    for byte in [4, 6] {
        datagram.bytes[byte] ^= 0x55;
        b.arrive(a.address, 0, &datagram.bytes);
        datagram.bytes[byte] ^= 0x55;
    }
    assert_eq!(b.drops(DropReason::WrongIndex), 2);
    assert_eq!(b.take_packets().len(), 0);
}

#[test]
fn a_changed_bit_is_noticed_wherever_it_is() {
    let (mut a, mut b) = friends();
    let datagram = intercepted(&mut a, b"untouched");
    for at in 0..datagram.bytes.len() {
        let mut changed = datagram.bytes.clone();
        changed[at] ^= 0x10;
        b.arrive(a.address, 0, &changed);
    }
    assert_eq!(b.take_packets().len(), 0);
    assert_eq!(b.core.drops().total(), datagram.bytes.len() as u64);
}

#[test]
fn a_spoofed_inner_source_is_dropped() {
    let (mut a, mut b) = friends();
    for (source, destination) in [(v4(3), v4(2)), (v4(2), v4(2)), (v6(3), v6(2))] {
        a.tun(VnetHdr::default(), &udp(source, destination, b"who, me?"));
    }
    settle(&mut a, &mut b);
    assert_eq!(b.drops(DropReason::SpoofedSource), 3);
    assert_eq!(b.take_packets().len(), 0);
}

#[test]
fn an_unknown_peers_handshake_is_dropped() {
    let (mut a, mut b) = super::two::strangers();
    b.core.remove_all_peers();
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"let me in"));
    settle(&mut a, &mut b);
    assert_eq!(b.drops(DropReason::BadAuthentication), 1);
    assert_eq!((a.handshakes(), b.handshakes()), (0, 0));
}

#[test]
fn a_forged_datagram_does_not_move_the_endpoint() {
    let (mut a, mut b) = friends();
    let elsewhere: SocketAddr = "203.0.113.9:9".parse().expect("an address");
    let mut datagram = intercepted(&mut a, b"moving");
    *datagram.bytes.last_mut().expect("not empty") ^= 1;
    b.arrive(elsewhere, 0, &datagram.bytes);
    assert_eq!(b.endpoint(), Some(a.address));
    *datagram.bytes.last_mut().expect("not empty") ^= 1;
    b.arrive(elsewhere, 0, &datagram.bytes);
    assert_eq!(b.endpoint(), Some(elsewhere));
}

#[test]
fn what_is_no_packet_or_goes_nowhere_is_dropped_on_the_way_out() {
    let (mut a, _) = friends();
    a.tun(VnetHdr::default(), &[0x45; 10]);
    a.tun(VnetHdr::default(), &[]);
    a.core.packet_from_tun(&[0; 3], &mut a.edges);
    assert_eq!(a.drops(DropReason::Malformed), 3);
    a.tun(VnetHdr::default(), &udp(v4(1), v4(99), b"nobody"));
    assert_eq!(a.drops(DropReason::NoPeer), 1);
    let all_routers = "ff02::2".parse().expect("an address");
    a.tun(VnetHdr::default(), &udp(v6(1), all_routers, b"solicitation"));
    assert_eq!(a.drops(DropReason::LinkLocal), 1);
    assert!(a.edges.sent.is_empty());
}

#[test]
fn congestion_marked_around_a_packet_that_knows_none_drops_it() {
    let (mut a, mut b) = friends();
    let marked = intercepted(&mut a, b"no ECN");
    b.arrive(a.address, 3, &marked.bytes);
    assert_eq!(b.drops(DropReason::EcnInvalid), 1);
    assert_eq!(b.take_packets().len(), 0);
}
