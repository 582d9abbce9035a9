//! The verdict point: may this pod talk with that identity?
//!
//! A packet belongs to a connection that was let through, or asks for a new one, which is judged by the direction in which
//! it goes. A connection is judged again when its pod has another set of policies than it had, or its other side another
//! identity: a right that is taken away ends it.

use aya_ebpf::maps::lpm_trie::Key;
use hauberk_abi::{
    COLUMN_OTHER, COLUMN_SCTP, COLUMN_TCP, COLUMN_UDP, CONFIG_AUDIT, CONNECTION_AUDITED, CONNECTION_EGRESS,
    CONNECTION_OF_HOST, Connection, Counter, DIR_EGRESS, DIR_INGRESS, DropReason, FIRST_PROGRAM, FlowKey,
    IDENTITY_ANY, PORT_PREFIX, VERDICT_ALLOW, VERDICT_DENY, VerdictKey, port_key,
};

use crate::{
    connection, count, fragment,
    maps::{PORTS, Scratch, VERDICTS, copied, flags},
    packet::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, Ip, Step, Transport},
    related,
    skb::{ETH_LEN, Skb},
};

/// Who asks for what.
pub struct Question {
    /// The pod's set of policies.
    pub set: u32,
    /// Identity of the other side.
    pub remote: u32,
    /// `DIR_*`, said from the pod.
    pub direction: u32,
    /// A socket of this node sends it.
    pub of_host: bool,
}

/// Lets a packet of a pod through, or not. `keys.connection` is filled in.
#[inline(always)]
pub fn check(
    skb: Skb,
    ip: &Ip,
    t: &Transport,
    asked: &Question,
    keys: &mut Scratch,
) -> Result<(), DropReason> {
    if t.later_fragment {
        return fragment::check(ip, t, asked.direction);
    }
    judge(skb, ip, t, asked, keys)?;
    if t.fragment {
        fragment::pass_rest(ip, t, asked.direction);
    }
    Ok(())
}

#[inline(always)]
fn judge(skb: Skb, ip: &Ip, t: &Transport, asked: &Question, keys: &mut Scratch) -> Result<(), DropReason> {
    let key = &keys.connection;
    if t.step != Step::Open
        && let Some(known) = connection::find(key)
    {
        return belongs(skb, t, asked, key, known);
    }
    if related::quotes(skb, ip, t, asked.direction, &mut keys.quoted)
        && let Some(about) = connection::find(&keys.quoted)
        && about.set == asked.set
    {
        return Ok(());
    }
    let mut new = Connection {
        set: asked.set,
        remote: asked.remote,
        expires_s: 0,
        flags: if asked.direction == DIR_EGRESS {
            CONNECTION_EGRESS
        } else {
            0
        },
    };
    if asked.of_host {
        new.flags |= CONNECTION_OF_HOST;
    } else if !is_allowed(asked, asked.direction, key) {
        denied(skb)?;
        new.flags |= CONNECTION_AUDITED;
    }
    connection::note(key, new, asked.direction, t.step);
    Ok(())
}

/// Judges again where what was judged is not what is.
#[inline(always)]
fn belongs(
    skb: Skb,
    t: &Transport,
    asked: &Question,
    key: &FlowKey,
    mut known: Connection,
) -> Result<(), DropReason> {
    let is_audited = known.flags & CONNECTION_AUDITED != 0;
    let is_as_judged = known.set == asked.set && known.remote == asked.remote && !is_audited;
    if !is_as_judged && known.flags & CONNECTION_OF_HOST == 0 {
        let opened = if known.flags & CONNECTION_EGRESS != 0 {
            DIR_EGRESS
        } else {
            DIR_INGRESS
        };
        known.set = asked.set;
        known.remote = asked.remote;
        known.flags &= !CONNECTION_AUDITED;
        if !is_allowed(asked, opened, key) {
            if let Err(reason) = denied(skb) {
                connection::forget(key);
                return Err(reason);
            }
            known.flags |= CONNECTION_AUDITED;
        }
    }
    connection::note(key, known, asked.direction, t.step);
    Ok(())
}

/// An error, or one count more of what only would be denied.
#[inline(always)]
fn denied(skb: Skb) -> Result<(), DropReason> {
    if flags() & CONFIG_AUDIT == 0 {
        return Err(DropReason::PolicyDenied);
    }
    count::passed(skb, ETH_LEN, Counter::WouldDeny);
    Ok(())
}

/// What the tables say of opening a connection, whose key is as packets come to the pod.
#[inline(always)]
fn is_allowed(asked: &Question, opened: u32, key: &FlowKey) -> bool {
    let mut place = VerdictKey {
        set: asked.set,
        remote: asked.remote,
        direction: opened,
    };
    let mut verdict = copied(&VERDICTS, &place);
    if verdict.is_none() {
        place.remote = IDENTITY_ANY;
        verdict = copied(&VERDICTS, &place);
    }
    let verdict = verdict.unwrap_or(VERDICT_DENY);
    if verdict < FIRST_PROGRAM {
        return verdict == VERDICT_ALLOW;
    }
    let column = match key.proto {
        IPPROTO_TCP => COLUMN_TCP,
        IPPROTO_UDP => COLUMN_UDP,
        IPPROTO_SCTP => COLUMN_SCTP,
        _ => COLUMN_OTHER,
    };
    // The port of the side that was asked.
    let port = match column {
        COLUMN_OTHER => 0,
        _ if opened == DIR_EGRESS => u16::from_be(key.sport),
        _ => u16::from_be(key.dport),
    };
    let place = Key::new(PORT_PREFIX + 16, port_key(verdict, column, port));
    PORTS.get(place).copied() == Some(VERDICT_ALLOW)
}
