//! GRO: merges consecutive segments of a flow, as they come out of the tunnel, into super-packets that
//! the TUN takes with one write.

use super::vnet::VnetHdr;

/// What the TUN takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// TCP super-packets over IPv4 (`TUN_F_TSO4`).
    pub tcp4: bool,
    /// TCP super-packets over IPv6 (`TUN_F_TSO6`).
    pub tcp6: bool,
    /// UDP super-packets (`TUN_F_USO4` and `TUN_F_USO6`).
    pub udp: bool,
}

/// Merges a batch of opened packets; owns the buffers for it.
#[derive(Debug)]
pub struct Coalescer {
    merge: Merge,
}

impl Coalescer {
    /// Allocates the buffers, once.
    pub fn new(merge: Merge) -> Self {
        Self { merge }
    }

    /// Takes one opened packet (trailing padding is ignored). `write` gets, in each flow's order, what is
    /// ready for the TUN: at once where the packet cannot be merged, later otherwise. Bytes that are no IP
    /// packet are given on as they are.
    pub fn push(&mut self, packet: &[u8], write: &mut impl FnMut(&VnetHdr, &[u8])) {
        let _ = (self.merge, packet, write);
        todo!()
    }

    /// Gives out all that waits: at the end of each batch.
    pub fn flush(&mut self, write: &mut impl FnMut(&VnetHdr, &[u8])) {
        let _ = write;
        todo!()
    }
}
