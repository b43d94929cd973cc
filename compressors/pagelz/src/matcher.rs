//! Finds matches in a block.
//!
//! Two searches use the tables of this file: `greedy` takes the first match that it finds, and
//! `lazy` looks for a better one before it takes one. Both try the last offset at several positions
//! at once, because in memory pages most matches repeat the last offset.

use zpool_core::compress::CodecError;

use crate::format::PAGE;
use crate::greedy::find_greedily;
use crate::heap::zeroed;
use crate::lazy::{WAYS, find_lazily};

/// Bits of the hash for blocks of up to a page, and for longer ones.
const PAGE_BITS: u32 = 12;
const LONG_BITS: u32 = 13;

/// How long a search looks for matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Takes the first match at each place.
    Greedy,
    /// In blocks longer than a page, looks for a better match before taking one. In a page there is
    /// too little to find for the time that it takes.
    Lazy,
}

/// The positions of bytes that were seen before, by their hash.
#[derive(Debug)]
pub(crate) struct Matcher {
    effort: Effort,
    /// For blocks whose positions fit 16 bits.
    small: Vec<u16>,
    /// For longer blocks; empty until one comes.
    large: Vec<u32>,
}

impl Matcher {
    /// Makes a matcher for blocks of up to this many bytes.
    pub(crate) fn new(max_block_size: usize, effort: Effort) -> Result<Matcher, CodecError> {
        let mut matcher = Matcher { effort, small: Vec::new(), large: Vec::new() };
        matcher.reserve(max_block_size)?;
        Ok(matcher)
    }

    fn reserve(&mut self, block_len: usize) -> Result<(), CodecError> {
        let ways = if self.is_lazy(block_len) { WAYS } else { 1 };
        let entries = ways << bits(block_len);
        if block_len <= 1 << 16 && self.small.len() < entries {
            self.small = zeroed(entries)?;
        } else if block_len > 1 << 16 && self.large.len() < entries {
            self.large = zeroed(entries)?;
        }
        Ok(())
    }

    fn is_lazy(&self, block_len: usize) -> bool {
        self.effort == Effort::Lazy && block_len > PAGE
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
        let (is_lazy, is_small) = (self.is_lazy(block.len()), block.len() <= 1 << 16);
        let Matcher { small, large, .. } = self;
        Ok(match (is_lazy, is_small, bits(block.len())) {
            (true, true, _) => find_lazily::<u16, LONG_BITS>(block, small, with),
            (true, false, _) => find_lazily::<u32, LONG_BITS>(block, large, with),
            (false, true, PAGE_BITS) => find_greedily::<u16, PAGE_BITS>(block, small, with),
            (false, true, _) => find_greedily::<u16, LONG_BITS>(block, small, with),
            (false, false, _) => find_greedily::<u32, LONG_BITS>(block, large, with),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MIN_OFFSET;
    use crate::search::SHORTEST;

    /// Checks that matches are real and in order, and that all other bytes are literals.
    fn check(block: &[u8], effort: Effort) -> Vec<(usize, usize)> {
        let (mut at, mut found) = (0, Vec::new());
        let mut matcher = Matcher::new(block.len(), effort).unwrap();
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
    fn find_in_words_repeats_the_offset() {
        let block: Vec<u8> = (0..512u64)
            .flat_map(|i| (0x7F00_1234_0000 + (((i * 0x9E37_79B1) >> 16) & 0xFFFF)).to_le_bytes())
            .collect();
        let found = check(&block, Effort::Greedy);
        let repeats = found.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        assert!(repeats * 10 > found.len() * 8, "{repeats} of {}", found.len());
    }

    #[test]
    fn find_short_and_long_blocks_are_covered() {
        for len in [0, 1, 8, 9, 20, 100, 4096, 4097, 1 << 16, (1 << 16) + 1, 200_000] {
            let varied: Vec<u8> = (0..len).map(|i| ((i * i) >> 7) as u8 ^ (i % 7) as u8).collect();
            for effort in [Effort::Greedy, Effort::Lazy] {
                check(&vec![7; len], effort);
                check(&varied, effort);
            }
        }
    }

    /// Six bytes match from one place, and 40 from another, one byte further.
    #[test]
    fn lazy_search_takes_the_better_match() {
        let long: Vec<u8> =
            (1..41u32).map(|i| (i.wrapping_mul(0x9E37_79B1) >> 24) as u8 | 1).collect();
        let short = [&[0xFE], &long[..5], &[0xFC; 2]].concat();
        let zeros = [0; 4200];
        let parts: [&[u8]; 7] = [&zeros[..40], &short, &zeros[..40], &long, &zeros, &[0xFE], &long];
        let block = [&parts.concat()[..], b"........."].concat();
        let lengths = |effort| -> Vec<usize> {
            check(&block, effort).into_iter().map(|(_, length)| length).collect()
        };
        assert_eq!(lengths(Effort::Lazy).last(), Some(&40));
        assert!(lengths(Effort::Greedy).ends_with(&[6, 35]));
    }
}
