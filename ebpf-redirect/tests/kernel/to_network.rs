//! Verdicts of the guard.

use std::collections::{BTreeMap, BTreeSet};

use hauberk_ebpf_redirect::{
    Hook,
    abi::{
        CONFIG_DROP_UNKNOWN, CONFIG_ENFORCE, Counter, Device, DropReason, Flow, IP_LOCAL_POD, IP_NODE,
        IP_SELF, IpcacheEntry, Lane, MAX_SLOTS, PHASE_OFF, PHASE_READY, PHASE_SENDING, PHASE_STRICT, Peer,
        session_slot, symmetric_flow_hash,
    },
    address::{Prefix, prefix},
};

use crate::{
    frames::{ACK, FIN, Frame, TCP, UDP, addr, flow},
    sandbox::{Outcome, Sandbox},
};

const PEER: u32 = 7;
/// Identity of what is behind the peer.
pub const PEER_IDENTITY: u32 = PEER + 100;
/// Families of the same cases: (own pod, other node's pod, unknown pod, own node, other node, outside).
const V4: Addresses = [
    "10.77.1.2",
    "10.77.2.2",
    "10.77.9.9",
    "192.168.77.1",
    "192.168.77.2",
    "203.0.113.5",
];
const V6: Addresses = [
    "fd77:1::2",
    "fd77:2::2",
    "fd77:9::9",
    "fd00:77::1",
    "fd00:77::2",
    "2001:db8::5",
];
type Addresses = [&'static str; 6];

pub fn net(text: &str) -> Prefix {
    prefix(text.parse().expect("a prefix"))
}

pub fn ipcache() -> BTreeMap<Prefix, IpcacheEntry> {
    let entry = |peer, flags| IpcacheEntry {
        peer,
        identity: peer + 100,
        flags,
        ifindex: 0,
    };
    BTreeMap::from([
        (net("10.77.1.2/32"), entry(0, IP_LOCAL_POD)),
        (net("fd77:1::2/128"), entry(0, IP_LOCAL_POD)),
        (net("10.77.2.0/24"), entry(PEER, 0)),
        (net("fd77:2::/64"), entry(PEER, 0)),
        (net("192.168.77.1/32"), entry(0, IP_NODE | IP_SELF)),
        (net("fd00:77::1/128"), entry(0, IP_NODE | IP_SELF)),
        (net("192.168.77.2/32"), entry(PEER, IP_NODE)),
        (net("fd00:77::2/128"), entry(PEER, IP_NODE)),
    ])
}

pub fn covered() -> BTreeSet<Prefix> {
    BTreeSet::from([net("10.77.0.0/16"), net("fd77::/16")])
}

pub fn peer(phase: u32) -> Peer {
    Peer {
        phase,
        sessions: 2,
        shift: 1,
        lanes: 2,
        slot_base: 4,
    }
}

pub fn lanes() -> [Lane; MAX_SLOTS as usize] {
    let mut lanes = [Lane::default(); MAX_SLOTS as usize];
    lanes[4] = Lane {
        tun_ifindex: 1,
        queue_limit_bytes: 1 << 20,
    };
    lanes[5] = Lane {
        tun_ifindex: 1,
        queue_limit_bytes: 1 << 20,
    };
    lanes
}

fn guard(phase: u32) -> (Sandbox, u32) {
    let mut s = Sandbox::new();
    let uplink = s.uplink();
    s.redirect.sync_covered(&covered()).expect("COVERED");
    s.redirect.sync_ipcache(&ipcache()).expect("IPCACHE");
    s.redirect
        .sync_peers(&BTreeMap::from([(PEER, peer(phase))]))
        .expect("PEERS");
    s.redirect.sync_lanes(&lanes()).expect("LANES");
    (s, uplink)
}

/// What happens to a TCP segment from one address to another.
fn judge(s: &Sandbox, uplink: u32, src: &str, dst: &str) -> Outcome {
    s.run(
        Hook::ToNetwork,
        &Frame::tcp(src, dst, 40000, 80, ACK).ethernet(),
        uplink,
    )
}

#[test]
fn covered_packets_follow_their_pairs_phase() {
    for (phase, redirected) in [
        (PHASE_OFF, false),
        (PHASE_READY, false),
        (PHASE_SENDING, true),
        (PHASE_STRICT, true),
    ] {
        let (s, uplink) = guard(phase);
        for [pod, peer_pod, _, node, peer_node, outside] in [V4, V6] {
            // Whoever sent it; and replies of a covered source to another node.
            for (src, dst) in [
                (pod, peer_pod),
                (node, peer_pod),
                (outside, peer_pod),
                (pod, peer_node),
            ] {
                let outcome = judge(&s, uplink, src, dst);
                assert_eq!(
                    outcome.is_redirect(),
                    redirected,
                    "phase {phase}, {src} to {dst}: {outcome:?}"
                );
            }
        }
        let clear = s.counted(Counter::Clear).packets;
        let to_lane = s.counted(Counter::ToLaneFromStack).packets;
        assert_eq!((clear, to_lane), if redirected { (0, 8) } else { (8, 0) });
    }
}

#[test]
fn uncovered_and_host_packets_pass_and_are_counted_apart() {
    let (s, uplink) = guard(PHASE_STRICT);
    for [pod, _, _, node, peer_node, outside] in [V4, V6] {
        assert_eq!(judge(&s, uplink, pod, outside), Outcome::Next);
        assert_eq!(judge(&s, uplink, node, outside), Outcome::Next);
        assert_eq!(judge(&s, uplink, node, peer_node), Outcome::Next);
    }
    assert_eq!(s.counted(Counter::NotCovered).packets, 4);
    assert_eq!(s.counted(Counter::ExemptHost).packets, 2);
}

#[test]
fn unknown_peer_is_dropped_not_sent_in_clear_once_told_so() {
    let (mut s, uplink) = guard(PHASE_STRICT);
    for [pod, _, unknown, ..] in [V4, V6] {
        s.flags(0);
        assert_eq!(judge(&s, uplink, pod, unknown), Outcome::Next);
        s.flags(CONFIG_DROP_UNKNOWN);
        assert_eq!(
            judge(&s, uplink, pod, unknown),
            Outcome::Dropped(DropReason::UnknownPeer)
        );
    }
    assert_eq!(s.dropped(DropReason::UnknownPeer).packets, 2);
}

#[test]
fn a_local_address_that_leaves_by_an_uplink_has_lost_its_way() {
    let (mut s, uplink) = guard(PHASE_STRICT);
    s.flags(CONFIG_DROP_UNKNOWN);
    for [pod, peer_pod, ..] in [V4, V6] {
        assert_eq!(
            judge(&s, uplink, peer_pod, pod),
            Outcome::Dropped(DropReason::UnknownPeer)
        );
    }
}

#[test]
fn a_peer_without_sessions_has_its_packets_dropped() {
    let (mut s, uplink) = guard(PHASE_STRICT);
    let no_key = Peer {
        sessions: 0,
        ..peer(PHASE_SENDING)
    };
    s.redirect
        .sync_peers(&BTreeMap::from([(PEER, no_key)]))
        .expect("PEERS");
    assert_eq!(
        judge(&s, uplink, V4[0], V4[1]),
        Outcome::Dropped(DropReason::PeerKeyMissing)
    );
    assert_eq!(
        judge(&s, uplink, V6[0], V6[1]),
        Outcome::Dropped(DropReason::PeerKeyMissing)
    );
    // An entry that names a peer of which nothing is known is an unknown peer.
    s.redirect.sync_peers(&BTreeMap::new()).expect("PEERS");
    s.flags(CONFIG_DROP_UNKNOWN);
    assert_eq!(
        judge(&s, uplink, V4[0], V4[1]),
        Outcome::Dropped(DropReason::UnknownPeer)
    );
}

#[test]
fn a_missing_lane_drops() {
    let (mut s, uplink) = guard(PHASE_STRICT);
    s.redirect
        .sync_lanes(&[Lane::default(); MAX_SLOTS as usize])
        .expect("LANES");
    assert_eq!(
        judge(&s, uplink, V4[0], V4[1]),
        Outcome::Dropped(DropReason::LaneMissing)
    );
    s.redirect.sync_lanes(&lanes()).expect("LANES");
    for broken in [
        Peer {
            slot_base: MAX_SLOTS,
            ..peer(PHASE_STRICT)
        },
        Peer {
            slot_base: u32::MAX,
            ..peer(PHASE_STRICT)
        },
        Peer {
            lanes: 0,
            ..peer(PHASE_STRICT)
        },
    ] {
        s.redirect
            .sync_peers(&BTreeMap::from([(PEER, broken)]))
            .expect("PEERS");
        assert_eq!(
            judge(&s, uplink, V6[0], V6[1]),
            Outcome::Dropped(DropReason::LaneMissing)
        );
    }
}

#[test]
fn a_full_queue_drops_and_the_lane_makes_room() {
    let (mut s, uplink) = guard(PHASE_STRICT);
    let frame = Frame::udp(V4[0], V4[1], 1000, 2000);
    let bytes = frame.ip().len() as u64;
    let hash = symmetric_flow_hash(&addr(V4[0]), &addr(V4[1]), UDP, 1000u16.to_be(), 2000u16.to_be());
    let slot = session_slot(&peer(PHASE_STRICT), hash).expect("a slot");
    let mut limited = lanes();
    limited[slot as usize].queue_limit_bytes = 3 * bytes as u32;
    s.redirect.sync_lanes(&limited).expect("LANES");
    let queue = s.redirect.queue(slot);
    let send = |s: &Sandbox| s.run(Hook::ToNetwork, &frame.ethernet(), uplink);
    for sent in 1..=3 {
        assert!(send(&s).is_redirect());
        assert_eq!(queue.waiting(), sent * bytes);
    }
    assert_eq!(send(&s), Outcome::Dropped(DropReason::QueueFull));
    assert_eq!(queue.produced(), 3 * bytes, "what is refused does not wait");
    queue.consumed(bytes);
    assert!(send(&s).is_redirect());
    assert_eq!(send(&s), Outcome::Dropped(DropReason::QueueFull));
    queue.empty();
    assert_eq!(queue.waiting(), 0);
    assert!(send(&s).is_redirect());
}

#[test]
fn fragments_of_a_datagram_go_by_one_lane() {
    let (s, uplink) = guard(PHASE_STRICT);
    // One pair of addresses, many ports: whole datagrams use both lanes, fragments only one.
    let lanes_used = |fragment: bool| {
        let before = [s.redirect.queue(4).produced(), s.redirect.queue(5).produced()];
        for port in 1..60 {
            let whole = Frame::udp(V4[0], V4[1], port, 53);
            let frame = if fragment { whole.fragment(0, true) } else { whole };
            assert!(s.run(Hook::ToNetwork, &frame.ethernet(), uplink).is_redirect());
            if fragment {
                let later = Frame::new(V4[0], V4[1], UDP, vec![port as u8; 64]).fragment(1480, false);
                assert!(s.run(Hook::ToNetwork, &later.ethernet(), uplink).is_redirect());
            }
        }
        (0..2)
            .filter(|&i| s.redirect.queue(4 + i as u32).produced() > before[i])
            .count()
    };
    assert_eq!(lanes_used(false), 2);
    assert_eq!(lanes_used(true), 1);
}

#[test]
fn ipv6_fragments_and_extension_headers_are_read_through() {
    let (s, uplink) = guard(PHASE_STRICT);
    let hash = |sport: u16, dport: u16| {
        symmetric_flow_hash(&addr(V6[0]), &addr(V6[1]), UDP, sport.to_be(), dport.to_be())
    };
    let slot = |hash| session_slot(&peer(PHASE_STRICT), hash).expect("a slot");
    let mut by_ports = 0;
    for port in 1..40u16 {
        let plain = Frame::udp(V6[0], V6[1], port, 53);
        let cases = [
            // Hop-by-hop, destination options and authentication header: ports are found behind them.
            (
                plain
                    .clone()
                    .extension(0, &[0, 0, 1, 4, 0, 0, 0, 0])
                    .extension(60, &[0; 8])
                    .extension(
                        51,
                        &[
                            0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                        ],
                    ),
                slot(hash(port, 53)),
            ),
            // Both fragments by addresses and protocol.
            (
                plain.clone().extension(44, &[0, 0, 0, 1, 0, 0, 0, 9]),
                slot(hash(0, 0)),
            ),
            (
                plain.clone().extension(44, &[0, 0, 0x05, 0xa8, 0, 0, 0, 9]),
                slot(hash(0, 0)),
            ),
        ];
        for (frame, slot) in cases {
            let before = s.redirect.queue(slot).produced();
            assert!(s.run(Hook::ToNetwork, &frame.ethernet(), uplink).is_redirect());
            assert!(
                s.redirect.queue(slot).produced() > before,
                "port {port} by another lane than {slot}"
            );
        }
        by_ports += u32::from(slot(hash(port, 53)) != slot(hash(0, 0)));
    }
    assert!(by_ports > 0, "the ports make a difference");
}

#[test]
fn what_cannot_be_read_is_dropped() {
    let (s, uplink) = guard(PHASE_STRICT);
    let whole = Frame::tcp(V4[0], V4[1], 1, 2, ACK).ethernet();
    let mut short_header = whole.clone();
    short_header[14] = 0x44;
    let mut wrong_version = whole.clone();
    wrong_version[14] = 0x65;
    // The kernel takes no test packet with a cut IP header, but does not look behind a VLAN tag.
    let cut = |frame: Frame, length: usize| {
        let mut bytes = frame.ethernet();
        bytes.splice(12..12, [0x81, 0, 0, 5]);
        bytes.truncate(18 + length);
        bytes
    };
    let endless = (0..9).fold(Frame::udp(V6[0], V6[1], 1, 2), |frame, _| {
        frame.extension(60, &[0; 8])
    });
    for bytes in [
        cut(Frame::tcp(V4[0], V4[1], 1, 2, ACK), 19),
        short_header,
        wrong_version,
        // TCP cut before its ports, covered, so that the lane cannot be chosen.
        whole[..14 + 22].to_vec(),
        cut(Frame::udp(V6[0], V6[1], 1, 2), 39),
        endless.ethernet(),
    ] {
        assert_eq!(
            s.run(Hook::ToNetwork, &bytes, uplink),
            Outcome::Dropped(DropReason::Malformed)
        );
    }
}

#[test]
fn a_vlan_tag_does_not_hide_a_covered_packet() {
    let (s, uplink) = guard(PHASE_STRICT);
    for [pod, peer_pod, _, _, _, outside] in [V4, V6] {
        let tagged = |dst: &str| {
            let mut bytes = Frame::tcp(pod, dst, 1, 2, ACK).ethernet();
            bytes.splice(12..12, [0x81, 0, 0, 5]);
            bytes
        };
        let covered = s.run(Hook::ToNetwork, &tagged(peer_pod), uplink);
        assert_eq!(covered, Outcome::Dropped(DropReason::InternalError));
        assert_eq!(s.run(Hook::ToNetwork, &tagged(outside), uplink), Outcome::Next);
    }
}

#[test]
fn a_device_without_link_header_is_guarded_too() {
    let (mut s, uplink) = guard(PHASE_STRICT);
    s.redirect
        .sync_devices(&BTreeMap::from([(uplink, Device { mac: [0; 6], kind: 1 })]))
        .expect("DEVICES");
    for [pod, peer_pod, _, _, _, outside] in [V4, V6] {
        let covered = Frame::tcp(pod, peer_pod, 1, 2, ACK).ip();
        assert!(s.run(Hook::ToNetwork, &covered, uplink).is_redirect());
        assert_eq!(
            s.run(Hook::ToNetwork, &Frame::tcp(pod, outside, 1, 2, ACK).ip(), uplink),
            Outcome::Next
        );
    }
}

#[test]
fn a_device_that_is_not_known_is_closed() {
    // Whether it has a link header is known of no packet that leaves by it.
    for phase in [PHASE_OFF, PHASE_STRICT] {
        let (mut s, uplink) = guard(phase);
        s.know(&[]);
        for [pod, peer_pod, _, _, _, outside] in [V4, V6] {
            for dst in [peer_pod, outside] {
                let frame = Frame::tcp(pod, dst, 1, 2, ACK);
                for bytes in [frame.ethernet(), frame.ip()] {
                    assert_eq!(
                        s.run(Hook::ToNetwork, &bytes, uplink),
                        Outcome::Dropped(DropReason::UnknownDevice)
                    );
                }
            }
        }
    }
}

#[test]
fn bytes_count_from_the_ip_header() {
    let (s, uplink) = guard(PHASE_OFF);
    let frame = Frame::tcp(V4[0], V4[1], 1, 2, ACK);
    s.run(Hook::ToNetwork, &frame.ethernet(), uplink);
    assert_eq!(s.counted(Counter::Clear).bytes, frame.ip().len() as u64);
}

#[test]
fn what_leaves_through_the_stack_voids_the_proof_of_its_flow() {
    let (mut s, uplink) = guard(PHASE_STRICT);
    s.flags(CONFIG_ENFORCE);
    let proof = Flow {
        ifindex: uplink,
        ..Flow::default()
    };
    let key = flow(V4[1], V4[0], 80, 40000, TCP);
    s.redirect
        .sync_flows(&BTreeMap::from([(key, proof)]))
        .expect("FLOWS");
    let frame = Frame::tcp(V4[0], V4[1], 40000, 80, FIN);
    assert!(s.run(Hook::ToNetwork, &frame.ethernet(), uplink).is_redirect());
    assert!(s.redirect.flows().expect("FLOWS").is_empty());
}
