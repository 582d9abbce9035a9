//! Handshakes, keys, waiting, roaming, restarts and control messages.

use std::net::SocketAddr;
use std::time::Duration;

use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

use super::packets::{udp, v4, v6};
use super::two::{CONTROL_PORT, Node, carry, friends, peer_config, secret, settle, strangers};
use crate::drop_reason::DropReason;
use crate::lane::LaneEventKind;
use crate::packet::VnetHdr;

#[test]
fn the_first_packet_waits_for_the_handshake_and_arrives() {
    let (mut a, mut b) = strangers();
    let packet = udp(v4(1), v4(2), b"first");
    a.tun(VnetHdr::default(), &packet);
    settle(&mut a, &mut b);
    assert_eq!(b.take_packets(), [packet]);
    assert_eq!((a.handshakes(), b.handshakes()), (1, 1));
    assert_eq!(a.core.drops().total() + b.core.drops().total(), 0);
}

#[test]
fn packets_pass_in_both_directions_and_families() {
    let (mut a, mut b) = friends();
    for (source, destination) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let packet = udp(source, destination, b"there");
        a.tun(VnetHdr::default(), &packet);
        settle(&mut a, &mut b);
        assert_eq!(b.take_packets(), [packet]);
        let packet = udp(destination, source, b"and back");
        b.tun(VnetHdr::default(), &packet);
        settle(&mut a, &mut b);
        assert_eq!(a.take_packets(), [packet]);
    }
}

#[test]
fn a_lost_initiation_is_repeated_when_asked_for_if_packets_wait() {
    let (mut a, mut b) = strangers();
    let key = PublicKey::from(&secret(2));
    let now = a.now;
    a.core.connect_waiting(&key, now, &mut a.edges).expect("known");
    assert!(a.edges.sent.is_empty(), "nothing waits");
    let packet = udp(v4(1), v4(2), b"early");
    a.tun(VnetHdr::default(), &packet);
    assert_eq!(a.edges.sent.len(), 1);
    a.edges.sent.clear();
    a.core.connect_waiting(&key, now, &mut a.edges).expect("known");
    settle(&mut a, &mut b);
    assert_eq!(b.take_packets(), [packet]);
    a.core.connect_waiting(&key, now, &mut a.edges).expect("known");
    assert!(a.edges.sent.is_empty(), "there is a session");
}

#[test]
fn what_waits_for_a_handshake_is_bounded_and_counted() {
    let (mut a, _) = strangers();
    for n in 0..600_u32 {
        a.tun(VnetHdr::default(), &udp(v4(1), v4(2), &n.to_be_bytes()));
    }
    assert_eq!(a.drops(DropReason::HandshakeQueueFull), 600 - 512);
    assert_eq!(a.edges.sent.len(), 1, "one initiation for all of them");
}

#[test]
fn a_peer_without_endpoint_is_no_way_out() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.add_peer(crate::lane::PeerConfig {
        endpoint: None,
        ..peer_config(2)
    });
    b.add_peer(peer_config(1));
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"where?"));
    assert_eq!(a.drops(DropReason::NoEndpoint), 1);
    b.tun(VnetHdr::default(), &udp(v4(2), v4(1), b"here!"));
    settle(&mut a, &mut b);
    assert_eq!(a.endpoint(), Some(b.address));
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"there"));
    settle(&mut a, &mut b);
    assert_eq!(b.take_packets().len(), 1);
}

#[test]
fn a_preshared_key_must_be_the_same_on_both_sides() {
    let with_key = |n, byte| crate::lane::PeerConfig {
        preshared_key: Some(Zeroizing::new([byte; 32])),
        ..peer_config(n)
    };
    let (mut a, mut b) = strangers();
    a.add_peer(with_key(2, 9));
    b.add_peer(with_key(1, 8));
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"secret"));
    settle(&mut a, &mut b);
    assert_eq!((a.handshakes(), b.handshakes()), (0, 0));
    assert_eq!(a.drops(DropReason::BadAuthentication), 1);

    let (mut a, mut b) = friends();
    a.add_peer(with_key(2, 9));
    b.add_peer(with_key(1, 9));
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"secret"));
    settle(&mut a, &mut b);
    assert_eq!(b.take_packets().len(), 1);
    assert_eq!((a.handshakes(), b.handshakes()), (2, 2));
}

