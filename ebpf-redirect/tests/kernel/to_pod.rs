//! Verdicts on what a pod receives. Test packets have no stamp, so that they count as not from the tunnel;
//! the stamp itself is shown by traffic.

use hauberk_ebpf_redirect::{
    Hook,
    abi::{
        CONFIG_DROP_UNKNOWN, CONFIG_ENFORCE, DropReason, PHASE_OFF, PHASE_READY, PHASE_SENDING, PHASE_STRICT,
    },
};

use crate::{
    frames::{ACK, Frame, addr, arp},
    from_pod::{PodSandbox, pod},
    sandbox::Outcome,
};

fn receive(p: &PodSandbox, frame: &Frame) -> Outcome {
    p.s.run(Hook::ToPod, &frame.ethernet(), p.pod)
}

#[test]
fn clear_from_a_covered_source_is_refused_in_strict_only() {
    for (phase, refused) in [
        (PHASE_OFF, false),
        (PHASE_READY, false),
        (PHASE_SENDING, false),
        (PHASE_STRICT, true),
    ] {
        for flags in [0, CONFIG_ENFORCE] {
            let p = pod(phase, flags);
            for (src, dst) in [
                ("10.77.2.2", "10.77.1.2"),
                ("fd77:2::2", "fd77:1::2"),
                // The peer's node: what it sends to a pod is covered by its destination.
                ("192.168.77.2", "10.77.1.2"),
                ("fd00:77::2", "fd77:1::2"),
            ] {
                let outcome = receive(&p, &Frame::tcp(src, dst, 80, 4000, ACK));
                let expected = if refused {
                    Outcome::Dropped(DropReason::ClearRefused)
                } else {
                    Outcome::Next
                };
                assert_eq!(outcome, expected, "phase {phase}, {src}");
            }
        }
    }
}

#[test]
fn local_and_outside_sources_are_never_refused_for_being_clear() {
    let p = pod(PHASE_STRICT, CONFIG_ENFORCE | CONFIG_DROP_UNKNOWN);
    for (src, dst) in [
        ("10.77.1.3", "10.77.1.2"),
        ("192.168.77.1", "10.77.1.2"),
        ("203.0.113.9", "10.77.1.2"),
        ("fd77:1::3", "fd77:1::2"),
        ("fd00:77::1", "fd77:1::2"),
        ("2001:db8::9", "fd77:1::2"),
    ] {
        assert_eq!(
            receive(&p, &Frame::tcp(src, dst, 80, 4000, ACK)),
            Outcome::Next,
            "{src}"
        );
    }
}

#[test]
fn an_unknown_covered_source_is_refused_once_told_so() {
    let mut p = pod(PHASE_STRICT, 0);
    for src in ["10.77.9.9", "fd77:9::9"] {
        let dst = if src.contains(':') {
            "fd77:1::2"
        } else {
            "10.77.1.2"
        };
        p.s.flags(0);
        assert_eq!(receive(&p, &Frame::tcp(src, dst, 80, 4000, ACK)), Outcome::Next);
        p.s.flags(CONFIG_DROP_UNKNOWN);
        let outcome = receive(&p, &Frame::tcp(src, dst, 80, 4000, ACK));
        assert_eq!(outcome, Outcome::Dropped(DropReason::ClearRefused));
    }
}

#[test]
fn discovery_passes_whatever_the_phase() {
    let p = pod(PHASE_STRICT, CONFIG_ENFORCE | CONFIG_DROP_UNKNOWN);
    let target = [&[0; 4][..], &addr("fd77:1::2")].concat();
    for frame in [
        Frame::icmp("fe80::1", "ff02::1:ff00:2", 135, &target),
        Frame::icmp("fd77:9::1", "ff02::1:ff00:2", 135, &target),
        Frame::icmp("fe80::1", "ff02::1", 134, &[0; 12]),
        Frame::icmp("fe80::1", "ff02::1", 130, &[0; 20]),
    ] {
        assert_eq!(receive(&p, &frame), Outcome::Next, "{frame:?}");
    }
    assert_eq!(p.s.run(Hook::ToPod, &arp([10, 77, 2, 2]), p.pod), Outcome::Next);
}

#[test]
fn no_flow_is_proven_by_a_packet_without_stamp() {
    let p = pod(PHASE_SENDING, CONFIG_ENFORCE);
    assert_eq!(
        receive(&p, &Frame::tcp("10.77.2.2", "10.77.1.2", 80, 4000, ACK)),
        Outcome::Next
    );
    assert!(p.s.redirect.flows().expect("FLOWS").is_empty());
}
