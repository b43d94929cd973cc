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

use zpool_core::internal::current_cpu;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::{Handle, PoolError, might_block};

use crate::class::ClassIndex;
use crate::class_state::{Claimed, ClassState, Need, Room};
use crate::inner::{Class, Inner};
use crate::memory::{Charged, OwnedRun};
use crate::slot::{Location, Slot};
use crate::zspages::NoZspage;

/// Frames from which on they are made resident by one call rather than by a page fault each. Measured: inserting objects of 14 000, 30 000 and 60 000 bytes into a new pool
/// takes 0.85, 0.7 and 0.67 of the time; for two frames there is nothing in it.
const BULK: u16 = 4;

impl Inner {
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
        self.tidy_before_insert();
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
        let (class, claimed, index, slot) = match self.take_spare(cpu, home, len) {
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
        let generation = slot.publish(self.layout.pack(at, geometry.slot_bytes - len));
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
    fn take_spare(&self, cpu: usize, class: ClassIndex, len: u32) -> Option<(Claimed, u32, &Slot)> {
        let spare = self.spares.take(cpu, class)?;
        let index = spare.index;
        let slot = self.handles.get(index)?;
        let (at, slack) = self.layout.unpack(slot.parked());
        let size = self.table.get(class).slot_bytes;
        let offset = usize::from(at.object) * size as usize;
        let last = |len: u32| offset + len as usize - 1;
        if len <= size - slack || last(len) ^ last(size - slack) < self.table.config().frame_size {
            self.spares.note_length(&spare, size - slack, len);
            return Some((Claimed { zspage: at.zspage, object: at.object, fresh: 0 }, index, slot));
        }
        self.release_parked(index, slot);
        None
    }

    /// Claims a slot for an object of `len` bytes, and one for its handle.
    #[inline(never)]
    fn claim_with_handle(
        &self,
        cpu: usize,
        home: ClassIndex,
        len: u32,
    ) -> Result<(ClassIndex, Claimed, u32, &Slot), PoolError> {
        let grown = |bytes| self.counters.metadata_changed(0, bytes);
        self.spares.prepare(grown);
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
    fn claim(&self, index: ClassIndex, len: u32) -> Result<(ClassIndex, Claimed), PoolError> {
        let class = self.class_or_new(index).ok_or(PoolError::OutOfMemory)?;
        let mut supply = Supply {
            pool: self,
            class,
            frames: Charged::none(&*self.source),
            zspage: None,
            room: Room::default(),
        };
        let (mut borrow, mut spares) = (true, true);
        loop {
            let need = match self.locked(class, |state| supply.claim(state, len)) {
                Ok(claimed) => return Ok((index, claimed)),
                Err(need) => need,
            };
            if core::mem::take(&mut borrow)
                && let Some(borrowed) = self.borrow_slot(class, len)
            {
                return Ok(borrowed);
            }
            // Other processors' spares may do instead of a new frame.
            if core::mem::take(&mut spares) {
                self.take_back_spares(Some(index));
                continue;
            }
            supply.fetch(need)?;
        }
    }

    /// Claims an open slot of a class that is a little larger, so that a class with few objects does not keep a frame of its own half empty. What this
    /// wastes is the class's debt, and the debt is limited.
    fn borrow_slot(&self, home: &Class, len: u32) -> Option<(ClassIndex, Claimed)> {
        let size = self.table.get(home.index).slot_bytes;
        let limit = self.table.config().frame_size / 16;
        // Relaxed, here and below: an account; a race may overdraw it by a slot.
        let left = limit.saturating_sub(home.debt.load(Ordering::Relaxed) as usize);
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
                home.debt.fetch_add(waste, Ordering::Relaxed);
                return Some((class.index, claimed));
            }
        }
        None
    }

    /// Gives back a slot that was claimed and never published.
    pub(crate) fn unclaim(&self, class: ClassIndex, claimed: Claimed, len: u32) {
        self.settle_debt(class, len);
        self.release_slot((claimed.zspage, claimed.object), len);
    }
}

/// Gives back a claimed slot and that of its handle when it is dropped.
struct Unclaim<'a> {
    pool: &'a Inner,
    class: ClassIndex,
    claimed: Claimed,
    len: u32,
    index: u32,
    slot: &'a Slot,
}

impl Drop for Unclaim<'_> {
    fn drop(&mut self) {
        self.pool.unclaim(self.class, self.claimed, self.len);
        self.pool.handles.put(current_cpu(), self.index, self.slot);
    }
}

/// What the page source has given for one insert, on its way into the class. What is left goes back when dropped, whatever the source does.
struct Supply<'a> {
    pool: &'a Inner,
    class: &'a Class,
    /// Charged, not yet used.
    frames: Charged<'a>,
    /// An entry of the table and its run.
    zspage: Option<(u32, OwnedRun)>,
    /// Before the claim new room, after it the old.
    room: Room,
}

impl Supply<'_> {
    /// Claims a slot of the class, or says what is lacking. Under the class's lock.
    fn claim(&mut self, state: &mut ClassState, len: u32) -> Result<Claimed, Need> {
        if let Some(claimed) = state.claim_open(len) {
            return Ok(claimed);
        }
        let none = Need { frames: 0, zspage: false, room: 0 };
        match state.claim_growing(len, self.frames.credit()) {
            Ok(Some(claimed)) => return Ok(claimed),
            Ok(None) => {}
            Err(frames) => return Err(Need { frames, ..none }),
        }
        let frames = state.shape.frames_of(0, len).count_ones() as usize;
        self.enlarge(state);
        let need = Need { frames, zspage: self.zspage.is_none(), room: state.room_needed() };
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
    fn fetch(&mut self, need: Need) -> Result<(), PoolError> {
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
            let shape =
                crate::shape::Shape::of(&self.pool.table, self.pool.table.get(self.class.index));
            self.room = Room::with_capacity(&shape, need.room).ok_or(PoolError::OutOfMemory)?;
        }
        Ok(())
    }
}

impl Drop for Supply<'_> {
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

    use crate::class::{ClassConfig, ClassTable};
    use crate::inner::Inner;
    use crate::zspages::ZspageTable;

    /// At the limit of zspages an insert that needs one more says so, leaves nothing behind, and
    /// succeeds again once one is free. Objects that fit into zspages there are go on.
    #[test]
    fn insert_beyond_the_last_zspage_is_an_error() {
        let source = Arc::new(HeapSource::new(4096));
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        let mut pool = Inner::new(&PoolConfig::new(source.clone(), 4096), table, false);
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
