//! Reading the head of a frame: who talks to whom over what, and whether the marker is in it.

use crate::layout::{HEAD, Settings};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Extension headers, RFC 8200 §4.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// More than these in a row nobody sends.
const MOST_EXTENSIONS: usize = 4;

const IP: usize = 14;

pub struct Head {
    /// IPv4 mapped.
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// Index into a kind's cells: IPv4 0 to 3, IPv6 4 to 7; TCP, UDP, ICMP, others.
    pub class: usize,
    pub fragment: bool,
    /// To a group of Ethernet stations.
    pub multicast: bool,
}

impl Head {
    /// `None` for what is not IP.
    #[inline(always)]
    pub fn parse(bytes: &[u8; HEAD], read: usize) -> Option<Self> {
        if read < IP + 20 {
            return None;
        }
        let multicast = bytes[0] & 1 != 0;
        match [bytes[12], bytes[13]] {
            [0x08, 0x00] => {
                let mut source = [0; 16];
                let mut destination = [0; 16];
                (source[10], source[11], destination[10], destination[11]) = (0xff, 0xff, 0xff, 0xff);
                let mut i = 0;
                while i < 4 {
                    source[12 + i] = bytes[IP + 12 + i];
                    destination[12 + i] = bytes[IP + 16 + i];
                    i += 1;
                }
                let offset_and_flags = u16::from_be_bytes([bytes[IP + 6], bytes[IP + 7]]);
                // More fragments, or not the first. RFC 791 §3.1
                let fragment = offset_and_flags & 0x3fff != 0;
                let first = offset_and_flags & 0x1fff == 0;
                let class = if first { class(bytes[IP + 9]) } else { 3 };
                Some(Self { source, destination, class, fragment, multicast })
            }
            [0x86, 0xdd] if read >= IP + 40 => {
                let mut source = [0; 16];
                let mut destination = [0; 16];
                let mut i = 0;
                while i < 16 {
                    source[i] = bytes[IP + 8 + i];
                    destination[i] = bytes[IP + 24 + i];
                    i += 1;
                }
                let (protocol, fragment) = walk(bytes);
                Some(Self { source, destination, class: 4 + class(protocol), fragment, multicast })
            }
            _ => None,
        }
    }
}

#[inline(always)]
fn class(protocol: u8) -> usize {
    match protocol {
        TCP => 0,
        UDP => 1,
        ICMP | ICMPV6 => 2,
        _ => 3,
    }
}

/// What follows the extension headers, and whether one of them is a fragment's.
#[inline(always)]
fn walk(bytes: &[u8; HEAD]) -> (u8, bool) {
    let mut next = bytes[IP + 6];
    let mut at = IP + 40;
    let mut fragment = false;
    for _ in 0..MOST_EXTENSIONS {
        if at >= HEAD - 8 {
            break;
        }
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(bytes[at + 1]) + 1) * 8,
            FRAGMENT => {
                fragment = true;
                let not_first = bytes[at + 2] != 0 || bytes[at + 3] & 0xf8 != 0;
                if not_first {
                    return (u8::MAX, true);
                }
                8
            }
            _ => break,
        };
        next = bytes[at];
        at += length;
    }
    (next, fragment)
}

/// Whether the marker begins anywhere from the IP header on. Its bytes are shifted through a window of 16,
/// since the target cannot load words that are not aligned.
#[inline(always)]
pub fn has_marker(bytes: &[u8; HEAD], read: usize, settings: &Settings) -> bool {
    let (mut high, mut low) = (0u64, 0u64);
    let mut i = IP;
    while i < HEAD {
        if i >= read {
            return false;
        }
        high = high << 8 | low >> 56;
        low = low << 8 | u64::from(bytes[i]);
        if low & settings.mask_low == settings.marker_low && high & settings.mask_high == settings.marker_high {
            return true;
        }
        i += 1;
    }
    false
}
