//! Inserting: a slot is claimed under one class lock, the bytes are written under none, then the handle is published.
//!
//! ```text
//!   spare of this processor? ───────────────────────────────────► claimed, without a lock
//!       │ no
//!   lock class ── open slot? ──────────────────────────────────► claimed
//!       │ no
//!   unlock ── open slot in a class a little larger? ───────────► claimed there
//!       │ no
//!   page source: charge frames, reserve a zspage ── lock class ─► claimed, what is left over goes back
//! ```
//!
//! The page source is never called under a lock: what it gives is carried into the lock as a [`Supply`].

use zpool_core::sync::atomic::Ordering;
use zpool_core::{Handle, PoolError, current_cpu, might_block};

use crate::class::state::{ClaimedSlot, ClassState, MemberStorage, Shortage};
use crate::geometry::size_class::ClassIndex;
use crate::handle::entry::{HandleEntry, Location};
use crate::pool::core::{Class, PoolCore};
use crate::zspage::memory::{ChargedFrames, OwnedRun};
use crate::zspage::table::NoZspage;

/// Frames from which on they are made resident by one call rather than by a page fault each. Measured: inserting objects of 14 000, 30 000 and 60 000 bytes into a new pool
/// takes 0.85, 0.7 and 0.67 of the time; for two frames there is nothing in it.
const BULK: u16 = 4;

