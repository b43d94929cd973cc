//! Blocks for property tests. A kind, a seed and a length identify a block, so a failing one can be
//! printed in one line.

use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;

use super::harness::MAX_BLOCK;
use crate::generator::{Generator, Kind, MIX};

/// A block that [`Generator`] makes, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeededBlock {
    /// The kind of its contents.
    pub kind: Kind,
    /// The seed of the generator.
    pub seed: u64,
    /// Its length in bytes.
    pub len: usize,
}

impl SeededBlock {
    /// Makes the block.
    pub fn block(&self) -> Vec<u8> {
        let mut block = vec![0; self.len];
        Generator::new(self.seed).block_of(self.kind, &mut block);
        block
    }
}

/// Makes blocks of every kind with lengths from 1 to 65 537 bytes, mostly short ones and pages.
/// They shrink to shorter blocks.
pub fn seeded_block() -> impl Strategy<Value = SeededBlock> {
    let len = prop_oneof![
        4 => 1..=64usize,
        4 => 1..=4096usize,
        4 => Just(4096usize),
        1 => 1..=MAX_BLOCK,
        1 => MAX_BLOCK - 3..=MAX_BLOCK,
    ];
    let kind = (0..MIX.len()).prop_map(|nth| MIX[nth].0);
    (kind, any::<u64>(), len).prop_map(|(kind, seed, len)| SeededBlock { kind, seed, len })
}
