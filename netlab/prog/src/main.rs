//! The program on each port of the lab's fabric, where packets come in from a node.
//!
//! 1. Look at the head of the frame; 2. count it: all, fragments, covered addresses, the marker; 3. when
//! asked, lose it, duplicate it, or hold it back. It never changes a packet, and never loses one that
//! it was not asked to: what it cannot read it lets through.
#![no_std]
#![no_main]

mod head;
mod layout;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT},
    helpers::{bpf_clone_redirect, bpf_get_smp_processor_id, bpf_redirect},
    macros::{classifier, map},
    maps::{Array, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::TcContext,
};
use head::Head;
use layout::{ALL, COVERED, Cell, DUPLICATED, FRAGMENT, LOST, MARKER, PORTS, REORDERED, Settings, Tallies};

/// Lets the next program, and then the bridge, have it.
const NEXT: i32 = -1;
/// The mark of a duplicate on its second way through this program. Marks do not leave a namespace.
const SEEN: u32 = 0x0bad_cafe;
const ETHERNET: u32 = 14;
const MILLION: u64 = 1_000_000;

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
/// Addresses of 16 bytes, IPv4 mapped.
#[map]
static COVERED_PREFIXES: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1024, 1);
#[map]
static TALLIES: PerCpuArray<Tallies> = PerCpuArray::with_max_entries(PORTS, 0);
/// How many decisions were made on this CPU.
#[map]
static DECISIONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[classifier]
pub fn fabric_port(ctx: TcContext) -> i32 {
    // Nothing but reading failed: the bridge gets it.
    judge(ctx.skb.skb).unwrap_or(NEXT)
}

#[inline(always)]
fn judge(skb: *mut __sk_buff) -> Option<i32> {
    // SAFETY: the context is valid for the whole program; these are fields every classifier may read.
    let (mark, len, port, segments) = unsafe { ((*skb).mark, (*skb).len, (*skb).ifindex, (*skb).gso_segs) };
    if mark == SEEN {
        return Some(NEXT);
    }
    let settings = SETTINGS.get(0)?;
    let head = Head::parse(skb)?;
    let marked = settings.mask_low != 0 && head::has_marker(skb, len, settings);

    let tallies = TALLIES.get_ptr_mut(if port < PORTS { port } else { 0 })?;
    let packet = Cell {
        packets: segments.max(1).into(),
        bytes: len.saturating_sub(ETHERNET).into(),
    };
    let class = head.class & 7;
    let count = |kind: usize| {
        // SAFETY: the element is this CPU's own; `kind` is a constant below KINDS and `class` below 8.
        let cell = unsafe { &mut (*tallies).kinds[kind][class] };
        cell.packets += packet.packets;
        cell.bytes += packet.bytes;
    };
    count(ALL);
    if head.fragment {
        count(FRAGMENT);
    }
    if settings.covered != 0 && has_covered(skb, &head) {
        count(COVERED);
    }
    if marked {
        count(MARKER);
    }

    if settings.loss | settings.duplicate | settings.reorder == 0 {
        return Some(NEXT);
    }
    let decisions = DECISIONS.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own.
    let nth = unsafe {
        *decisions = (*decisions).wrapping_add(1);
        *decisions
    };
    // SAFETY: this helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let random = mix((u64::from(settings.seed) << 32 | u64::from(cpu)).wrapping_add(nth << 8));
    if hits(random, settings.loss) {
        count(LOST);
        return Some(TC_ACT_SHOT as i32);
    }
    let random = mix(random);
    if hits(random, settings.duplicate) {
        // SAFETY: the context is valid, and no pointer into the packet is held across the call.
        let failed = unsafe {
            (*skb).mark = SEEN;
            bpf_clone_redirect(skb, port, BPF_F_INGRESS.into())
        };
        if failed == 0 {
            count(DUPLICATED);
        }
    }
    // The bridge would send a held multicast back to where it came from.
    if !head.multicast && hits(mix(random), settings.reorder) {
        count(REORDERED);
        // SAFETY: this helper has no preconditions.
        return Some(unsafe { bpf_redirect(settings.hold_ifindex, 0) } as i32);
    }
    Some(NEXT)
}

#[inline(always)]
fn has_covered(skb: *mut __sk_buff, head: &Head) -> bool {
    let length = if head.is_v6 { 16 } else { 4 };
    is_covered(skb, head.is_v6, head.source) || is_covered(skb, head.is_v6, head.source + length)
}

#[inline(always)]
fn is_covered(skb: *mut __sk_buff, is_v6: bool, at: u32) -> bool {
    let address = if is_v6 {
        head::load::<16>(skb, at)
    } else {
        head::load::<4>(skb, at).map(|[a, b, c, d]| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    };
    let Some(address) = address else { return false };
    COVERED_PREFIXES.get(Key::new(128, address)).is_some()
}

#[inline(always)]
fn hits(random: u64, ppm: u32) -> bool {
    ((random >> 32) * MILLION) >> 32 < ppm.into()
}

/// The output function of splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
#[inline(always)]
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
