//! From a stage's result to the kernel's code.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use hauberk_abi::DropReason;

use crate::{count, skb::Skb};

/// Let through; TCX calls it "next". An answer of 0 would keep later programs from running.
pub const NEXT: i32 = TC_ACT_UNSPEC;

/// A kernel code, or why the packet is dropped.
pub type Verdict = Result<i32, DropReason>;

/// The only place where packets are dropped: counts them by reason.
#[inline(always)]
pub fn finish(skb: Skb, l3: u32, verdict: Verdict) -> i32 {
    match verdict {
        Ok(code) => code,
        Err(reason) => {
            count::dropped(skb, l3, reason);
            TC_ACT_SHOT
        }
    }
}
