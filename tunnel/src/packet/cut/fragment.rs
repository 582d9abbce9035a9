//! Fragments IPv4 (RFC 791 §3.2), for what came without DF and cannot be cut at a higher layer.

use super::{CutError, MAX_PACKET, Out, Segment};
use crate::packet::{checksum::Sum, parse::Packet};

const MF: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
/// An option with this bit goes into every fragment (RFC 791 §3.1).
const OPTION_COPIED: u8 = 0x80;

/// The longest IPv4 header.
const MAX_HEADER: usize = 60;

/// Whether fragments of `packet` can carry anything at this MTU.
pub(super) fn can_fragment(packet: &Packet<'_>, mtu: usize) -> bool {
    mtu >= packet.l4_offset() + 8
}

/// Fragments an IPv4 packet (or a fragment, again) that does not fit and has not DF set.
pub(super) fn fragment<S: FnMut(Segment<'_>)>(
    packet: &Packet<'_>,
    out: &mut Out<'_, S>,
) -> Result<(), CutError> {
    if !can_fragment(packet, out.mtu) {
        return Err(out.too_big());
    }
    let (header, payload) = packet.bytes().split_at(packet.l4_offset());
    if !Sum::default().bytes(header).is_valid() {
        return Err(CutError::BadChecksum);
    }
    let field = u16::from_be_bytes([header[6], header[7]]);
    let first_offset = usize::from(field & OFFSET) * 8;
    if header.len() + first_offset + payload.len() > MAX_PACKET {
        return Err(CutError::Malformed);
    }
    let size = (out.mtu - header.len()) & !7;
    let mut later = [0; MAX_HEADER];
    let later_len = later_header(header, &mut later);
    let last = payload.len().saturating_sub(1) / size;
    for (index, part) in payload.chunks(size).enumerate() {
        let header = if index == 0 { header } else { &later[..later_len] };
        let len = header.len() + part.len();
        let more = if index == last { field & MF } else { MF };
        let field = field & !(MF | OFFSET) | more | ((first_offset + index * size) / 8) as u16;
        let (head, room) = out.buf.split_at_mut(header.len());
        head.copy_from_slice(header);
        room[..part.len()].copy_from_slice(part);
        head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        head[6..8].copy_from_slice(&field.to_be_bytes());
        head[10..12].fill(0);
        let sum = Sum::default().bytes(head).finish();
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        out.give(len);
    }
    Ok(())
}

/// Writes the header of later fragments, which leaves out options without the copied bit; returns its
/// length.
fn later_header(header: &[u8], out: &mut [u8; MAX_HEADER]) -> usize {
    let (fixed, mut options) = header.split_at(20);
    out[..20].copy_from_slice(fixed);
    let mut len = 20;
    while let [kind, rest @ ..] = options {
        let option_len = match *kind {
            OPTION_END => break,
            OPTION_NOP => 1,
            _ => usize::from(rest.first().copied().unwrap_or(0)),
        };
        // A length that makes no sense ends the options, as in a receiver.
        if option_len == 0 || option_len > options.len() || (*kind != OPTION_NOP && option_len < 2) {
            break;
        }
        let (option, rest) = options.split_at(option_len);
        if kind & OPTION_COPIED != 0 {
            out[len..len + option_len].copy_from_slice(option);
            len += option_len;
        }
        options = rest;
    }
    let padded = len.next_multiple_of(4);
    out[len..padded].fill(OPTION_END);
    out[0] = 0x40 | (padded / 4) as u8;
    padded
}
