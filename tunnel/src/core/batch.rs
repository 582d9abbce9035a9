//! Sealed datagrams for one peer, collected for one system call.

use std::net::SocketAddr;

use crate::peers::PeerId;
use crate::socket::{Batch, MAX_BATCH_BYTES, MAX_SEGMENTS};

/// boringtun wants room for a handshake message even where it will write less.
const SLACK: usize = 256;

/// Where datagrams go, and how: what all of one batch share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) peer: PeerId,
    pub(super) to: SocketAddr,
    pub(super) tos: u8,
}

/// The datagrams, one behind the other.
pub(super) struct SendBatch {
    bytes: Box<[u8]>,
    length: usize,
    segment: usize,
    count: usize,
    way: Option<Way>,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            bytes: vec![0; MAX_BATCH_BYTES + SLACK].into(),
            length: 0,
            segment: 0,
            count: 0,
            way: None,
        }
    }
}

impl SendBatch {
    /// Whether a datagram may join: `UDP_SEGMENT` wants equal lengths, but for a shorter last one.
    #[inline]
    pub(super) fn takes(&self, way: Way, length: usize) -> bool {
        match self.way {
            None => true,
            Some(mine) => {
                mine == way
                    && length <= self.segment
                    && self.length == self.count * self.segment
                    && self.count < MAX_SEGMENTS
                    && self.length + length <= MAX_BATCH_BYTES
            }
        }
    }

    /// Where the next datagram is to be written. Longer than any.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    /// Takes in the `length` bytes written to [`SendBatch::room`].
    #[inline]
    pub(super) fn push(&mut self, way: Way, length: usize) {
        debug_assert!(self.takes(way, length));
        if self.way.is_none() {
            self.way = Some(way);
            self.segment = length;
        }
        self.length += length;
        self.count += 1;
    }

    /// Empties the batch; what it held is for the one call that follows.
    pub(super) fn take(&mut self) -> Option<(Way, usize, Batch<'_>)> {
        let way = self.way.take()?;
        let length = std::mem::take(&mut self.length);
        let count = std::mem::take(&mut self.count);
        let batch = Batch {
            to: way.to,
            tos: way.tos,
            bytes: &self.bytes[..length],
            segment: self.segment,
        };
        Some((way, count, batch))
    }
}
