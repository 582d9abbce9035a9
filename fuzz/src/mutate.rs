//! Changes an input at random: single bits, numbers at their limits, parts cut, repeated or taken from
//! another input, and the target's own words.

use crate::random::Random;

/// No input grows past this: more than the largest packet and two headers.
const MAX_LEN: usize = 70_000;

/// Bytes at which lengths, counts and versions turn over.
const LIMITS: [u8; 12] = [0, 1, 4, 5, 6, 0x0f, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xff];

/// Changes `input` between one and eight times.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Random) {
    for _ in 0..=random.below(8) {
        change(input, other, words, random);
    }
    input.truncate(MAX_LEN);
}

fn change(input: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Random) {
    // Headers are at the front: half of all changes go there.
    let reach = if random.below(2) == 0 {
        input.len().min(96)
    } else {
        input.len()
    };
    let at = random.below(reach);
    let span = at..(at + 1 + random.below(16)).min(input.len());
    match random.below(if words.is_empty() { 9 } else { 12 }) {
        0 | 1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        2 if !input.is_empty() => input[at] = LIMITS[random.below(LIMITS.len())],
        3 if !input.is_empty() => input[at] = input[at].wrapping_add(random.below(9) as u8).wrapping_sub(4),
        4 if input.len() >= 2 => {
            // A 16-bit length close to what is really there.
            let near = (input.len() + random.below(64)).wrapping_sub(32) as u16;
            let at = at.min(input.len() - 2);
            input[at..at + 2].copy_from_slice(&near.to_be_bytes());
        }
        5 if !input.is_empty() => drop(input.drain(span)),
        6 if !input.is_empty() => {
            let part = input[span].to_vec();
            for _ in 0..=random.below(4) {
                input.splice(at..at, part.iter().copied());
            }
        }
        7 => input.truncate(random.below(input.len() + 1)),
        8 => {
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        9.. => {
            let word = random.choose(words).expect("there are words");
            let end = if random.below(2) == 0 {
                at
            } else {
                span.end.max(at)
            };
            input.splice(at..end.min(input.len()), word.bytes());
        }
        _ => input.push(random.next() as u8),
    }
}
