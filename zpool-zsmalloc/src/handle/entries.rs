//! The table of handle entries, read without a lock.
//!
//! Free entries are linked through their own words. The free lists are sharded by CPU, so that
//! threads that insert and free do not share a lock. A shard whose list is empty steals the whole
//! list of another shard before the table grows.

use crossbeam_utils::CachePadded;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicU32, Ordering};
use zpool_core::internal::{cpu_shards, current_cpu};

use super::entry::HandleEntry;
use crate::collections::grow_only_table::{CAPACITY, GrowOnlyTable, SHORTEST_CHUNK};

/// The most shards. Each takes two cache lines of every pool.
const MAX_SHARDS: usize = 16;

/// Entries that are taken from the table at once: a cache line of them, all in one chunk.
const BATCH: u32 = 8;
const _: () = assert!(CAPACITY.is_multiple_of(BATCH) && SHORTEST_CHUNK.is_multiple_of(BATCH));

/// The entries of a pool.
#[derive(Debug)]
pub(crate) struct EntryTable {
    entries: GrowOnlyTable<HandleEntry>,
    /// Entries that were ever allocated: the table is dense below.
    used: AtomicU32,
    /// Index + 1 of the first free entry of each list; 0 ends a list.
    free: Box<[CachePadded<Mutex<u32>>]>,
}

impl EntryTable {
    pub(crate) fn new() -> EntryTable {
        let shards = cpu_shards().min(MAX_SHARDS);
        EntryTable {
            entries: GrowOnlyTable::new(),
            used: AtomicU32::new(0),
            free: (0..shards).map(|_| CachePadded::new(Mutex::new(0))).collect(),
        }
    }

    /// Returns the heap bytes of a new table.
    pub(crate) fn base_bytes(&self) -> usize {
        size_of_val::<[_]>(&self.free)
    }

    /// Returns the entry, if it was ever allocated.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&HandleEntry> {
        self.entries.get(index)
    }

    /// Returns how many entries were ever allocated: at least as many as there are objects.
    pub(crate) fn used(&self) -> usize {
        // Relaxed: statistics only.
        self.used.load(Ordering::Relaxed) as usize
    }

    /// Iterates over all entries ever allocated, with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &HandleEntry)> {
        #[cfg(all(test, not(zpool_loom)))]
        crate::collections::walk_counter::count_walk();
        // Relaxed: an entry that is allocated meanwhile may be missed, as if the walk had been
        // earlier.
        let used = self.used.load(Ordering::Relaxed);
        (0..used).filter_map(|index| Some((index, self.entries.get(index)?)))
    }

    /// Allocates a free entry for the caller alone, on CPU `cpu`. Calls `grown` with the bytes that
    /// the table grew by. Returns `None` if the table is full or the heap refuses.
    pub(crate) fn allocate(
        &self,
        cpu: usize,
        grown: impl FnOnce(usize),
    ) -> Option<(u32, &HandleEntry)> {
        let home = self.home(cpu);
        let mut list = self.free[home].lock();
        if *list == 0 {
            *list = self.steal(home);
        }
        if let Some(index) = list.checked_sub(1) {
            let entry = self.entries.get(index)?;
            *list = entry.link();
            return Some((index, entry));
        }
        drop(list);
        let mut bytes = 0;
        let first = self.fresh_batch(&mut bytes);
        // Even without a batch: the table may have grown before another thread took the batch.
        grown(bytes);
        let first = first?;
        // The rest of the batch is this CPU's, so that threads on different CPUs do not alternate
        // in writing to one cache line.
        let mut list = self.free[home].lock();
        for index in (first + 1..first + BATCH).rev() {
            self.entries.get(index)?.set_free(*list);
            *list = index + 1;
        }
        Some((first, self.entries.get(first)?))
    }

    /// Frees an entry that is the caller's alone and whose object is gone, on CPU `cpu`. Never
    /// blocks or allocates.
    pub(crate) fn release(&self, cpu: usize, index: u32, entry: &HandleEntry) {
        let mut list = self.free[self.home(cpu)].lock();
        entry.set_free(*list);
        *list = index + 1;
    }

    /// Frees many entries that are the caller's alone, as [`release`](Self::release) does, under
    /// one lock.
    pub(crate) fn release_many(&self, indices: impl Iterator<Item = u32> + Clone) {
        let Some(last) = indices.clone().next() else { return };
        // Linked to each other before the lock is taken: the first of them ends the chain.
        let mut head = 0;
        for index in indices {
            if let Some(entry) = self.entries.get(index) {
                entry.set_free(head);
                head = index + 1;
            }
        }
        let Some(last) = self.entries.get(last) else { return };
        let mut list = self.free[self.home(current_cpu())].lock();
        last.set_free(*list);
        *list = head;
    }

    /// Takes another shard's whole list. Skips busy shards: waiting for one while holding the own
    /// lock could deadlock.
    fn steal(&self, home: usize) -> u32 {
        let others = (1..self.free.len()).map(|i| (home + i) % self.free.len());
        others
            .filter_map(|other| {
                self.free[other].try_lock().map(|mut list| core::mem::take(&mut *list))
            })
            .find(|&list| list != 0)
            .unwrap_or(0)
    }

    /// Takes a batch of entries that were never allocated. Returns the first one. Adds the bytes
    /// that the table grew by to `grown`, even if there is no batch.
    fn fresh_batch(&self, grown: &mut usize) -> Option<u32> {
        // Relaxed: only uniqueness matters; the chunk is published by its own pointer.
        let mut first = self.used.load(Ordering::Relaxed);
        while first < CAPACITY {
            // Grow before taking the batch: if the heap refuses, the next caller can try again.
            *grown += self.entries.ensure(first)?;
            let next = first + BATCH;
            match self.used.compare_exchange(first, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(first),
                Err(seen) => first = seen,
            }
        }
        None
    }

    #[inline]
    fn home(&self, cpu: usize) -> usize {
        // The number of shards is a power of two.
        cpu & (self.free.len() - 1)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// Free entries are reused before the table grows, on whichever CPU they were freed.
    #[test]
    fn freed_entries_are_reused_first() {
        let table = EntryTable::new();
        let take = || table.allocate(current_cpu(), |_| ()).unwrap().0;
        let mut first: Vec<_> = (0..100).map(|_| take()).collect();
        first.sort_unstable();
        assert_eq!(first, (0..100).collect::<Vec<_>>());
        for &index in &first {
            // As if freed on every CPU in turn.
            table.release(index as usize, index, table.get(index).unwrap());
        }
        let mut second: Vec<_> = (0..100).map(|_| take()).collect();
        second.sort_unstable();
        // The rest of a batch may come in between.
        assert!(
            second.iter().all(|&index| index < 104)
                && second.windows(2).all(|pair| pair[0] < pair[1])
        );
        assert_eq!(table.iter().count(), 104);
    }
}
