//! Finds matches in a block.
//!
//! The search is greedy. At each position it tries two candidates: the place where a hash of the
//! next bytes was seen last, and the last offset again. It tries the second one at five positions
//! at once, because in memory pages most matches repeat the last offset.

use zpool_core::compress::CodecError;

use crate::format::{FIRST_OFFSET, MAX_OFFSET, MIN_OFFSET};
use crate::heap::zeroed;

/// Bits of the hash for blocks of up to a page, and for longer ones.
const PAGE_BITS: u32 = 12;
const LONG_BITS: u32 = 13;
/// Blocks of up to this length are hashed as a page is.
const PAGE: usize = 4096;

/// After `2^SKIP_SHIFT` positions without a match, every second position is skipped, then two in
/// three, and so on.
const SKIP_SHIFT: u32 = 5;

/// The positions of bytes that were seen before, by their hash.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// For blocks whose positions fit 16 bits.
    small: Vec<u16>,
    /// For longer blocks; empty until one comes.
    large: Vec<u32>,
}

impl Matcher {
    /// Makes a matcher for blocks of up to this many bytes.
    pub(crate) fn new(max_block_size: usize) -> Result<Matcher, CodecError> {
        let mut matcher = Matcher { small: Vec::new(), large: Vec::new() };
        matcher.reserve(max_block_size)?;
        Ok(matcher)
    }

    fn reserve(&mut self, block_len: usize) -> Result<(), CodecError> {
        let entries = 1 << bits(block_len);
        if block_len <= 1 << 16 && self.small.len() < entries {
            self.small = zeroed(entries)?;
        } else if block_len > 1 << 16 && self.large.len() < entries {
            self.large = zeroed(entries)?;
        }
        Ok(())
    }

    /// Calls `with` for each match, in order, with the position and the number of the literals
    /// before it, its offset and its length. Returns the position of the literals after the last
    /// match.
    ///
    /// # Errors
    ///
    /// [`CodecError::OutOfMemory`], before the first call.
    #[inline]
    pub(crate) fn find(
        &mut self,
        block: &[u8],
        with: impl FnMut(usize, usize, usize, usize),
    ) -> Result<usize, CodecError> {
        self.reserve(block.len())?;
        Ok(match (block.len() <= 1 << 16, bits(block.len())) {
            (true, PAGE_BITS) => find::<u16, PAGE_BITS>(block, &mut self.small, with),
            (true, _) => find::<u16, LONG_BITS>(block, &mut self.small, with),
            (false, _) => find::<u32, LONG_BITS>(block, &mut self.large, with),
        })
    }

    /// Returns the bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.small.capacity() * size_of::<u16>() + self.large.capacity() * size_of::<u32>()
    }
}

fn bits(block_len: usize) -> u32 {
    if block_len <= PAGE { PAGE_BITS } else { LONG_BITS }
}

