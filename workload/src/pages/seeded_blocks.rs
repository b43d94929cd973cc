//! An endless supply of blocks from a small sample. A seed names each block, so that a reader who
//! knows the seed can verify the block.

use std::fmt;

use super::{Pages, is_same_filled};
use crate::random::Rng;

/// One block in this many is cut to a random length and is shorter than the others.
const SHORT_BLOCKS: usize = 8;

/// Blocks by seed: pages of a sample, each altered a little.
///
/// ```text
///     seed ──► page  │ ............... │ 8 bytes of the seed │ ............ │ 1/8 are cut shorter
///     seed ──► page of one word        │ another word, over and over              │
/// ```
///
/// A store that returns an older version of a block, or the block of another key, returns the block
/// of another seed. Any two seeds give different blocks, except for the shortest, which have too
/// few bytes to differ. What compresses well in the sample does so here.
#[derive(Clone)]
pub struct SeededBlocks {
    pages: Pages,
}

impl SeededBlocks {
    /// Creates blocks from `pages`. Returns `None` if there are none.
    pub fn new(pages: Pages) -> Option<Self> {
        (!pages.is_empty()).then_some(Self { pages })
    }

    /// Returns the length of the longest block.
    pub fn block_size(&self) -> usize {
        self.pages.block_size()
    }

    /// Replaces the contents of `block` with the block of `seed`, which has 1 to
    /// [`Self::block_size`] bytes. A seed always makes the same block.
    pub fn fill(&self, seed: u64, block: &mut Vec<u8>) {
        let mut rng = Rng::new(seed);
        let page = self.pages.block(rng.below(self.pages.len()));
        let len = if rng.below(SHORT_BLOCKS) == 0 { 1 + rng.below(page.len()) } else { page.len() };
        let own = rng.next_u64().to_le_bytes();
        block.clear();
        block.extend_from_slice(&page[..len]);
        if is_same_filled(page) {
            block.iter_mut().zip(own.iter().cycle()).for_each(|(byte, own)| *byte = *own);
        } else {
            let at = rng.below(len.saturating_sub(own.len()) + 1);
            block[at..].iter_mut().zip(own).for_each(|(byte, own)| *byte = own);
        }
    }
}

impl fmt::Debug for SeededBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SeededBlocks").field(&self.pages).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::num::NonZeroUsize;

    use super::*;

    fn variants() -> SeededBlocks {
        let mut bytes = vec![7; 512];
        bytes.extend((0..512_u32).map(|i| (i * i) as u8));
        SeededBlocks::new(Pages::from_bytes(NonZeroUsize::new(512).unwrap(), bytes)).unwrap()
    }

    /// A seed always makes the same block, and two seeds give two.
    #[test]
    fn seeds_name_different_blocks() {
        let (variants, mut block) = (variants(), Vec::new());
        let mut seen = HashSet::new();
        let mut short = 0;
        for seed in 0..1000 {
            variants.fill(seed, &mut block);
            assert!((1..=512).contains(&block.len()));
            short += usize::from(block.len() < 512);
            let first = block.clone();
            variants.fill(seed, &mut block);
            assert_eq!(block, first);
            if block.len() >= 8 {
                assert!(seen.insert(first), "seed {seed} has the block of another");
            }
        }
        assert!((60..200).contains(&short), "{short}");
    }

    /// A same-filled page gives same-filled blocks.
    #[test]
    fn same_filled_page_stays_so() {
        let (variants, mut block) = (variants(), Vec::new());
        let same = (0..1000).filter(|&seed| {
            variants.fill(seed, &mut block);
            is_same_filled(&block)
        });
        assert!((400..600).contains(&same.count()));
    }

    #[test]
    fn no_pages_no_variants() {
        assert!(SeededBlocks::new(Pages::from_bytes(NonZeroUsize::MIN, Vec::new())).is_none());
    }
}
