//! The handle table: a slot for each handle, found without a lock.
//!
//! Free slots are linked through their own words. The lists are sharded by processor, so that threads that insert and free do not share a
//! lock; a shard that runs dry takes another shard's whole list before the table grows.

use crossbeam_utils::CachePadded;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicU32, Ordering};
use zpool_core::internal::{cpu_shards, current_cpu};

use crate::chunked::{CAPACITY, Chunked};
use crate::slot::Slot;

/// Shards at most: each is two cache lines of every pool.
const MAX_SHARDS: usize = 16;

/// Slots that are taken from the table at once: a cache line of them. All are in one chunk.
const BATCH: u32 = 8;
const _: () =
    assert!(CAPACITY.is_multiple_of(BATCH) && crate::chunked::SHORTEST_CHUNK.is_multiple_of(BATCH));

/// The slots of a pool.
#[derive(Debug)]
pub(crate) struct HandleTable {
    slots: Chunked<Slot>,
    /// Slots that were ever taken: the table is dense below.
    used: AtomicU32,
    /// Index + 1 of the first free slot of each list; 0 ends a list.
    free: Box<[CachePadded<Mutex<u32>>]>,
}

impl HandleTable {
    pub(crate) fn new() -> HandleTable {
        let shards = cpu_shards().min(MAX_SHARDS);
        HandleTable {
            slots: Chunked::new(),
            used: AtomicU32::new(0),
            free: (0..shards).map(|_| CachePadded::new(Mutex::new(0))).collect(),
        }
    }

    /// Bytes on the heap that a new table has.
    pub(crate) fn base_bytes(&self) -> usize {
        size_of_val::<[_]>(&self.free)
    }

    /// The slot, if it was ever taken.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index)
    }

    /// Slots ever taken: at least as many as there are objects.
    pub(crate) fn used(&self) -> usize {
        // Relaxed: a figure.
        self.used.load(Ordering::Relaxed) as usize
    }

    /// All slots ever taken, with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        #[cfg(all(test, not(zpool_loom)))]
        crate::survey::WALKS.with(|walks| walks.set(walks.get() + 1));
        // Relaxed: a slot that is taken meanwhile may be missed, as if the walk had been earlier.
        let used = self.used.load(Ordering::Relaxed);
        (0..used).filter_map(|index| Some((index, self.slots.get(index)?)))
    }

    /// Takes a free slot for the caller alone, on processor `cpu`. `grown` is told the bytes that
    /// the table grew by. `None` when the table is full, or the heap refuses.
    pub(crate) fn take(&self, cpu: usize, grown: impl FnOnce(usize)) -> Option<(u32, &Slot)> {
        let home = self.home(cpu);
        let mut list = self.free[home].lock();
        if *list == 0 {
            *list = self.steal(home);
        }
        if let Some(index) = list.checked_sub(1) {
            let slot = self.slots.get(index)?;
            *list = slot.link();
            return Some((index, slot));
        }
        drop(list);
        let (first, bytes) = self.fresh()?;
        grown(bytes);
        // The others of the batch are this processor's: threads on different ones do not write to one cache line in turns.
        let mut list = self.free[home].lock();
        for index in (first + 1..first + BATCH).rev() {
            self.slots.get(index)?.set_link(*list);
            *list = index + 1;
        }
        Some((first, self.slots.get(first)?))
    }

    /// Takes back a slot that is the caller's alone and whose object is gone, on processor `cpu`.
    /// Never blocks or allocates.
    pub(crate) fn put(&self, cpu: usize, index: u32, slot: &Slot) {
        let mut list = self.free[self.home(cpu)].lock();
        slot.set_link(*list);
        *list = index + 1;
    }

    /// Takes back many entries that are the caller's alone, as [`put`](Self::put) does, under one
    /// lock.
    pub(crate) fn put_many(&self, indices: impl Iterator<Item = u32> + Clone) {
        let Some(last) = indices.clone().next() else { return };
        // Linked to each other before the lock is taken: the first of them ends the chain.
        let mut head = 0;
        for index in indices {
            if let Some(slot) = self.slots.get(index) {
                slot.set_link(head);
                head = index + 1;
            }
        }
        let Some(last) = self.slots.get(last) else { return };
        let mut list = self.free[self.home(current_cpu())].lock();
        last.set_link(*list);
        *list = head;
    }

    /// Another shard's whole list. Busy shards are passed over: waiting for one while holding one's own could deadlock.
    fn steal(&self, home: usize) -> u32 {
        let others = (1..self.free.len()).map(|i| (home + i) % self.free.len());
        others
            .filter_map(|other| {
                self.free[other].try_lock().map(|mut list| core::mem::take(&mut *list))
            })
            .find(|&list| list != 0)
            .unwrap_or(0)
    }

    /// The first of a batch of slots that were never taken, and the bytes that the table grew by
    /// for it.
    fn fresh(&self) -> Option<(u32, usize)> {
        let mut grown = 0;
        // Relaxed: only uniqueness matters; the chunk is published by its own pointer.
        let mut first = self.used.load(Ordering::Relaxed);
        while first < CAPACITY {
            // Before the batch is taken: if the heap refuses, it is there for the next one to try.
            grown += self.slots.ensure(first)?;
            let next = first + BATCH;
            match self.used.compare_exchange(first, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some((first, grown)),
                Err(seen) => first = seen,
            }
        }
        None
    }

    #[inline]
    fn home(&self, cpu: usize) -> usize {
        // Their number is a power of two.
        cpu & (self.free.len() - 1)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_before_the_table_grows_whoever_freed_them() {
        let table = HandleTable::new();
        let take = || table.take(current_cpu(), |_| ()).unwrap().0;
        let mut first: Vec<_> = (0..100).map(|_| take()).collect();
        first.sort_unstable();
        assert_eq!(first, (0..100).collect::<Vec<_>>());
        for &index in &first {
            // As if freed on every processor in turn.
            let mut list = table.free[index as usize % table.free.len()].lock();
            let slot = table.get(index).unwrap();
            slot.set_link(*list);
            *list = index + 1;
        }
        let mut second: Vec<_> = (0..100).map(|_| take()).collect();
        second.sort_unstable();
        // But for the rest of a batch, which may come between.
        assert!(
            second.iter().all(|&index| index < 104)
                && second.windows(2).all(|pair| pair[0] < pair[1])
        );
        assert_eq!(table.iter().count(), 104);
    }
}
