//! GRO: merges consecutive segments of a flow, as they come out of the tunnel, into super-packets that
//! the TUN takes with one write.
//!
//! In order: judge the packet → find the open super-packet of its flow → append, if every rule of the
//! kernel's own GRO holds (net/ipv4/tcp_offload.c, net/ipv4/udp_offload.c) → otherwise close that one
//! first, so that a flow is never reordered. Only packets whose checksums are right are merged; all
//! others pass unchanged, for the receiver to judge.

mod candidate;
mod super_packet;

use super::vnet::VnetHdr;
use candidate::{Candidate, Judgement};
use super_packet::SuperPacket;

/// Super-packets open at a time. More flows than this in one batch gain little from merging.
const OPEN: usize = 8;

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
    /// In the order in which they were opened.
    open: Vec<SuperPacket>,
    spare: Vec<SuperPacket>,
}

impl Coalescer {
    /// Allocates the buffers, once.
    pub fn new(merge: Merge) -> Self {
        Self {
            merge,
            open: Vec::with_capacity(OPEN),
            spare: (0..OPEN).map(|_| SuperPacket::new()).collect(),
        }
    }

    /// Takes one opened packet (trailing padding is ignored). `write` gets, in each flow's order, what is
    /// ready for the TUN: at once where the packet cannot be merged, later otherwise. Bytes that are no IP
    /// packet are given on as they are.
    #[inline]
    pub fn push(&mut self, packet: &[u8], write: &mut impl FnMut(&VnetHdr, &[u8])) {
        match candidate::judge(packet, self.merge) {
            Judgement::Candidate(candidate) => self.take(&candidate, write),
            Judgement::EndsFlow(flow, packet) => {
                if let Some(at) = self.open.iter().position(|open| *open.flow() == flow) {
                    self.close(at, write);
                }
                write(&VnetHdr::default(), packet);
            }
            Judgement::Alone(packet) => write(&VnetHdr::default(), packet),
        }
    }

    /// Gives out all that waits: at the end of each batch.
    pub fn flush(&mut self, write: &mut impl FnMut(&VnetHdr, &[u8])) {
        for mut open in self.open.drain(..) {
            open.finish(write);
            self.spare.push(open);
        }
    }

    #[inline]
    fn take(&mut self, candidate: &Candidate<'_>, write: &mut impl FnMut(&VnetHdr, &[u8])) {
        if let Some(at) = self.open.iter().position(|open| *open.flow() == candidate.flow) {
            if self.open[at].append(candidate) {
                if self.open[at].is_complete() {
                    self.close(at, write);
                }
                return;
            }
            self.close(at, write);
        }
        if !candidate.may_start() {
            write(&VnetHdr::default(), candidate.packet);
            return;
        }
        if self.spare.is_empty() {
            self.close(0, write);
        }
        let mut fresh = self
            .spare
            .pop()
            .expect("closing an open super-packet leaves a spare one");
        if fresh.start(candidate) {
            self.open.push(fresh);
        } else {
            self.spare.push(fresh);
            write(&VnetHdr::default(), candidate.packet);
        }
    }

    fn close(&mut self, at: usize, write: &mut impl FnMut(&VnetHdr, &[u8])) {
        let mut open = self.open.remove(at);
        open.finish(write);
        self.spare.push(open);
    }
}

#[cfg(test)]
mod tests;
