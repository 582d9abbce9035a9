//! Time since the machine started.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;

/// Seconds of `CLOCK_MONOTONIC_COARSE`.
#[inline(always)]
pub fn now_s() -> u32 {
    // SAFETY: the helper has no arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}
