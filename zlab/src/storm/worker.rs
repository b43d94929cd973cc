//! A thread that uses the store and knows what it stored.

use std::sync::atomic::{AtomicBool, Ordering};

use workload::{Rng, Variants};
use zpool_core::NoBlock;
use zswap::{AtLimit, Error, Store};

use super::Limit;

/// Keys of a worker, without a limit.
const SLOTS: usize = 1024;

/// In one of this many steps a worker drops all it has, so that retired pools lose their last block now and then.
const STEPS_BETWEEN_CLEARS: usize = 4096;

/// Steps between two looks at what the store holds.
const STEPS_BETWEEN_LOOKS: usize = 16;

/// What workers did and found.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) stores: u64,
    pub(super) loads: u64,
    pub(super) invalidations: u64,
    /// Loads that gave something else than what was stored last under the key, or something where nothing was.
    pub(super) mismatches: u64,
    /// Loads that found nothing for a key that was stored.
    pub(super) lost: u64,
    /// Of the mismatches, those that gave what was stored there before.
    pub(super) stale: u64,
    /// Stores that were refused at the limit.
    pub(super) refused: u64,
    pub(super) over_limit_max_bytes: u64,
    /// Stores and loads that failed.
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Tally {
    /// Adds what another worker did.
    pub(super) fn add(&mut self, other: Tally) {
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

/// One thread, its keys, and its model of what is stored under them.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    store: &'a Store<u64>,
    blocks: &'a Variants,
    rng: Rng,
    first_key: u64,
    /// The seed of the block that each key should hold.
    model: Vec<Option<u64>>,
    /// The one before that.
    before: Vec<Option<u64>>,
    limit: Option<Limit>,
    steps: usize,
    block: Vec<u8>,
    buffer: Vec<u8>,
    tally: Tally,
}

impl<'a> Worker<'a> {
    /// Worker `number`; no two share a key.
    pub(super) fn new(
        number: usize,
        store: &'a Store<u64>,
        blocks: &'a Variants,
        limit: Option<Limit>,
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
            tally: Tally::default(),
        }
    }

    /// Works until told to stop, then loads everything once more.
    pub(super) fn run(mut self, stop: &AtomicBool) -> Tally {
        // Relaxed: nothing is published through it; the thread is joined afterwards.
        while !stop.load(Ordering::Relaxed) {
            self.step();
        }
        (0..self.slots()).for_each(|slot| self.load(slot));
        self.tally
    }

    fn slots(&self) -> usize {
        self.model.len()
    }

    fn step(&mut self) {
        self.steps += 1;
        // With a limit everything is dropped less often: there is more of it, and it has to come to the limit again.
        if self.rng.below(STEPS_BETWEEN_CLEARS * self.slots().div_ceil(SLOTS)) == 0 {
            (0..self.slots()).for_each(|slot| self.invalidate(slot));
        }
        if self.steps.is_multiple_of(STEPS_BETWEEN_LOOKS)
            && let Some(limit) = self.limit
        {
            let over = self.store.bytes_held().saturating_sub(limit.bytes) as u64;
            self.tally.over_limit_max_bytes = self.tally.over_limit_max_bytes.max(over);
        }
        let slot = self.rng.below(self.slots());
        match self.rng.below(8) {
            0..4 => self.load(slot),
            4..7 => self.store(slot),
            _ => self.invalidate(slot),
        }
    }

    /// May a block be gone that nobody took away?
    fn evicts(&self) -> bool {
        self.limit.is_some_and(|limit| limit.at_limit == AtLimit::Evict)
    }

    fn store(&mut self, slot: usize) {
        let seed = self.rng.next_u64();
        self.blocks.fill(seed, &mut self.block);
        self.tally.stores += 1;
        let before = self.model[slot];
        match self.store.store(self.first_key + slot as u64, &self.block) {
            Ok(()) => self.model[slot] = Some(seed),
            Err(error) => {
                // A failed store has removed the older block.
                self.model[slot] = None;
                match error {
                    Error::Full { .. } if self.limit.is_some() && !self.evicts() => {
                        self.tally.refused += 1
                    }
                    _ => self.tally.failed(&error),
                }
            }
        }
        self.before[slot] = before.or(self.before[slot]);
    }

    fn load(&mut self, slot: usize) {
        self.tally.loads += 1;
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
                    self.tally.stale += u64::from(is(self.before[slot]));
                    self.tally.mismatches += 1;
                }
            }
            (Ok(None), Some(seed)) => {
                self.tally.lost += u64::from(!self.evicts());
                // Counted once.
                self.model[slot] = None;
                self.before[slot] = Some(seed);
            }
            (Ok(None), None) => (),
            (Err(error), _) => self.tally.failed(&error),
        }
    }

    fn invalidate(&mut self, slot: usize) {
        self.tally.invalidations += 1;
        // Dropping an entry is legal where nothing may block, also when it holds the last reference to its pool.
        let section = NoBlock::enter();
        let found = self.store.invalidate(&(self.first_key + slot as u64));
        drop(section);
        let expected = self.model[slot].take();
        self.before[slot] = expected.or(self.before[slot]);
        self.tally.lost += u64::from(expected.is_some() && !found && !self.evicts());
        self.tally.mismatches += u64::from(found && expected.is_none());
    }
}

#[cfg(test)]
mod tests {
    use workload::Pages;

    use super::*;
    use crate::lineup;
    use crate::storm::BLOCK_SIZE;

    fn blocks() -> Variants {
        let bytes = (0..8 * BLOCK_SIZE.get()).map(|i| (i / 7) as u8).collect();
        Variants::new(Pages::from_bytes(BLOCK_SIZE, bytes)).unwrap()
    }

    #[test]
    fn what_is_changed_or_dropped_behind_a_workers_back_is_noticed() {
        let store = lineup::store(&"zsmalloc+lz4".parse().unwrap(), BLOCK_SIZE).build().unwrap();
        let blocks = blocks();
        let mut worker = Worker::new(0, &store, &blocks, None);
        let found = |worker: &Worker<'_>| (worker.tally.mismatches, worker.tally.lost);
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

    #[test]
    fn workers_share_no_key_and_find_everything_at_the_end() {
        let store = lineup::store(&"zbud+lz4".parse().unwrap(), BLOCK_SIZE).build().unwrap();
        let blocks = blocks();
        let mut workers =
            [Worker::new(0, &store, &blocks, None), Worker::new(1, &store, &blocks, None)];
        for _ in 0..3000 {
            workers.iter_mut().for_each(Worker::step);
        }
        let mut tally = Tally::default();
        workers.into_iter().for_each(|worker| tally.add(worker.run(&AtomicBool::new(true))));
        assert_eq!((tally.mismatches, tally.lost, tally.errors), (0, 0, 0), "{tally:?}");
        assert!(
            tally.stores > 1000 && tally.loads > 2 * SLOTS as u64 && tally.invalidations > 100,
            "{tally:?}"
        );
    }
}
