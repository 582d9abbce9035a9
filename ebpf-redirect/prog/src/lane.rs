//! Hands a packet to the lane that carries its flow.

use hauberk_abi::{DropReason, Peer, session_slot};

use crate::{
    maps::{LANES, QUEUES},
    skb::Skb,
    verdict::Verdict,
};

/// Redirects to the TUN of the peer's lane, unless too much waits there already: a TUN drops silently, and
/// a queue bounded in bytes keeps latency under load small.
#[inline(always)]
pub fn redirect(skb: Skb, l3: u32, peer: &Peer, flow_hash: u32) -> Verdict {
    let slot = session_slot(peer, flow_hash).ok_or(DropReason::LaneMissing)?;
    let lane = *LANES.get(slot).ok_or(DropReason::LaneMissing)?;
    if lane.tun_ifindex == 0 {
        return Err(DropReason::LaneMissing);
    }
    let queue = QUEUES.get_ptr_mut(slot).ok_or(DropReason::LaneMissing)?;
    let bytes = skb.len().saturating_sub(l3) as u64;
    // SAFETY: the pointer is to a live, aligned map value. Volatile, since the lane and other CPUs write it;
    // the target compiles no atomic load, and an aligned 8-byte load is one.
    let (produced, consumed) = unsafe {
        (
            (&raw const (*queue).produced).read_volatile(),
            (&raw const (*queue).consumed).read_volatile(),
        )
    };
    // Signed: the lane sets `consumed` to `produced` when it finds the TUN empty, which may overtake a packet.
    let waiting = produced.wrapping_sub(consumed) as i64;
    if waiting > 0 && waiting as u64 + bytes > lane.queue_limit_bytes as u64 {
        return Err(DropReason::QueueFull);
    }
    // SAFETY: as above.
    unsafe { add(&raw mut (*queue).produced, bytes) };
    skb.redirect(lane.tun_ifindex)
}

/// The target's atomics have no read-modify-write in Rust; the instruction has been in BPF from the start.
///
/// # Safety
/// `place` points to a live, aligned map value.
#[inline(always)]
unsafe fn add(place: *mut u64, bytes: u64) {
    // SAFETY: by the caller; the instruction touches nothing else.
    unsafe {
        core::arch::asm!("lock *(u64 *)({place} + 0) += {bytes}", place = in(reg) place, bytes = in(reg) bytes)
    }
}
