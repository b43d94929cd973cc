//! The end of an object's life: the word becomes dead first, and is settled once announcements have
//! become pins.

use zpool_core::PoolError;
use zpool_core::internal::sync::atomic::Ordering;

use super::pins::Unpinned;
use super::word::{DEAD, Word};
use super::{Content, Slot};
#[cfg(any(test, zpool_loom))]
use crate::readers::Readers;

/// What [`Slot::kill`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// Where the object is.
    pub content: Content,
    /// Readers had it pinned.
    pub pinned: bool,
}

/// What [`Slot::settle`] left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What the free did.
    pub freed: Freed,
    /// Readers have it pinned.
    pub pinned: bool,
}

/// What `Slot::free` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// The object is the caller's, to take down; the slot too.
    Now(Content),
    /// Guards hold the object: the last unpin takes it down.
    Later,
}

impl Slot {
    /// Ends the object's life: all steps of a free. `index` is the slot's own.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`].
    #[cfg(any(test, zpool_loom))]
    pub fn free(&self, generation: u16, index: u32, readers: &Readers) -> Result<Freed, PoolError> {
        let killed = self.kill(generation)?;
        readers.turn_into_pins(index, self);
        Ok(self.settle(killed.content).freed)
    }

    /// The first step of a free: makes the word dead, with a pin of the caller's. The caller then
    /// turns announcements into pins, and [`settle`](Self::settle)s.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`].
    #[inline]
    pub fn kill(&self, generation: u16) -> Result<Killed, PoolError> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = Word(self.0.load(Ordering::Relaxed));
        loop {
            if !word.is_live(generation) {
                return Err(PoolError::StaleHandle);
            }
            let next = Word::new(word.content().0, word.next_generation(), DEAD, word.holds() + 1);
            match self.exchange_weak(word, next, Ordering::SeqCst) {
                Ok(()) => return Ok(Killed { content: word.content(), pinned: word.pins() > 0 }),
                Err(seen) => word = seen,
            }
        }
    }

    /// Is the killed object the caller's alone? Then there is nothing to [`settle`](Self::settle).
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        // Acquire: pairs with the Release of the readers' unpins. With one pin the word is ours
        // alone, since no reader pins a dead word.
        Word(self.0.load(Ordering::Acquire)).holds() == 1
    }

    /// The last step of a free: takes back the pin of [`kill`](Self::kill), which returned
    /// `content`.
    #[inline]
    pub fn settle(&self, content: Content) -> Settled {
        if self.is_settled() {
            return Settled { freed: Freed::Now(content), pinned: false };
        }
        let Unpinned { dead, last } = self.unpin();
        Settled { freed: dead.map_or(Freed::Later, Freed::Now), pinned: !last }
    }
}