impl PoolCore {
    /// See `ZPool::insert`.
    #[inline]
    pub(crate) fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        let max = self.table.config().max_object_len;
        match object.len() {
            0 => return Err(PoolError::EmptyObject),
            len if len > max => return Err(PoolError::TooLarge { len, max }),
            _ => {}
        }
        might_block("Zsmalloc::insert");
        self.reclaim_before_insert();
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
        let home = self.table.class_of(object.len());
        // Asked once, for the spare and for the list of the handle's slot.
        let cpu = current_cpu();
        let (class, claimed, index, slot) = match self.pop_cached_slot(cpu, home, len) {
            Some((claimed, index, slot)) => (home, claimed, index, slot),
            None => self.claim_with_handle(cpu, home, len)?,
        };
        let geometry = self.table.get(class);
        let run_len = usize::from(geometry.frames) * self.table.config().frame_size;
        let offset = usize::from(claimed.object) * geometry.slot_bytes as usize;
        let zspage = self.zspages.get(claimed.zspage).expect("a claimed slot's zspage exists");
        if claimed.fresh >= BULK {
            self.populate(Unclaim { pool: self, class, claimed, len, index, slot });
        }
        // SAFETY: `write` (1): claimed above, published below; (2): as computed from its class.
        unsafe { zspage.write(run_len, offset, object) };
        let at = Location { zspage: claimed.zspage, object: claimed.object };
        let generation = slot.set_live(self.layout.pack(at, geometry.slot_bytes - len));
        Ok(self.mint.mint(index, generation))
    }

    /// Makes the frames of a claimed slot resident at once. The source may panic: then the slot is
    /// given back.
    #[cold]
    fn populate(&self, unclaim: Unclaim<'_>) {
        let &Unclaim { class, claimed, len, .. } = &unclaim;
        let (geometry, frame) = (self.table.get(class), self.table.config().frame_size);
        let offset = usize::from(claimed.object) * geometry.slot_bytes as usize;
        let frames = offset / frame..(offset + len as usize).div_ceil(frame);
        let zspage = self.zspages.get(claimed.zspage).expect("a claimed slot's zspage exists");
        // SAFETY: `populate` (1): claimed, as `unclaim` says; (2): as computed from its class.
        unsafe { zspage.populate(usize::from(geometry.frames) * frame, frames, &self.source) };
        core::mem::forget(unclaim);
    }

    /// Takes a spare slot of a class on this processor, with its handle's slot, if the frames that an object of `len` bytes needs are resident there: those of the
    /// object before are.
    #[inline]
    fn pop_cached_slot(
        &self,
        cpu: usize,
        class: ClassIndex,
        len: u32,
    ) -> Option<(ClaimedSlot, u32, &HandleEntry)> {
        let spare = self.magazines.pop(cpu, class)?;
        let index = spare.index;
        let slot = self.handles.get(index)?;
        let (at, slack) = self.layout.unpack(slot.cached());
        let size = self.table.get(class).slot_bytes;
        let offset = usize::from(at.object) * size as usize;
        let last = |len: u32| offset + len as usize - 1;
        if len <= size - slack || last(len) ^ last(size - slack) < self.table.config().frame_size {
            self.magazines.note_length(&spare, size - slack, len);
            return Some((
                ClaimedSlot { zspage: at.zspage, object: at.object, fresh: 0 },
                index,
                slot,
            ));
        }
        self.release_cached(index, slot);
        None
    }

    /// Claims a slot for an object of `len` bytes, and one for its handle.
    #[inline(never)]
    fn claim_with_handle(
        &self,
        cpu: usize,
        home: ClassIndex,
        len: u32,
    ) -> Result<(ClassIndex, ClaimedSlot, u32, &HandleEntry), PoolError> {
        let grown = |bytes| self.counters.metadata_changed(0, bytes);
        self.magazines.ensure_allocated(grown);
        let (class, claimed) = self.claim(home, len)?;
        match self.handles.take(cpu, grown) {
            Some((index, slot)) => Ok((class, claimed, index, slot)),
            None => {
                self.unclaim(class, claimed, len);
                Err(PoolError::OutOfMemory)
            }
        }
    }

    /// Claims a slot for an object of `len` bytes: in its own class, or in a larger one that has an open slot.
    fn claim(&self, index: ClassIndex, len: u32) -> Result<(ClassIndex, ClaimedSlot), PoolError> {
        let class = self.class_or_new(index).ok_or(PoolError::OutOfMemory)?;
        let mut supply = GrowthSupply {
            pool: self,
            class,
            frames: ChargedFrames::none(&*self.source),
            zspage: None,
            room: MemberStorage::default(),
        };
        let (mut borrow, mut spares) = (true, true);
        loop {
            let need = match self.locked(class, |state| supply.claim(state, len)) {
                Ok(claimed) => return Ok((index, claimed)),
                Err(need) => need,
            };
            if core::mem::take(&mut borrow)
                && let Some(borrowed) = self.claim_in_larger_class(class, len)
            {
                return Ok(borrowed);
            }
            // Other processors' spares may do instead of a new frame.
            if core::mem::take(&mut spares) {
                self.drain_magazines(Some(index));
                continue;
            }
            supply.fetch(need)?;
        }
    }

    /// Claims an open slot of a class that is a little larger, so that a class with few objects does not keep a frame of its own half empty. What this
    /// wastes is the class's debt, and the debt is limited.
    fn claim_in_larger_class(&self, home: &Class, len: u32) -> Option<(ClassIndex, ClaimedSlot)> {
        let size = self.table.get(home.index).slot_bytes;
        let limit = self.table.config().frame_size / 16;
        // Relaxed, here and below: an account; a race may overdraw it by a slot.
        let left = limit.saturating_sub(home.overflow_waste.load(Ordering::Relaxed) as usize);
        let within = self.table.reach().min(left) as u32;
        for next in home.index.0 + 1..self.table.classes().len() as u16 {
            let waste = self.table.get(ClassIndex(next)).slot_bytes - size;
            if waste > within {
                break;
            }
            let Some(class) = self.existing_class(ClassIndex(next)) else { continue };
            if class.open_hint() == 0 {
                continue;
            }
            if let Some(claimed) = self.locked(class, |state| state.claim_open(len)) {
                home.overflow_waste.fetch_add(waste, Ordering::Relaxed);
                return Some((class.index, claimed));
            }
        }
        None
    }

    /// Gives back a slot that was claimed and never published.
    pub(crate) fn unclaim(&self, class: ClassIndex, claimed: ClaimedSlot, len: u32) {
        self.settle_waste(class, len);
        self.release_slot((claimed.zspage, claimed.object), len);
    }
}

/// Gives back a claimed slot and that of its handle when it is dropped.
struct Unclaim<'a> {
    pool: &'a PoolCore,
    class: ClassIndex,
    claimed: ClaimedSlot,
    len: u32,
    index: u32,
    slot: &'a HandleEntry,
}

impl Drop for Unclaim<'_> {
    fn drop(&mut self) {
        self.pool.unclaim(self.class, self.claimed, self.len);
        self.pool.handles.put(current_cpu(), self.index, self.slot);
    }
}

/// What the page source has given for one insert, on its way into the class. What is left goes back when dropped, whatever the source does.
struct GrowthSupply<'a> {
    pool: &'a PoolCore,
    class: &'a Class,
    /// Charged, not yet used.
    frames: ChargedFrames<'a>,
    /// An entry of the table and its run.
    zspage: Option<(u32, OwnedRun)>,
    /// Before the claim new room, after it the old.
    room: MemberStorage,
}

