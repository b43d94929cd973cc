//! The pin of compaction and of an exchange, and the step that gives an object another place.

use zpool_core::sync::atomic::Ordering;

use super::word::{EntryWord, LIVE, MOVER};
use super::{HandleEntry, PackedLocation};

/// Why [`Slot::pin_idle`] did not pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIdle {
    /// There is no live object.
    Gone,
    /// A guard holds it.
    Pinned,
}

impl HandleEntry {
    /// The pin of compaction or of an exchange: only of a live object that no reader has pinned, of
    /// any generation or of this one. The caller then asks
    /// [`Readers::is_announced`](crate::readers::Readers::is_announced), and
    /// [unpins](Self::unpin_mover) if so.
    ///
    /// # Errors
    ///
    /// Says whether the object is there, but pinned.
    pub fn pin_idle(&self, generation: Option<u16>) -> Result<PackedLocation, NotIdle> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = EntryWord(self.0.load(Ordering::Relaxed));
        loop {
            let wanted = generation.unwrap_or(word.generation());
            if !word.is_idle(wanted) {
                return Err(if word.is_live(wanted) { NotIdle::Pinned } else { NotIdle::Gone });
            }
            match self.exchange_weak(word, EntryWord(word.0 + MOVER), Ordering::SeqCst) {
                Ok(()) => return Ok(word.content()),
                Err(seen) => word = seen,
            }
        }
    }

    /// Exchanges the caller's pin on the object at `from` for its new place `to`, or for the object
    /// there. False, with the pin still held, if another thread pinned or freed it.
    pub fn relocate(&self, from: PackedLocation, to: PackedLocation) -> bool {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = EntryWord(self.0.load(Ordering::Relaxed));
        while word.state() == LIVE && word.holds() == MOVER {
            debug_assert_eq!(word.content(), from, "only its holder moves a pinned object");
            let next = EntryWord::new(to.0, u64::from(word.generation()), LIVE, 0);
            match self.exchange_weak(word, next, Ordering::AcqRel) {
                Ok(()) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::handle::entry::Freed;
    use crate::handle::hazards::HazardTable;

    #[test]
    fn a_move_succeeds_only_while_nobody_else_is_there() {
        let slot = HandleEntry::default();
        let generation = slot.set_live(PackedLocation(1));
        assert_eq!(slot.pin_idle(None), Ok(PackedLocation(1)));
        assert!(slot.relocate(PackedLocation(1), PackedLocation(2)));
        assert_eq!(slot.pin(generation).map(|pinned| pinned.content), Ok(PackedLocation(2)));
        assert_eq!(slot.pin_idle(None), Err(NotIdle::Pinned));
        slot.unpin();

        slot.pin_idle(None).unwrap();
        slot.pin(generation).unwrap();
        assert!(!slot.relocate(PackedLocation(2), PackedLocation(3)));
        assert_eq!((slot.unpin_mover(), slot.unpin().dead), (None, None));

        slot.pin_idle(None).unwrap();
        assert_eq!(slot.free(generation, 0, &HazardTable::new()), Ok(Freed::Later));
        assert!(!slot.relocate(PackedLocation(2), PackedLocation(3)));
        assert_eq!(
            slot.unpin_mover(),
            Some(PackedLocation(2)),
            "the mover takes the freed object down"
        );
        assert_eq!(slot.pin_idle(None), Err(NotIdle::Gone));
    }
}
