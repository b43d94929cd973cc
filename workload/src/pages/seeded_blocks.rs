//! Endless blocks made of few: each is named by a seed, so that who knows the seed can tell whether it came back.

use std::fmt;

use super::{Pages, is_same_filled};
use crate::random::Rng;

/// One block in this many is cut to a random length, shorter than the others.
const SHORT_BLOCKS: usize = 8;

/// Blocks by seed: the pages of a sample, each altered a little.
///
/// ```text
///     seed ──► page  │ ............... │ 8 bytes of the seed's own │ ............ │ cut: one block in eight is shorter
///     seed ──► page of one word        │ another word, over and over              │
/// ```
///
/// A store that gives back an older version of a block, or another key's, gives back another seed's block, and every two of
/// those differ (but for the shortest, where there are not enough bytes to). What compresses well in the sample does here.
#[derive(Clone)]
pub struct SeededBlocks {
    pages: Pages,
}

impl SeededBlocks {
    /// Blocks made of `pages`; `None` when there are none.
    pub fn new(pages: Pages) -> Option<Self> {
        (!pages.is_empty()).then_some(Self { pages })
    }

    /// The longest block there may be.
    pub fn block_size(&self) -> usize {
        self.pages.block_size()
    }

    /// Makes the block of `seed` the contents of `block`: 1 to [`Self::block_size`] bytes, the same for the same seed.
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

    #[test]
    fn a_seed_names_a_block_and_two_seeds_name_two() {
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

    #[test]
    fn same_filled_pages_give_same_filled_blocks() {
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
