//! Verdicts on what a pod sends.

use std::collections::BTreeMap;

use hauberk_ebpf_redirect::{
    Hook,
    abi::{
        CONFIG_DROP_UNKNOWN, CONFIG_ENFORCE, Counter, DIR_EGRESS, DIR_INGRESS, DropReason,
        FLOW_PROOF_SECONDS, Flow, FlowKey, IDENTITY_ANY, IP_LOCAL_POD, IpcacheEntry, PHASE_READY,
        PHASE_SENDING, Peer, Pod, PodAddress, VERDICT_ALLOW, VerdictKey,
    },
    address::Prefix,
};
use nix::time::{ClockId, clock_gettime};

use crate::{
    frames::{ACK, FIN, Frame, ICMP, ICMPV6, RST, SYN, TCP, UDP, addr, arp, flow},
    sandbox::{Outcome, Sandbox},
    to_network::{covered, ipcache, lanes, net, peer},
};

const PEER: u32 = 7;
pub const OWN: u32 = 40;
pub const SECOND: u32 = 41;
/// Sets of policies of the pod and of the second one.
pub const SET: u32 = 50;
pub const SECOND_SET: u32 = 51;

/// A pod with 10.77.1.2 and fd77:1::2, a second one with .3, and a peer with 10.77.2.0/24 and fd77:2::/64.
pub struct PodSandbox {
    pub s: Sandbox,
    pub pod: u32,
    pub second: u32,
}

fn entries(pod: u32, second: u32, identity_of_second: u32) -> BTreeMap<Prefix, IpcacheEntry> {
    let mut entries = ipcache();
    for (prefix, identity, ifindex) in [
        ("10.77.1.2/32", OWN, pod),
        ("fd77:1::2/128", OWN, pod),
        ("10.77.1.3/32", identity_of_second, second),
        ("fd77:1::3/128", identity_of_second, second),
    ] {
        entries.insert(
            net(prefix),
            IpcacheEntry {
                peer: 0,
                identity,
                flags: IP_LOCAL_POD,
                ifindex,
            },
        );
    }
    entries
}

pub fn pod(phase: u32, flags: u32) -> PodSandbox {
    let mut s = Sandbox::new();
    let (pod, second) = (s.device(), s.device());
    s.flags(flags);
    s.redirect.sync_covered(&covered()).expect("COVERED");
    let entries = entries(pod, second, SECOND);
    s.redirect.sync_ipcache(&entries).expect("IPCACHE");
    s.redirect
        .sync_peers(&BTreeMap::from([(PEER, peer(phase))]))
        .expect("PEERS");
    s.redirect.sync_lanes(&lanes()).expect("LANES");
    s.redirect
        .add_policy(&verdicts(&[SET, SECOND_SET], VERDICT_ALLOW), &BTreeMap::new())
        .expect("VERDICTS");
    let pods = [(pod, Pod { set: SET }), (second, Pod { set: SECOND_SET })];
    s.redirect.sync_pods(&pods.into()).expect("PODS");
    let own = |ifindex, text: &str| PodAddress {
        ifindex,
        addr: addr(text),
    };
    s.redirect
        .sync_pod_addresses(
            &[
                own(pod, "10.77.1.2"),
                own(pod, "fd77:1::2"),
                own(second, "10.77.1.3"),
                own(second, "fd77:1::3"),
            ]
            .into(),
        )
        .expect("POD_ADDRESSES");
    PodSandbox { s, pod, second }
}

impl PodSandbox {
    /// Gives the second pod's addresses another identity.
    pub fn rename_second(&mut self, identity: u32) {
        let entries = entries(self.pod, self.second, identity);
        self.s.redirect.sync_ipcache(&entries).expect("IPCACHE");
    }
}

/// One verdict for all of some sets, whoever the other side is.
pub fn verdicts(sets: &[u32], verdict: u32) -> BTreeMap<VerdictKey, u32> {
    let keys = sets.iter().flat_map(|&set| {
        [DIR_INGRESS, DIR_EGRESS].map(|direction| VerdictKey {
            set,
            remote: IDENTITY_ANY,
            direction,
        })
    });
    keys.map(|key| (key, verdict)).collect()
}

impl PodSandbox {
    pub fn send(&self, frame: &Frame) -> Outcome {
        self.s.run(Hook::FromPod, &frame.ethernet(), self.pod)
    }

    /// Records proofs as of now.
    pub fn prove(&mut self, keys: &[FlowKey], ifindex: u32) {
        self.prove_at(keys, ifindex, now_s());
    }

    pub fn prove_at(&mut self, keys: &[FlowKey], ifindex: u32, proved_s: u32) {
        let flow = Flow {
            ifindex,
            dst_mac: [2, 2, 2, 2, 2, 2],
            src_mac: [4, 4, 4, 4, 4, 4],
            proved_s,
        };
        self.s
            .redirect
            .sync_flows(&keys.iter().map(|&key| (key, flow)).collect())
            .expect("FLOWS");
    }
}

