//! Real traffic between pods of two nodes: what the programs rely on in the kernel, shown by use.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use hauberk_ebpf_redirect::{
    Hook,
    abi::{CONFIG_DROP_UNKNOWN, CONFIG_ENFORCE, Counter, DropReason, PHASE_READY, PHASE_STRICT},
};

use crate::{
    nodes::{Node, Pair, Wiring, bulk},
    wire::{cookie, set_udp_segment},
};

const BULK: usize = 16 << 20;

/// All bulk both ways in both families; nothing may be dropped.
fn exchange(pair: &Pair) {
    let (a, b) = (&pair.a.pods[0], &pair.b.pods[0]);
    bulk(&a.net, &b.net, b.v4, BULK);
    bulk(&a.net, &b.net, b.v6, BULK);
    bulk(&b.net, &a.net, a.v4, BULK);
    bulk(&b.net, &a.net, a.v6, BULK);
    assert!(pair.a.drops().is_empty(), "{:?}", pair.a.drops());
    assert!(pair.b.drops().is_empty(), "{:?}", pair.b.drops());
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.counted(Counter::Clear).packets, 0);
        let invalid = node.net.enter(|| crate::sandbox::run("nft list chain inet t f"));
        assert!(
            invalid.contains("packets 0 "),
            "conntrack lost the thread: {invalid}"
        );
    }
    assert!(
        pair.wire.largest() > 60_000,
        "super-packets were cut before the lane: {}",
        pair.wire.largest()
    );
}

#[test]
fn through_the_stack_when_the_cni_enforces_with_strict_reverse_path_filters() {
    for wiring in [Wiring::Routed, Wiring::Bridged] {
        let pair = Pair::new(wiring, CONFIG_DROP_UNKNOWN, PHASE_STRICT);
        exchange(&pair);
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.counted(Counter::TunnelShortcut).packets, 0);
            assert_eq!(node.counted(Counter::ToLaneFromPod).packets, 0);
            assert!(node.counted(Counter::TunnelToStack).packets > 0);
        }
    }
}

#[test]
fn past_the_stack_when_hauberk_enforces() {
    for wiring in [Wiring::Routed, Wiring::Bridged] {
        let pair = Pair::new(wiring, CONFIG_ENFORCE | CONFIG_DROP_UNKNOWN, PHASE_STRICT);
        exchange(&pair);
        for node in [&pair.a, &pair.b] {
            let short = node.counted(Counter::TunnelShortcut).packets;
            let through = node.counted(Counter::TunnelToStack).packets;
            assert!(
                short > 10 * through,
                "{short} packets by shortcut, {through} through the stack"
            );
            let short = node.counted(Counter::ToLaneFromPod).packets;
            let through = node.counted(Counter::ToLaneFromStack).packets;
            assert!(
                short > 10 * through,
                "{short} packets by shortcut, {through} through the stack"
            );
        }
    }
}

#[test]
fn pods_of_one_node_reach_each_other_by_shortcut() {
    for wiring in [Wiring::Routed, Wiring::Bridged] {
        let pair = Pair::new(wiring, CONFIG_ENFORCE, PHASE_STRICT);
        let [one, other] = &pair.a.pods[..] else {
            panic!("two pods")
        };
        bulk(&one.net, &other.net, other.v4, BULK);
        bulk(&other.net, &one.net, one.v6, BULK);
        assert!(pair.a.counted(Counter::LocalShortcut).packets > 100);
        assert!(pair.a.drops().is_empty(), "{:?}", pair.a.drops());
    }
}

#[test]
fn node_to_pod_goes_by_tunnel_and_so_do_the_replies() {
    for flags in [0, CONFIG_ENFORCE] {
        let pair = Pair::new(Wiring::Routed, flags | CONFIG_DROP_UNKNOWN, PHASE_STRICT);
        let pod = &pair.b.pods[0];
        bulk(&pair.a.net, &pod.net, pod.v4, 1 << 20);
        bulk(&pair.a.net, &pod.net, pod.v6, 1 << 20);
        assert!(pair.b.drops().is_empty(), "{:?}", pair.b.drops());
        assert_eq!(
            pair.a.counted(Counter::Clear).packets + pair.b.counted(Counter::Clear).packets,
            0
        );
        assert_eq!(
            pair.a.counted(Counter::ExemptHost).packets,
            0,
            "a pod's reply is no host traffic"
        );
    }
}

