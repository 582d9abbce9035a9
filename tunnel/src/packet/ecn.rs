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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::sample::{Sample, assert_valid};

    const ECT_0: u8 = 0b10;

    #[test]
    fn the_outer_header_copies_ecn_and_hides_the_dscp() {
        assert_eq!(
            [0xb8, 0xb9, 0xba, 0xbb].map(encapsulate),
            [NOT_ECT, ECT_1, ECT_0, CE]
        );
    }

    #[test]
    fn opening_follows_figure_4_of_rfc_6040() {
        for (inner, expected) in [
            (NOT_ECT, [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), Err(MustDrop)]),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ] {
            assert_eq!(
                [NOT_ECT, ECT_0, ECT_1, CE].map(|outer| combine(outer, inner)),
                expected,
                "{inner}"
            );
        }
    }

    #[test]
    fn a_mark_changes_only_the_ecn_bits_and_the_header_checksum() {
        for v6 in [false, true] {
            for inner in 0..4 {
                for outer in 0..4 {
                    let sample = Sample {
                        tos: 0xb8 | inner,
                        ..Sample::tcp(v6, 10)
                    };
                    let mut packet = sample.build();
                    let Ok(ecn) = combine(outer, inner) else {
                        assert_eq!(decapsulate(outer, &mut packet), Err(MustDrop));
                        assert_eq!(packet, sample.build());
                        continue;
                    };
                    assert_eq!(decapsulate(outer, &mut packet), Ok(()));
                    assert_eq!(
                        packet,
                        Sample {
                            tos: 0xb8 | ecn,
                            ..sample
                        }
                        .build()
                    );
                    assert_valid(&packet);
                }
            }
        }
    }

    #[test]
    fn a_wrong_header_checksum_stays_wrong() {
        let mut packet = Sample {
            tos: ECT_0,
            ..Sample::tcp(false, 10)
        }
        .build();
        packet[10] ^= 1;
        assert_eq!(decapsulate(CE, &mut packet), Ok(()));
        assert!(!Sum::default().bytes(&packet[..20]).is_valid());
    }

    #[test]
    fn bytes_that_are_no_packet_are_left_alone() {
        for packet in [
            &mut [][..],
            &mut [0x45],
            &mut [0x45; 11],
            &mut [0x60],
            &mut [0xff; 40],
        ] {
            let before = packet.to_vec();
            assert_eq!(decapsulate(CE, packet), Ok(()));
            assert_eq!(packet, before);
        }
    }
}
