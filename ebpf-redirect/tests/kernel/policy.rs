//! What policy lets through: tables, connections, quoted packets, fragments.

use std::collections::BTreeMap;

use hauberk_ebpf_redirect::{
    Hook,
    abi::{
        COLUMN_OTHER, COLUMN_SCTP, COLUMN_TCP, COLUMN_UDP, CONFIG_AUDIT, CONFIG_ENFORCE, CONNECTION_EGRESS,
        CONNECTION_REPLIED, Connection, Counter, DIR_EGRESS, DIR_INGRESS, DropReason, FIRST_PROGRAM,
        IDENTITY_ANY, IDENTITY_OUTSIDE, PHASE_SENDING, PORT_PREFIX, Pod, PortKey, SET_CLOSED, VERDICT_ALLOW,
        VERDICT_DENY, VerdictKey, port_key,
    },
};

use crate::{
    frames::{ACK, FIN, Frame, RST, SYN, TCP, UDP, flow},
    from_pod::{PodSandbox, SECOND, SECOND_SET, SET, now_s, pod, verdicts},
    sandbox::Outcome,
    to_network::PEER_IDENTITY,
};

const DENIED: Outcome = Outcome::Dropped(DropReason::PolicyDenied);
const UNKNOWN_FRAGMENT: Outcome = Outcome::Dropped(DropReason::UnknownFragment);
const SYN_ACK: u8 = SYN | ACK;

/// The pod's address and another's, of both families: on this node, on the peer, outside.
const OWN: [&str; 2] = ["10.77.1.2", "fd77:1::2"];
const NEAR: [&str; 2] = ["10.77.1.3", "fd77:1::3"];
const FAR: [&str; 2] = ["10.77.2.2", "fd77:2::2"];
const OUTSIDE: [&str; 2] = ["203.0.113.9", "2001:db8::9"];

fn pairs(others: [&'static str; 2]) -> [(&'static str, &'static str); 2] {
    [(OWN[0], others[0]), (OWN[1], others[1])]
}

fn enforcing() -> PodSandbox {
    pod(PHASE_SENDING, CONFIG_ENFORCE)
}

fn of_set(remote: u32, direction: u32) -> VerdictKey {
    VerdictKey {
        set: SET,
        remote,
        direction,
    }
}

impl PodSandbox {
    fn receive(&self, frame: &Frame) -> Outcome {
        self.s.run(Hook::ToPod, &frame.ethernet(), self.pod)
    }

    fn receive_from_host(&self, frame: &Frame) -> Outcome {
        self.s.run_from(Hook::ToPod, &frame.ethernet(), self.pod, 0)
    }

    /// Everything of the second pod is allowed, of the first one only this.
    fn judge_by(&mut self, entries: &[(VerdictKey, u32)]) {
        self.judge_by_ports(entries, &BTreeMap::new());
    }

    fn judge_by_ports(&mut self, entries: &[(VerdictKey, u32)], ports: &BTreeMap<(PortKey, u8), u32>) {
        let mut all = verdicts(&[SECOND_SET], VERDICT_ALLOW);
        all.extend(entries.iter().copied());
        let redirect = &mut self.s.redirect;
        let incomplete = redirect.add_policy(&all, ports).expect("VERDICTS and PORTS");
        assert!(incomplete.is_empty(), "there is room");
        redirect.prune_policy(&all, ports).expect("VERDICTS and PORTS");
    }

    fn only(&mut self, direction: u32) {
        self.judge_by(&[(of_set(IDENTITY_ANY, direction), VERDICT_ALLOW)]);
    }

    fn set(&mut self, set: u32) {
        let pods = [(self.pod, Pod { set }), (self.second, Pod { set: SECOND_SET })];
        self.s.redirect.sync_pods(&pods.into()).expect("PODS");
    }
}

#[test]
fn what_no_table_speaks_of_is_denied() {
    let mut p = enforcing();
    p.set(SET_CLOSED);
    for (own, far) in pairs(FAR).into_iter().chain(pairs(OUTSIDE)) {
        assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, SYN)), DENIED);
        assert_eq!(p.receive(&Frame::tcp(far, own, 4000, 80, SYN)), DENIED);
    }
    p.set(SET);
    p.judge_by(&[]);
    assert_eq!(p.send(&Frame::tcp(OWN[0], FAR[0], 4000, 80, SYN)), DENIED);
}

