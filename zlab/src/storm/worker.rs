//! A thread that uses the store and verifies it against its own record.

use std::sync::atomic::{AtomicBool, Ordering};

use workload::{Rng, SeededBlocks};
use zpool_core::NoBlock;
use zswap::{AtLimit, Error, Store};

use super::StoreLimit;

/// The number of keys of a worker without a limit.
const SLOTS: usize = 1024;

/// On average, a worker drops all its blocks once in this many steps, so that retired pools lose
/// their last block.
const STEPS_BETWEEN_CLEARS: usize = 4096;

/// Steps between two looks at the bytes that the store holds.
const STEPS_BETWEEN_LOOKS: usize = 16;

/// Counts of the workers' operations and errors.
#[derive(Debug, Default, Clone)]
pub(super) struct WorkerCounts {
    pub(super) stores: u64,
    pub(super) loads: u64,
    pub(super) invalidations: u64,
    /// Loads that returned other bytes than those stored last under the key, or any bytes if none
    /// were stored.
    pub(super) mismatches: u64,
    /// Loads that found nothing under a key with a block.
    pub(super) lost: u64,
    /// Mismatches that returned the block before.
    pub(super) stale: u64,
    /// Stores that were refused at the limit.
    pub(super) refused: u64,
    pub(super) over_limit_max_bytes: u64,
    /// Stores and loads that failed.
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl WorkerCounts {
    /// Adds the counts of another worker.
    pub(super) fn add(&mut self, other: WorkerCounts) {
        self.stores += other.stores;
        self.loads += other.loads;
        self.invalidations += other.invalidations;
        self.mismatches += other.mismatches;
        self.lost += other.lost;
        self.stale += other.stale;
        self.refused += other.refused;
        self.over_limit_max_bytes = self.over_limit_max_bytes.max(other.over_limit_max_bytes);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn failed(&mut self, error: &impl ToString) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

/// One thread, its keys, and its model of the blocks under them.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    store: &'a Store<u64>,
    blocks: &'a SeededBlocks,
    rng: Rng,
    first_key: u64,
    /// The seed of the block that each key should have.
    model: Vec<Option<u64>>,
    /// The seed of the block before that.
    before: Vec<Option<u64>>,
    limit: Option<StoreLimit>,
    steps: usize,
    block: Vec<u8>,
    buffer: Vec<u8>,
    counts: WorkerCounts,
}

impl<'a> Worker<'a> {
    /// Creates worker `number`. Workers share no keys.
    pub(super) fn new(
        number: usize,
        store: &'a Store<u64>,
        blocks: &'a SeededBlocks,
        limit: Option<StoreLimit>,
    ) -> Worker<'a> {
        let slots = limit.map_or(SLOTS, |limit| limit.slots.max(SLOTS));
        Worker {
            store,
            blocks,
            rng: Rng::new(number as u64),
            first_key: (number * slots) as u64,
            model: vec![None; slots],
            before: vec![None; slots],
            limit,
            steps: 0,
            block: Vec::with_capacity(blocks.block_size()),
            buffer: vec![0; blocks.block_size()],
            counts: WorkerCounts::default(),
        }
    }

    /// Works until `stop` is set, then loads all keys once more.
    pub(super) fn run(mut self, stop: &AtomicBool) -> WorkerCounts {
        // Relaxed: nothing is published through it, and the thread is joined afterwards.
        while !stop.load(Ordering::Relaxed) {
            self.step();
        }
        (0..self.slots()).for_each(|slot| self.load(slot));
        self.counts
    }

    fn slots(&self) -> usize {
        self.model.len()
    }

    fn step(&mut self) {
        self.steps += 1;
        // With a limit, drop everything less often. There is more of it, and the store has to reach
        // its limit again.
        if self.rng.below(STEPS_BETWEEN_CLEARS * self.slots().div_ceil(SLOTS)) == 0 {
            (0..self.slots()).for_each(|slot| self.invalidate(slot));
        }
        if self.steps.is_multiple_of(STEPS_BETWEEN_LOOKS)
            && let Some(limit) = self.limit
        {
            let over = self.store.bytes_held().saturating_sub(limit.bytes) as u64;
            self.counts.over_limit_max_bytes = self.counts.over_limit_max_bytes.max(over);
        }
        let slot = self.rng.below(self.slots());
        match self.rng.below(8) {
            0..4 => self.load(slot),
            4..7 => self.store(slot),
            _ => self.invalidate(slot),
        }
    }

    /// Returns whether a block may be gone that this worker did not remove.
    fn evicts(&self) -> bool {
        self.limit.is_some_and(|limit| limit.at_limit == AtLimit::Evict)
    }

    fn store(&mut self, slot: usize) {
        let seed = self.rng.next_u64();
        self.blocks.fill(seed, &mut self.block);
        self.counts.stores += 1;
        let before = self.model[slot];
        match self.store.store(self.first_key + slot as u64, &self.block) {
            Ok(()) => self.model[slot] = Some(seed),
            Err(error) => {
                // A failed store has removed the older block.
                self.model[slot] = None;
                match error {
                    Error::Full { .. } if self.limit.is_some() && !self.evicts() => {
                        self.counts.refused += 1
                    }
                    _ => self.counts.failed(&error),
                }
            }
        }
        self.before[slot] = before.or(self.before[slot]);
    }

    fn load(&mut self, slot: usize) {
        self.counts.loads += 1;
        let loaded = self.store.load(&(self.first_key + slot as u64), &mut self.buffer);
        match (loaded, self.model[slot]) {
            (Ok(Some(len)), seed) => {
                let mut is = |seed: Option<u64>| {
                    seed.is_some_and(|seed| {
                        self.blocks.fill(seed, &mut self.block);
                        self.buffer[..len] == self.block[..]
                    })
                };
                if !is(seed) {
                    self.counts.stale += u64::from(is(self.before[slot]));
                    self.counts.mismatches += 1;
                }
            }
            (Ok(None), Some(seed)) => {
                self.counts.lost += u64::from(!self.evicts());
                // Count it once.
                self.model[slot] = None;
                self.before[slot] = Some(seed);
            }
            (Ok(None), None) => (),
            (Err(error), _) => self.counts.failed(&error),
        }
    }

    fn invalidate(&mut self, slot: usize) {
        self.counts.invalidations += 1;
        // Dropping an entry is legal in a no-block section, even if it holds the last reference to
        // its pool.
        let section = NoBlock::enter();
        let found = self.store.invalidate(&(self.first_key + slot as u64));
        drop(section);
        let expected = self.model[slot].take();
        self.before[slot] = expected.or(self.before[slot]);
        self.counts.lost += u64::from(expected.is_some() && !found && !self.evicts());
        self.counts.mismatches += u64::from(found && expected.is_none());
    }
}

#[cfg(test)]
mod tests {
    use workload::Pages;

