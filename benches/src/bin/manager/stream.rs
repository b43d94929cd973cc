//! An endless stream of stores that replace one another.

use workload::Rng;
use zpool_conformance::Generator;
use zswap::Store;

const BLOCK: usize = 4096;

/// In which order keys come, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Every pass over the keys in an order of its own, and any block under any key.
    Random,
    /// Every pass in an order of its own, and every block as long as the one that it replaces: each key has its own.
    OwnBlocks,
    /// The same, and every pass in the same order: what was stored in one order is replaced in that order.
    AsBefore,
}

/// Stores over [`BLOCKS`](Self::BLOCKS) keys, each once a pass.
pub(crate) struct Stream {
    order: Order,
    blocks: Vec<Vec<u8>>,
    /// Keys in the order of this pass.
    keys: Vec<usize>,
    /// How many of them are done.
    done: usize,
    /// Which block was stored under each key last.
    held: Vec<Option<usize>>,
    rng: Rng,
}

impl Stream {
    /// Keys, and blocks to store under them.
    pub(crate) const BLOCKS: usize = 16_384;

    pub(crate) fn new(order: Order) -> Stream {
        Stream {
            order,
            blocks: Generator::new(1).blocks(BLOCK).take(Self::BLOCKS).collect(),
            keys: (0..Self::BLOCKS).collect(),
            done: Self::BLOCKS,
            held: vec![None; Self::BLOCKS],
            rng: Rng::new(1),
        }
    }

    /// A block for other uses.
    pub(crate) fn some_block(&self) -> &[u8] {
        &self.blocks[0]
    }

    /// The next `count` stores.
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
            if self.order != Order::AsBefore {
                self.rng.shuffle(&mut self.keys);
            }
        }
        let key = self.keys[self.done];
        self.done += 1;
        let block = match self.order {
            Order::Random => self.rng.below(self.blocks.len()),
            Order::OwnBlocks | Order::AsBefore => key,
        };
        (key, block)
    }

    /// Every block comes back as it was stored last.
    pub(crate) fn check(&self, store: &Store<u64>) {
        for (key, &held) in self.held.iter().enumerate() {
            let block = &self.blocks[held.expect("every window stores each key")];
            let loaded =
                store.load_vec(&(key as u64)).expect("no fault").expect("stored in every window");
            assert!(&loaded == block, "key {key} came back changed");
        }
    }
}