#[test]
fn an_identity_has_a_verdict_of_its_own_or_that_of_all_others() {
    let mut p = enforcing();
    for direction in [DIR_INGRESS, DIR_EGRESS] {
        let ask = |p: &PodSandbox, own, other| match direction {
            DIR_INGRESS => p.receive(&Frame::tcp(other, own, 4000, 80, SYN)),
            _ => p.send(&Frame::tcp(own, other, 4000, 80, SYN)),
        };
        for (verdict, others) in [(VERDICT_DENY, VERDICT_ALLOW), (VERDICT_ALLOW, VERDICT_DENY)] {
            let expected = |verdict| {
                if verdict == VERDICT_ALLOW {
                    Outcome::Next
                } else {
                    DENIED
                }
            };
            for (identity, addresses) in [(SECOND, NEAR), (PEER_IDENTITY, FAR), (IDENTITY_OUTSIDE, OUTSIDE)] {
                p.judge_by(&[
                    (of_set(identity, direction), verdict),
                    (of_set(IDENTITY_ANY, direction), others),
                ]);
                for all in [NEAR, FAR, OUTSIDE] {
                    let verdict = if all == addresses { verdict } else { others };
                    for (own, other) in pairs(all) {
                        assert_eq!(ask(&p, own, other), expected(verdict), "{identity}, {other}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_program_says_which_ports_of_which_protocol() {
    let mut p = enforcing();
    let prefix = |column, port, length: u8| {
        let key = port_key(FIRST_PROGRAM + 5, column, port);
        (key, PORT_PREFIX as u8 + length)
    };
    let ports = BTreeMap::from([
        (prefix(COLUMN_TCP, 0, 0), VERDICT_DENY),
        (prefix(COLUMN_TCP, 80, 16), VERDICT_ALLOW),
        // 8080 to 8095.
        (prefix(COLUMN_TCP, 8080, 12), VERDICT_ALLOW),
        (prefix(COLUMN_UDP, 53, 16), VERDICT_ALLOW),
        (prefix(COLUMN_SCTP, 0, 0), VERDICT_ALLOW),
        (prefix(COLUMN_SCTP, 9, 16), VERDICT_DENY),
        (prefix(COLUMN_OTHER, 0, 16), VERDICT_ALLOW),
    ]);
    p.judge_by_ports(&[(of_set(IDENTITY_ANY, DIR_EGRESS), FIRST_PROGRAM + 5)], &ports);
    for (own, far) in pairs(FAR) {
        let tcp = |port| p.send(&Frame::tcp(own, far, 4000, port, SYN));
        let udp = |port| p.send(&Frame::udp(own, far, 4000, port));
        let sctp = |port| p.send(&Frame::sctp(own, far, 4000, port, 1));
        for port in [80, 8080, 8095] {
            assert_eq!(tcp(port), Outcome::Next, "{port}");
        }
        for port in [0, 79, 81, 8079, 8096, 65535] {
            assert_eq!(tcp(port), DENIED, "{port}");
        }
        assert_eq!((udp(53), udp(54), udp(80)), (Outcome::Next, DENIED, DENIED));
        assert_eq!((sctp(8), sctp(9)), (Outcome::Next, DENIED));
        let kind = if own.contains(':') { 128 } else { 8 };
        assert_eq!(p.send(&Frame::icmp(own, far, kind, &[0, 7, 0, 1])), Outcome::Next);
        assert_eq!(p.send(&Frame::new(own, far, 47, vec![0; 8])), Outcome::Next);
    }
}

#[test]
fn an_allowed_connection_has_its_answers_and_nothing_else() {
    let mut p = enforcing();
    p.only(DIR_EGRESS);
    for (own, far) in pairs(FAR) {
        let answer = Frame::tcp(far, own, 80, 4000, SYN_ACK);
        assert_eq!(p.receive(&answer), DENIED, "nobody asked yet");
        assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, SYN)), Outcome::Next);
        assert_eq!(p.receive(&answer), Outcome::Next);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, ACK)), Outcome::Next);
        // Other ports, another address, and the way round.
        assert_eq!(p.receive(&Frame::tcp(far, own, 81, 4000, ACK)), DENIED);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4001, ACK)), DENIED);
        assert_eq!(p.receive(&Frame::tcp(far, own, 4000, 80, ACK)), DENIED);
        assert_eq!(p.receive(&Frame::udp(far, own, 80, 4000)), DENIED);

        assert_eq!(p.receive(&Frame::udp(far, own, 53, 4000)), DENIED);
        assert_eq!(p.send(&Frame::udp(own, far, 4000, 53)), Outcome::Next);
        assert_eq!(p.receive(&Frame::udp(far, own, 53, 4000)), Outcome::Next);

        assert_eq!(p.send(&Frame::sctp(own, far, 4000, 9, 1)), Outcome::Next);
        assert_eq!(p.receive(&Frame::sctp(far, own, 9, 4000, 2)), Outcome::Next);

        let (request, reply) = if own.contains(':') { (128, 129) } else { (8, 0) };
        let echo = [0, 7, 0, 1];
        assert_eq!(p.receive(&Frame::icmp(far, own, reply, &echo)), DENIED);
        assert_eq!(p.send(&Frame::icmp(own, far, request, &echo)), Outcome::Next);
        assert_eq!(p.receive(&Frame::icmp(far, own, reply, &echo)), Outcome::Next);
        // Whoever was asked may not ask by the same numbers.
        assert_eq!(p.receive(&Frame::icmp(far, own, request, &echo)), DENIED);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, SYN)), DENIED);
        assert_eq!(p.receive(&Frame::sctp(far, own, 9, 4000, 1)), DENIED);
    }
}

