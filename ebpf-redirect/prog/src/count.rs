//! Counts packets and bytes, per CPU.

use aya_ebpf::maps::PerCpuArray;
use hauberk_abi::{Count, Counter, DropReason};

use crate::{
    maps::{COUNTERS, DROPS},
    skb::Skb,
};

#[inline(always)]
pub fn dropped(skb: Skb, l3: u32, reason: DropReason) {
    add(&DROPS, reason as u32, skb, l3);
}

#[inline(always)]
pub fn passed(skb: Skb, l3: u32, counter: Counter) {
    add(&COUNTERS, counter as u32, skb, l3);
}

#[inline(always)]
fn add(map: &PerCpuArray<Count>, index: u32, skb: Skb, l3: u32) {
    if let Some(count) = map.get_ptr_mut(index) {
        // SAFETY: the slot is this CPU's own, and the program is not preempted by itself on it.
        unsafe {
            (*count).packets += skb.segments() as u64;
            (*count).bytes += skb.len().saturating_sub(l3) as u64;
        }
    }
}
