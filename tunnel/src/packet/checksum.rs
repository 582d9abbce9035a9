//! The Internet checksum (RFC 1071), over unfolded 64-bit sums.
//!
//! A [`Sum`] adds 16-bit words in the machine's byte order (RFC 1071 §2(B): the sum is independent of
//! byte order) and is folded only once, at the end.

/// An unfolded one's complement sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd last byte counts as padded with a zero byte. Only the last slice may be odd.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(add_carry(self.0, sum_words(bytes)))
    }

    /// Adds a 16-bit field given in host order.
    #[inline]
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(add_carry(self.0, u64::from(word.to_be())))
    }

    /// Takes a 16-bit field (host order) out again: RFC 1624's ~m.
    #[inline]
    #[must_use]
    pub fn without(self, word: u16) -> Self {
        self.word(!word)
    }

    /// Adds another sum.
    #[inline]
    #[must_use]
    pub fn sum(self, other: Self) -> Self {
        Self(add_carry(self.0, other.0))
    }

    /// The 16-bit sum in host order, not complemented: what a partial checksum field holds.
    #[inline]
    pub fn fold(self) -> u16 {
        let mut sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        sum = (sum >> 32) + (sum & 0xffff_ffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The checksum to put in a header, in host order.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// Whether the summed bytes, their checksum field included, are intact.
    #[inline]
    pub fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The pseudo-header's sum for a transport protocol: `addresses` are source and destination as they
/// stand in the header (RFC 9293 §3.1, RFC 8200 §8.1); `len` counts the transport header too.
#[inline]
pub fn pseudo_header(addresses: &[u8], protocol: u8, len: usize) -> Sum {
    debug_assert!(len <= 0xffff);
    Sum::default()
        .bytes(addresses)
        .word(u16::from(protocol))
        .word(len as u16)
}

/// Copies and sums in one pass. Both slices must be equally long.
#[inline]
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> Sum {
    dst.copy_from_slice(src);
    Sum::default().bytes(src)
}

#[inline]
fn add_carry(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// Sums u32 words in u64 lanes, so that nothing can carry out: 65,535 bytes are 2^14 words.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 8];
    let (blocks, tail) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut sum: u64 = lanes.iter().sum();
    let (words, tail) = tail.as_chunks::<2>();
    sum += words
        .iter()
        .map(|w| u64::from(u16::from_ne_bytes(*w)))
        .sum::<u64>();
    if let [last] = tail {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::sample::naive_sum;

    proptest! {
        #[test]
        fn it_equals_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..3000), split in 0..1500usize) {
            let naive = naive_sum(&bytes);
            prop_assert_eq!(Sum::default().bytes(&bytes).fold(), naive);
            let (head, tail) = bytes.split_at((split * 2).min(bytes.len() & !1));
            prop_assert_eq!(Sum::default().bytes(head).bytes(tail).fold(), naive);
            prop_assert_eq!(Sum::default().bytes(head).sum(Sum::default().bytes(tail)).fold(), naive);
            let mut copy = vec![0; bytes.len()];
            prop_assert_eq!(copy_and_sum(&mut copy, &bytes).fold(), naive);
            prop_assert_eq!(copy, bytes);
        }

        #[test]
        fn a_field_taken_out_and_put_back_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 20), at in 0..10usize) {
            prop_assume!(bytes.iter().any(|byte| *byte != 0));
            let word = u16::from_be_bytes([bytes[at * 2], bytes[at * 2 + 1]]);
            let sum = Sum::default().bytes(&bytes);
            let back = sum.without(word).word(word);
            // Both forms of zero are equal (RFC 1071 §2).
            prop_assert_eq!(back.fold() % 0xffff, sum.fold() % 0xffff);
        }
    }

    #[test]
    fn all_ones_do_not_overflow() {
        let bytes = vec![0xff; 65_535];
        assert_eq!(Sum::default().bytes(&bytes).fold(), naive_sum(&bytes));
        assert_eq!(Sum(u64::MAX).fold(), 0xffff);
        assert_eq!(Sum(u64::MAX).sum(Sum(u64::MAX)).fold(), 0xffff);
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(sum.finish(), !0xddf2);
    }
}
