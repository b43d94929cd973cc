//! Every pool that is not destroyed: the current one, retired ones, and those whose destruction is
//! pending.
//!
//! Two leaf locks. Under `table`, the table and the current pool change together, and nothing is
//! allocated, freed or called. `kept_blocks` is taken by the jobs that destroy pools.

use std::sync::Arc;
use std::time::Instant;

use zpool_core::internal::Counted;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::internal::sync::{Mutex, MutexGuard};
use zpool_core::spec::PoolSpec;

use super::current::Current;
use super::pool::{Pool, PoolRef};
use super::table::{Listed, PoolTable, Sample, TablePlace, spec_hash};

/// Up to this many pools, every walk visits all of them; with more, a store asks a sample only.
pub(crate) const FULL_WALK_MAX: usize = 64;

/// One full walk follows each run of `pools / POOLS_PER_ESTIMATE` estimates.
const POOLS_PER_ESTIMATE: usize = 8;

/// The list of a manager's pools, and which one is current.
pub(crate) struct PoolList {
    current: Current<Pool>,
    cold: Current<Pool>,
    table: Mutex<PoolTable>,
    /// Estimates of the bytes of all pools since the last full walk.
    estimates: AtomicUsize,
    /// Control blocks of destroyed pools that a reader still held. They are freed with a later
    /// pool, because readers must not touch the heap.
    kept_blocks: Mutex<Vec<Arc<Counted<Pool>>>>,
}

/// One pool at the moment of a snapshot.
pub(crate) struct PoolSnapshot {
    pub(crate) listed: Listed,
    /// `None` if its last reference has been dropped.
    pub(crate) pool: Option<PoolRef>,
    pub(crate) is_current: bool,
    pub(crate) is_cold: bool,
    /// The latest recorded bytes of a retired pool's allocator.
    pub(crate) recorded: usize,
}

/// The position of a walk over the pools, with a reference to the pool at that position.
#[derive(Default)]
pub(crate) struct WalkCursor {
    next_slot: usize,
    pool: Option<PoolRef>,
}

impl PoolList {
    pub(crate) fn new() -> PoolList {
        PoolList {
            current: Current::none(),
            cold: Current::none(),
            table: Mutex::new(PoolTable::new()),
            estimates: AtomicUsize::new(0),
            kept_blocks: Mutex::default(),
        }
    }

    /// Returns a reference to the current pool.
    #[inline]
    pub(crate) fn current(&self) -> Option<PoolRef> {
        self.current.get().map(PoolRef)
    }

    /// Returns whether a pool is current.
    pub(crate) fn has_current(&self) -> bool {
        self.current.block().is_some()
    }

    /// Returns a reference to the cold pool.
    #[inline]
    pub(crate) fn cold(&self) -> Option<PoolRef> {
        self.cold.get().map(PoolRef)
    }

    /// Lists a new pool and makes it current, which is one step for snapshots. Returns the block of
    /// the previous current pool, which `never_revive` excludes from revival.
    pub(crate) fn publish_new(&self, pool: Pool, never_revive: bool) -> Option<Arc<Counted<Pool>>> {
        let (listed, hash) = list_entry(pool);
        let mut table = self.table_with_room();
        let next = add(&mut table, listed, hash);
        self.make_current(&mut table, Some(next), never_revive)
    }

    /// Lists a new pool and makes it the cold pool, in one step. Returns the block of the previous
    /// one.
    pub(crate) fn publish_new_cold(&self, pool: Pool) -> Option<Arc<Counted<Pool>>> {
        pool.set_for_cold(true);
        let (listed, hash) = list_entry(pool);
        let mut table = self.table_with_room();
        let next = add(&mut table, listed, hash);
        self.make_cold(&mut table, Some(next))
    }

    /// Makes a listed pool the cold pool, or leaves none. Returns the block of the previous one.
    pub(crate) fn publish_cold(&self, next: Option<&PoolRef>) -> Option<Arc<Counted<Pool>>> {
        self.prepare_thread();
        let next = next.and_then(|pool| with_role(pool, true));
        self.make_cold(&mut self.table.lock(), next)
    }

    fn make_cold(
        &self,
        table: &mut PoolTable,
        next: Option<(TablePlace, Arc<Counted<Pool>>)>,
    ) -> Option<Arc<Counted<Pool>>> {
        let previous = self.cold.block();
        let (at, block) = next.unzip();
        let was_at = table.make_cold(at);
        set_retired(table, was_at, Some(Instant::now()));
        set_retired(table, at, None);
        self.cold.set(block);
        previous
    }

