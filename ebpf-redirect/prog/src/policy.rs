//! The verdict point: may this pod talk with that identity?

use hauberk_abi::{DropReason, VERDICT_ALLOW, VerdictKey};

use crate::{
    maps::{VERDICTS, copied},
    packet::Transport,
};

/// Looks from the most to the least specific key. No entry allows, until policies are compiled; an answer
/// that is not "allow" drops.
#[inline(always)]
pub fn check(local: u32, remote: u32, direction: u8, t: &Transport) -> Result<(), DropReason> {
    let has_port = t.proto != crate::packet::IPPROTO_ICMP && t.proto != crate::packet::IPPROTO_ICMPV6;
    let port = if has_port { u16::from_be(t.dport) } else { 0 };
    let mut key = VerdictKey {
        local,
        remote,
        port,
        proto: t.proto,
        direction,
    };
    if let Some(verdict) = copied(&VERDICTS, &key) {
        return allowed(verdict);
    }
    key.port = 0;
    if let Some(verdict) = copied(&VERDICTS, &key) {
        return allowed(verdict);
    }
    key.proto = 0;
    match copied(&VERDICTS, &key) {
        Some(verdict) => allowed(verdict),
        None => Ok(()),
    }
}

#[inline(always)]
fn allowed(verdict: u32) -> Result<(), DropReason> {
    if verdict == VERDICT_ALLOW {
        Ok(())
    } else {
        Err(DropReason::PolicyDenied)
    }
}
