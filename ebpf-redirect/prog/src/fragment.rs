//! Fragments but the first have no ports: they pass if the first one did.

use hauberk_abi::{DropReason, FragmentKey};

use crate::{
    clock::now_s,
    maps::FRAGMENTS,
    packet::{Ip, Transport},
};

/// As long as a receiver waits for the rest of a datagram (RFC 8200 §4.5).
const WAIT_SECONDS: u32 = 60;

/// Notes that a datagram's first fragment was let through. If that finds no room, the rest is dropped.
#[inline(always)]
pub fn pass_rest(ip: &Ip, t: &Transport, direction: u32) {
    let _ = FRAGMENTS.insert(key(ip, t, direction), now_s() + WAIT_SECONDS, 0);
}

/// Whether the first one was let through. What another datagram with its number lets through is of no use without a
/// first fragment.
#[inline(always)]
pub fn check(ip: &Ip, t: &Transport, direction: u32) -> Result<(), DropReason> {
    // SAFETY: the value is copied at once; it is a time, whosever it is.
    match unsafe { FRAGMENTS.get(key(ip, t, direction)) } {
        Some(until) if now_s() <= *until => Ok(()),
        _ => Err(DropReason::UnknownFragment),
    }
}

#[inline(always)]
fn key(ip: &Ip, t: &Transport, direction: u32) -> FragmentKey {
    FragmentKey {
        src: ip.src,
        dst: ip.dst,
        id: t.fragment_id,
        direction,
    }
}