impl GrowthSupply<'_> {
    /// Claims a slot of the class, or says what is lacking. Under the class's lock.
    fn claim(&mut self, state: &mut ClassState, len: u32) -> Result<ClaimedSlot, Shortage> {
        if let Some(claimed) = state.claim_open(len) {
            return Ok(claimed);
        }
        let none = Shortage { frames: 0, zspage: false, room: 0 };
        match state.claim_growing(len, self.frames.credit()) {
            Ok(Some(claimed)) => return Ok(claimed),
            Ok(None) => {}
            Err(frames) => return Err(Shortage { frames, ..none }),
        }
        let frames = state.slot_map.frames_of(0, len).count_ones() as usize;
        self.enlarge(state);
        let need = Shortage { frames, zspage: self.zspage.is_none(), room: state.storage_needed() };
        if *self.frames.credit() < frames || need.room > 0 {
            return Err(need);
        }
        let Some((id, run)) = self.zspage.take() else { return Err(need) };
        let entry = self.pool.zspages.get(id).expect("taken from the table");
        entry.begin(self.class.index);
        entry.install(run);
        state.adopt(id, &self.pool.zspages);
        match state.claim_growing(len, self.frames.credit()) {
            Ok(Some(claimed)) => Ok(claimed),
            // An adopted zspage has a free slot, and the frames for it are there.
            _ => Err(need),
        }
    }

    fn enlarge(&mut self, state: &mut ClassState) {
        let offered = self.room.bytes();
        if offered > 0 {
            self.room = state.enlarge(core::mem::take(&mut self.room));
            self.pool.counters.metadata_changed(self.room.bytes(), offered);
        }
    }

    /// Gets what is lacking. Under no lock.
    fn fetch(&mut self, need: Shortage) -> Result<(), PoolError> {
        self.frames.fill_up(need.frames)?;
        if need.zspage {
            // First the run: the source may panic, and an entry has no drop that would give it back.
            let frames = usize::from(self.pool.table.get(self.class.index).frames);
            let run = OwnedRun::reserve(&self.pool.source, frames)?;
            let grown = |bytes| self.pool.counters.metadata_changed(0, bytes);
            let id = self.pool.zspages.take(grown).map_err(|none| match none {
                NoZspage::Full => PoolError::TooManyPages,
                NoZspage::Refused => PoolError::OutOfMemory,
            })?;
            self.zspage = Some((id, run));
        }
        if need.room > 0 {
            let slot_map = crate::geometry::slot_map::SlotMap::of(
                &self.pool.table,
                self.pool.table.get(self.class.index),
            );
            self.room =
                MemberStorage::with_capacity(&slot_map, need.room).ok_or(PoolError::OutOfMemory)?;
        }
        Ok(())
    }
}

impl Drop for GrowthSupply<'_> {
    fn drop(&mut self) {
        if let Some((id, run)) = self.zspage.take() {
            self.pool.zspages.put(id);
            drop(run);
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_core::page::{HeapSource, PageSource};
    use zpool_core::{PoolConfig, PoolError};

    use crate::geometry::size_class::{ClassConfig, ClassTable};
    use crate::pool::core::PoolCore;
    use crate::zspage::table::ZspageTable;

    /// At the limit of zspages an insert that needs one more says so, leaves nothing behind, and
    /// succeeds again once one is free. Objects that fit into zspages there are go on.
    #[test]
    fn insert_beyond_the_last_zspage_is_an_error() {
        let source = Arc::new(HeapSource::new(4096));
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        let mut pool = PoolCore::new(&PoolConfig::new(source.clone(), 4096), table, false);
        pool.zspages = ZspageTable::new(3);
        let small = pool.insert(&[1; 100]).unwrap();
        let pages = [pool.insert(&[2; 4096]).unwrap(), pool.insert(&[3; 4096]).unwrap()];
        let charged = source.charged_frames();
        for _ in 0..3 {
            assert_eq!(pool.insert(&[4; 4096]).err(), Some(PoolError::TooManyPages));
        }
        assert_eq!(source.charged_frames(), charged);
        pool.free(pool.insert(&[5; 100]).unwrap()).unwrap();
        let [first, second] = pages;
        pool.free(first).unwrap();
        pool.trim();
        let again = pool.insert(&[6; 4096]).unwrap();
        pool.validate().unwrap();
        for handle in [small, second, again] {
            pool.free(handle).unwrap();
        }
        pool.trim();
        assert_eq!(source.charged_frames(), 0);
    }
}
