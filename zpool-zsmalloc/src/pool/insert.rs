//! Inserting: a slot is claimed under one class lock, the bytes are written under none, then the
//! handle is made live.
//!
//! ```text
//!   magazine of this CPU? ──────────────────────────────────────► claimed, without a lock
//!       │ empty
//!   lock class ── open slot? ───────────────────────────────────► claimed
//!       │ no
//!   unlock ── open slot in a class a little larger? ────────────► claimed there
//!       │ no
//!   magazines of all CPUs drained ── lock class ── open slot? ──► claimed
//!       │ no
//!   page source: charge frames, reserve a zspage ── lock class ─► claimed; the rest is released
//! ```

use zpool_core::internal::current_cpu;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::{Handle, PoolError};

use super::core::PoolCore;
use super::growth::GrowthSupply;
use crate::class::ClaimedSlot;
use crate::geometry::size_class::ClassIndex;
use crate::handle::Location;
use crate::handle::entry::HandleEntry;

/// From this many new frames on, one call makes them resident, instead of one page fault each. The
/// call costs about as much as a few faults, so for fewer frames it gains nothing.
const BULK: u16 = 4;

/// A claimed slot and the entry for its handle.
#[derive(Clone, Copy)]
struct Claim<'a> {
    class: ClassIndex,
    at: Location,
    /// Frames that have become resident with the claim.
    new_frames: u16,
    len: u32,
    index: u32,
    entry: &'a HandleEntry,
}

impl PoolCore {
    /// Checks the length of an object.
    #[inline]
    pub(crate) fn check_len(&self, len: usize) -> Result<(), PoolError> {
        let max = self.table().config().max_object_len;
        match len {
            0 => Err(PoolError::EmptyObject),
            len if len > max => Err(PoolError::TooLarge { len, max }),
            _ => Ok(()),
        }
    }

    /// Inserts an object whose length was [checked](Self::check_len).
    #[inline]
    pub(crate) fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        self.store(object).map_err(|error| self.count_failed(error))
    }

    #[cold]
    fn count_failed(&self, error: PoolError) -> PoolError {
        // Relaxed: statistics only.
        self.counters.failed_inserts.fetch_add(1, Ordering::Relaxed);
        error
    }

    #[inline]
    fn store(&self, object: &[u8]) -> Result<Handle, PoolError> {
        let len = object.len() as u32;
        let home = self.table().class_of(object.len());
        // Asked once, for the magazine and for the free list of the entry.
        let cpu = current_cpu();
        let claim = match self.pop_cached_slot(cpu, home, len) {
            Some(claim) => claim,
            None => self.claim_with_entry(cpu, home, len)?,
        };
        let zspage = self.zspages.existing(claim.at.zspage);
        let slot = self.zspages.slot_in_class(zspage, claim.at.slot, claim.class);
        if claim.new_frames >= BULK {
            self.populate(claim);
        }
        // SAFETY: `write` (1): claimed above, and made live below.
        unsafe { slot.write(object) };
        let location = self.handles.pack(claim.at, slot.slot_bytes() - len);
        let generation = claim.entry.set_live(location);
        Ok(self.handles.mint(claim.index, generation))
    }

    /// Makes the frames of a claimed slot resident with one call. The source may panic: then the
    /// claim is released.
    #[cold]
    fn populate(&self, claim: Claim<'_>) {
        let unclaim = UnclaimOnDrop { pool: self, claim };
        let slot = self.zspages.slot(claim.at);
        // SAFETY: `populate` (1): claimed, as `claim` says.
        unsafe { slot.populate(claim.len as usize, self.zspages.source()) };
        core::mem::forget(unclaim);
    }

    /// Takes a cached slot of a class on this CPU, with its entry, if the frames that an object of
    /// `len` bytes needs are resident. Those of the object before are.
    #[inline]
    fn pop_cached_slot(&self, cpu: usize, class: ClassIndex, len: u32) -> Option<Claim<'_>> {
        let magazines = self.classes.magazines();
        let cached = magazines.pop(cpu, class)?;
        let index = cached.index;
        let entry = self.handles.entry(index)?;
        let (at, slack) = self.handles.unpack(entry.cached());
        let size = self.table().get(class).slot_bytes;
        let (offset, before) = (usize::from(at.slot) * size as usize, size - slack);
        let last = |len: u32| offset + len as usize - 1;
        if len <= before || last(len) ^ last(before) < self.table().config().frame_size {
            magazines.note_length(&cached, before, len);
            return Some(Claim { class, at, new_frames: 0, len, index, entry });
        }
        self.release_cached(index, entry);
        None
    }

    /// Claims a slot for an object of `len` bytes, and an entry for its handle.
    #[inline(never)]
    fn claim_with_entry(
        &self,
        cpu: usize,
        home: ClassIndex,
        len: u32,
    ) -> Result<Claim<'_>, PoolError> {
        self.classes.ensure_magazines();
        let (class, claimed) = self.claim(home, len)?;
        let at = Location { zspage: claimed.zspage, slot: claimed.slot };
        match self.handles.allocate(cpu) {
            Some((index, entry)) => {
                let new_frames = claimed.new_frames;
                Ok(Claim { class, at, new_frames, len, index, entry })
            }
            None => {
                self.unclaim(class, at, len);
                Err(PoolError::OutOfMemory)
            }
        }
    }

    /// Claims a slot for an object of `len` bytes: in its own class, or in a larger one that has an
    /// open slot.
    fn claim(&self, home: ClassIndex, len: u32) -> Result<(ClassIndex, ClaimedSlot), PoolError> {
        let class = self.classes.get_or_create(home).ok_or(PoolError::OutOfMemory)?;
        let mut supply = GrowthSupply::new(&self.zspages, &self.classes, class);
        let (mut overflow, mut drain) = (true, true);
        loop {
            let shortage = match supply.claim(len) {
                Ok(claimed) => return Ok((home, claimed)),
                Err(shortage) => shortage,
            };
            if core::mem::take(&mut overflow)
                && let Some(claimed) = self.classes.claim_in_larger_class(class, len)
            {
                return Ok(claimed);
            }
            // Cached slots of other CPUs may save a new frame.
            if core::mem::take(&mut drain) {
                self.drain_magazines(Some(home));
                continue;
            }
            supply.fetch(shortage)?;
        }
    }

    /// Releases a slot that was claimed and never made live.
    fn unclaim(&self, class: ClassIndex, at: Location, len: u32) {
        self.classes.uncount_waste(class, len);
        self.release_slot(at, len);
    }
}

