//! Freeing: one exchange ends the object's life for all readers to come. The thread that takes the
//! last step releases slot and entry.
//!
//! Nothing here blocks, allocates or fails. Memory that becomes empty is left to background work:
//! see `reclaim::background`.

use zpool_core::internal::current_cpu;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::{FreeError, Handle, PoolError};

use super::core::PoolCore;
use crate::class::magazines::PushOutcome;
use crate::handle::Location;
use crate::handle::entry::{EntryRef, Freed, HandleEntry, Killed, PackedLocation, Settled};
use crate::zspage::{SlotRef, Zspage};

impl PoolCore {
    /// See `ZPool::free`.
    #[inline]
    pub(crate) fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let at = match self.handles.open(&handle) {
            Ok(at) => at,
            Err(error) => return Err(FreeError::new(error, handle)),
        };
        let location = match self.kill(at) {
            Ok(location) => location,
            Err(error) => return Err(FreeError::new(error, handle)),
        };
        let EntryRef { entry, index, .. } = at;
        self.handles.convert_hazards(index, entry);
        if self.settle(entry, location) {
            self.finish_free(index, entry, location);
        }
        Ok(())
    }

    /// Ends an object's life: see [`HandleEntry::kill`]. If readers have it pinned, it is not
    /// counted as pinned until [`settle`](Self::settle).
    #[inline]
    pub(super) fn kill(&self, entry: EntryRef<'_>) -> Result<PackedLocation, PoolError> {
        let Killed { location, pinned } = self.handles.kill(entry)?;
        if pinned {
            self.classes.note_pinned(self.class_at(location), -1);
        }
        Ok(location)
    }

    /// Takes the pin of a killed object back: see [`HandleEntry::settle`]. Returns whether the
    /// caller finishes the free. If not, the object is a zombie, or its last holder has finished
    /// it.
    #[inline]
    pub(super) fn settle(&self, entry: &HandleEntry, location: PackedLocation) -> bool {
        entry.is_settled() || self.settle_pinned(entry, location)
    }

    #[cold]
    fn settle_pinned(&self, entry: &HandleEntry, location: PackedLocation) -> bool {
        // Before: after it the object may be gone, and its zspage with it.
        let class = self.class_at(location);
        let Settled { freed, pinned } = entry.settle(location);
        if pinned {
            self.classes.note_pinned(class, 1);
        }
        if freed == Freed::Later {
            // Relaxed: statistics only.
            self.counters.zombies.fetch_add(1, Ordering::Relaxed);
        }
        freed != Freed::Later
    }

    /// Finishes the free of an object that was freed while it was pinned. The caller has taken back
    /// its last pin.
    #[cold]
    pub(crate) fn finish_zombie(&self, index: u32, location: PackedLocation) {
        // Relaxed: statistics only.
        self.counters.zombies.fetch_sub(1, Ordering::Relaxed);
        if let Some(entry) = self.handles.entry(index) {
            self.finish_free(index, entry, location);
        }
    }

    /// Releases the slot of an object that no handle names and no pin holds, and its entry: into a
    /// magazine, or to the class.
    // `inline(always)`, because every free comes here, and the cold copy for zombies must not keep
    // the compiler from inlining.
    #[inline(always)]
    fn finish_free(&self, index: u32, entry: &HandleEntry, location: PackedLocation) {
        let (at, slack) = self.handles.unpack(location);
        let slot = self.zspages.slot(at);
        let (class, len) = (slot.zspage().class(), slot.slot_bytes() - slack);
        self.classes.uncount_waste(class, len);
        self.wipe_if_configured(slot, len);
        entry.set_cached(location);
        let cpu = current_cpu();
        match self.classes.magazines().push(cpu, class, index) {
            PushOutcome::Full => {
                self.release_to_class(cpu, (index, entry), (slot.zspage(), at.slot), len);
            }
            PushOutcome::Hot => slot.prefetch(len as usize),
            PushOutcome::Cold => {}
            PushOutcome::StreakEnded => self.jobs().submit(None),
        }
    }

    /// Releases a slot for which the magazine has no place, and its entry.
    #[inline(never)]
    fn release_to_class(
        &self,
        cpu: usize,
        (index, entry): (u32, &HandleEntry),
        (zspage, slot): (&Zspage, u16),
        len: u32,
    ) {
        let check = self.classes.release_slot(zspage, slot, len);
        self.handles.release(cpu, index, entry);
        if check {
            self.request_background_work_if_due();
        }
    }

    /// Overwrites an object of `len` bytes that is gone, if the pool is configured so. The slot is
    /// claimed and the caller's: no handle names it, and no pin holds what was in it.
    #[inline]
    pub(crate) fn wipe_if_configured(&self, slot: SlotRef<'_>, len: u32) {
        if self.wipe {
            // SAFETY: `wipe` (1): the callers have ended the object's life, or moved it away.
            unsafe { slot.wipe(len as usize) };
        }
    }

    /// Releases a cached slot that the caller owns, and its entry.
    pub(super) fn release_cached(&self, index: u32, entry: &HandleEntry) {
        let (at, slack) = self.handles.unpack(entry.cached());
        let slot = self.zspages.slot(at);
        self.classes.release_slot(slot.zspage(), at.slot, slot.slot_bytes() - slack);
        self.handles.release(current_cpu(), index, entry);
    }

    /// Releases the claimed slot of an object of `len` bytes.
    pub(crate) fn release_slot(&self, at: Location, len: u32) {
        self.classes.release_slot(self.zspages.existing(at.zspage), at.slot, len);
    }
}