#[test]
fn a_pod_that_may_only_answer_opens_nothing() {
    let mut p = enforcing();
    p.only(DIR_INGRESS);
    for (own, far) in pairs(FAR) {
        assert_eq!(p.send(&Frame::tcp(own, far, 80, 4000, SYN_ACK)), DENIED);
        assert_eq!(p.receive(&Frame::tcp(far, own, 4000, 80, SYN)), Outcome::Next);
        assert_eq!(p.send(&Frame::tcp(own, far, 80, 4000, SYN_ACK)), Outcome::Next);
        assert_eq!(p.send(&Frame::tcp(own, far, 80, 4000, SYN)), DENIED);
    }
}

#[test]
fn a_right_that_is_taken_away_ends_the_connection() {
    let mut p = enforcing();
    let established = |p: &PodSandbox, own, far| {
        assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, SYN)), Outcome::Next);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, SYN_ACK)), Outcome::Next);
    };
    for (own, far) in pairs(FAR) {
        p.judge_by(&[(of_set(IDENTITY_ANY, DIR_EGRESS), VERDICT_ALLOW)]);
        p.set(SET);
        established(&p, own, far);
        // Another set, under which it is still allowed although answers by themselves are not.
        let other = VerdictKey {
            set: 60,
            remote: IDENTITY_ANY,
            direction: DIR_EGRESS,
        };
        p.judge_by(&[(other, VERDICT_ALLOW)]);
        p.set(60);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, ACK)), Outcome::Next);
        // One that denies it, whoever speaks first.
        p.set(SET_CLOSED);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, ACK)), DENIED);
        assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, ACK)), DENIED);
        // What has ended stays so for the side that may not open it.
        p.set(60);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, ACK)), DENIED);
    }
}

#[test]
fn an_address_that_is_another_now_is_judged_anew() {
    let mut p = enforcing();
    p.judge_by(&[
        (of_set(IDENTITY_ANY, DIR_EGRESS), VERDICT_DENY),
        (of_set(SECOND, DIR_EGRESS), VERDICT_ALLOW),
    ]);
    let ask = Frame::tcp(OWN[0], NEAR[0], 4000, 80, SYN);
    assert_eq!(p.send(&ask), Outcome::Next);
    let data = Frame::tcp(NEAR[0], OWN[0], 80, 4000, ACK);
    assert_eq!(p.receive(&data), Outcome::Next);
    p.rename_second(SECOND + 1);
    assert_eq!(p.receive(&data), DENIED);
}

