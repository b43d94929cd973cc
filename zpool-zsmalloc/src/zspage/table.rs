//! The table of zspages, which readers use without a lock: base address and class of each.
//!
//! ```text
//!   base   start of the run of frames
//!   tag    | evacuated from this slot on: 16 bits | class: 16 bits |
//!   local  index among the zspages of its class, or link to the next free entry
//! ```
//!
//! An entry is written while no object of its zspage has a handle, or under the lock of its class.
//! A reader comes here with a hold on an object. Taking the hold was an Acquire of the step that
//! made the object live, which came after the entry was written. So Relaxed loads suffice.

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::collections::grow_only_table::{CAPACITY, GrowOnlyTable};
use crate::geometry::size_class::ClassIndex;

/// No slot of the zspage is being evacuated.
const EVACUATE_NONE: u32 = 0xFFFF;

/// One zspage.
#[derive(Debug, Default)]
pub(crate) struct Zspage {
    /// Frames of the run: `memory` says who may do what with them.
    pub(super) base: AtomicPtr<u8>,
    tag: AtomicU32,
    local: AtomicU32,
}
const _: () =
    assert!(size_of::<Zspage>() == 16 || cfg!(zpool_loom), "counts into the density of every pool");

impl Zspage {
    /// Returns the class, which is constant from creation to removal.
    #[inline]
    pub(crate) fn class(&self) -> ClassIndex {
        ClassIndex(self.tag.load(Ordering::Relaxed) as u16)
    }

    /// Prefetches the bytes of a slot that is going to be written.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize, len: usize) {
        zpool_core::internal::prefetch_far(
            self.base.load(Ordering::Relaxed).wrapping_add(offset),
            len,
        );
    }

    /// Returns the index among the zspages of its class. Needs the lock of that class.
    pub(crate) fn local(&self) -> u32 {
        self.local.load(Ordering::Relaxed)
    }

    /// Sets the index among the zspages of its class. Needs the lock of that class.
    pub(crate) fn set_local(&self, local: u32) {
        self.local.store(local, Ordering::Relaxed);
    }

    /// Begins the life of a zspage that is the caller's alone.
    pub(super) fn begin(&self, class: ClassIndex) {
        self.tag.store(u32::from(class.0) | EVACUATE_NONE << 16, Ordering::Relaxed);
    }

    /// Marks the slots from `first` on as those that compaction moves away; `None` ends that. Only
    /// the compactor calls this.
    pub(crate) fn evacuate_from(&self, first: Option<u16>) {
        let first = first.map_or(EVACUATE_NONE, u32::from);
        self.tag.store(u32::from(self.class().0) | first << 16, Ordering::Relaxed);
    }

    /// Returns whether compaction moves this slot away. Only the compactor asks.
    pub(crate) fn is_evacuated(&self, slot: u16) -> bool {
        u32::from(slot) >= self.tag.load(Ordering::Relaxed) >> 16
    }
}

/// All zspages of a pool.
#[derive(Debug)]
pub(super) struct ZspageTable {
    entries: GrowOnlyTable<Zspage>,
    ids: Mutex<Ids>,
    /// Zspages that handles can name.
    limit: u32,
}

/// Reason why there is no entry for one more zspage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoZspage {
    /// As many as handles can name are in use.
    Full,
    /// The heap refused to let the table grow.
    Refused,
}

#[derive(Debug)]
struct Ids {
    /// Index + 1 of the first free entry, linked through `local`.
    free: u32,
    used: u32,
}

impl ZspageTable {
    pub(super) fn new(limit: u32) -> ZspageTable {
        let limit = limit.min(CAPACITY);
        let ids = Mutex::new(Ids { free: 0, used: 0 });
        ZspageTable { entries: GrowOnlyTable::new(), ids, limit }
    }

    /// Returns how many zspages there can be.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<&Zspage> {
        self.entries.get(id)
    }

    /// Allocates an entry for the caller alone. Calls `grown` with the bytes that the table grew
    /// by, even when it fails.
    pub(super) fn allocate(&self, grown: impl FnOnce(usize)) -> Result<u32, NoZspage> {
        let mut bytes = 0;
        let id = self.allocate_counting(&mut bytes);
        grown(bytes);
        id
    }

    fn allocate_counting(&self, grown: &mut usize) -> Result<u32, NoZspage> {
        loop {
            let mut ids = self.ids.lock();
            if let Some(id) = ids.free.checked_sub(1) {
                ids.free = self.entries.get(id).ok_or(NoZspage::Refused)?.local();
                return Ok(id);
            }
            let id = ids.used;
            if id >= self.limit {
                return Err(NoZspage::Full);
            }
            if self.entries.get(id).is_some() {
                ids.used += 1;
                return Ok(id);
            }
            drop(ids);
            // Grow before taking the entry: if the heap refuses, the next caller can try again.
            *grown += self.entries.ensure(id).ok_or(NoZspage::Refused)?;
        }
    }

    /// Frees an entry that is the caller's alone.
    pub(super) fn release(&self, id: u32) {
        let mut ids = self.ids.lock();
        if let Some(entry) = self.entries.get(id) {
            entry.set_local(ids.free);
            ids.free = id + 1;
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// A table hands out as many ids as its limit, reports that it is full, and hands out again
    /// what was released.
    #[test]
    fn allocate_at_limit_is_full_until_release() {
        let table = ZspageTable::new(100);
        let mut bytes = 0;
        let ids: Vec<_> =
            (0..100).map(|_| table.allocate(|grown| bytes += grown).unwrap()).collect();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        for _ in 0..3 {
            assert_eq!(table.allocate(|grown| assert_eq!(grown, 0)), Err(NoZspage::Full));
        }
        table.release(17);
        assert_eq!((table.allocate(|_| ()), table.allocate(|_| ())), (Ok(17), Err(NoZspage::Full)));
        assert!((1600..=2048).contains(&bytes), "{bytes} bytes for 100 entries of 16");
    }
}