/// The programs' clock. The fine one is ahead of it by up to a tick, and a proof from the future is none.
pub fn now_s() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    now.tv_sec() as u32
}

#[test]
fn without_enforcement_everything_goes_to_the_stack() {
    let p = pod(PHASE_SENDING, CONFIG_DROP_UNKNOWN);
    assert_eq!(
        p.send(&Frame::tcp("1.2.3.4", "10.77.2.2", 1, 2, ACK)),
        Outcome::Next
    );
    assert_eq!(p.s.run(Hook::FromPod, &[0; 14], p.pod), Outcome::Next);
}

#[test]
fn spoofed_source_is_dropped() {
    let p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    for (src, dst) in [
        // Another pod's, another node's pod's, a node's, anyone's, none without DHCP.
        ("10.77.1.3", "10.77.2.2"),
        ("10.77.2.2", "10.77.1.3"),
        ("192.168.77.1", "10.77.2.2"),
        ("203.0.113.1", "10.77.2.2"),
        ("0.0.0.0", "10.77.2.2"),
        ("169.254.7.7", "10.77.2.2"),
        ("fd77:1::3", "fd77:2::2"),
        ("fd00:77::1", "fd77:2::2"),
        ("2001:db8::1", "fd77:2::2"),
        ("::", "fd77:2::2"),
        ("fe80::5", "fd77:2::2"),
    ] {
        let frame = Frame::tcp(src, dst, 1, 2, ACK);
        assert_eq!(
            p.send(&frame),
            Outcome::Dropped(DropReason::SpoofedSource),
            "{src}"
        );
    }
    assert_eq!(
        p.send(&Frame::tcp("10.77.1.2", "10.77.2.2", 1, 2, SYN)),
        Outcome::Next
    );
    assert_eq!(
        p.send(&Frame::tcp("fd77:1::2", "fd77:2::2", 1, 2, SYN)),
        Outcome::Next
    );
}

#[test]
fn arp_is_the_pods_own_or_dropped() {
    let p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    let send = |sender| p.s.run(Hook::FromPod, &arp(sender), p.pod);
    assert_eq!(send([10, 77, 1, 2]), Outcome::Next);
    assert_eq!(send([0, 0, 0, 0]), Outcome::Next);
    assert_eq!(send([10, 77, 1, 3]), Outcome::Dropped(DropReason::SpoofedSource));
}

#[test]
fn discovery_mld_dhcp_and_link_local_pass() {
    let p = pod(PHASE_SENDING, CONFIG_ENFORCE | CONFIG_DROP_UNKNOWN);
    let own: [u8; 16] = addr("fd77:1::2");
    let other: [u8; 16] = addr("fd77:1::3");
    let target = |of: &[u8; 16]| [&[0; 4][..], of].concat();
    let mld = Frame::icmp("fe80::2", "ff02::16", 143, &[0; 8]);
    for frame in [
        // DAD, solicitation, advertisement, router solicitation, MLDv2 plain and with its router alert.
        Frame::icmp("::", "ff02::1:ff00:2", 135, &target(&own)),
        Frame::icmp("fd77:1::2", "ff02::1:ff00:1", 135, &target(&own)),
        Frame::icmp("fd77:1::2", "fe80::1", 136, &target(&own)),
        Frame::icmp("fe80::2", "ff02::2", 133, &[0; 4]),
        mld.clone(),
        mld.extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]),
        Frame::udp("0.0.0.0", "255.255.255.255", 68, 67),
        Frame::udp("fe80::2", "fe80::1", 5353, 5353),
        Frame::udp("fe80::2", "ff02::fb", 5353, 5353),
        Frame::icmp("169.254.1.2", "169.254.1.1", 8, &[0; 4]),
    ] {
        assert_eq!(p.send(&frame), Outcome::Next, "{frame:?}");
    }
    // An advertisement for another pod's address takes that pod's traffic.
    for src in ["fd77:1::2", "fe80::2"] {
        let claim = Frame::icmp(src, "ff02::1", 136, &target(&other));
        assert_eq!(p.send(&claim), Outcome::Dropped(DropReason::SpoofedSource));
    }
}

