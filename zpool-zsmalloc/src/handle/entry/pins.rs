//! Pins of readers: they keep an object where it is, and the last one of a dead object releases it.

use zpool_core::PoolError;
use zpool_core::internal::sync::atomic::Ordering;

use super::word::{DEAD, EntryWord, FREE, MAX_PINS, MOVER};
use super::{HandleEntry, PackedLocation};

/// Result of [`HandleEntry::pin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderPin {
    /// Location of the object.
    pub location: PackedLocation,
    /// No other reader had pinned it.
    pub first: bool,
}

/// Result of [`HandleEntry::unpin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpinned {
    /// The object, if it is dead and this was its last pin: the caller releases it.
    pub dead: Option<PackedLocation>,
    /// No reader has it pinned any more.
    pub last: bool,
}

impl HandleEntry {
    /// Keeps the object where it is until [`unpin`](Self::unpin).
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`]; [`PoolError::TooManyReaders`] if this reader has to share a pin
    /// with others.
    #[inline]
    pub fn pin(&self, generation: u16) -> Result<ReaderPin, PoolError> {
        self.pin_below(MAX_PINS, generation)
    }

    /// Pins as [`pin`](Self::pin) does, for the pin that readers beyond the limit share.
    pub(crate) fn pin_shared(&self, generation: u16) -> Result<ReaderPin, PoolError> {
        self.pin_below(MAX_PINS + 1, generation)
    }

    #[inline]
    fn pin_below(&self, limit: u64, generation: u16) -> Result<ReaderPin, PoolError> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = EntryWord(self.0.load(Ordering::Relaxed));
        loop {
            if !word.is_live(generation) {
                return Err(PoolError::StaleHandle);
            }
            if word.pins() >= limit {
                return Err(PoolError::TooManyReaders);
            }
            match self.exchange_weak(word, EntryWord(word.0 + 1), Ordering::Acquire) {
                Ok(()) => {
                    return Ok(ReaderPin { location: word.location(), first: word.pins() == 0 });
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Returns where the live object is, for a reader that joins an existing shared pin.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`].
    pub(crate) fn share(&self, generation: u16) -> Result<PackedLocation, PoolError> {
        // Acquire: pairs with `set_live` and `relocate`, as a pin does.
        let word = EntryWord(self.0.load(Ordering::Acquire));
        if word.is_live(generation) { Ok(word.location()) } else { Err(PoolError::StaleHandle) }
    }

    /// Takes one pin of a reader back. If it was the last pin of a dead object, the caller releases
    /// the object's slot and the entry.
    #[inline]
    pub fn unpin(&self) -> Unpinned {
        self.subtract(1)
    }

    /// Takes the mover's pin back. Returns the location if the object was freed meanwhile and has
    /// no reader: then the caller releases it.
    #[inline]
    pub fn unpin_mover(&self) -> Option<PackedLocation> {
        self.subtract(MOVER).dead
    }

    #[inline]
    fn subtract(&self, pin: u64) -> Unpinned {
        // Release: pairs with the Acquire of the thread that reuses the bytes next.
        let before = EntryWord(self.0.fetch_sub(pin, Ordering::Release));
        debug_assert!(
            before.pin_bits() >= pin && before.state() != FREE,
            "unpinned without a pin: {before:?}"
        );
        let last = pin == 1 && before.pins() == 1;
        let dead = before.pin_bits() == pin && before.state() == DEAD;
        if dead {
            // Acquire: pairs with the Release of the other readers' unpins. A load instead of a
            // fence, because ThreadSanitizer does not support fences.
            self.0.load(Ordering::Acquire);
        }
        Unpinned { dead: dead.then(|| before.location()), last }
    }

    /// Returns where the object of a pinned entry is.
    pub(crate) fn location(&self) -> PackedLocation {
        // Relaxed: it stays as long as the caller's pin.
        EntryWord(self.0.load(Ordering::Relaxed)).location()
    }

    /// Returns where the object is, for a reader that has published a hazard. Returns `None` if the
    /// reader has to pin, or if the object is gone.
    #[inline]
    pub fn location_if_idle(&self, generation: u16) -> Option<PackedLocation> {
        // SeqCst: after the hazard was published; as Acquire it pairs with `set_live` and
        // `relocate`.
        let word = EntryWord(self.0.load(Ordering::SeqCst));
        word.is_idle(generation).then(|| word.location())
    }

    /// Adds a pin on behalf of a reader whose hazard is being converted. The caller has a pin.
    pub(crate) fn add_pin(&self) {
        // Relaxed: the caller's own pin keeps the object, and the conversion of the hazard, with an
        // ordering of its own, tells the reader.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back a pin of [`add_pin`](Self::add_pin), which is not the last one.
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
        let entry = HandleEntry::default();
        let generation = entry.set_live(PackedLocation(1));
        for _ in 0..MAX_PINS {
            entry.pin(generation).unwrap();
        }
        assert_eq!(entry.pin(generation), Err(PoolError::TooManyReaders));
        assert_eq!(entry.unpin().dead, None);
        entry.pin(generation).unwrap();
    }
}