#[test]
fn connections_live_as_long_as_their_state_says() {
    let mut p = enforcing();
    p.judge_by(&[(of_set(IDENTITY_ANY, DIR_EGRESS), VERDICT_ALLOW)]);
    let (own, far) = (OWN[0], FAR[0]);
    let left = |p: &PodSandbox, proto, port: u16| {
        let key = flow(far, own, port, 4000, proto);
        let known = p.s.redirect.connections().expect("CONNECTIONS");
        let known = known.get(&key).unwrap_or_else(|| panic!("{key:?} in {known:?}"));
        known.expires_s - now_s()
    };
    let about = |seconds: u32| seconds - 2..=seconds;
    assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, SYN)), Outcome::Next);
    assert!(about(120).contains(&left(&p, TCP, 80)));
    assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, SYN_ACK)), Outcome::Next);
    assert!(about(5 * 24 * 3600).contains(&left(&p, TCP, 80)));
    assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, FIN)), Outcome::Next);
    assert!(about(120).contains(&left(&p, TCP, 80)));
    assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, FIN)), Outcome::Next);
    assert!(about(10).contains(&left(&p, TCP, 80)));
    // The same numbers again, and broken off.
    assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, SYN)), Outcome::Next);
    assert!(about(120).contains(&left(&p, TCP, 80)));
    assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, RST)), Outcome::Next);
    assert!(about(10).contains(&left(&p, TCP, 80)));

    assert_eq!(p.send(&Frame::udp(own, far, 4000, 53)), Outcome::Next);
    assert!(about(30).contains(&left(&p, UDP, 53)));
    assert_eq!(p.receive(&Frame::udp(far, own, 53, 4000)), Outcome::Next);
    assert!(about(120).contains(&left(&p, UDP, 53)));

    let expired = Connection {
        set: SET,
        remote: PEER_IDENTITY,
        expires_s: now_s(),
        flags: CONNECTION_EGRESS | CONNECTION_REPLIED,
    };
    let known = BTreeMap::from([(flow(far, own, 80, 4000, TCP), expired)]);
    p.s.redirect.sync_connections(&known).expect("CONNECTIONS");
    assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, ACK)), DENIED);
}

#[test]
fn a_socket_of_the_node_reaches_its_own_pods_and_what_it_only_forwards_does_not() {
    let mut p = enforcing();
    p.set(SET_CLOSED);
    for (own, node) in [(OWN[0], "192.168.77.1"), (OWN[1], "fd00:77::1")] {
        let ask = Frame::tcp(node, own, 4000, 80, SYN);
        assert_eq!(p.receive(&ask), DENIED, "a client behind a masqueraded NodePort");
        assert_eq!(p.send(&Frame::tcp(own, node, 80, 4000, SYN_ACK)), DENIED);
        assert_eq!(p.receive_from_host(&ask), Outcome::Next, "the kubelet's probe");
        assert_eq!(p.send(&Frame::tcp(own, node, 80, 4000, SYN_ACK)), Outcome::Next);
        assert_eq!(
            p.receive_from_host(&Frame::tcp(node, own, 4000, 80, ACK)),
            Outcome::Next
        );
    }
}

#[test]
fn an_icmp_error_belongs_to_the_connection_that_it_quotes() {
    let mut p = enforcing();
    p.only(DIR_EGRESS);
    for (own, far) in pairs(FAR) {
        let router = if own.contains(':') {
            "2001:db8::1"
        } else {
            "203.0.113.1"
        };
        let (unreachable, too_big) = if own.contains(':') { (1, 2) } else { (3, 3) };
        let (request, timestamp) = if own.contains(':') { (128, 139) } else { (8, 13) };
        let quoting =
            |kind, quoted: &Frame| Frame::icmp(router, own, kind, &[&[0; 4], &quoted.ip()[..]].concat());
        let sent = [
            Frame::tcp(own, far, 4000, 80, SYN),
            Frame::udp(own, far, 4000, 53),
            Frame::sctp(own, far, 4000, 9, 1),
            Frame::icmp(own, far, request, &[0, 7, 0, 1]),
        ];
        for sent in sent {
            for kind in [unreachable, too_big] {
                assert_eq!(p.receive(&quoting(kind, &sent)), DENIED, "{sent:?}");
            }
            assert_eq!(p.send(&sent), Outcome::Next);
            for kind in [unreachable, too_big] {
                assert_eq!(p.receive(&quoting(kind, &sent)), Outcome::Next, "{sent:?}");
            }
            // No error, though it quotes; and an error about what another sent.
            assert_eq!(p.receive(&quoting(timestamp, &sent)), DENIED);
        }
        assert_eq!(
            p.receive(&quoting(unreachable, &Frame::udp(own, far, 4001, 53))),
            DENIED
        );
        assert_eq!(
            p.receive(&quoting(unreachable, &Frame::udp(far, own, 4000, 53))),
            DENIED
        );
        // Cut off before the ports.
        let stump = Frame::icmp(router, own, unreachable, &[0; 20]);
        assert_eq!(p.receive(&stump), DENIED);
    }
    // What a pod says of what it received.
    p.only(DIR_INGRESS);
    for (own, far) in pairs(FAR) {
        let kind = if own.contains(':') { 1 } else { 3 };
        let received = Frame::udp(far, own, 4000, 53);
        let error = Frame::icmp(own, far, kind, &[&[0; 4], &received.ip()[..]].concat());
        assert_eq!(p.send(&error), DENIED);
        assert_eq!(p.receive(&received), Outcome::Next);
        assert_eq!(p.send(&error), Outcome::Next);
    }
}

