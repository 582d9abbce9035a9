//! Reading the head of a frame: who talks to whom over what, and whether the marker is in it.

use core::hint::black_box;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_load_bytes};

use crate::layout::Settings;

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
/// The marker is looked for in so many times 16 bytes, from the IP header on.
const MARKER_CHUNKS: usize = 20;
/// Class of what is not told apart.
const OTHER: usize = 3;

/// What is to be known of a packet of IP.
pub struct Head {
    /// Where the source address begins in the frame; the destination address follows it.
    pub source: u32,
    pub is_v6: bool,
    /// Index into a kind's cells: IPv4 0 to 3, IPv6 4 to 7; TCP, UDP, ICMP, others.
    pub class: usize,
    pub fragment: bool,
    /// To a group of Ethernet stations.
    pub multicast: bool,
}

impl Head {
    /// `None` for what is not IP.
    #[inline(always)]
    pub fn parse(skb: *mut __sk_buff) -> Option<Self> {
        let bytes = load::<{ IP + 20 }>(skb, 0)?;
        let multicast = bytes[0] & 1 != 0;
        match [bytes[12], bytes[13]] {
            [0x08, 0x00] => {
                let offset_and_flags = u16::from_be_bytes([bytes[IP + 6], bytes[IP + 7]]);
                // More fragments, or not the first. RFC 791 §3.1
                let fragment = offset_and_flags & 0x3fff != 0;
                let first = offset_and_flags & 0x1fff == 0;
                let class = if first { class(bytes[IP + 9]) } else { OTHER };
                Some(Self {
                    source: IP as u32 + 12,
                    is_v6: false,
                    class,
                    fragment,
                    multicast,
                })
            }
            [0x86, 0xdd] => {
                let (class, fragment) = walk(skb, bytes[IP + 6]);
                Some(Self {
                    source: IP as u32 + 8,
                    is_v6: true,
                    class: 4 + class,
                    fragment,
                    multicast,
                })
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
        _ => OTHER,
    }
}

/// The class of what follows the extension headers, the first of which is `next`, and whether one of them is
/// a fragment's.
#[inline(always)]
fn walk(skb: *mut __sk_buff, mut next: u8) -> (usize, bool) {
    let mut at = IP as u32 + 40;
    let mut fragment = false;
    for _ in 0..MOST_EXTENSIONS {
        if next != HOP_BY_HOP && next != ROUTING && next != DESTINATION && next != FRAGMENT {
            break;
        }
        let Some(header) = load::<4>(skb, at) else {
            return (OTHER, fragment);
        };
        if next == FRAGMENT {
            fragment = true;
            if header[2] != 0 || header[3] & 0xf8 != 0 {
                return (OTHER, true);
            }
            at += 8;
        } else {
            at += (u32::from(header[1]) + 1) * 8;
        }
        next = header[0];
    }
    (class(next), fragment)
}

/// `N` bytes of the frame.
#[inline(always)]
pub fn load<const N: usize>(skb: *mut __sk_buff, at: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: `bytes` has N bytes.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
    (result == 0).then_some(bytes)
}

/// Whether the marker is in the packet's first bytes.
#[inline(always)]
pub fn has_marker(skb: *mut __sk_buff, len: u32, settings: &Settings) -> bool {
    let mut before = [0; 2];
    let mut at = IP as u32;
    for _ in 0..MARKER_CHUNKS {
        let Some(chunk) = load_words(skb, at) else {
            // Less than a chunk is left: the last two whole ones end with the packet.
            let tail = len.saturating_sub(16);
            let Some(before) = load_words(skb, tail.saturating_sub(16)) else {
                return false;
            };
            return load_words(skb, tail).is_some_and(|chunk| ends_in(before, chunk, settings));
        };
        if ends_in(before, chunk, settings) {
            return true;
        }
        before = chunk;
        at += 16;
    }
    false
}

/// 16 bytes of the frame as two numbers.
#[inline(always)]
fn load_words(skb: *mut __sk_buff, at: u32) -> Option<[u64; 2]> {
    let mut words = [0u64; 2];
    // SAFETY: `words` has 16 bytes.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), at, words.as_mut_ptr().cast(), 16) };
    (result == 0).then(|| [u64::from_be(words[0]), u64::from_be(words[1])])
}

/// Whether the marker ends in `chunk`, having begun there or in the 16 bytes before it. Without a branch, for
/// each of which the verifier would follow both ways from then on.
#[inline(always)]
fn ends_in([a, b]: [u64; 2], [c, d]: [u64; 2], settings: &Settings) -> bool {
    let differs = |high: u64, low: u64| {
        let difference = (high ^ settings.marker_high) & settings.mask_high
            | (low ^ settings.marker_low) & settings.mask_low;
        // Opaque, or the compiler sees a comparison with zero in it and makes it a branch.
        (difference | black_box(difference.wrapping_neg())) >> 63
    };
    let mut all_differ = differs(b, c) & differs(c, d);
    let mut bits = 8;
    while bits < 64 {
        let over = 64 - bits;
        all_differ &= differs(a << bits | b >> over, b << bits | c >> over);
        all_differ &= differs(b << bits | c >> over, c << bits | d >> over);
        bits += 8;
    }
    all_differ == 0
}
