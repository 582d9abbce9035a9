//! The header before each packet of a TUN opened with `IFF_VNET_HDR`: `struct virtio_net_hdr`, 10 bytes.
//!
//! Source: include/uapi/linux/virtio_net.h. Its fields are in the machine's byte order, as a TUN uses
//! them unless told otherwise (`TUNSETVNETLE`, `TUNSETVNETBE`).

use thiserror::Error;

/// Bytes of the header.
pub const LEN: usize = 10;

/// The least payload of a TCP super-packet's segments: TCP_MIN_GSO_SIZE in the kernel's include/net/tcp.h.
pub const MIN_TCP_GSO_SIZE: u16 = 8;

const FLAG_NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What kind of super-packet follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// An ordinary packet.
    #[default]
    None,
    /// TCP over IPv4, to be cut to `size` payload bytes a segment.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either: datagrams of equal size with one header (USO).
    Udp,
}

/// A decoded header. [`VnetHdr::default`] stands for an ordinary packet with a complete checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHdr {
    /// What kind of super-packet follows.
    pub gso: Gso,
    /// Payload bytes of each segment; 0 for [`Gso::None`].
    pub gso_size: u16,
    /// The length of all headers, as a hint; never trusted here.
    pub hdr_len: u16,
    /// Where the checksum is to be put, when it is not complete yet.
    pub partial: Option<Partial>,
}

/// A checksum still to be completed: the sum of the bytes from `start` to the packet's end, the field
/// itself (which holds the pseudo-header's sum) included, goes to `start + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Where summing starts, in bytes from the packet's first.
    pub start: u16,
    /// Where the field is, in bytes from `start`.
    pub offset: u16,
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VnetError {
    /// Fewer than [`LEN`] bytes.
    #[error("shorter than a virtio_net_hdr of {LEN} bytes")]
    Short,
    /// A kind of super-packet that no lane asks the kernel for.
    #[error("unknown gso_type {0:#x}")]
    UnknownGso(u8),
    /// A super-packet of segments without payload.
    #[error("gso_size is 0 in a super-packet")]
    NoGsoSize,
}

impl VnetHdr {
    /// Reads the header from the first [`LEN`] bytes.
    ///
    /// # Errors
    /// [`VnetError`] for what no TUN with the lane's offloads gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, VnetError> {
        let [flags, gso_type, rest @ ..] = bytes.first_chunk::<LEN>().ok_or(VnetError::Short)?;
        let field = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        let gso = match gso_type & !GSO_ECN {
            GSO_NONE => Gso::None,
            GSO_TCPV4 => Gso::Tcp4,
            GSO_TCPV6 => Gso::Tcp6,
            GSO_UDP_L4 => Gso::Udp,
            _ => return Err(VnetError::UnknownGso(*gso_type)),
        };
        let gso_size = field(2);
        if gso != Gso::None && gso_size == 0 {
            return Err(VnetError::NoGsoSize);
        }
        Ok(Self {
            gso,
            gso_size: if gso == Gso::None { 0 } else { gso_size },
            hdr_len: field(0),
            partial: (flags & FLAG_NEEDS_CSUM != 0).then(|| Partial {
                start: field(4),
                offset: field(6),
            }),
        })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[1] = match self.gso {
            Gso::None => GSO_NONE,
            Gso::Tcp4 => GSO_TCPV4,
            Gso::Tcp6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        out[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        out[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        if let Some(Partial { start, offset }) = self.partial {
            out[0] = FLAG_NEEDS_CSUM;
            out[6..8].copy_from_slice(&start.to_ne_bytes());
            out[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_encoding_and_decoding() {
        for gso in [Gso::None, Gso::Tcp4, Gso::Tcp6, Gso::Udp] {
            let hdr = VnetHdr {
                gso,
                gso_size: if gso == Gso::None { 0 } else { 1368 },
                hdr_len: 52,
                partial: Some(Partial {
                    start: 20,
                    offset: 16,
                }),
            };
            assert_eq!(VnetHdr::decode(&hdr.encode()), Ok(hdr));
        }
        assert_eq!(VnetHdr::decode(&[0; LEN]), Ok(VnetHdr::default()));
    }

    #[test]
    fn the_ecn_bit_of_a_super_packet_is_allowed() {
        let mut bytes = VnetHdr {
            gso: Gso::Tcp4,
            gso_size: 1000,
            ..Default::default()
        }
        .encode();
        bytes[1] |= GSO_ECN;
        assert_eq!(VnetHdr::decode(&bytes).map(|h| h.gso), Ok(Gso::Tcp4));
    }

    #[test]
    fn what_no_lane_asks_for_is_refused() {
        assert_eq!(VnetHdr::decode(&[0; LEN - 1]), Err(VnetError::Short));
        let ufo = [0, 3, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(VnetHdr::decode(&ufo), Err(VnetError::UnknownGso(3)));
        let no_size = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(VnetHdr::decode(&no_size), Err(VnetError::NoGsoSize));
    }
}