    /// Makes a listed pool current, or leaves none. Returns the block of the previous one.
    pub(crate) fn publish(&self, next: Option<&PoolRef>) -> Option<Arc<Counted<Pool>>> {
        self.prepare_thread();
        let next = next.and_then(|pool| with_role(pool, false));
        self.make_current(&mut self.table.lock(), next, false)
    }

    fn make_current(
        &self,
        table: &mut PoolTable,
        next: Option<(TablePlace, Arc<Counted<Pool>>)>,
        never_revive: bool,
    ) -> Option<Arc<Counted<Pool>>> {
        let previous = self.current.block();
        let (at, block) = next.unzip();
        let was_at = table.make_current(at);
        set_retired(table, was_at, Some(Instant::now()));
        if let Some(listed) = was_at.and_then(|place| table.get_mut(place)) {
            listed.never_revive = never_revive;
        }
        set_retired(table, at, None);
        self.current.set(block);
        previous
    }

    /// Locks the table with room for one more pool. Allocates and frees only while unlocked.
    fn table_with_room(&self) -> MutexGuard<'_, PoolTable> {
        self.prepare_thread();
        loop {
            let table = self.table.lock();
            let Some(room) = table.wants_room_for() else { return table };
            drop(table);
            let larger = PoolTable::with_room_for(room);
            let smaller = self.table.lock().grow_into(larger);
            drop(smaller);
        }
    }

    /// Loads the current pool once: arc-swap allocates at a thread's first load, which must not
    /// happen under the table's lock.
    fn prepare_thread(&self) {
        drop(self.current.block());
    }

    /// Takes a pool off the list. Finds it by its place, since an allocator may report any id.
    pub(crate) fn unlist(&self, pool: &Pool) {
        let Some(&place) = pool.place().get() else { return };
        let listed = self.table.lock().remove(place);
        // Memory is freed outside the lock.
        drop(listed);
    }

    /// Frees the block of a destroyed pool if no reader holds it, and otherwise keeps it until a
    /// later call: a reader whose guard outlived a switch may be its last owner, and readers make
    /// no heap call.
    pub(crate) fn free_block(&self, block: Arc<Counted<Pool>>) {
        let mut kept = self.kept_blocks.lock();
        // Without memory for the list, the last owner frees it.
        if kept.try_reserve(1).is_ok() {
            kept.push(block);
        }
        // A block that only this list owns gets no other owner: it is neither current nor listed.
        while let Some(at) = kept.iter().position(|block| Arc::strong_count(block) == 1) {
            let free = kept.swap_remove(at);
            drop(kept);
            drop(free);
            kept = self.kept_blocks.lock();
        }
    }

    /// Returns a reference to a live retired pool of `spec` that may be revived.
    pub(crate) fn find_retired(&self, spec: &PoolSpec) -> Option<PoolRef> {
        let hash = spec_hash(spec);
        // A pool whose count is zero is about to be destroyed: the search goes on, since a live
        // pool of the same spec may follow. No reference is dropped under the lock. The current
        // pool and the cold pool may have this spec, too, but are not retired.
        self.table.lock().find(hash, |_, listed| {
            let is_retired = listed.retired.is_some() && !listed.never_revive;
            let matches = is_retired && listed.label.spec == *spec;
            if matches { listed.block.try_ref().map(PoolRef) } else { None }
        })
    }

    /// Returns whether the table is locked at this moment.
    pub(crate) fn is_locked(&self) -> bool {
        self.table.try_lock().is_none()
    }

    /// Returns how many pools are listed.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Records what a pool's allocator holds, if the pool is retired.
    pub(crate) fn record_bytes(&self, pool: &Pool, bytes: usize) {
        if let Some(&place) = pool.place().get() {
            self.table.lock().record(place, bytes);
        }
    }

    /// Returns the bytes last recorded for a retired pool.
    pub(crate) fn recorded_bytes(&self, pool: &Pool) -> usize {
        pool.place().get().map_or(0, |&place| self.table.lock().recorded(place))
    }

    /// Excludes a pool from the recorded bytes for good, and calls `count_elsewhere` under the same
    /// lock, so that every sum counts the pool exactly once.
    pub(crate) fn exclude(&self, pool: &Pool, count_elsewhere: impl FnOnce()) {
        let mut table = self.table.lock();
        if let Some(&place) = pool.place().get() {
            table.exclude(place);
        }
        count_elsewhere();
    }

    /// Sums the recorded bytes of all retired pools except `except`, and adds what `and` returns
    /// under the same lock.
    pub(crate) fn recorded_bytes_except(
        &self,
        except: &Pool,
        and: impl FnOnce() -> usize,
    ) -> usize {
        let mut table = self.table.lock();
        table.recorded_except(except.place().get().copied()) + and()
    }

    /// Returns the pools to ask for an estimate of all bytes, or `None` if it is time to ask all.
    pub(crate) fn sample_for_estimate(&self) -> Option<Sample<Listed>> {
        let mut table = self.table.lock();
        let alive = table.len();
        // Relaxed: a thread that loses the race asks all pools once more than needed.
        let estimates = self.estimates.fetch_add(1, Ordering::Relaxed);
        if alive <= FULL_WALK_MAX || estimates >= alive / POOLS_PER_ESTIMATE {
            drop(table);
            self.estimates.store(0, Ordering::Relaxed);
            return None;
        }
        Some(table.sample())
    }

    /// Returns a bounded sample of the pools, or `None` if they are few enough to visit all.
    pub(crate) fn sample_if_many(&self) -> Option<Sample<Listed>> {
        let mut table = self.table.lock();
        (table.len() > FULL_WALK_MAX).then(|| table.sample())
    }

    /// Advances `cursor` to the next live pool. Makes no heap call. Drops the reference to the
    /// previous pool with no lock held, since that may release it.
    pub(crate) fn next_alive<'c>(&self, cursor: &'c mut WalkCursor) -> Option<&'c PoolRef> {
        let alive =
            |(slot, listed): (usize, &Listed)| Some((slot, PoolRef(listed.block.try_ref()?)));
        let next = self.table.lock().iter_from(cursor.next_slot).find_map(alive);
        let previous = match next {
            Some((slot, pool)) => {
                cursor.next_slot = slot + 1;
                cursor.pool.replace(pool)
            }
            None => cursor.pool.take(),
        };
        drop(previous);
        cursor.pool.as_ref()
    }

    /// Returns all pools at one moment (B49), oldest first. Takes time in proportion to their
    /// number.
    ///
    /// The snapshot may hold the last reference to a pool: drop it where that is allowed.
    pub(crate) fn snapshot(&self) -> Vec<PoolSnapshot> {
        self.prepare_thread();
        let mut snapshot = Vec::new();
        loop {
            let table = self.table.lock();
            if table.len() > snapshot.capacity() {
                let room = table.len();
                drop(table);
                snapshot.reserve(room);
                continue;
            }
            let current = self.current.block();
            let cold = table.cold();
            let is_current =
                |block| current.as_ref().is_some_and(|current| Arc::ptr_eq(current, block));
            snapshot.extend(table.iter().map(|(place, listed, recorded)| PoolSnapshot {
                listed: listed.clone(),
                // Under the lock: the current pool keeps its identity reference until another one
                // is current, and that takes the lock.
                pool: listed.block.try_ref().map(PoolRef),
                is_current: is_current(&listed.block),
                is_cold: cold == Some(place),
                recorded,
            }));
            drop(table);
            snapshot.sort_by_key(|seen| seen.listed.place.get().map(|place| place.number));
            return snapshot;
        }
    }
}

