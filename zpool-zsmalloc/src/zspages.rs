//! The table of zspages that readers look into without a lock: where a zspage is and of which class.
//!
//! ```text
//!   base   where the run of frames begins
//!   tag    | evacuated from this slot on: 16 bits | class: 16 bits |
//!   local  index among the zspages of its class, or link to the next free entry
//! ```
//!
//! An entry is written while no object of its zspage has a handle, or under the lock of its class. A reader comes here with a pin on an
//! object, and pinning it was an Acquire of the publication that came after the entry was written: so Relaxed loads suffice.

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::chunked::Chunked;
use crate::class::ClassIndex;

/// No slot of the zspage is being evacuated.
const KEEP_ALL: u32 = 0xFFFF;

/// One zspage.
#[derive(Debug, Default)]
pub(crate) struct Zspage {
    /// Frames of the run: see `memory` for who may do what with them.
    pub(crate) base: AtomicPtr<u8>,
    tag: AtomicU32,
    local: AtomicU32,
}
const _: () =
    assert!(size_of::<Zspage>() == 16 || cfg!(zpool_loom), "counts into the density of every pool");

impl Zspage {
    /// The class. The same from creation to removal.
    #[inline]
    pub(crate) fn class(&self) -> ClassIndex {
        ClassIndex(self.tag.load(Ordering::Relaxed) as u16)
    }

    /// Has the processor fetch the bytes of a slot that is going to be written.
    #[inline]
    pub(crate) fn fetch_ahead(&self, offset: usize, len: usize) {
        zpool_core::internal::prefetch_far(
            self.base.load(Ordering::Relaxed).wrapping_add(offset),
            len,
        );
    }

    /// The index among the zspages of its class. Under the lock of that class.
    pub(crate) fn local(&self) -> u32 {
        self.local.load(Ordering::Relaxed)
    }

    /// Under the lock of its class.
    pub(crate) fn set_local(&self, local: u32) {
        self.local.store(local, Ordering::Relaxed);
    }

    /// Begins the life of a zspage that is the caller's alone.
    pub(crate) fn begin(&self, class: ClassIndex) {
        self.tag.store(u32::from(class.0) | KEEP_ALL << 16, Ordering::Relaxed);
    }

    /// Marks the slots from `first` on as those that compaction moves away; `None` ends that. Only by the compactor.
    pub(crate) fn evacuate_from(&self, first: Option<u16>) {
        let first = first.map_or(KEEP_ALL, u32::from);
        self.tag.store(u32::from(self.class().0) | first << 16, Ordering::Relaxed);
    }

    /// Does compaction move this slot away? Asked by the compactor.
    pub(crate) fn is_evacuated(&self, object: u16) -> bool {
        u32::from(object) >= self.tag.load(Ordering::Relaxed) >> 16
    }
}

/// All zspages of a pool.
#[derive(Debug)]
pub(crate) struct ZspageTable {
    entries: Chunked<Zspage>,
    ids: Mutex<Ids>,
    /// Zspages that handles can name.
    limit: u32,
}

/// Why there is no entry for one more zspage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoZspage {
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
    pub(crate) fn new(limit: u32) -> ZspageTable {
        let limit = limit.min(crate::chunked::CAPACITY);
        ZspageTable { entries: Chunked::new(), ids: Mutex::new(Ids { free: 0, used: 0 }), limit }
    }

    /// Zspages that there can be.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&Zspage> {
        self.entries.get(id)
    }

    /// Takes a free entry for the caller alone. `grown` is told the bytes that the table grew by.
    pub(crate) fn take(&self, grown: impl FnOnce(usize)) -> Result<u32, NoZspage> {
        let mut bytes = 0;
        let id = self.take_counting(&mut bytes);
        grown(bytes);
        id
    }

    fn take_counting(&self, grown: &mut usize) -> Result<u32, NoZspage> {
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
            // Before the entry is taken: if the heap refuses, it is there for the next one to try.
            *grown += self.entries.ensure(id).ok_or(NoZspage::Refused)?;
        }
    }

    /// Takes back an entry that is the caller's alone.
    pub(crate) fn put(&self, id: u32) {
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

    /// A table gives out as many ids as it has, says that it is full, and gives out again what came
    /// back.
    #[test]
    fn take_at_limit_is_full_until_put() {
        let table = ZspageTable::new(100);
        let mut bytes = 0;
        let ids: Vec<_> = (0..100).map(|_| table.take(|grown| bytes += grown).unwrap()).collect();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        for _ in 0..3 {
            assert_eq!(table.take(|grown| assert_eq!(grown, 0)), Err(NoZspage::Full));
        }
        table.put(17);
        assert_eq!((table.take(|_| ()), table.take(|_| ())), (Ok(17), Err(NoZspage::Full)));
        assert!((1600..=2048).contains(&bytes), "{bytes} bytes for 100 entries of 16");
    }
}