    use super::*;
    use crate::drivers;
    use crate::storm::BLOCK_SIZE;

    fn blocks() -> SeededBlocks {
        let bytes = (0..8 * BLOCK_SIZE.get()).map(|i| (i / 7) as u8).collect();
        SeededBlocks::new(Pages::from_bytes(BLOCK_SIZE, bytes)).unwrap()
    }

    /// A worker notices blocks that another caller changed, removed or added.
    #[test]
    fn foreign_changes_are_noticed() {
        let store = drivers::store(&"zsmalloc+lz4".parse().unwrap(), BLOCK_SIZE).build().unwrap();
        let blocks = blocks();
        let mut worker = Worker::new(0, &store, &blocks, None);
        let found = |worker: &Worker<'_>| (worker.counts.mismatches, worker.counts.lost);
        (0..10).for_each(|slot| worker.store(slot));
        (0..20).for_each(|slot| worker.load(slot));
        assert_eq!(found(&worker), (0, 0));

        store.store(1, b"something else").unwrap();
        worker.load(1);
        assert_eq!(found(&worker), (1, 0));
        store.invalidate(&2);
        worker.load(2);
        assert_eq!(found(&worker), (1, 1));
        store.store(10, b"never stored by the worker").unwrap();
        worker.load(10);
        assert_eq!(found(&worker), (2, 1));
        store.invalidate(&3);
        worker.invalidate(3);
        assert_eq!(found(&worker), (2, 2));
        store.store(11, b"never stored by the worker").unwrap();
        worker.invalidate(11);
        assert_eq!(found(&worker), (3, 2));
    }

    /// Workers share no key, and each finds all of its blocks at the end.
    #[test]
    fn workers_find_all_their_blocks() {
        let store = drivers::store(&"zbud+lz4".parse().unwrap(), BLOCK_SIZE).build().unwrap();
        let blocks = blocks();
        let mut workers =
            [Worker::new(0, &store, &blocks, None), Worker::new(1, &store, &blocks, None)];
        for _ in 0..3000 {
            workers.iter_mut().for_each(Worker::step);
        }
        let mut counts = WorkerCounts::default();
        workers.into_iter().for_each(|worker| counts.add(worker.run(&AtomicBool::new(true))));
        assert_eq!((counts.mismatches, counts.lost, counts.errors), (0, 0, 0), "{counts:?}");
        assert!(
            counts.stores > 1000 && counts.loads > 2 * SLOTS as u64 && counts.invalidations > 100,
            "{counts:?}"
        );
    }
}
