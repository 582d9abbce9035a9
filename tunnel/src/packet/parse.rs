//! A checked view of one IPv4 or IPv6 packet.
//!
//! Lengths are checked once, here: a [`Packet`] holds exactly the bytes its header claims (what follows,
//! as WireGuard's padding, is cut off), and `l4` lies inside them. Checksums are not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// IP protocol numbers. Source: IANA, "Assigned Internet Protocol Numbers".
pub mod protocol {
    #![allow(missing_docs)]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT_HEADER: u8 = 59;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Extension headers followed before giving up: more than any honest packet has.
const MAX_EXTENSIONS: usize = 8;

const V4_DF: u16 = 0x4000;
const V4_MF: u16 = 0x2000;
const V4_OFFSET: u16 = 0x1fff;

/// Why bytes are no IP packet.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    /// Neither IPv4 nor IPv6.
    #[error("IP version is neither 4 nor 6")]
    Version,
    /// Shorter than its headers say.
    #[error("shorter than its headers say")]
    Short,
    /// Header fields that contradict each other.
    #[error("header fields contradict each other")]
    Header,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which part of its datagram the packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first fragment: the transport header is here, if it fits.
    First,
    /// A later fragment.
    Later,
}

/// A view of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    version: Version,
    protocol: u8,
    l4: usize,
    fragment: Fragment,
    extensions: Extensions,
}

/// What stands between the IPv6 header (or the IPv4 header's 20 bytes) and the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extensions {
    /// Nothing.
    None,
    /// Options that may be copied before each segment.
    Copyable,
    /// A header that pins the packet's length or changes its destination (routing, authentication).
    Pinning,
}

impl<'a> Packet<'a> {
    /// Checks lengths and finds the transport header.
    ///
    /// # Errors
    /// [`ParseError`] when the bytes are no packet or too few.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            _ => Err(ParseError::Version),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let header = bytes.first_chunk::<20>().ok_or(ParseError::Short)?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < 20 || total < header_len {
            return Err(ParseError::Header);
        }
        let bytes = bytes.get(..total).ok_or(ParseError::Short)?;
        let frag = u16::from_be_bytes([header[6], header[7]]);
        let fragment = match (frag & V4_OFFSET, frag & V4_MF) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        };
        Ok(Self {
            bytes,
            version: Version::V4,
            protocol: header[9],
            l4: header_len,
            fragment,
            extensions: v4_options(&bytes[20..header_len]),
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let header = bytes.first_chunk::<40>().ok_or(ParseError::Short)?;
        let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let bytes = bytes.get(..40 + payload).ok_or(ParseError::Short)?;
        let mut packet = Self {
            bytes,
            version: Version::V6,
            protocol: header[6],
            l4: 40,
            fragment: Fragment::Whole,
            extensions: Extensions::None,
        };
        for _ in 0..MAX_EXTENSIONS {
            let (next, len) = match packet.protocol {
                protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                    packet.extensions = packet.extensions.max(Extensions::Copyable);
                    let ext = packet.extension()?;
                    (ext[0], (usize::from(ext[1]) + 1) * 8)
                }
                protocol::ROUTING => {
                    packet.extensions = Extensions::Pinning;
                    let ext = packet.extension()?;
                    (ext[0], (usize::from(ext[1]) + 1) * 8)
                }
                protocol::AUTHENTICATION => {
                    packet.extensions = Extensions::Pinning;
                    let ext = packet.extension()?;
                    (ext[0], (usize::from(ext[1]) + 2) * 4)
                }
                protocol::FRAGMENT => {
                    let ext = packet.extension()?;
                    let offset = u16::from_be_bytes([ext[2], ext[3]]);
                    packet.fragment = match (offset & 0xfff8, offset & 1) {
                        // RFC 6946: an atomic fragment is a whole datagram, but stays as it is.
                        (0, 0) => Fragment::Whole,
                        (0, _) => Fragment::First,
                        _ => Fragment::Later,
                    };
                    packet.extensions = Extensions::Pinning;
                    (ext[0], 8)
                }
                _ => return Ok(packet),
            };
            packet.l4 += len;
            packet.protocol = next;
            if packet.l4 > packet.bytes.len() {
                return Err(ParseError::Short);
            }
            if packet.fragment == Fragment::Later {
                return Ok(packet);
            }
        }
        Err(ParseError::Header)
    }

    fn extension(&self) -> Result<&'a [u8; 8], ParseError> {
        self.bytes[self.l4..].first_chunk::<8>().ok_or(ParseError::Short)
    }

    /// The packet, without whatever followed it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// IPv4 or IPv6.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The transport protocol's number; for a later IPv6 fragment what the fragment header names.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Where the transport header starts (in a later fragment: where the fragment's payload starts).
    pub fn l4_offset(&self) -> usize {
        self.l4
    }

    /// The transport header and all after it.
    pub fn l4(&self) -> &'a [u8] {
        &self.bytes[self.l4..]
    }

    /// Which part of its datagram this is.
    pub fn fragment(&self) -> Fragment {
        self.fragment
    }

    /// What stands before the transport header.
    pub(crate) fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// The source address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.address(12, 8)
    }

    /// The destination address.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.address(16, 24)
    }

    fn address(&self, v4: usize, v6: usize) -> IpAddr {
        match self.version {
            Version::V4 => Ipv4Addr::from_octets(self.array(v4)).into(),
            Version::V6 => Ipv6Addr::from_octets(self.array(v6)).into(),
        }
    }

    /// Copies header bytes at a fixed offset inside the least header `parse` has checked.
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.bytes[at..]
            .first_chunk()
            .expect("parse checked the fixed header's length")
    }

    /// Source and destination address as they stand in the header.
    pub(crate) fn address_bytes(&self) -> &'a [u8] {
        match self.version {
            Version::V4 => &self.bytes[12..20],
            Version::V6 => &self.bytes[8..40],
        }
    }

    /// The IPv4 TOS byte or the IPv6 traffic class: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        match self.version {
            Version::V4 => self.bytes[1],
            Version::V6 => self.bytes[0] << 4 | self.bytes[1] >> 4,
        }
    }

    /// Whether routers may not fragment it: IPv4's DF bit; always so in IPv6.
    pub fn dont_fragment(&self) -> bool {
        match self.version {
            Version::V4 => u16::from_be_bytes(self.array(6)) & V4_DF != 0,
            Version::V6 => true,
        }
    }
}

/// Judges IPv4 options (RFC 791 §3.1).
fn v4_options(mut options: &[u8]) -> Extensions {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE_ROUTE: u8 = 131;
    const STRICT_ROUTE: u8 = 137;
    if options.is_empty() {
        return Extensions::None;
    }
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest) {
            (END, _) => break,
            (NOP, rest) => rest,
            // The destination is not the final one, for which the transport's checksum is made.
            (LOOSE_ROUTE | STRICT_ROUTE, _) => return Extensions::Pinning,
            (_, [len, ..]) if *len >= 2 && usize::from(*len) <= options.len() => {
                &options[usize::from(*len)..]
            }
            _ => return Extensions::Pinning,
        };
    }
    Extensions::Copyable
}

impl Extensions {
    fn max(self, other: Self) -> Self {
        if self == Self::Pinning { self } else { other }
    }
}

#[cfg(test)]
mod tests;
