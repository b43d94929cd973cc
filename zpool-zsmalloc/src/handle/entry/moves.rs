//! The pin of compaction and of an exchange, and the step that gives an object another place.

use zpool_core::internal::sync::atomic::Ordering;

use super::word::{EntryWord, LIVE, MOVER};
use super::{HandleEntry, PackedLocation};

/// Reason why [`HandleEntry::pin_idle`] did not pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIdle {
    /// There is no live object.
    Gone,
    /// A guard holds it.
    Pinned,
}

impl HandleEntry {
    /// Pins a live object that no reader has pinned, of this generation or of any, for compaction
    /// or an exchange. The caller then asks
    /// [`is_protected`](crate::handle::hazards::HazardTable::is_protected), and
    /// [unpins](Self::unpin_mover) if a hazard protects it.
    ///
    /// # Errors
    ///
    /// The error is the reason: the object is gone, or pinned.
    pub fn pin_idle(&self, generation: Option<u16>) -> Result<PackedLocation, NotIdle> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = EntryWord(self.0.load(Ordering::Relaxed));
        loop {
            let wanted = generation.unwrap_or(word.generation());
            if !word.is_idle(wanted) {
                return Err(if word.is_live(wanted) { NotIdle::Pinned } else { NotIdle::Gone });
            }
            match self.exchange_weak(word, EntryWord(word.0 + MOVER), Ordering::SeqCst) {
                Ok(()) => return Ok(word.location()),
                Err(seen) => word = seen,
            }
        }
    }

    /// Replaces the location `from` by `to` and drops the mover's pin, in one step. If two objects
    /// change places, `to` is where the second object was. Returns `false` and keeps the pin if
    /// another thread pinned or freed the object.
    pub fn relocate(&self, from: PackedLocation, to: PackedLocation) -> bool {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = EntryWord(self.0.load(Ordering::Relaxed));
        while word.state() == LIVE && word.pin_bits() == MOVER {
            debug_assert_eq!(word.location(), from, "only its holder moves a pinned object");
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

    /// A move succeeds only if no reader pinned the object and its owner did not free it.
    #[test]
    fn move_of_pinned_or_freed_object_fails() {
        let entry = HandleEntry::default();
        let generation = entry.set_live(PackedLocation(1));
        assert_eq!(entry.pin_idle(None), Ok(PackedLocation(1)));
        assert!(entry.relocate(PackedLocation(1), PackedLocation(2)));
        assert_eq!(entry.pin(generation).map(|pinned| pinned.location), Ok(PackedLocation(2)));
        assert_eq!(entry.pin_idle(None), Err(NotIdle::Pinned));
        entry.unpin();

        entry.pin_idle(None).unwrap();
        entry.pin(generation).unwrap();
        assert!(!entry.relocate(PackedLocation(2), PackedLocation(3)));
        assert_eq!((entry.unpin_mover(), entry.unpin().dead), (None, None));

        entry.pin_idle(None).unwrap();
        assert_eq!(entry.free(generation, 0, &HazardTable::new()), Ok(Freed::Later));
        assert!(!entry.relocate(PackedLocation(2), PackedLocation(3)));
        assert_eq!(entry.unpin_mover(), Some(PackedLocation(2)), "the mover finishes the free");
        assert_eq!(entry.pin_idle(None), Err(NotIdle::Gone));
    }
}