#[test]
fn fragments_follow_their_first_one() {
    let mut p = enforcing();
    let udp = |port| (port_key(FIRST_PROGRAM, COLUMN_UDP, port), PORT_PREFIX as u8 + 16);
    let ports = BTreeMap::from([(udp(53), VERDICT_ALLOW)]);
    p.judge_by_ports(&[(of_set(IDENTITY_ANY, DIR_EGRESS), FIRST_PROGRAM)], &ports);
    for (own, far) in pairs(FAR) {
        let first = |port, id| Frame::udp(own, far, 4000, port).fragment_of(id, 0, true);
        let rest = |id| Frame::new(own, far, UDP, vec![0xff; 32]).fragment_of(id, 8, false);
        assert_eq!(p.send(&rest(7)), UNKNOWN_FRAGMENT);
        assert_eq!(p.send(&first(54, 7)), DENIED);
        assert_eq!(p.send(&rest(7)), UNKNOWN_FRAGMENT);
        assert_eq!(p.send(&first(53, 7)), Outcome::Next);
        assert_eq!(p.send(&rest(7)), Outcome::Next);
        assert_eq!(p.send(&rest(8)), UNKNOWN_FRAGMENT, "another datagram");
        let back = Frame::new(far, own, UDP, vec![0xff; 32]).fragment_of(7, 8, false);
        assert_eq!(p.receive(&back), UNKNOWN_FRAGMENT);
        // Flags that come with a second fragment would be read by nobody.
        let tiny = Frame::new(own, far, TCP, vec![0; 8]).fragment_of(9, 0, true);
        assert_eq!(p.send(&tiny), Outcome::Dropped(DropReason::Malformed));
    }
}

#[test]
fn what_is_only_audited_is_counted_and_passes() {
    let mut p = pod(PHASE_SENDING, CONFIG_ENFORCE | CONFIG_AUDIT);
    p.set(SET_CLOSED);
    for (times, (own, far)) in pairs(FAR).into_iter().enumerate() {
        assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, SYN)), Outcome::Next);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, SYN_ACK)), Outcome::Next);
        let counted = p.s.counted(Counter::WouldDeny).packets;
        assert_eq!(counted, 2 * (times as u64 + 1));
    }
    // Whoever got in while it was audited is out when it is enforced.
    p.s.flags(CONFIG_ENFORCE);
    for (own, far) in pairs(FAR) {
        assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, ACK)), DENIED);
        assert_eq!(p.receive(&Frame::tcp(far, own, 80, 4000, ACK)), DENIED);
    }
}

#[test]
fn policy_is_the_cnis_while_it_enforces() {
    let mut p = pod(PHASE_SENDING, 0);
    p.set(SET_CLOSED);
    for (own, far) in pairs(NEAR) {
        assert_eq!(p.send(&Frame::tcp(own, far, 4000, 80, SYN)), Outcome::Next);
        assert_eq!(p.receive(&Frame::tcp(far, own, 4000, 80, SYN)), Outcome::Next);
    }
    assert!(p.s.redirect.connections().expect("CONNECTIONS").is_empty());
}
