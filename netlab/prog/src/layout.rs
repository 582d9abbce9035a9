//! What the fabric's program and user space share: the layout of its maps' values.
//!
//! No padding, no bool, no enum: user space and the program are compiled by two compilers.

/// Ports are told apart by ifindex, which is small in the fabric's own namespace.
pub const PORTS: u32 = 128;
/// Kinds of packets that are counted, indexes of [`Tallies::kinds`].
pub const KINDS: usize = 7;
/// All of IPv4 and IPv6.
pub const ALL: usize = 0;
/// Covered source or destination.
pub const COVERED: usize = 1;
/// The marker is in it.
pub const MARKER: usize = 2;
/// A fragment.
pub const FRAGMENT: usize = 3;
/// Lost on purpose.
pub const LOST: usize = 4;
/// Duplicated on purpose.
pub const DUPLICATED: usize = 5;
/// Held back on purpose.
pub const REORDERED: usize = 6;

/// Value of `SETTINGS`, an array of one.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// The marker's bytes as one big-endian number, and which bits of it count. Mask 0: no marker.
    pub marker_high: u64,
    pub marker_low: u64,
    pub mask_high: u64,
    pub mask_low: u64,
    /// 1: look addresses up in `COVERED_PREFIXES`.
    pub covered: u32,
    /// Parts per million.
    pub loss: u32,
    pub duplicate: u32,
    pub reorder: u32,
    /// The device that holds back packets.
    pub hold_ifindex: u32,
    /// Of the pseudo-random decisions.
    pub seed: u32,
}

/// Packets and bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Cell {
    pub packets: u64,
    pub bytes: u64,
}

/// Value of `TALLIES`, a per-CPU array by port: of each kind, IPv4 and IPv6 by TCP, UDP, ICMP and others.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Tallies {
    pub kinds: [[Cell; 8]; KINDS],
}

const _: () = {
    assert!(size_of::<Settings>() == 56);
    assert!(size_of::<Tallies>() == KINDS * 8 * 16);
};