#[test]
fn frames_that_are_neither_ip_nor_arp_are_dropped() {
    let p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    let mut bytes = Frame::tcp("10.77.1.2", "10.77.2.2", 1, 2, ACK).ethernet();
    bytes.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(
        p.s.run(Hook::FromPod, &bytes, p.pod),
        Outcome::Dropped(DropReason::Malformed)
    );
    let mut bytes = arp([10, 77, 1, 2]);
    bytes[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(
        p.s.run(Hook::FromPod, &bytes, p.pod),
        Outcome::Dropped(DropReason::Malformed)
    );
}

#[test]
fn only_proven_whole_established_packets_go_straight_to_the_lane() {
    let mut p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    for (own, far) in [("10.77.1.2", "10.77.2.2"), ("fd77:1::2", "fd77:2::2")] {
        let frames = |flags| Frame::tcp(own, far, 4000, 80, flags);
        p.prove(&[], 0);
        assert_eq!(p.send(&frames(ACK)), Outcome::Next, "a miss is not proof");
        let icmp = if own.contains(':') { ICMPV6 } else { ICMP };
        let pod = p.pod;
        p.prove(
            &[
                flow(far, own, 80, 4000, TCP),
                flow(far, own, 53, 4000, UDP),
                flow(far, own, 9, 9, icmp),
            ],
            pod,
        );
        let request = if own.contains(':') { 128 } else { 8 };
        assert!(p.send(&frames(ACK)).is_redirect());
        assert!(p.send(&Frame::udp(own, far, 4000, 53)).is_redirect());
        assert!(
            p.send(&Frame::icmp(own, far, request, &[0, 9, 0, 1]))
                .is_redirect()
        );
        // Those that open and close go by the stack, so that conntrack there knows of them.
        for flags in [SYN, FIN, RST, SYN | ACK] {
            assert_eq!(p.send(&frames(flags)), Outcome::Next);
        }
        // Another port, another direction, an ICMP error.
        assert_eq!(p.send(&Frame::tcp(own, far, 4001, 80, ACK)), Outcome::Next);
        let error = if own.contains(':') { 1 } else { 3 };
        assert_eq!(
            p.send(&Frame::icmp(own, far, error, &[0, 9, 0, 1])),
            Outcome::Next
        );
    }
    let fragment = Frame::udp("10.77.1.2", "10.77.2.2", 4000, 53).fragment(0, true);
    assert_eq!(p.send(&fragment), Outcome::Next);
    assert_eq!(p.s.counted(Counter::ToLaneFromPod).packets, 6);
}

#[test]
fn an_old_proof_is_none() {
    let mut p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    let key = flow("10.77.2.2", "10.77.1.2", 80, 4000, TCP);
    let frame = Frame::tcp("10.77.1.2", "10.77.2.2", 4000, 80, ACK);
    let pod = p.pod;
    // Wrapping, as a machine may have booted less than a minute ago.
    p.prove_at(&[key], pod, now_s().wrapping_sub(FLOW_PROOF_SECONDS - 20));
    assert!(p.send(&frame).is_redirect());
    p.prove_at(&[key], pod, now_s().wrapping_sub(FLOW_PROOF_SECONDS + 1));
    assert_eq!(p.send(&frame), Outcome::Next);
}

#[test]
fn a_shortcut_obeys_the_pairs_phase_and_key() {
    let mut p = pod(PHASE_READY, CONFIG_ENFORCE);
    let pod = p.pod;
    p.prove(&[flow("10.77.2.2", "10.77.1.2", 80, 4000, TCP)], pod);
    let frame = Frame::tcp("10.77.1.2", "10.77.2.2", 4000, 80, ACK);
    assert_eq!(p.send(&frame), Outcome::Next, "clear goes through the stack");
    let no_key = Peer {
        sessions: 0,
        ..peer(PHASE_SENDING)
    };
    p.s.redirect.sync_peers(&[(PEER, no_key)].into()).expect("PEERS");
    assert_eq!(p.send(&frame), Outcome::Dropped(DropReason::PeerKeyMissing));
    p.s.redirect.sync_peers(&BTreeMap::new()).expect("PEERS");
    p.s.flags(CONFIG_ENFORCE | CONFIG_DROP_UNKNOWN);
    assert_eq!(p.send(&frame), Outcome::Dropped(DropReason::UnknownPeer));
}

#[test]
fn a_proven_local_flow_is_delivered_with_the_addresses_of_its_link() {
    let mut p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    let second = p.second;
    for (own, other) in [("10.77.1.2", "10.77.1.3"), ("fd77:1::2", "fd77:1::3")] {
        p.prove(&[flow(own, other, 4000, 80, TCP)], second);
        let frame = Frame::tcp(own, other, 4000, 80, ACK);
        let Outcome::Redirected(bytes) = p.send(&frame) else {
            panic!("not redirected")
        };
        assert_eq!(bytes[..12], [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4]);
        assert_eq!(bytes[12..], frame.ethernet()[12..]);
        assert_eq!(p.send(&Frame::tcp(own, other, 4000, 80, FIN)), Outcome::Next);
        // The address has moved to another interface since.
        p.prove(&[flow(own, other, 4000, 80, TCP)], 1);
        assert_eq!(p.send(&frame), Outcome::Next);
    }
    assert_eq!(p.s.counted(Counter::LocalShortcut).packets, 2);
}

#[test]
fn a_pod_that_is_not_known_sends_nothing_while_hauberk_enforces() {
    let mut p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    p.s.redirect.sync_pods(&BTreeMap::new()).expect("PODS");
    let frame = Frame::tcp("10.77.1.2", "10.77.2.2", 4000, 80, SYN);
    assert_eq!(p.send(&frame), Outcome::Dropped(DropReason::InternalError));
}