/// A position in the form in which a table keeps it.
trait HashSlot: Copy {
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
const SHORTEST: usize = 5;
/// The mask of [`SHORTEST`] bytes of a word.
const FIVE: u64 = 0xFF_FFFF_FFFF;

/// Hashes the first five bytes.
#[inline(always)]
fn hash<const BITS: u32>(word: u64) -> usize {
    const ODD: u64 = 0x9E37_79B1_85EB_CA87;
    ((word << 24).wrapping_mul(ODD) >> (u64::BITS - BITS)) as usize
}

/// Returns the eight bytes at a position.
#[inline(always)]
fn word(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"))
}

/// Returns marks of where five zero bytes begin in a word of eight. The lowest bit set is in the
/// first such byte; bits above it mean nothing.
#[inline(always)]
fn five_zeros(difference: u64) -> u32 {
    let pairs = difference | difference >> 8;
    let fives = (pairs | pairs >> 16 | difference >> 32) as u32;
    fives.wrapping_sub(0x0101_0101) & !fives & 0x8080_8080
}

fn find<E: HashSlot, const BITS: u32>(
    block: &[u8],
    table: &mut [E],
    mut with: impl FnMut(usize, usize, usize, usize),
) -> usize {
    let Some(limit) = block.len().checked_sub(8) else { return 0 };
    let table = &mut table[..1 << BITS];
    table.fill(E::ZERO);
    let (mut position, mut anchor, mut last) = (MIN_OFFSET, 0, FIRST_OFFSET);
    while position < limit {
        let here = word(block, position);
        let slot = &mut table[hash::<BITS>(here)];
        // A nearer candidate means a run of a short pattern, which also repeats after 8 bytes, or
        // soon will.
        let candidate = slot.get().min(position - MIN_OFFSET);
        *slot = E::of(position);
        let repeats = five_zeros(here ^ word(block, position - last));
        let difference = here ^ word(block, candidate);
        // An entry that was never set is 0, and is compared like any other.
        let hit = (difference & FIVE == 0) & (position - candidate <= MAX_OFFSET);
        if !hit && repeats == 0 {
            position += 1 + ((position - anchor) >> SKIP_SHIFT);
            continue;
        }
        let ahead = (repeats.trailing_zeros() / 8) as usize;
        let start = if repeats != 0 && (ahead == 0 || !hit) {
            position + ahead
        } else {
            last = position - candidate;
            position - equal_before(block, position, candidate).min(position - anchor)
        };
        let end = equal_until(block, start.max(position) + SHORTEST, last);
        with(anchor, start - anchor, last, end - start);
        (position, anchor) = (end, end);
        if position < limit {
            let inside = position - 2;
            table[hash::<BITS>(word(block, inside))] = E::of(inside);
        }
    }
    anchor
}

/// Returns how many bytes, up to eight, are equal before two positions. `candidate` is the lower
/// one.
#[inline(always)]
fn equal_before(block: &[u8], position: usize, candidate: usize) -> usize {
    if candidate < 8 {
        return 0;
    }
    let difference = word(block, position - 8) ^ word(block, candidate - 8);
    (difference.leading_zeros() / 8) as usize
}

/// Returns the first position from `at` on whose byte differs from the one `offset` before it.
#[inline(always)]
fn equal_until(block: &[u8], mut at: usize, offset: usize) -> usize {
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

    /// Checks that matches are real and in order, and that all other bytes are literals.
    fn check(block: &[u8]) -> Vec<(usize, usize)> {
        let (mut at, mut found) = (0, Vec::new());
        let mut matcher = Matcher::new(block.len()).unwrap();
        let anchor = matcher
            .find(block, |from, literals, offset, length| {
                assert_eq!(from, at);
                assert!(length >= SHORTEST && (MIN_OFFSET..=from + literals).contains(&offset));
                at = from + literals;
                (at..at + length).for_each(|i| assert_eq!(block[i], block[i - offset]));
                at += length;
                found.push((offset, length));
            })
            .unwrap();
        assert_eq!(anchor, at);
        assert!(at <= block.len());
        found
    }

    #[test]
    fn five_zeros_first_place_is_found() {
        assert_eq!(five_zeros(u64::MAX), 0);
        for place in 0..4 {
            let difference = !(FIVE << (8 * place));
            assert_eq!(five_zeros(difference).trailing_zeros() / 8, place);
        }
        assert_eq!(five_zeros(0xFF00_0000_00FF_0000), 0, "four are not enough");
    }

    #[test]
    fn find_in_words_repeats_the_offset() {
        let block: Vec<u8> = (0..512u64)
            .flat_map(|i| (0x7F00_1234_0000 + (((i * 0x9E37_79B1) >> 16) & 0xFFFF)).to_le_bytes())
            .collect();
        let found = check(&block);
        let repeats = found.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        assert!(repeats * 10 > found.len() * 8, "{repeats} of {}", found.len());
    }

    #[test]
    fn find_short_and_long_blocks_are_covered() {
        for len in [0, 1, 8, 9, 20, 100, 4096, 4097, 1 << 16, (1 << 16) + 1, 200_000] {
            check(&vec![7; len]);
            let varied: Vec<u8> = (0..len).map(|i| ((i * i) >> 7) as u8 ^ (i % 7) as u8).collect();
            check(&varied);
        }
    }
}
