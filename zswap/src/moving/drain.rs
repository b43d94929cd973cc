//! Draining: moving what is in retired pools to the live ones, so that a switch ends.

use std::hash::{BuildHasher, Hash};
use std::time::Instant;

use bumpalo::Bump;
use zpool_core::might_block;
use zpool_manager::PoolRef;

use crate::moving::batch::{
    Batch, ChosenEntry, ChosenValue, SourcePools, choose, entry_bytes, large_is_in, new_batch,
};
use crate::moving::relocate::{BlockBuffer, KeptReason, Move, Relocated};
use crate::stats::drain_report::{DrainBudget, DrainEnd, DrainReport};
use crate::store::Store;

/// Passes over the index in which nothing moves before a drain gives up.
const FRUITLESS_PASSES: usize = 2;

impl<K, S> Store<K, S> {
    /// Returns the number of blocks in retired pools. Each block of a longer value counts.
    pub(crate) fn blocks_to_drain(&self) -> usize {
        let roles = [self.manager().current(), self.manager().cold()];
        let roles = roles.map(|pool| pool.map(|pool| pool.id()));
        self.index().blocks_in(|pool| !roles.contains(&Some(pool)))
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Moves entries from retired pools to the current one, until none is left or `budget` is used
    /// up. Entries of a pool that was the [cold pool](crate::StoreBuilder::cold) go to the one that
    /// is, if there is one. A retired pool that has become empty is destroyed, as if its blocks had
    /// been removed.
    ///
    /// An object is copied as it is, if both pools have one codec. Otherwise its block is
    /// decompressed, and compressed as a store would. A value of several blocks is moved whole. An
    /// entry keeps its heat, and nothing counts as a store or a use.
    ///
    /// The next call continues where this one ended. A [`switch`](Self::switch) redirects the drain
    /// to the new current pool, even while a call runs.
    ///
    /// Entries that cannot be read or copied stay where they are, and are [reported](DrainReport).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::drain::{DrainBudget, DrainEnd};
    /// use zswap::Store;
    ///
    /// let store = Store::<u64>::builder().build()?;
    /// for key in 0..1000 {
    ///     store.store(key, format!("{key:>3000}").as_bytes())?;
    /// }
    /// store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
    /// let report = store.drain(DrainBudget::UNLIMITED);
    /// assert_eq!((report.moved, report.remaining, report.end), (1000, 0, DrainEnd::Empty));
    /// assert_eq!(store.load_vec(&7)?.unwrap(), format!("{:>3000}", 7).as_bytes());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # At the limit
    ///
    /// A drain never evicts. While it runs, an entry may be held twice, so it begins no copy that
    /// would pass the limit. Before it ends for that reason, it compacts the pools that it empties.
    ///
    /// # Panics
    ///
    /// If the key's `Hash`, `Eq` or `Clone` does. Nothing is lost then. Keys are cloned in small
    /// batches under a lock of the index, so `Clone` must not call the store.
    ///
    /// # Concurrency
    ///
    /// May block. Any number of threads may drain at once, and use the store meanwhile. Loads and
    /// stores do not wait for a drain. A block that is replaced or removed while it is copied is
    /// not moved.
    pub fn drain(&self, budget: DrainBudget) -> DrainReport {
        might_block("Store::drain");
        let mut drain = Drain::new(budget, self.bytes_held());
        self.drain_state().begin(self.manager().switches(), drain.report.held_before);
        let mut arena = self.drain_state().take_arena();
        while drain.end.is_none() {
            drain.end = self.drain_batch(&mut drain, &arena);
            arena.reset();
        }
        self.drain_state().keep_arena(arena);
        drain.finish(self.blocks_to_drain(), self.bytes_held())
    }

    /// Moves one batch. Returns why the drain ends, if it does.
    fn drain_batch(&self, drain: &mut Drain, arena: &Bump) -> Option<DrainEnd> {
        if drain.is_used_up() {
            return Some(DrainEnd::Budget);
        }
        // In this order: a switch between the two is noticed at the first entry.
        let switches = self.manager().switches();
        let Some(target) = self.manager().current() else { return Some(DrainEnd::Empty) };
        let targets = Targets { current: target, cold: self.manager().cold() };
        let sources = SourcePools::default();
        let Some(mut batch) = new_batch(arena) else { return Some(DrainEnd::OutOfMemory) };
        self.choose_to_drain(drain, &targets, &sources, &mut batch);
        if batch.is_empty() {
            return self.end_of_fruitless_shard(drain);
        }
        let before = drain.report;
        let mut room = self.room_for(&batch);
        let mut buffer = BlockBuffer::new(arena);
        for chosen in batch {
            if drain.is_used_up() {
                return Some(DrainEnd::Budget);
            }
            if self.manager().switches() != switches {
                // The entries that are left may be in the right place now.
                return None;
            }
            if !self.makes_room(&mut room, entry_bytes(&chosen.value), &sources) {
                return Some(DrainEnd::Limit);
            }
            let to = Move::to(targets.of(&chosen));
            drain.count(self.relocate(chosen, to, &mut buffer));
            if drain.is_out_of_memory {
                return Some(DrainEnd::OutOfMemory);
            }
        }
        let DrainReport { moved, object_bytes_before, .. } = drain.report;
        let moved_bytes = object_bytes_before - before.object_bytes_before;
        self.compact_emptied(&sources, moved_bytes, moved - before.moved);
        if self.limit().above_low_watermark() {
            self.limit().note_removed();
        }
        self.end_of_fruitless_shard(drain)
    }

    /// Chooses a batch of entries that are in neither of `targets`.
    fn choose_to_drain<'p>(
        &self,
        drain: &mut Drain,
        targets: &Targets,
        sources: &'p SourcePools,
        batch: &mut Batch<'_, 'p, K>,
    ) {
        let mut cursor = self.drain_state().cursor.lock();
        let most = drain.entries_left();
        let cold = targets.cold.as_ref().map(|pool| pool.id());
        let is_source = |pool| pool != targets.current.id() && Some(pool) != cold;
        let choice = choose(self.index(), &mut cursor, most, is_source, sources, batch);
        drop(cursor);
        drain.report.busy += choice.busy;
        drain.report.unreadable += choice.unreadable;
        drain.fruitless += usize::from(choice.passed_shard);
    }

