//! Exchanging the objects of two handles: what their words say changes places, and nothing else moves.
//!
//! ```text
//!   other's word   (new, live) ──► retracted ──────────────────────────────────────► (old, live)
//!   kept word                          (old, no pin) ──► (old, 1 pin) ──► (new, no pin) ──┘
//!                                                             └─ read or freed meanwhile: both are as before
//! ```
//!
//! The caller owns the other handle, so nobody reads that meanwhile, and its word may be out of sight. The kept word is live throughout: it is taken in two steps, like
//! that of an object that compaction moves.

use zpool_core::internal::sync::atomic::Ordering;

use super::word::{DEAD, LIVE, Word};
use super::{Content, Named, Slot};
use crate::readers::Readers;

/// What became of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchanged {
    /// Done.
    Yes,
    /// Nothing has happened: one of the objects is gone, or somebody reads or moves it.
    No,
    /// The same, but the kept handle was freed meanwhile, and the object is left to the caller, to take down. Nobody can do that without a second handle of that name.
    Freed(Content),
}

/// Exchanges the objects of two slots, if nobody reads or moves either.
#[inline]
pub fn exchange(kept: Named<'_>, other: Named<'_>, readers: &Readers) -> Exchanged {
    let Some(new) = other.slot.retract(other.generation) else { return Exchanged::No };
    // After the step: a reader that comes now finds nothing. One that came before keeps its object's name.
    if readers.is_announced(other.index) {
        other.slot.restore(new);
        return Exchanged::No;
    }
    let put = kept.put_in_place(new, readers);
    other.slot.restore(*put.as_ref().unwrap_or(&new));
    match put {
        Ok(_) => Exchanged::Yes,
        Err(freed) => freed.map_or(Exchanged::No, Exchanged::Freed),
    }
}

impl Named<'_> {
    /// Puts an object in the place of the one here, and gives that.
    ///
    /// # Errors
    ///
    /// When it is gone, or somebody reads or moves it. Gives it if it was freed meanwhile.
    #[inline]
    fn put_in_place(self, new: Content, readers: &Readers) -> Result<Content, Option<Content>> {
        let old = self.slot.pin_idle(Some(self.generation)).map_err(|_| None)?;
        // After the pin: readers that come from now on pin, too.
        if !readers.is_announced(self.index) && self.slot.relocate(old, new) {
            Ok(old)
        } else {
            Err(self.slot.unpin_mover())
        }
    }
}

impl Slot {
    /// Takes an object that nobody has pinned out of sight, for the owner of its handle, who [`restore`](Self::restore)s it or another one before long. Until then the
    /// word is dead and without pins, like one whose object is being taken down.
    #[inline]
    fn retract(&self, generation: u16) -> Option<Content> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = Word(self.0.load(Ordering::Relaxed));
        while word.is_idle(generation) {
            let next = Word::new(word.content().0, u64::from(generation), DEAD, 0);
            match self.exchange_weak(word, next, Ordering::SeqCst) {
                Ok(()) => return Some(word.content()),
                Err(seen) => word = seen,
            }
        }
        None
    }

    /// Makes a retracted slot the name of an object, in the same life.
    #[inline]
    fn restore(&self, content: Content) {
        // Relaxed: nobody pins or frees a dead word, so one without pins is the caller's alone.
        let word = Word(self.0.load(Ordering::Relaxed));
        debug_assert!(word.state() == DEAD && word.holds() == 0, "not retracted: {word:?}");
        // Release: pairs with the Acquire of `pin`.
        self.0.store(
            Word::new(content.0, u64::from(word.generation()), LIVE, 0).0,
            Ordering::Release,
        );
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use zpool_core::PoolError;

    use super::*;
    use crate::slot::Freed;

    const KEPT: u32 = 3;
    const OTHER: u32 = 4;

    struct Pair {
        kept: Slot,
        other: Slot,
        readers: Readers,
        generations: (u16, u16),
    }

    /// Two slots, the kept one's object at place 1 and the other's at place 2.
    fn pair() -> Pair {
        let (kept, other) = (Slot::default(), Slot::default());
        let generations = (kept.publish(Content(1)), other.publish(Content(2)));
        Pair { kept, other, readers: Readers::new(), generations }
    }

    impl Pair {
        fn exchange(&self) -> Exchanged {
            let kept = Named { slot: &self.kept, index: KEPT, generation: self.generations.0 };
            let other = Named { slot: &self.other, index: OTHER, generation: self.generations.1 };
            exchange(kept, other, &self.readers)
        }

        fn contents(&self) -> (Option<Content>, Option<Content>) {
            (self.kept.look(self.generations.0), self.other.look(self.generations.1))
        }
    }

    const AS_BEFORE: (Option<Content>, Option<Content>) = (Some(Content(1)), Some(Content(2)));
    const EXCHANGED: (Option<Content>, Option<Content>) = (Some(Content(2)), Some(Content(1)));

    #[test]
    fn objects_change_places_and_handles_stay_good() {
        let pair = pair();
        assert_eq!((pair.exchange(), pair.contents()), (Exchanged::Yes, EXCHANGED));
        assert_eq!((pair.exchange(), pair.contents()), (Exchanged::Yes, AS_BEFORE));
        let freed = pair.other.free(pair.generations.1, OTHER, &pair.readers);
        assert_eq!(freed, Ok(Freed::Now(Content(2))));
        assert_eq!(pair.exchange(), Exchanged::No, "one is gone");
        assert_eq!(pair.kept.look(pair.generations.0), Some(Content(1)));
    }

    #[test]
    fn whoever_reads_one_of_them_keeps_both_as_they_are() {
        let pair = pair();
        for (slot, generation, index) in
            [(&pair.kept, pair.generations.0, KEPT), (&pair.other, pair.generations.1, OTHER)]
        {
            let place = pair.readers.announce(index).unwrap();
            assert_eq!((pair.exchange(), pair.contents()), (Exchanged::No, AS_BEFORE));
            assert!(pair.readers.withdraw(place));
            slot.pin(generation).unwrap();
            assert_eq!(pair.exchange(), Exchanged::No);
            assert_eq!((slot.unpin().dead, pair.contents()), (None, AS_BEFORE));
        }
        assert_eq!((pair.exchange(), pair.contents()), (Exchanged::Yes, EXCHANGED));
    }

    #[test]
    fn stale_names_and_a_slot_with_itself_change_nothing() {
        let pair = pair();
        let kept = Named { slot: &pair.kept, index: KEPT, generation: pair.generations.0 };
        let other = Named { slot: &pair.other, index: OTHER, generation: pair.generations.1 };
        let stale_kept = Named { generation: kept.generation ^ 1, ..kept };
        let stale_other = Named { generation: other.generation ^ 1, ..other };
        for (one, another) in [(stale_kept, other), (kept, stale_other), (kept, kept)] {
            assert_eq!(exchange(one, another, &pair.readers), Exchanged::No);
            assert_eq!(pair.contents(), AS_BEFORE);
        }
        let pinned = pair.other.pin(pair.generations.1).unwrap();
        assert!(pinned.content == Content(2) && pinned.first, "live, and not pinned");
        assert_eq!(pair.kept.pin(pair.generations.0 ^ 1), Err(PoolError::StaleHandle));
    }
}
