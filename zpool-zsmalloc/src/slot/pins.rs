//! Pins of readers: they keep an object where it is, and the last one of a dead object takes it
//! down.

use zpool_core::PoolError;
use zpool_core::internal::sync::atomic::Ordering;

use super::word::{DEAD, FREE, MAX_PINS, MOVER, Word};
use super::{Content, Slot};

/// What [`Slot::pin`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// Where the object is.
    pub content: Content,
    /// No other reader had pinned it.
    pub first: bool,
}

/// What [`Slot::unpin`] left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpinned {
    /// The object, if it is dead and this was the last pin of it: the caller's, to take down.
    pub dead: Option<Content>,
    /// No reader has it pinned any more.
    pub last: bool,
}

impl Slot {
    /// Keeps the object where it is until [`unpin`](Self::unpin), and returns where that is.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`]; [`PoolError::TooManyReaders`] where this reader has to share a
    /// pin with others.
    #[inline]
    pub fn pin(&self, generation: u16) -> Result<Pinned, PoolError> {
        self.pin_below(MAX_PINS, generation)
    }

    /// As [`pin`](Self::pin), for the pin that is shared by readers beyond the limit.
    pub(crate) fn pin_shared(&self, generation: u16) -> Result<Pinned, PoolError> {
        self.pin_below(MAX_PINS + 1, generation)
    }

    #[inline]
    fn pin_below(&self, limit: u64, generation: u16) -> Result<Pinned, PoolError> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = Word(self.0.load(Ordering::Relaxed));
        loop {
            if !word.is_live(generation) {
                return Err(PoolError::StaleHandle);
            }
            if word.pins() >= limit {
                return Err(PoolError::TooManyReaders);
            }
            match self.exchange_weak(word, Word(word.0 + 1), Ordering::Acquire) {
                Ok(()) => return Ok(Pinned { content: word.content(), first: word.pins() == 0 }),
                Err(seen) => word = seen,
            }
        }
    }

    /// Where the live object is, for a reader that shares a pin which was made before.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`].
    pub(crate) fn share(&self, generation: u16) -> Result<Content, PoolError> {
        // Acquire: pairs with publish and move, as a pin's.
        let word = Word(self.0.load(Ordering::Acquire));
        if word.is_live(generation) { Ok(word.content()) } else { Err(PoolError::StaleHandle) }
    }

    /// Takes one pin of a reader back. If this was the last pin of a dead object, then the caller
    /// takes object and slot down.
    #[inline]
    pub fn unpin(&self) -> Unpinned {
        self.subtract(1)
    }

    /// Takes the mover's pin back, as [`unpin`](Self::unpin). Returns the content if the object was
    /// freed meanwhile and has no reader: then the caller takes it down.
    #[inline]
    pub fn unpin_mover(&self) -> Option<Content> {
        self.subtract(MOVER).dead
    }

    #[inline]
    fn subtract(&self, pin: u64) -> Unpinned {
        // Release: pairs with the Acquire of the thread that reuses the bytes next.
        let before = Word(self.0.fetch_sub(pin, Ordering::Release));
        debug_assert!(
            before.holds() >= pin && before.state() != FREE,
            "unpinned without a pin: {before:?}"
        );
        let last = pin == 1 && before.pins() == 1;
        let dead = before.holds() == pin && before.state() == DEAD;
        if dead {
            // Acquire: pairs with the Release of the other readers' unpins. A load and no fence:
            // the thread sanitizer does not know fences.
            self.0.load(Ordering::Acquire);
        }
        Unpinned { dead: dead.then(|| before.content()), last }
    }

    /// Where the object of a pinned slot is.
    pub(crate) fn content(&self) -> Content {
        // Relaxed: it stays as long as the caller's pin.
        Word(self.0.load(Ordering::Relaxed)).content()
    }

    /// Where the object is, for a reader who has announced itself; `None` if it has to pin, or if
    /// there is no such object.
    #[inline]
    pub fn look(&self, generation: u16) -> Option<Content> {
        // SeqCst: after the announcement; as Acquire it pairs with publish and move.
        let word = Word(self.0.load(Ordering::SeqCst));
        word.is_idle(generation).then(|| word.content())
    }

    /// Adds a pin on behalf of a reader that has announced itself; the caller has one.
    pub(crate) fn add_pin(&self) {
        // Relaxed: the caller's own pin keeps the object; it tells the reader with an ordering of
        // its own.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back what [`add_pin`](Self::add_pin) added: not the last one.
    pub(crate) fn drop_pin(&self) {
        // Relaxed: nothing was read under it.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn pins_are_counted_up_to_the_limit() {
        let slot = Slot::default();
        let generation = slot.publish(Content(1));
        for _ in 0..MAX_PINS {
            slot.pin(generation).unwrap();
        }
        assert_eq!(slot.pin(generation), Err(PoolError::TooManyReaders));
        assert_eq!(slot.unpin().dead, None);
        slot.pin(generation).unwrap();
    }
}