    /// Decides whether a drain continues that has moved nothing in the last shards.
    fn end_of_fruitless_shard(&self, drain: &mut Drain) -> Option<DrainEnd> {
        if drain.fruitless < self.index().shards() {
            return None;
        }
        if self.blocks_to_drain() == 0 {
            return Some(DrainEnd::Empty);
        }
        // Entries that moved in the index to a place that was passed, or that another drain has in
        // its batch, are found in the next pass.
        (drain.fruitless >= FRUITLESS_PASSES * self.index().shards()).then_some(DrainEnd::Stuck)
    }
}

/// The pools that entries of retired pools go to.
struct Targets {
    current: PoolRef,
    cold: Option<PoolRef>,
}

impl Targets {
    /// Returns the pool that an entry goes to: the cold pool, if it was cold and there is one.
    fn of<K>(&self, chosen: &ChosenEntry<'_, K>) -> &PoolRef {
        let is_cold = match &chosen.value {
            ChosenValue::Pooled { pool, .. } => pool.is_for_cold(),
            ChosenValue::Large(large) => !large_is_in(large, |pool| !pool.is_for_cold()),
        };
        self.cold.as_ref().filter(|_| is_cold).unwrap_or(&self.current)
    }
}

/// One call of `drain`.
struct Drain {
    budget: DrainBudget,
    began: Instant,
    report: DrainReport,
    end: Option<DrainEnd>,
    /// Shards passed since an entry was moved or had changed.
    fruitless: usize,
    is_out_of_memory: bool,
}

impl Drain {
    fn new(budget: DrainBudget, held_before: usize) -> Drain {
        let report = DrainReport { held_before, ..DrainReport::default() };
        let began = Instant::now();
        Drain { budget, began, report, end: None, fruitless: 0, is_out_of_memory: false }
    }

    fn entries_left(&self) -> usize {
        self.budget.entries - self.report.moved
    }

    fn is_used_up(&self) -> bool {
        self.report.moved >= self.budget.entries
            || self.report.object_bytes_before >= self.budget.bytes
            || self.began.elapsed() >= self.budget.time
    }

    fn count(&mut self, relocated: Relocated) {
        let report = &mut self.report;
        match relocated {
            Relocated::Moved { recompressed, bytes_before, bytes_after } => {
                report.moved += 1;
                report.copied += usize::from(!recompressed);
                report.recompressed += usize::from(recompressed);
                report.object_bytes_before += bytes_before;
                report.object_bytes_after += bytes_after;
                self.fruitless = 0;
            }
            Relocated::Changed => {
                report.changed += 1;
                self.fruitless = 0;
            }
            Relocated::Kept(KeptReason::Busy) => report.busy += 1,
            Relocated::Kept(KeptReason::Unreadable) => report.unreadable += 1,
            Relocated::Kept(KeptReason::Refused | KeptReason::NotSmaller) => report.refused += 1,
            Relocated::Kept(KeptReason::OutOfMemory) => self.is_out_of_memory = true,
        }
    }

    fn finish(self, remaining: usize, held_after: usize) -> DrainReport {
        DrainReport { remaining, held_after, end: self.end.unwrap_or_default(), ..self.report }
    }
}
