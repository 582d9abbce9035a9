//! Explicit congestion notification through the tunnel: RFC 6040, normal mode.
//!
//! The outer header copies the inner ECN field and a DSCP of zero; when opening, a mark set on the way
//! is carried into the inner header, and a combination that only a broken path makes drops the packet.

use super::checksum::Sum;

const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const CE: u8 = 0b11;

/// The datagram was marked CE, and its inner packet's transport does not know ECN: it must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MustDrop;

/// The outer TOS byte for an inner one (RFC 6040 §4.1).
#[inline]
pub fn encapsulate(inner_tos: u8) -> u8 {
    inner_tos & MASK
}

/// The inner ECN bits that follow from both headers' (RFC 6040 §4.2, figure 4).
///
/// # Errors
/// [`MustDrop`] for CE around Not-ECT.
#[inline]
pub fn combine(outer_tos: u8, inner_tos: u8) -> Result<u8, MustDrop> {
    match (inner_tos & MASK, outer_tos & MASK) {
        (NOT_ECT, CE) => Err(MustDrop),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (_, CE) => Ok(CE),
        (CE, _) => Ok(CE),
        (_, ECT_1) => Ok(ECT_1),
        (inner, _) => Ok(inner),
    }
}

/// Carries the outer ECN bits into an opened packet, which must have parsed.
///
/// # Errors
/// [`MustDrop`] for CE around Not-ECT.
#[inline]
pub fn decapsulate(outer_tos: u8, packet: &mut [u8]) -> Result<(), MustDrop> {
    // Nothing was marked on the way: the common case touches no byte.
    if outer_tos & MASK == NOT_ECT {
        return Ok(());
    }
    match packet {
        [first, tos, ..] if *first >> 4 == 6 => {
            let ecn = combine(outer_tos, *tos >> 4)?;
            *tos = *tos & !(MASK << 4) | ecn << 4;
        }
        [first, tos, _, _, _, _, _, _, _, _, sum_hi, sum_lo, ..] if *first >> 4 == 4 => {
            let new = *tos & !MASK | combine(outer_tos, *tos)?;
            if new != *tos {
                // RFC 1624, eqn. 3: a wrong header checksum stays wrong.
                let (old_word, new_word) = (
                    u16::from_be_bytes([*first, *tos]),
                    u16::from_be_bytes([*first, new]),
                );
                let old_sum = u16::from_be_bytes([*sum_hi, *sum_lo]);
                let sum = Sum::default()
                    .word(!old_sum)
                    .without(old_word)
                    .word(new_word)
                    .finish();
                [*sum_hi, *sum_lo] = sum.to_be_bytes();
                *tos = new;
            }
        }
        _ => {}
    }
    Ok(())
}
