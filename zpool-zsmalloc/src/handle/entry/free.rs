//! The end of an object's life: the word becomes dead first, and is settled once hazards have
//! become pins.

use zpool_core::PoolError;
use zpool_core::internal::sync::atomic::Ordering;

use super::pins::Unpinned;
use super::word::{DEAD, EntryWord};
use super::{HandleEntry, PackedLocation};
#[cfg(any(test, zpool_loom))]
use crate::handle::hazards::HazardTable;

/// Result of [`HandleEntry::kill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// Location of the object.
    pub location: PackedLocation,
    /// Readers had it pinned.
    pub pinned: bool,
}

/// Result of [`HandleEntry::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Effect of the free.
    pub freed: Freed,
    /// Readers have the object pinned.
    pub pinned: bool,
}

/// Effect of a free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// Object and entry are the caller's, to release.
    Now(PackedLocation),
    /// Guards hold the object: the last unpin releases it.
    Later,
}

impl HandleEntry {
    /// Ends the object's life: all steps of a free. `index` is the entry's own.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`].
    #[cfg(any(test, zpool_loom))]
    pub fn free(
        &self,
        generation: u16,
        index: u32,
        hazards: &HazardTable,
    ) -> Result<Freed, PoolError> {
        let killed = self.kill(generation)?;
        hazards.convert_to_pins(index, self);
        Ok(self.settle(killed.location).freed)
    }

    /// Makes the word dead, with a pin of the caller's: the first step of a free. The caller then
    /// converts hazards into pins, and [settles](Self::settle).
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`].
    #[inline]
    pub fn kill(&self, generation: u16) -> Result<Killed, PoolError> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = EntryWord(self.0.load(Ordering::Relaxed));
        loop {
            if !word.is_live(generation) {
                return Err(PoolError::StaleHandle);
            }
            let next = EntryWord::new(
                word.location().0,
                word.next_generation(),
                DEAD,
                word.pin_bits() + 1,
            );
            match self.exchange_weak(word, next, Ordering::SeqCst) {
                Ok(()) => return Ok(Killed { location: word.location(), pinned: word.pins() > 0 }),
                Err(seen) => word = seen,
            }
        }
    }

    /// Returns whether the killed object is the caller's alone. If so, there is nothing to
    /// [settle](Self::settle).
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        // Acquire: pairs with the Release of the readers' unpins. With one pin the word is the
        // caller's alone, because a dead word cannot be pinned.
        EntryWord(self.0.load(Ordering::Acquire)).pin_bits() == 1
    }

    /// Takes back the pin of [`kill`](Self::kill), which returned `location`: the last step of a
    /// free.
    #[inline]
    pub fn settle(&self, location: PackedLocation) -> Settled {
        if self.is_settled() {
            return Settled { freed: Freed::Now(location), pinned: false };
        }
        let Unpinned { dead, last } = self.unpin();
        Settled { freed: dead.map_or(Freed::Later, Freed::Now), pinned: !last }
    }
}