/// Releases a claim if the page source panics before the object is in place.
struct UnclaimOnDrop<'a> {
    pool: &'a PoolCore,
    claim: Claim<'a>,
}

impl Drop for UnclaimOnDrop<'_> {
    fn drop(&mut self) {
        let Claim { class, at, len, index, entry, .. } = self.claim;
        self.pool.unclaim(class, at, len);
        self.pool.handles.release(current_cpu(), index, entry);
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_core::PoolConfig;
    use zpool_core::page::{HeapSource, PageSource};

    use super::*;
    use crate::class::magazines::PushOutcome;
    use crate::geometry::size_class::{ClassConfig, ClassTable};

    /// Before a class grows, it takes back the slots that other CPUs have cached.
    #[test]
    fn insert_takes_back_slots_of_other_cpus() {
        let source = Arc::new(HeapSource::new(4096));
        let config = PoolConfig::new(source.clone(), 4096);
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        let pool = PoolCore::new(&config, table, 0);
        let class = pool.table().class_of(4096);
        // A frame each.
        let handles: Vec<_> = (0..8).map(|i| pool.insert(&[i; 4096]).unwrap()).collect();
        assert_eq!(source.charged_frames(), 8);
        handles.into_iter().take(3).for_each(|handle| pool.free(handle).unwrap());
        let magazines = pool.classes().magazines();
        let cached: Vec<_> = magazines.drain(Some(class)).collect();
        assert_eq!(cached.len(), 3);
        for index in cached {
            // If this thread moves to that CPU, it finds the slots there, which is also correct.
            let outcome = magazines.push(current_cpu() + 1, class, index);
            assert_eq!(outcome, PushOutcome::Hot);
        }
        for i in 0..3 {
            let _leaked = pool.insert(&[i; 4096]).unwrap();
            assert_eq!(source.charged_frames(), 8, "insert {i}");
        }
        let _leaked = pool.insert(&[4; 4096]).unwrap();
        assert_eq!(source.charged_frames(), 9, "now it has to grow");
        pool.validate().unwrap();
    }
}