#[test]
fn naming_the_same_peer_again_keeps_its_session_and_its_place() {
    let (mut a, mut b) = friends();
    let elsewhere: SocketAddr = "203.0.113.9:9".parse().expect("an address");
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"moved"));
    let datagram = a.edges.sent.pop_front().expect("was sent");
    b.arrive(elsewhere, 0, &datagram.bytes);
    b.add_peer(peer_config(1));
    assert_eq!(b.endpoint(), Some(elsewhere));
    b.tun(VnetHdr::default(), &udp(v4(2), v4(1), b"still here"));
    assert_eq!(b.edges.sent[0].to, elsewhere);
    assert_eq!(b.handshakes(), 1);
}

#[test]
fn a_restarted_node_shakes_hands_as_soon_as_it_hears_from_a_peer() {
    let (mut a, _) = friends();
    let mut b = Node::new(2);
    b.add_peer(peer_config(1));
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"lost"));
    settle(&mut a, &mut b);
    assert_eq!(b.drops(DropReason::WrongIndex), 1);
    assert_eq!(b.handshakes(), 1);
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"found"));
    settle(&mut a, &mut b);
    assert_eq!(b.take_packets().len(), 1);
}

#[test]
fn datagrams_of_no_session_start_at_most_one_handshake_a_second() {
    let (mut a, _) = friends();
    let mut b = Node::new(2);
    b.add_peer(peer_config(1));
    for _ in 0..100 {
        a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"lost"));
        b.later(Duration::from_millis(9));
        carry(&mut a, &mut b);
    }
    assert_eq!(b.edges.sent.len(), 1);
    b.later(Duration::from_secs(1));
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"lost"));
    carry(&mut a, &mut b);
    assert_eq!(b.edges.sent.len(), 2);
}

#[test]
fn under_load_a_handshake_needs_a_cookie() {
    let (mut a, mut b) = strangers();
    // Initiations of a stranger, with a right MAC, use the second's allowance up.
    let mut stranger = Node::new(3);
    stranger.add_peer(peer_config(2));
    stranger.tun(VnetHdr::default(), &udp(v4(3), v4(2), b"flood"));
    let flood = stranger.edges.sent.pop_front().expect("was sent");
    for _ in 0..201 {
        b.arrive(stranger.address, 0, &flood.bytes);
    }
    assert!(b.drops(DropReason::UnderLoad) >= 1);
    b.edges.sent.clear();

    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"patience"));
    carry(&mut a, &mut b);
    assert_eq!(b.edges.sent[0].bytes[0], 3, "a cookie reply");
    carry(&mut b, &mut a);
    assert_eq!(a.core.drops().total(), 0);
    assert_eq!((a.handshakes(), b.handshakes()), (0, 0));
}

#[test]
fn a_control_message_reaches_the_owner_and_not_the_tun() {
    let (mut a, mut b) = strangers();
    let id = a.core.peers().id(&PublicKey::from(&secret(2))).expect("is known");
    a.core.send_control(id, b"ready?", &mut a.edges);
    settle(&mut a, &mut b);
    let heard = b.edges.events.iter().find_map(|event| match event {
        LaneEventKind::Control { peer, payload } => Some((*peer, payload.clone())),
        _ => None,
    });
    assert_eq!(heard, Some((PublicKey::from(&secret(1)), b"ready?".to_vec())));
    assert_eq!(b.take_packets().len(), 0);
}

#[test]
fn only_the_nodes_own_control_address_is_listened_to() {
    let (mut a, mut b) = friends();
    for (ip, port) in [
        ([10, 0, 2, 254], CONTROL_PORT + 1),
        ([10, 0, 2, 253], CONTROL_PORT),
    ] {
        let mut packet = vec![0; 100];
        let to = SocketAddr::new(ip.into(), port);
        let from = SocketAddr::new([10, 0, 1, 254].into(), CONTROL_PORT);
        let length = crate::packet::datagram::build(from, to, b"not for you", &mut packet).expect("fits");
        a.tun(VnetHdr::default(), &packet[..length]);
    }
    // An address that is not the sender's cannot be used to speak for another node.
    let from = SocketAddr::new([10, 0, 3, 254].into(), CONTROL_PORT);
    let to = SocketAddr::new([10, 0, 2, 254].into(), CONTROL_PORT);
    let mut packet = vec![0; 100];
    let length = crate::packet::datagram::build(from, to, b"spoofed", &mut packet).expect("fits");
    a.tun(VnetHdr::default(), &packet[..length]);
    settle(&mut a, &mut b);
    assert_eq!(b.take_packets().len(), 2);
    assert_eq!(b.drops(DropReason::SpoofedSource), 1);
    assert!(
        !b.edges
            .events
            .iter()
            .any(|event| matches!(event, LaneEventKind::Control { .. }))
    );
}

