//! The packet's metadata and bytes, behind the few accesses the programs need.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_redirect, bpf_skb_change_head, bpf_skb_load_bytes, bpf_skb_store_bytes},
    programs::TcContext,
};
use hauberk_abi::DropReason;

use crate::verdict::Verdict;

/// Length of an Ethernet header without a VLAN tag.
pub const ETH_LEN: u32 = 14;

/// `BPF_F_INGRESS` of `bpf_redirect`: the packet is received on the device, not sent.
const REDIRECT_INGRESS: u64 = 1;

/// A packet under judgement.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff);

/// Reads a field of the context. Volatile, because two neighbouring fields read as one would be refused by
/// the verifier.
macro_rules! field {
    ($skb:expr, $field:ident) => {
        // SAFETY: the kernel gives every program a valid context for the time it runs.
        unsafe { core::ptr::read_volatile(&raw const (*$skb.0).$field) }
    };
}

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut __sk_buff {
        self.0
    }

    /// Bytes from the link header on (from the IP header on devices without).
    #[inline(always)]
    pub fn len(self) -> u32 {
        field!(self, len)
    }

    /// The device whose hook runs.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        field!(self, ifindex)
    }

    /// Whether the packet came from a device, in contrast to one that the host itself made.
    #[inline(always)]
    pub fn was_received(self) -> bool {
        field!(self, ingress_ifindex) != 0
    }

    /// Whether a VLAN tag waits in the metadata, outside the bytes.
    #[inline(always)]
    pub fn has_vlan_tag(self) -> bool {
        field!(self, vlan_present) != 0
    }

    /// How many packets this is on the wire.
    #[inline(always)]
    pub fn segments(self) -> u32 {
        let segments: u32 = field!(self, gso_segs);
        if segments != 0 {
            return segments;
        }
        // A super-packet from a TUN or a guest has no count yet (SKB_GSO_DODGY).
        let size: u32 = field!(self, gso_size);
        if size == 0 { 1 } else { self.len().div_ceil(size) }
    }

    /// The stamp, see `hauberk_abi::flow_stamp`.
    #[inline(always)]
    pub fn stamp(self) -> u16 {
        field!(self, tc_index) as u16
    }

    /// `tc_index` passes redirection, routing, bridging, fragments and GSO; netfilter never touches it.
    /// (It is lost where another TC program answers "ok" instead of "next": then Strict drops, fail closed.)
    #[inline(always)]
    pub fn set_stamp(self, stamp: u16) {
        // SAFETY: the field is writable at TC hooks; the context is valid for the time the program runs.
        unsafe { core::ptr::write_volatile(&raw mut (*self.0).tc_index, stamp as u32) }
    }

    /// Copies bytes out of the packet, wherever they lie.
    #[inline(always)]
    pub fn load<const N: usize>(self, offset: u32) -> Result<[u8; N], DropReason> {
        let mut bytes = [0u8; N];
        self.load_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, to where they shall be: spares the stack a copy.
    #[inline(always)]
    pub fn load_into<const N: usize>(self, offset: u32, bytes: &mut [u8; N]) -> Result<(), DropReason> {
        // SAFETY: the destination is N writable bytes; the helper checks the packet's bounds.
        let code = unsafe { bpf_skb_load_bytes(self.0.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
        if code == 0 {
            Ok(())
        } else {
            Err(DropReason::Malformed)
        }
    }

    /// Overwrites bytes of the packet.
    #[inline(always)]
    pub fn store<const N: usize>(self, offset: u32, bytes: &[u8; N]) -> Result<(), DropReason> {
        // SAFETY: the source is N readable bytes; the helper checks the packet's bounds.
        let code = unsafe { bpf_skb_store_bytes(self.0.cast(), offset, bytes.as_ptr().cast(), N as u32, 0) };
        if code == 0 {
            Ok(())
        } else {
            Err(DropReason::InternalError)
        }
    }

    /// Puts an Ethernet header before an L3 packet. Without it `bpf_redirect` to an Ethernet device loses
    /// what came from a TUN.
    #[inline(always)]
    pub fn push_ethernet(self, header: &[u8; ETH_LEN as usize]) -> Result<(), DropReason> {
        // SAFETY: a helper call on a valid context; no pointer into the packet is held across it.
        let code = unsafe { bpf_skb_change_head(self.0, ETH_LEN, 0) };
        if code != 0 {
            return Err(DropReason::InternalError);
        }
        self.store(0, header)
    }

    /// Sends the packet by a device.
    #[inline(always)]
    pub fn redirect(self, ifindex: u32) -> Verdict {
        // SAFETY: the helper takes two numbers; the kernel checks the device when it acts.
        Ok(unsafe { bpf_redirect(ifindex, 0) } as i32)
    }

    /// Makes the host receive the packet on a device.
    #[inline(always)]
    pub fn redirect_into_stack(self, ifindex: u32) -> Verdict {
        // SAFETY: as above.
        Ok(unsafe { bpf_redirect(ifindex, REDIRECT_INGRESS) } as i32)
    }
}
