//! Freeing: one exchange ends the object's life for everybody; whoever made the last step takes slot and handle down.
//!
//! Nothing here blocks, allocates or fails. Memory that becomes empty is left to [`housekeeping`](crate::housekeeping).

use zpool_core::sync::atomic::Ordering;
use zpool_core::{FreeError, Handle, PoolError};

use crate::class::ClassIndex;
use crate::inner::Inner;
use crate::slot::{Content, Freed, Location, Named, Slot};
use crate::spares::Parked;

impl Inner {
    /// See `ZPool::free`.
    pub(crate) fn free(&self, handle: Handle) -> Result<(), FreeError> {
        match self.end(&handle) {
            Ok((index, slot, Freed::Now(content))) => self.take_down(index, slot, content),
            Ok((_, _, Freed::Later)) => {
                // Relaxed: statistics only.
                self.counters.zombies.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(FreeError::new(error, handle)),
        }
        Ok(())
    }

    fn end(&self, handle: &Handle) -> Result<(u32, &Slot, Freed), PoolError> {
        let Named { slot, index, generation } = self.named(handle)?;
        Ok((index, slot, slot.free(generation, index, &self.readers)?))
    }

    /// Takes down an object that was freed while it was pinned: for whoever took back the last pin.
    #[cold]
    pub(crate) fn bury(&self, index: u32, content: Content) {
        // Relaxed: statistics only.
        self.counters.zombies.fetch_sub(1, Ordering::Relaxed);
        if let Some(slot) = self.handles.get(index) {
            self.take_down(index, slot, content);
        }
    }

    /// Gives back the slot of an object that has no name and no reader any more, and its handle's slot: as a spare, or to the class.
    fn take_down(&self, index: u32, slot: &Slot, content: Content) {
        let (at, slack) = self.layout.unpack(content);
        let zspage = self.zspages.get(at.zspage).expect("an object's zspage exists");
        let class = zspage.class();
        let len = self.table.get(class).slot_bytes - slack;
        self.settle_debt(class, len);
        self.wipe_if_asked(at, len);
        slot.set_parked(content);
        match self.spares.park(class, index) {
            Parked::No => {
                if self.release_parked(index, slot) {
                    self.kick_if_worthwhile();
                }
            }
            Parked::ForLater => {}
            Parked::TooMany => self.kick(),
            Parked::ForSoon => {
                let offset = usize::from(at.object) * self.table.get(class).slot_bytes as usize;
                zspage.fetch_ahead(offset, len as usize);
            }
        }
    }

    /// Overwrites what was an object of `len` bytes, if the pool is to do that. The slot at `at` is claimed and the caller's: no handle names it, and nothing pins
    /// what was there.
    #[inline]
    pub(crate) fn wipe_if_asked(&self, at: Location, len: u32) {
        if !self.wipe {
            return;
        }
        let zspage = self.zspages.get(at.zspage).expect("a claimed slot's zspage exists");
        let class = self.table.get(zspage.class());
        let run_len = usize::from(class.frames) * self.table.config().frame_size;
        let offset = usize::from(at.object) * class.slot_bytes as usize;
        // SAFETY: `wipe` (1): promised by the callers, which have taken the object down, or moved it; (2): as computed from its class.
        unsafe { zspage.wipe(run_len, offset, len as usize) };
    }

    /// Takes back the spares of a class, or of all.
    pub(crate) fn take_back_spares(&self, class: Option<ClassIndex>) {
        for index in self.spares.drain(class) {
            if let Some(slot) = self.handles.get(index) {
                self.release_parked(index, slot);
            }
        }
    }

    /// Gives back a parked slot, which the caller owns, with the slot of its handle. Says whether this is a moment to look at what could be given back.
    pub(crate) fn release_parked(&self, index: u32, slot: &Slot) -> bool {
        let (at, _) = self.layout.unpack(slot.parked());
        let zspage = self.zspages.get(at.zspage).expect("a parked slot's zspage exists");
        let freed = self.release_slot(zspage.class(), at.zspage, at.object);
        self.handles.put(index, slot);
        freed
    }

    /// Clears a claimed slot. Says whether this is a moment to look at what could be given back.
    pub(crate) fn release_slot(&self, class: ClassIndex, zspage: u32, object: u16) -> bool {
        let entry = self.zspages.get(zspage).expect("a claimed slot's zspage exists");
        self.locked(self.class(class), |state| {
            // Only now: under the lock nobody moves the zspage among its class's members.
            state.release(entry.local(), object);
            self.note_release(state)
        })
    }

    /// An object of `len` bytes leaves a slot of `class`: if that is larger than its own, the own class's debt shrinks.
    pub(crate) fn settle_debt(&self, class: ClassIndex, len: u32) {
        let home = self.table.class_of(len as usize);
        if home != class {
            let waste = self.table.get(class).slot_bytes - self.table.get(home).slot_bytes;
            // Relaxed: an account.
            self.class(home).debt.fetch_sub(waste, Ordering::Relaxed);
        }
    }
}
