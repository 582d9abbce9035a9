//! Cuts what was read from a TUN into packets that fit the tunnel.
//!
//! In order: parse → complete the checksum if the kernel left it partial → as it is, if it fits → TCP is
//! cut again, a UDP super-packet is split at its own size, IPv4 without DF is fragmented → otherwise
//! [`CutError::TooBig`]. Nothing corrupt is laundered: where a new checksum replaces a complete one, the
//! old one is verified first.

use thiserror::Error;

use super::vnet::VnetHdr;

/// The largest IP packet.
pub const MAX_PACKET: usize = 65_535;

/// Segments are padded to a multiple of this (WireGuard whitepaper §5.4.6), but not past the MTU.
pub const PADDING: usize = 16;

/// Why a packet was not cut. No segment has been given out then.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CutError {
    /// Headers that cannot be read, or that contradict the vnet header.
    #[error("malformed packet")]
    Malformed,
    /// A checksum that would have had to be replaced is wrong.
    #[error("wrong checksum")]
    BadChecksum,
    /// Too big for the tunnel, and it may not or cannot be cut: the sender is to be told by
    /// [`too_big`](super::too_big::too_big).
    #[error("too big for the tunnel's MTU of {mtu} bytes")]
    TooBig {
        /// The tunnel's MTU in bytes.
        mtu: usize,
    },
}

/// One packet ready to be sealed.
#[derive(Debug)]
pub struct Segment<'a> {
    /// The packet, followed by zeros up to a multiple of [`PADDING`] bytes, but not past the MTU.
    pub padded: &'a [u8],
    /// The packet's own length in bytes.
    pub len: usize,
}

/// Cuts packets; owns the buffers for it.
#[derive(Debug)]
pub struct Cutter {
    out: Box<[u8]>,
    whole: Box<[u8]>,
}

impl Default for Cutter {
    fn default() -> Self {
        Self::new()
    }
}

impl Cutter {
    /// Allocates the buffers, once.
    pub fn new() -> Self {
        Self {
            out: vec![0; MAX_PACKET + PADDING].into(),
            whole: vec![0; MAX_PACKET + PADDING].into(),
        }
    }

    /// Cuts `packet` (which starts with the IP header) into segments of at most `mtu` bytes and gives
    /// them to `sink` in order. All are equally long but the last, except where an IPv4 datagram of a
    /// UDP super-packet had to be fragmented. Returns the number of segments.
    ///
    /// # Errors
    /// [`CutError`]; `sink` has not been called then.
    pub fn cut(
        &mut self,
        vnet: VnetHdr,
        packet: &[u8],
        mtu: usize,
        sink: impl FnMut(Segment<'_>),
    ) -> Result<usize, CutError> {
        let _ = (vnet, packet, mtu, sink);
        todo!()
    }
}