/// Notes the role of a listed pool that is about to be published. Returns its place and its block.
fn with_role(pool: &PoolRef, for_cold: bool) -> Option<(TablePlace, Arc<Counted<Pool>>)> {
    let place = *pool.place().get()?;
    pool.set_for_cold(for_cold);
    Some((place, PoolRef::block(pool)))
}

/// Makes the entry of a new pool in the list, and the hash of its spec.
fn list_entry(pool: Pool) -> (Listed, u64) {
    let (label, created, place) = (pool.label().clone(), pool.created(), pool.place().clone());
    let hash = spec_hash(&label.spec);
    let block = Counted::new(pool);
    (Listed { label, block, place, created, retired: None, never_revive: false }, hash)
}

/// Adds an entry to the table, in which there is room. Returns its place and its block.
fn add(table: &mut PoolTable, listed: Listed, hash: u64) -> (TablePlace, Arc<Counted<Pool>>) {
    let (block, place) = (listed.block.clone(), listed.place.clone());
    let at = table.add(listed, hash);
    let _ = place.set(at);
    (at, block)
}

/// Notes when the pool at `at` was retired, or that it is not.
fn set_retired(table: &mut PoolTable, at: Option<TablePlace>, retired: Option<Instant>) {
    if let Some(listed) = at.and_then(|place| table.get_mut(place)) {
        listed.retired = retired;
    }
}