#[test]
fn before_sending_traffic_is_clear_and_counted() {
    let pair = Pair::new(Wiring::Routed, CONFIG_ENFORCE, PHASE_READY);
    let (a, b) = (&pair.a.pods[0], &pair.b.pods[0]);
    bulk(&a.net, &b.net, b.v4, 1 << 20);
    assert!(pair.a.counted(Counter::Clear).packets > 0);
    assert_eq!(pair.a.counted(Counter::ToLaneFromStack).packets, 0);
}

#[test]
fn clear_from_a_strict_peer_is_refused() {
    let mut pair = Pair::new(Wiring::Routed, 0, PHASE_STRICT);
    let pod = pair.b.pods[0].v4;
    let uplink = pair.a.uplink;
    // Without its guard the node sends in clear.
    let (net, redirect) = (&pair.a.net, &mut pair.a.redirect);
    net.enter(|| redirect.detach(Hook::ToNetwork, uplink))
        .expect("detached");
    let sender = pair.a.pods[0]
        .net
        .enter(|| UdpSocket::bind("0.0.0.0:0"))
        .expect("a socket");
    let receiver = pair.b.pods[0]
        .net
        .enter(|| UdpSocket::bind(SocketAddr::new(pod, 4000)))
        .expect("a socket");
    sender
        .send_to(b"in clear", SocketAddr::new(pod, 4000))
        .expect("sent");
    // The nodes have to find each other first.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !dropped(&pair.b, DropReason::ClearRefused) {
        assert!(Instant::now() < deadline, "{:?}", pair.b.drops());
        thread::sleep(Duration::from_millis(10));
    }
    receiver.set_nonblocking(true).expect("set");
    assert!(receiver.recv(&mut [0; 16]).is_err(), "it arrived");
}

#[test]
fn lanes_datagrams_are_known_by_their_socket_also_when_segmented() {
    let mut pair = Pair::new(Wiring::Routed, CONFIG_DROP_UNKNOWN, PHASE_STRICT);
    let bind = |n: u8| UdpSocket::bind(format!("192.168.77.{n}:23400"));
    let lane = pair.a.net.enter(|| bind(1)).expect("a socket");
    let peer = pair.b.net.enter(|| bind(2)).expect("a socket");
    peer.set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout");
    let to = "192.168.77.2:23400";
    lane.send_to(&[1; 100], to).expect("sent");
    assert_eq!(peer.recv(&mut [0; 2000]).expect("received"), 100);
    assert_eq!(
        pair.a.counted(Counter::Ciphertext).packets,
        0,
        "not known yet, exempt as host traffic"
    );
    assert_eq!(pair.a.counted(Counter::ExemptHost).packets, 1);

    let cookies = [(cookie(&lane), 0)].into();
    let (net, redirect) = (&pair.a.net, &mut pair.a.redirect);
    net.enter(|| redirect.sync_lane_cookies(&cookies))
        .expect("LANE_COOKIES");
    lane.send_to(&[1; 100], to).expect("sent");
    assert_eq!(pair.a.counted(Counter::Ciphertext).packets, 1);
    set_udp_segment(&lane, 1400);
    lane.send_to(&[2; 14_000], to).expect("sent");
    assert_eq!(
        pair.a.counted(Counter::Ciphertext).packets,
        11,
        "a super-packet counts its segments"
    );
    assert!(pair.a.counted(Counter::Ciphertext).bytes >= 14_100);

    // Also by an uplink that is not known, by which nothing else leaves.
    let (net, redirect) = (&pair.a.net, &mut pair.a.redirect);
    net.enter(|| redirect.sync_devices(&BTreeMap::new()))
        .expect("DEVICES");
    lane.send_to(&[3; 100], to).expect("sent");
    assert_eq!(pair.a.counted(Counter::Ciphertext).packets, 12);
    let other = net.enter(|| UdpSocket::bind("192.168.77.1:0")).expect("a socket");
    // The drop may be an error here.
    let _ = other.send_to(&[4; 100], to);
    assert_eq!(pair.a.counted(Counter::ExemptHost).packets, 1);
    assert!(dropped(&pair.a, DropReason::UnknownDevice));
}

fn dropped(node: &Node, reason: DropReason) -> bool {
    node.drops().iter().any(|(r, _)| *r == reason)
}
