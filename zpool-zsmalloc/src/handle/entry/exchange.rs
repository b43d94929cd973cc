//! Exchanging the objects of two handles: their locations change places, and no byte moves.
//!
//! ```text
//!   other's word   (new, live) ──► retracted ─────────────────────────────────► (old, live)
//!   kept word                         (old, no pin) ──► (old, 1 pin) ──► (new, no pin) ──┘
//!                                                         └─ read or freed meanwhile:
//!                                                            both are as before
//! ```
//!
//! The caller owns the other handle, so no other thread reads that object, and its word may be dead
//! for a moment. The kept word is live throughout. It changes in two steps, like that of an object
//! that compaction moves.

use zpool_core::internal::sync::atomic::Ordering;

use super::word::{DEAD, EntryWord, LIVE};
use super::{EntryRef, HandleEntry, PackedLocation};
use crate::handle::hazards::HazardTable;

/// Result of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeOutcome {
    /// Done.
    Yes,
    /// Nothing has changed: one of the objects is gone, or a reader or the compactor holds it.
    No,
    /// Nothing was exchanged, but the kept handle was freed meanwhile, and the caller finishes that
    /// free. This needs a second copy of the handle.
    Freed(PackedLocation),
}

/// Exchanges the objects of two entries, if neither is read or moved.
#[inline]
pub fn exchange(kept: EntryRef<'_>, other: EntryRef<'_>, hazards: &HazardTable) -> ExchangeOutcome {
    let Some(new) = other.entry.retract(other.generation) else { return ExchangeOutcome::No };
    // After the step: a reader that comes now finds no object. One that came before keeps the
    // object where it is.
    if hazards.is_protected(other.index) {
        other.entry.restore(new);
        return ExchangeOutcome::No;
    }
    let replaced = kept.replace(new, hazards);
    other.entry.restore(*replaced.as_ref().unwrap_or(&new));
    match replaced {
        Ok(_) => ExchangeOutcome::Yes,
        Err(freed) => freed.map_or(ExchangeOutcome::No, ExchangeOutcome::Freed),
    }
}

impl EntryRef<'_> {
    /// Replaces the object here by another one. Returns the old one.
    ///
    /// # Errors
    ///
    /// If the object is gone, read or moved. Holds its location if it was freed meanwhile.
    #[inline]
    fn replace(
        self,
        new: PackedLocation,
        hazards: &HazardTable,
    ) -> Result<PackedLocation, Option<PackedLocation>> {
        let old = self.entry.pin_idle(Some(self.generation)).map_err(|_| None)?;
        // After the pin: readers that come from now on pin as well.
        if !hazards.is_protected(self.index) && self.entry.relocate(old, new) {
            Ok(old)
        } else {
            Err(self.entry.unpin_mover())
        }
    }
}

