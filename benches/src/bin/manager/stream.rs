//! An endless stream of stores that replace each other.

use workload::Rng;
use zpool_conformance::Generator;
use zswap::Store;

const BLOCK: usize = 4096;

/// The order of keys, and the blocks under them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOrder {
    /// A new order in every pass, and any block under any key.
    Random,
    /// A new order in every pass. Each key has a block of its own, which replaces one of the same
    /// length.
    OwnBlocks,
    /// One order in all passes, with blocks as in `OwnBlocks`, so that objects are replaced in
    /// the order in which they were stored.
    Fixed,
}

/// Stores over [`BLOCKS`](Self::BLOCKS) keys, each once per pass.
pub(crate) struct Stream {
    order: KeyOrder,
    blocks: Vec<Vec<u8>>,
    /// The keys in the order of this pass.
    keys: Vec<usize>,
    /// The number of keys that are done.
    done: usize,
    /// The block last stored under each key.
    held: Vec<Option<usize>>,
    rng: Rng,
}

impl Stream {
    /// The number of keys, and of blocks to store under them.
    pub(crate) const BLOCKS: usize = 16_384;

    pub(crate) fn new(order: KeyOrder) -> Stream {
        Stream {
            order,
            blocks: Generator::new(1).blocks(BLOCK).take(Self::BLOCKS).collect(),
            keys: (0..Self::BLOCKS).collect(),
            done: Self::BLOCKS,
            held: vec![None; Self::BLOCKS],
            rng: Rng::new(1),
        }
    }

    /// Returns a block for other uses.
    pub(crate) fn some_block(&self) -> &[u8] {
        &self.blocks[0]
    }

    /// Makes the next `count` stores.
    pub(crate) fn store_to(&mut self, store: &Store<u64>, count: usize) {
        for _ in 0..count {
            let (key, block) = self.next();
            store.store(key as u64, &self.blocks[block]).expect("there is no limit");
            self.held[key] = Some(block);
        }
    }

    fn next(&mut self) -> (usize, usize) {
        if self.done == self.keys.len() {
            self.done = 0;
            if self.order != KeyOrder::Fixed {
                self.rng.shuffle(&mut self.keys);
            }
        }
        let key = self.keys[self.done];
        self.done += 1;
        let block = match self.order {
            KeyOrder::Random => self.rng.below(self.blocks.len()),
            KeyOrder::OwnBlocks | KeyOrder::Fixed => key,
        };
        (key, block)
    }

    /// Checks that every block comes back as it was last stored.
    pub(crate) fn check(&self, store: &Store<u64>) {
        for (key, &held) in self.held.iter().enumerate() {
            let block = &self.blocks[held.expect("every window stores each key")];
            let loaded =
                store.load_vec(&(key as u64)).expect("no fault").expect("stored in every window");
            assert!(&loaded == block, "key {key} came back changed");
        }
    }
}
