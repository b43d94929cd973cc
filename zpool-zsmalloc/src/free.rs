//! Freeing: one exchange ends the object's life for everybody; whoever made the last step takes slot and handle down.
//!
//! Nothing here blocks, allocates or fails. Memory that becomes empty is left to [`housekeeping`](crate::housekeeping).

use zpool_core::internal::current_cpu;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::{FreeError, Handle, PoolError};

use crate::class::ClassIndex;
use crate::inner::Inner;
use crate::slot::{Content, Freed, Killed, Location, Named, Settled, Slot};
use crate::spares::Parked;
use crate::zspages::Zspage;

impl Inner {
    /// See `ZPool::free`.
    #[inline]
    pub(crate) fn free(&self, handle: Handle) -> Result<(), FreeError> {
        match self.kill(&handle) {
            Ok((index, slot, content)) => {
                self.readers.turn_into_pins(index, slot);
                if self.settle(slot, content) {
                    self.take_down(index, slot, content);
                }
                Ok(())
            }
            Err(error) => Err(FreeError::new(error, handle)),
        }
    }

    #[inline]
    fn kill(&self, handle: &Handle) -> Result<(u32, &Slot, Content), PoolError> {
        let Named { slot, index, generation } = self.named(handle)?;
        Ok((index, slot, self.kill_slot(slot, generation)?))
    }

    /// Ends an object's life: see [`Slot::kill`]. Its readers' account is opened again by
    /// [`settle`](Self::settle).
    #[inline]
    pub(crate) fn kill_slot(&self, slot: &Slot, generation: u16) -> Result<Content, PoolError> {
        let Killed { content, pinned } = slot.kill(generation)?;
        if pinned {
            self.note_pinned(self.class_at(content), 1_u32.wrapping_neg());
        }
        Ok(content)
    }

    /// Takes the pin of a killed object back: see [`Slot::settle`]. True: it is the caller's, to
    /// take down. Else it is a zombie now, or its last holder has taken it down.
    #[inline]
    pub(crate) fn settle(&self, slot: &Slot, content: Content) -> bool {
        slot.is_settled() || self.settle_pinned(slot, content)
    }

    #[cold]
    fn settle_pinned(&self, slot: &Slot, content: Content) -> bool {
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
    pub(crate) fn bury(&self, index: u32, content: Content) {
        // Relaxed: statistics only.
        self.counters.zombies.fetch_sub(1, Ordering::Relaxed);
        if let Some(slot) = self.handles.get(index) {
            self.take_down(index, slot, content);
        }
    }

    /// Gives back the slot of an object that has no name and no reader any more, and its handle's slot: as a spare, or to the class.
    #[inline]
    fn take_down(&self, index: u32, slot: &Slot, content: Content) {
        let (at, slack) = self.layout.unpack(content);
        let zspage = self.zspages.get(at.zspage).expect("an object's zspage exists");
        let class = zspage.class();
        let len = self.table.get(class).slot_bytes - slack;
        self.settle_debt(class, len);
        self.wipe_if_asked(at, len);
        slot.set_parked(content);
        let cpu = current_cpu();
        match self.spares.park(cpu, class, index) {
            Parked::No => self.release_at_once(cpu, (index, slot), (zspage, at.object), len),
            Parked::ForLater => {}
            Parked::TooMany => self.kick(),
            Parked::ForSoon => {
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
        (index, slot): (u32, &Slot),
        (zspage, object): (&Zspage, u16),
        len: u32,
    ) {
        let worthwhile = self.release_in(zspage, object, len);
        self.handles.put(cpu, index, slot);
        if worthwhile {
            self.kick_if_worthwhile();
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
        let (at, slack) = self.layout.unpack(slot.parked());
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
    pub(crate) fn settle_debt(&self, class: ClassIndex, len: u32) {
        if len < self.table.get(class).shortest {
            self.pay_debt(class, len);
        }
    }

    #[cold]
    fn pay_debt(&self, class: ClassIndex, len: u32) {
        let home = self.table.class_of(len as usize);
        let waste = self.table.get(class).slot_bytes - self.table.get(home).slot_bytes;
        // Relaxed: an account.
        self.class(home).debt.fetch_sub(waste, Ordering::Relaxed);
    }
}