#[test]
fn a_control_message_to_a_new_own_address_is_heard() {
    let (mut a, mut b) = friends();
    let own = SocketAddr::new([10, 0, 2, 253].into(), CONTROL_PORT);
    b.core.set_control(vec![own]);
    let mut packet = vec![0; 100];
    let from = SocketAddr::new([10, 0, 1, 254].into(), CONTROL_PORT);
    let length = crate::packet::datagram::build(from, own, b"moved?", &mut packet).expect("fits");
    a.tun(VnetHdr::default(), &packet[..length]);
    settle(&mut a, &mut b);
    assert!(
        b.edges
            .events
            .iter()
            .any(|event| matches!(event, LaneEventKind::Control { .. }))
    );
}

#[test]
fn a_pod_of_the_peer_cannot_speak_for_its_node() {
    let (mut a, mut b) = friends();
    let to = SocketAddr::new([10, 0, 2, 254].into(), CONTROL_PORT);
    for from in [
        SocketAddr::new([10, 0, 1, 5].into(), CONTROL_PORT),
        SocketAddr::new([10, 0, 1, 254].into(), CONTROL_PORT + 1),
    ] {
        let mut packet = vec![0; 100];
        let length = crate::packet::datagram::build(from, to, b"off", &mut packet).expect("fits");
        a.tun(VnetHdr::default(), &packet[..length]);
    }
    settle(&mut a, &mut b);
    assert_eq!(b.take_packets().len(), 0);
    assert_eq!(b.drops(DropReason::SpoofedSource), 2);
    let heard = |event: &LaneEventKind| matches!(event, LaneEventKind::Control { .. });
    assert!(!b.edges.events.iter().any(heard));
}

#[test]
fn a_removed_peer_is_heard_no_more() {
    let (mut a, mut b) = friends();
    a.tun(VnetHdr::default(), &udp(v4(1), v4(2), b"late"));
    assert!(b.core.remove_peer(&PublicKey::from(&secret(1))));
    assert!(!b.core.remove_peer(&PublicKey::from(&secret(1))));
    settle(&mut a, &mut b);
    assert_eq!(b.drops(DropReason::WrongIndex), 1);
    b.tun(VnetHdr::default(), &udp(v4(2), v4(1), b"gone"));
    assert_eq!(b.drops(DropReason::NoPeer), 1);
}

#[test]
fn a_lane_is_not_its_own_peer() {
    let mut a = Node::new(1);
    let result = a.core.change_peer(peer_config(1).into(), &mut a.edges);
    assert!(matches!(result, Err(crate::lane::LaneError::BadPeer(_))));
}

#[test]
fn keepalives_flow_when_nothing_else_does() {
    let (mut a, mut b) = friends();
    a.add_peer(crate::lane::PeerConfig {
        persistent_keepalive: Some(25),
        ..peer_config(2)
    });
    a.tick();
    assert_eq!(a.edges.sent.len(), 1, "one at once");
    carry(&mut a, &mut b);
    a.tick();
    a.later(Duration::from_secs(24));
    a.tick();
    assert_eq!(a.edges.sent.len(), 0);
    a.later(Duration::from_secs(2));
    a.tick();
    assert_eq!(a.edges.sent.pop_front().map(|d| d.bytes.len()), Some(32));
}

#[test]
fn asking_again_repeats_an_unanswered_handshake_once_a_second() {
    let (mut a, _) = strangers();
    let peer = PublicKey::from(&secret(2));
    for _ in 0..3 {
        a.core
            .connect(&peer, a.now, &mut a.edges)
            .expect("the peer is known");
    }
    assert_eq!(a.edges.sent.len(), 1);
    a.later(Duration::from_secs(1));
    a.core
        .connect(&peer, a.now, &mut a.edges)
        .expect("the peer is known");
    assert_eq!(a.edges.sent.len(), 2);
}

#[test]
fn a_place_in_the_table_is_used_again() {
    let mut a = Node::new(1);
    for n in 2..200 {
        a.add_peer(peer_config(n));
        assert_eq!(a.core.peers().ids().len(), 1);
        assert_eq!(
            a.core.peers().by_endpoint(a.endpoint().expect("is configured")),
            a.core.peers().ids().pop()
        );
        assert!(a.core.remove_peer(&PublicKey::from(&secret(n))));
    }
    assert_eq!(a.core.peers().places(), 1);
}
