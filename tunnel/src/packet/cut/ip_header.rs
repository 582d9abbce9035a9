//! The IP header of a packet that is cut, as it is repeated before every segment.

use super::CutError;
use crate::packet::{
    checksum::Sum,
    parse::{Packet, Version},
};

/// Header fields that change from segment to segment, and the sum of those that do not.
pub(super) struct IpHeader {
    version: Version,
    /// IPv4: the header's sum without total length, identification and checksum.
    base: Sum,
    id: u16,
}

impl IpHeader {
    /// Reads the header; an IPv4 header's checksum is about to be replaced, so it is verified.
    pub(super) fn of(packet: &Packet<'_>) -> Result<Self, CutError> {
        let bytes = packet.bytes();
        if packet.version() == Version::V6 {
            return Ok(Self {
                version: Version::V6,
                base: Sum::default(),
                id: 0,
            });
        }
        let sum = Sum::default().bytes(&bytes[..packet.l4_offset()]);
        if !sum.is_valid() {
            return Err(CutError::BadChecksum);
        }
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Ok(Self {
            version: Version::V4,
            base: sum.without(word(2)).without(word(4)).without(word(10)),
            id: word(4),
        })
    }

    /// Adapts a copy of the header to the `index`th segment of `len` bytes in all.
    #[inline]
    pub(super) fn adapt(&self, header: &mut [u8], len: usize, index: usize) {
        debug_assert!(len <= super::MAX_PACKET);
        match self.version {
            Version::V4 => {
                let (len, id) = (len as u16, self.id.wrapping_add(index as u16));
                let sum = self.base.word(len).word(id).finish();
                header[2..4].copy_from_slice(&len.to_be_bytes());
                header[4..6].copy_from_slice(&id.to_be_bytes());
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Version::V6 => header[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes()),
        }
    }
}