impl HandleEntry {
    /// Makes the word of an unpinned object dead, without pins, as if a free were about to release
    /// the slot. The owner of its handle then [restores](Self::restore) this object or another one.
    #[inline]
    fn retract(&self, generation: u16) -> Option<PackedLocation> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = EntryWord(self.0.load(Ordering::Relaxed));
        while word.is_idle(generation) {
            let next = EntryWord::new(word.location().0, u64::from(generation), DEAD, 0);
            match self.exchange_weak(word, next, Ordering::SeqCst) {
                Ok(()) => return Some(word.location()),
                Err(seen) => word = seen,
            }
        }
        None
    }

    /// Makes a retracted entry name an object, in the same life.
    #[inline]
    fn restore(&self, location: PackedLocation) {
        // Relaxed: a dead word cannot be pinned or freed, so without pins it is the caller's alone.
        let word = EntryWord(self.0.load(Ordering::Relaxed));
        debug_assert!(word.state() == DEAD && word.pin_bits() == 0, "not retracted: {word:?}");
        let next = EntryWord::new(location.0, u64::from(word.generation()), LIVE, 0);
        // Release: pairs with the Acquire of `pin`.
        self.0.store(next.0, Ordering::Release);
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use zpool_core::PoolError;

    use super::*;
    use crate::handle::entry::Freed;

    const KEPT: u32 = 3;
    const OTHER: u32 = 4;

    struct Pair {
        kept: HandleEntry,
        other: HandleEntry,
        hazards: HazardTable,
        generations: (u16, u16),
    }

    /// Makes two entries: the kept one's object is at place 1, the other's at place 2.
    fn pair() -> Pair {
        let (kept, other) = (HandleEntry::default(), HandleEntry::default());
        let generations = (kept.set_live(PackedLocation(1)), other.set_live(PackedLocation(2)));
        Pair { kept, other, hazards: HazardTable::new(), generations }
    }

    impl Pair {
        fn kept(&self) -> EntryRef<'_> {
            EntryRef { entry: &self.kept, index: KEPT, generation: self.generations.0 }
        }

        fn other(&self) -> EntryRef<'_> {
            EntryRef { entry: &self.other, index: OTHER, generation: self.generations.1 }
        }

        fn exchange(&self) -> ExchangeOutcome {
            exchange(self.kept(), self.other(), &self.hazards)
        }

        fn locations(&self) -> (Option<PackedLocation>, Option<PackedLocation>) {
            (
                self.kept.location_if_idle(self.generations.0),
                self.other.location_if_idle(self.generations.1),
            )
        }
    }

    const AS_BEFORE: (Option<PackedLocation>, Option<PackedLocation>) =
        (Some(PackedLocation(1)), Some(PackedLocation(2)));
    const EXCHANGED: (Option<PackedLocation>, Option<PackedLocation>) =
        (Some(PackedLocation(2)), Some(PackedLocation(1)));

    /// Objects change places, and both handles stay valid.
    #[test]
    fn exchange_keeps_both_handles_valid() {
        let pair = pair();
        assert_eq!((pair.exchange(), pair.locations()), (ExchangeOutcome::Yes, EXCHANGED));
        assert_eq!((pair.exchange(), pair.locations()), (ExchangeOutcome::Yes, AS_BEFORE));
        let freed = pair.other.free(pair.generations.1, OTHER, &pair.hazards);
        assert_eq!(freed, Ok(Freed::Now(PackedLocation(2))));
        assert_eq!(pair.exchange(), ExchangeOutcome::No, "one is gone");
        assert_eq!(pair.kept.location_if_idle(pair.generations.0), Some(PackedLocation(1)));
    }

    /// A reader of either object keeps both where they are.
    #[test]
    fn exchange_of_read_object_changes_nothing() {
        let pair = pair();
        for EntryRef { entry, index, generation } in [pair.kept(), pair.other()] {
            let hazard = pair.hazards.publish(index).unwrap();
            assert_eq!((pair.exchange(), pair.locations()), (ExchangeOutcome::No, AS_BEFORE));
            assert!(pair.hazards.clear(hazard));
            entry.pin(generation).unwrap();
            assert_eq!(pair.exchange(), ExchangeOutcome::No);
            assert_eq!((entry.unpin().dead, pair.locations()), (None, AS_BEFORE));
        }
        assert_eq!((pair.exchange(), pair.locations()), (ExchangeOutcome::Yes, EXCHANGED));
    }

    /// Stale handles change nothing, and neither does an exchange of a handle with itself.
    #[test]
    fn exchange_of_stale_handles_changes_nothing() {
        let pair = pair();
        let (kept, other) = (pair.kept(), pair.other());
        let stale_kept = EntryRef { generation: kept.generation ^ 1, ..kept };
        let stale_other = EntryRef { generation: other.generation ^ 1, ..other };
        for (one, another) in [(stale_kept, other), (kept, stale_other), (kept, kept)] {
            assert_eq!(exchange(one, another, &pair.hazards), ExchangeOutcome::No);
            assert_eq!(pair.locations(), AS_BEFORE);
        }
        let pinned = pair.other.pin(pair.generations.1).unwrap();
        assert!(pinned.location == PackedLocation(2) && pinned.first, "live, and not pinned");
        assert_eq!(pair.kept.pin(pair.generations.0 ^ 1), Err(PoolError::StaleHandle));
    }
}
