//! Connections that were let through: what belongs to one passes both ways.

use hauberk_abi::{
    CONNECTION_EGRESS, CONNECTION_POD_DONE, CONNECTION_REMOTE_DONE, CONNECTION_REPLIED, CONNECTION_RESET,
    Connection, DIR_EGRESS, FlowKey,
};

use crate::{
    clock::now_s,
    maps::CONNECTIONS,
    packet::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, Step},
};

// Seconds without a packet after which a connection is none any more, as the host's own conntrack has them
// (net/netfilter/nf_conntrack_proto_*.c).
const TCP_ANSWERED: u32 = 5 * 24 * 3600;
const TCP_HALF_CLOSED: u32 = 120;
const TCP_UNANSWERED: u32 = 120;
const SCTP_ANSWERED: u32 = 210;
const SCTP_UNANSWERED: u32 = 30;
const UDP_ANSWERED: u32 = 120;
const UDP_UNANSWERED: u32 = 30;
const ICMP: u32 = 30;
const OTHER: u32 = 600;
const ENDED: u32 = 10;

/// The connection, if it has not expired.
#[inline(always)]
pub fn find(key: &FlowKey) -> Option<Connection> {
    // SAFETY: the value is copied at once. An entry re-used by another connection meanwhile is told apart by nothing, but
    // the least recently used are re-used first, and this one was just looked up.
    let connection = *unsafe { CONNECTIONS.get(key) }?;
    (now_s() < connection.expires_s).then_some(connection)
}

/// Notes what a packet, which is let through, does to its connection. Written only when that says something new, which
/// is once a second at most but for what opens and ends it. Without room for it the connection's answers are judged as
/// if they opened one.
#[inline(always)]
pub fn note(key: &FlowKey, before: Connection, direction: u32, step: Step) {
    let from_pod = direction == DIR_EGRESS;
    let opened_by_pod = before.flags & CONNECTION_EGRESS != 0;
    let mut after = before;
    if from_pod != opened_by_pod {
        after.flags |= CONNECTION_REPLIED;
    }
    match step {
        Step::Reset => after.flags |= CONNECTION_RESET,
        Step::Done if from_pod => after.flags |= CONNECTION_POD_DONE,
        Step::Done => after.flags |= CONNECTION_REMOTE_DONE,
        Step::Open | Step::Other => {}
    }
    after.expires_s = now_s() + lifetime(key.proto, after.flags);
    if after != before {
        let _ = CONNECTIONS.insert(key, after, 0);
    }
}

/// It is none any more.
#[inline(always)]
pub fn forget(key: &FlowKey) {
    // Nothing to do when it is gone already.
    let _ = CONNECTIONS.remove(key);
}

#[inline(always)]
fn lifetime(proto: u8, flags: u32) -> u32 {
    const BOTH_DONE: u32 = CONNECTION_POD_DONE | CONNECTION_REMOTE_DONE;
    if flags & CONNECTION_RESET != 0 || flags & BOTH_DONE == BOTH_DONE {
        return ENDED;
    }
    let answered = flags & CONNECTION_REPLIED != 0;
    match proto {
        IPPROTO_TCP if flags & BOTH_DONE != 0 => TCP_HALF_CLOSED,
        IPPROTO_TCP if answered => TCP_ANSWERED,
        IPPROTO_TCP => TCP_UNANSWERED,
        IPPROTO_SCTP if answered => SCTP_ANSWERED,
        IPPROTO_SCTP => SCTP_UNANSWERED,
        IPPROTO_UDP if answered => UDP_ANSWERED,
        IPPROTO_UDP => UDP_UNANSWERED,
        IPPROTO_ICMP | IPPROTO_ICMPV6 => ICMP,
        _ => OTHER,
    }
}
