//! Hashes and comparisons for both searches, and how fast they give up.

use crate::format::MAX_OFFSET;

/// After `2^SKIP_SHIFT` positions without a match, every second position is skipped, then two in
/// three, and so on.
const SKIP_SHIFT: u32 = 5;

/// A position in the form in which a table keeps it.
pub(crate) trait HashSlot: Copy {
    const ZERO: Self;
    fn of(position: usize) -> Self;
    fn get(self) -> usize;
}

impl HashSlot for u16 {
    const ZERO: u16 = 0;
    #[inline(always)]
    fn of(position: usize) -> u16 {
        position as u16
    }
    #[inline(always)]
    fn get(self) -> usize {
        self.into()
    }
}

impl HashSlot for u32 {
    const ZERO: u32 = 0;
    #[inline(always)]
    fn of(position: usize) -> u32 {
        position as u32
    }
    #[inline(always)]
    fn get(self) -> usize {
        self as usize
    }
}

/// The shortest match that is searched for. The format allows shorter ones, but they save less than
/// a sequence costs.
pub(crate) const SHORTEST: usize = 5;
/// The mask of [`SHORTEST`] bytes of a word.
const FIVE: u64 = 0xFF_FFFF_FFFF;

/// Hashes the first five bytes.
#[inline(always)]
pub(crate) fn hash<const BITS: u32>(word: u64) -> usize {
    const ODD: u64 = 0x9E37_79B1_85EB_CA87;
    ((word << 24).wrapping_mul(ODD) >> (u64::BITS - BITS)) as usize
}

/// Returns the distance to the next position to look at, after the last match ended at `anchor`.
#[inline(always)]
pub(crate) fn step(position: usize, anchor: usize) -> usize {
    1 + ((position - anchor) >> SKIP_SHIFT)
}

/// Returns whether a candidate for a match is one: its first five bytes do not differ, and it is
/// near enough.
#[inline(always)]
pub(crate) fn is_match(difference: u64, offset: usize) -> bool {
    (difference & FIVE == 0) & (offset <= MAX_OFFSET)
}

/// Returns the eight bytes at a position.
#[inline(always)]
pub(crate) fn word(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"))
}

/// Returns marks of where five zero bytes begin in a word of eight. The lowest bit set is in the
/// first such byte; bits above it mean nothing.
#[inline(always)]
pub(crate) fn five_zeros(difference: u64) -> u32 {
    let pairs = difference | difference >> 8;
    let fives = (pairs | pairs >> 16 | difference >> 32) as u32;
    fives.wrapping_sub(0x0101_0101) & !fives & 0x8080_8080
}

/// Returns how many bytes, up to eight, are equal before two positions. `candidate` is the lower
/// one.
#[inline(always)]
pub(crate) fn equal_before(block: &[u8], position: usize, candidate: usize) -> usize {
    if candidate < 8 {
        return 0;
    }
    let difference = word(block, position - 8) ^ word(block, candidate - 8);
    (difference.leading_zeros() / 8) as usize
}

/// Returns the first position from `at` on whose byte differs from the one `offset` before it.
#[inline(always)]
pub(crate) fn equal_until(block: &[u8], mut at: usize, offset: usize) -> usize {
    while at + 8 <= block.len() {
        let difference = word(block, at) ^ word(block, at - offset);
        if difference != 0 {
            return at + (difference.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < block.len() && block[at] == block[at - offset] {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_zeros_first_place_is_found() {
        assert_eq!(five_zeros(u64::MAX), 0);
        for place in 0..4 {
            let difference = !(FIVE << (8 * place));
            assert_eq!(five_zeros(difference).trailing_zeros() / 8, place);
        }
        assert_eq!(five_zeros(0xFF00_0000_00FF_0000), 0, "four are not enough");
    }
}
