//! Frames, zspages and storage for a class that has to grow.
//!
//! The page source and the heap are never called under a class lock. A [`GrowthSupply`] fetches
//! memory from them first, and hands it over under the lock.

use zpool_core::PoolError;

use crate::class::{ClaimedSlot, Class, ClassState, Classes, MemberStorage, Shortage};
use crate::zspage::{ChargedFrames, NewZspage, Zspages};

/// Supplies fetched for one insert. Those that the class does not take are returned when this is
/// dropped, even if the source panics.
pub(super) struct GrowthSupply<'a> {
    zspages: &'a Zspages,
    classes: &'a Classes,
    class: &'a Class,
    /// Charged, not yet used.
    frames: ChargedFrames<'a>,
    zspage: Option<NewZspage<'a>>,
    /// Before the claim the new storage, after it the old.
    storage: MemberStorage,
}

impl<'a> GrowthSupply<'a> {
    pub(super) fn new(zspages: &'a Zspages, classes: &'a Classes, class: &'a Class) -> Self {
        GrowthSupply {
            zspages,
            classes,
            class,
            frames: zspages.no_frames(),
            zspage: None,
            storage: MemberStorage::default(),
        }
    }

    /// Claims a slot of the class with what is there.
    ///
    /// # Errors
    ///
    /// The error names what is lacking.
    pub(super) fn claim(&mut self, len: u32) -> Result<ClaimedSlot, Shortage> {
        self.classes.locked(self.class, |state| self.claim_in(state, len))
    }

    fn claim_in(&mut self, state: &mut ClassState, len: u32) -> Result<ClaimedSlot, Shortage> {
        if let Some(claimed) = state.claim_open(len) {
            return Ok(claimed);
        }
        match state.claim_growing(len, self.frames.credit()) {
            Ok(Some(claimed)) => return Ok(claimed),
            Ok(None) => {}
            Err(frames) => return Err(Shortage { frames, ..Shortage::default() }),
        }
        let frames = state.slot_map().frames_of(0, len).count_ones() as usize;
        self.enlarge(state);
        let storage = state.storage_needed();
        let shortage = Shortage { frames, zspage: self.zspage.is_none(), storage };
        if *self.frames.credit() < frames || storage > 0 {
            return Err(shortage);
        }
        let Some(zspage) = self.zspage.take() else { return Err(shortage) };
        state.adopt(zspage.install(), self.zspages);
        match state.claim_growing(len, self.frames.credit()) {
            Ok(Some(claimed)) => Ok(claimed),
            // Not reached: an adopted zspage has a free slot, and its frames are charged.
            _ => Err(shortage),
        }
    }

    fn enlarge(&mut self, state: &mut ClassState) {
        let offered = self.storage.bytes();
        if offered > 0 {
            self.storage = state.enlarge(core::mem::take(&mut self.storage));
            self.classes.metadata_changed(self.storage.bytes(), offered);
        }
    }

    /// Fetches what is lacking. Under no lock.
    pub(super) fn fetch(&mut self, shortage: Shortage) -> Result<(), PoolError> {
        self.frames.fill_up(shortage.frames)?;
        if shortage.zspage {
            self.zspage = Some(self.zspages.reserve(self.class.index())?);
        }
        if shortage.storage > 0 {
            let slot_map = self.classes.slot_map(self.class.index());
            self.storage = MemberStorage::with_capacity(&slot_map, shortage.storage)
                .ok_or(PoolError::OutOfMemory)?;
        }
        Ok(())
    }
}
