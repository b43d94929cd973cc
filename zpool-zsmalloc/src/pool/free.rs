//! Freeing: one exchange ends the object's life for everybody; whoever made the last step takes slot and handle down.
//!
//! Nothing here blocks, allocates or fails. Memory that becomes empty is left to [`housekeeping`](crate::housekeeping).

use zpool_core::sync::atomic::Ordering;
use zpool_core::{FreeError, Handle, PoolError, current_cpu};

use crate::class::magazines::PushOutcome;
use crate::geometry::size_class::ClassIndex;
use crate::handle::entry::{
    EntryRef, Freed, HandleEntry, Killed, Location, PackedLocation, Settled,
};
use crate::pool::core::PoolCore;
use crate::zspage::table::Zspage;

impl PoolCore {
    /// See `ZPool::free`.
    #[inline]
    pub(crate) fn free(&self, handle: Handle) -> Result<(), FreeError> {
        match self.kill(&handle) {
            Ok((index, slot, content)) => {
                self.hazards.convert_to_pins(index, slot);
                if self.settle(slot, content) {
                    self.finish_free(index, slot, content);
                }
                Ok(())
            }
            Err(error) => Err(FreeError::new(error, handle)),
        }
    }

    #[inline]
    fn kill(&self, handle: &Handle) -> Result<(u32, &HandleEntry, PackedLocation), PoolError> {
        let EntryRef { slot, index, generation } = self.named(handle)?;
        Ok((index, slot, self.kill_slot(slot, generation)?))
    }

    /// Ends an object's life: see [`Slot::kill`]. Its readers' account is opened again by
    /// [`settle`](Self::settle).
    #[inline]
    pub(crate) fn kill_slot(
        &self,
        slot: &HandleEntry,
        generation: u16,
    ) -> Result<PackedLocation, PoolError> {
        let Killed { content, pinned } = slot.kill(generation)?;
        if pinned {
            self.note_pinned(self.class_at(content), 1_u32.wrapping_neg());
        }
        Ok(content)
    }

    /// Takes the pin of a killed object back: see [`Slot::settle`]. True: it is the caller's, to
    /// take down. Else it is a zombie now, or its last holder has taken it down.
    #[inline]
    pub(crate) fn settle(&self, slot: &HandleEntry, content: PackedLocation) -> bool {
        slot.is_settled() || self.settle_pinned(slot, content)
    }

    #[cold]
    fn settle_pinned(&self, slot: &HandleEntry, content: PackedLocation) -> bool {
        // Before: after it the object may be gone, and its zspage with it.
        let class = self.class_at(content);
        let Settled { freed, pinned } = slot.settle(content);
        if pinned {
            self.note_pinned(class, 1);
        }
        if freed == Freed::Later {
            // Relaxed: statistics only.
            self.counters.zombies.fetch_add(1, Ordering::Relaxed);
        }
        freed != Freed::Later
    }

    /// Takes down an object that was freed while it was pinned: for whoever took back the last pin.
    #[cold]
    pub(crate) fn finish_zombie(&self, index: u32, content: PackedLocation) {
        // Relaxed: statistics only.
        self.counters.zombies.fetch_sub(1, Ordering::Relaxed);
        if let Some(slot) = self.handles.get(index) {
            self.finish_free(index, slot, content);
        }
    }

    /// Gives back the slot of an object that has no name and no reader any more, and its handle's slot: as a spare, or to the class.
    #[inline]
    fn finish_free(&self, index: u32, slot: &HandleEntry, content: PackedLocation) {
        let (at, slack) = self.layout.unpack(content);
        let zspage = self.zspages.get(at.zspage).expect("an object's zspage exists");
        let class = zspage.class();
        let len = self.table.get(class).slot_bytes - slack;
        self.settle_waste(class, len);
        self.wipe_if_asked(at, len);
        slot.set_cached(content);
        let cpu = current_cpu();
        match self.magazines.push(cpu, class, index) {
            PushOutcome::Full => self.release_at_once(cpu, (index, slot), (zspage, at.object), len),
            PushOutcome::Cold => {}
            PushOutcome::StreakEnded => self.request_background_work(),
            PushOutcome::Hot => {
                let offset = usize::from(at.object) * self.table.get(class).slot_bytes as usize;
                zspage.fetch_ahead(offset, len as usize);
            }
        }
    }

    /// Releases a slot for which there is no place among the spares, and the slot of its handle.
    #[inline(never)]
    fn release_at_once(
        &self,
        cpu: usize,
        (index, slot): (u32, &HandleEntry),
        (zspage, object): (&Zspage, u16),
        len: u32,
    ) {
        let worthwhile = self.release_in(zspage, object, len);
        self.handles.put(cpu, index, slot);
        if worthwhile {
            self.request_background_work_if_due();
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
    pub(crate) fn drain_magazines(&self, class: Option<ClassIndex>) {
        for index in self.magazines.drain(class) {
            if let Some(slot) = self.handles.get(index) {
                self.release_cached(index, slot);
            }
        }
    }

    /// Gives back a parked slot, which the caller owns, with the slot of its handle. Says whether this is a moment to look at what could be given back.
    pub(crate) fn release_cached(&self, index: u32, slot: &HandleEntry) -> bool {
        let (at, slack) = self.layout.unpack(slot.cached());
        let zspage = self.zspages.get(at.zspage).expect("a parked slot's zspage exists");
        let len = self.table.get(zspage.class()).slot_bytes - slack;
        let freed = self.release_in(zspage, at.object, len);
        self.handles.put(current_cpu(), index, slot);
        freed
    }

    /// Clears the claimed slot of an object of `len` bytes. Returns whether this is a moment to
    /// look at what could be given back.
    pub(crate) fn release_slot(&self, (zspage, object): (u32, u16), len: u32) -> bool {
        self.release_in(
            self.zspages.get(zspage).expect("a claimed slot's zspage exists"),
            object,
            len,
        )
    }

    #[inline]
    fn release_in(&self, zspage: &Zspage, object: u16, len: u32) -> bool {
        self.locked(self.class(zspage.class()), |state| {
            // Only now: the zspage's place among its class's members changes under the lock alone.
            state.release(zspage.local(), object, len);
            self.note_release(state)
        })
    }

    /// Settles the account of an object of `len` bytes that leaves a slot of `class`: if that is
    /// larger than its own, the own class's debt shrinks.
    #[inline]
    pub(crate) fn settle_waste(&self, class: ClassIndex, len: u32) {
        if len < self.table.get(class).shortest {
            self.subtract_waste(class, len);
        }
    }

    #[cold]
    fn subtract_waste(&self, class: ClassIndex, len: u32) {
        let home = self.table.class_of(len as usize);
        let waste = self.table.get(class).slot_bytes - self.table.get(home).slot_bytes;
        // Relaxed: an account.
        self.class(home).overflow_waste.fetch_sub(waste, Ordering::Relaxed);
    }
}
