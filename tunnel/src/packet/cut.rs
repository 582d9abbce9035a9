//! Cuts what was read from a TUN into packets that fit the tunnel.
//!
//! In order: parse → complete the checksum if the kernel left it partial → as it is, if it fits → TCP is
//! cut again, a UDP super-packet is split at its own size, IPv4 without DF is fragmented → otherwise
//! [`CutError::TooBig`]. Nothing corrupt is laundered: where a new checksum replaces a complete one, the
//! old one is verified first; where the packet only passes, its checksums pass with it.

mod fragment;
mod ip_header;
mod partial;
mod tcp;
mod udp;

use thiserror::Error;

use super::{
    parse::{Fragment, Packet, Version, protocol},
    vnet::{Gso, VnetHdr},
};

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
    /// The segment being written.
    out: Box<[u8]>,
    /// A datagram that is fragmented after its checksum is complete.
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
            whole: vec![0; MAX_PACKET].into(),
        }
    }

    /// Cuts `packet` (which starts with the IP header) into segments of at most `mtu` bytes and gives
    /// them to `sink` in order. They are equally long but the last, unless IPv4 had to be fragmented
    /// (then with options, or as a UDP super-packet, lengths differ). Returns the number of segments.
    ///
    /// # Errors
    /// [`CutError`]; `sink` has not been called then.
    #[inline]
    pub fn cut(
        &mut self,
        vnet: VnetHdr,
        packet: &[u8],
        mtu: usize,
        mut sink: impl FnMut(Segment<'_>),
    ) -> Result<usize, CutError> {
        let packet = Packet::parse(packet).map_err(|_| CutError::Malformed)?;
        let mut out = Out {
            buf: &mut self.out,
            mtu: mtu.min(MAX_PACKET),
            sink: &mut sink,
            segments: 0,
        };
        match (vnet.gso, packet.version()) {
            (Gso::None, _) => plain(vnet, &packet, &mut out, &mut self.whole)?,
            (Gso::Tcp4, Version::V4) | (Gso::Tcp6, Version::V6) => {
                tcp::cut_super_packet(vnet, &packet, &mut out)?
            }
            (Gso::Udp, _) => udp::split(vnet, &packet, &mut out, &mut self.whole)?,
            (Gso::Tcp4, Version::V6) | (Gso::Tcp6, Version::V4) => return Err(CutError::Malformed),
        }
        Ok(out.segments)
    }
}

/// Where segments are written: always at the start of one buffer, which so stays in the cache.
struct Out<'a, S> {
    buf: &'a mut [u8],
    mtu: usize,
    sink: &'a mut S,
    segments: usize,
}

impl<S: FnMut(Segment<'_>)> Out<'_, S> {
    /// Pads and gives out the first `len` bytes of the buffer.
    #[inline]
    fn give(&mut self, len: usize) {
        debug_assert!(len <= self.mtu);
        let padded = len.next_multiple_of(PADDING).min(self.mtu.max(len));
        self.buf[len..padded].fill(0);
        (self.sink)(Segment {
            padded: &self.buf[..padded],
            len,
        });
        self.segments += 1;
    }

    fn too_big(&self) -> CutError {
        CutError::TooBig { mtu: self.mtu }
    }
}

/// An ordinary packet.
fn plain<S: FnMut(Segment<'_>)>(
    vnet: VnetHdr,
    packet: &Packet<'_>,
    out: &mut Out<'_, S>,
    whole: &mut [u8],
) -> Result<(), CutError> {
    let len = packet.bytes().len();
    let partial = vnet
        .partial
        .map(|partial| partial::check(packet, partial))
        .transpose()?;
    if len <= out.mtu {
        out.buf[..len].copy_from_slice(packet.bytes());
        if let Some(partial) = partial {
            partial.complete(&mut out.buf[..len]);
        }
        out.give(len);
        return Ok(());
    }
    if packet.protocol() == protocol::TCP
        && packet.fragment() == Fragment::Whole
        && let Some(result) = tcp::cut_packet(packet, partial.is_some(), out)
    {
        return result;
    }
    if packet.dont_fragment() {
        return Err(out.too_big());
    }
    let Some(partial) = partial else {
        return fragment::fragment(packet, out);
    };
    whole[..len].copy_from_slice(packet.bytes());
    partial.complete(&mut whole[..len]);
    let packet = Packet::parse(&whole[..len]).map_err(|_| CutError::Malformed)?;
    fragment::fragment(&packet, out)
}

#[cfg(test)]
mod tests;
