//! The word behind a handle, and the protocol of pins on it.
//!
//! ```text
//!   63                                              20 19        11 10  9  8   7     0
//!  +--------------------------------------------------+------------+-----+----+-------+
//!  |  zspage      |  object        |  slack           | generation |state|move| pins  |   live, dead
//!  |                 content: 44 bits                 |   9 bits   |  2  |  1 | 8 bits|
//!  +--------------------------------------------------+------------+-----+----+-------+
//!  |  zspage      |  object        |  what it was     |            |park |      0     |   parked: see `spares`
//!  +--------------------------------------------------+------------+-----+------------+
//!  |              index of the next free slot + 1     |            |free |      0     |   free
//!  +--------------------------------------------------+------------+-----+------------+
//! ```
//!
//! How the content is split depends on the pool's classes: see [`Layout`].
//!
//! # The protocol
//!
//! ```text
//!          publish          free            last unpin
//!   free ───────────► live ───────► dead ─────────────► free        whoever makes the last step gives the object's bytes back
//! ```
//!
//! - A reader announces itself elsewhere and looks at the word, if that has no pins: see `readers`. Else it pins by compare-exchange of the whole word (live,
//!   its generation, pins + 1): where the object is and that it stays there are read in one step. It unpins by subtracting.
//! - `free` exchanges a live word for a dead one with a pin of its own, turns announcements into pins, and takes its pin back. Whoever does so last takes
//!   the object down: mostly the free itself, which then has the word alone and need not exchange it again. Nobody pins a dead word.
//! - The pins of readers are counted up to [`MAX_PINS`](word::MAX_PINS). Readers beyond that share
//!   one more pin: see `overflow`.
//! - Compaction has no state of its own, but a pin of its own, the bit `move`. It pins an object
//!   that no reader has pinned or announced, copies it, and exchanges (old place, its pin) for (new
//!   place, no pin). If a reader pinned it or its owner freed it meanwhile, the exchange fails, and
//!   the copy is forgotten.
//! - An exchange of two handles' objects: see `exchange`. It makes one word dead for a moment, and moves the other object as compaction does.
//! - A free slot may be parked: it keeps the place of the object that is gone, still claimed, and whoever takes it publishes the next object there.
//! - The content is only interpreted by whoever's exchange succeeded, so it does not matter if the word was the same before, in another life (ABA).
//!
//! # Orderings
//!
//! | step | ordering | pairs with |
//! |---|---|---|
//! | publish | Release | pin's Acquire: the bytes are in place |
//! | pin, idle pin | Acquire | publish, move: the bytes where the content says |
//! | unpin | Release | the Acquire of free, of move, or of the last unpin: the reader's reads come before whoever reuses the bytes |
//! | look | SeqCst | publish, move, as a pin; free and idle pins: see `readers` |
//! | free, idle pin (of compaction, of an exchange) | SeqCst | look; as Acquire: unpin; publish, for an owner on another thread |
//! | retract | SeqCst | look; as Acquire: unpin; publish, for an owner on another thread |
//! | restore | Release | as a publication |
//! | last unpin of a dead word | Acquire load | the other readers' unpins |
//! | move | Acquire and Release | unpins before it: the old place may be reused; pins after it: the new one is filled |
//!
//! All steps are read-modify-writes but publish and restore, so the release sequence of a step runs through all later ones until the next of these, whose thread has
//! seen all before it.

mod exchange;
mod free;
mod layout;
mod moves;
mod pins;
mod word;

use core::fmt;

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

pub use self::exchange::{Exchanged, exchange};
pub use self::free::{Freed, Killed, Settled};
pub(crate) use self::layout::{Layout, Location};
pub use self::moves::NotIdle;
pub use self::pins::{Pinned, Unpinned};

#[cfg(all(test, not(zpool_loom)))]
pub(crate) use self::word::MAX_PINS;
use self::word::{DEAD, FREE, LIVE, PARKED, Word};

/// Where an object is and how long, or for a free slot the link to the next one. [`Layout`] packs and unpacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content(pub u64);

/// The word of one handle.
#[derive(Default)]
pub struct Slot(AtomicU64);

/// A slot with what its handle says.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The slot.
    pub slot: &'a Slot,
    /// Its own index.
    pub index: u32,
    /// Of the object's life that is meant.
    pub generation: u16,
}

impl Slot {
    /// Makes a free slot, which the caller owns, the name of an object whose bytes are in place. Gives the generation for its handle.
    pub fn publish(&self, content: Content) -> u16 {
        // Relaxed: the slot is the caller's alone.
        let generation = Word(self.0.load(Ordering::Relaxed)).generation();
        // Release: pairs with the Acquire of `pin`.
        self.0.store(Word::new(content.0, u64::from(generation), LIVE, 0).0, Ordering::Release);
        generation
    }

    /// What is in the slot now: for walks over the table. Nothing keeps it so.
    pub(crate) fn peek(&self) -> Peeked {
        // Relaxed: a snapshot that its reader distrusts.
        let word = Word(self.0.load(Ordering::Relaxed));
        match word.state() {
            LIVE => Peeked::Live { content: word.content(), pins: word.pins() as u32 },
            DEAD => Peeked::Dead { content: word.content(), pins: word.pins() as u32 },
            _ => Peeked::Free,
        }
    }

    /// The link of a free slot, which the caller's lock protects.
    pub(crate) fn link(&self) -> u32 {
        // Relaxed: ordered by the lock of the free list.
        Word(self.0.load(Ordering::Relaxed)).content().0 as u32
    }

    /// Makes the slot, which the caller owns and whose object is gone, free with this link. Keeps its generation.
    pub(crate) fn set_link(&self, link: u32) {
        // Relaxed: the slot is the caller's, and the free list's lock passes it on.
        let generation = u64::from(Word(self.0.load(Ordering::Relaxed)).generation());
        self.0.store(Word::new(u64::from(link), generation, FREE, 0).0, Ordering::Relaxed);
    }

    /// Makes the slot, which the caller owns and whose object is gone, say where a claimed slot of a zspage is, for the next object. Keeps its generation.
    #[inline]
    pub fn set_parked(&self, content: Content) {
        // Relaxed: the slot is the caller's, and whoever passes it on orders that.
        let generation = u64::from(Word(self.0.load(Ordering::Relaxed)).generation());
        self.0.store(Word::new(content.0, generation, PARKED, 0).0, Ordering::Relaxed);
    }

    /// What a parked slot, which the caller owns, says.
    #[inline]
    pub fn parked(&self) -> Content {
        // Relaxed: as above.
        let word = Word(self.0.load(Ordering::Relaxed));
        debug_assert!(word.state() == PARKED && word.holds() == 0, "not parked: {word:?}");
        word.content()
    }

    #[inline]
    fn exchange_weak(&self, current: Word, new: Word, success: Ordering) -> Result<(), Word> {
        // Relaxed on failure: a new guess.
        match self.0.compare_exchange_weak(current.0, new.0, success, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(seen) => Err(Word(seen)),
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Word(self.0.load(Ordering::Relaxed)).fmt(f)
    }
}

/// A slot as a walk over the table sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peeked {
    Free,
    Live { content: Content, pins: u32 },
    Dead { content: Content, pins: u32 },
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use zpool_core::PoolError;

    use super::word::GENERATION_BITS;
    use super::*;
    use crate::readers::Readers;

    fn free(slot: &Slot, generation: u16) -> Result<Freed, PoolError> {
        slot.free(generation, 0, &Readers::new())
    }

    fn pin(slot: &Slot, generation: u16) -> Result<Content, PoolError> {
        slot.pin(generation).map(|pinned| pinned.content)
    }

    fn unpin(slot: &Slot) -> Option<Content> {
        slot.unpin().dead
    }

    #[test]
    fn a_life_and_the_next() {
        let slot = Slot::default();
        let first = slot.publish(Content(77));
        assert_eq!(pin(&slot, first), Ok(Content(77)));
        assert_eq!(pin(&slot, first), Ok(Content(77)));
        assert_eq!(free(&slot, first), Ok(Freed::Later));
        assert_eq!(
            (pin(&slot, first), free(&slot, first)),
            (Err(PoolError::StaleHandle), Err(PoolError::StaleHandle))
        );
        assert_eq!((unpin(&slot), unpin(&slot)), (None, Some(Content(77))));
        slot.set_link(9);
        assert_eq!(slot.link(), 9);
        let second = slot.publish(Content(5));
        assert_ne!(first, second);
        assert_eq!(pin(&slot, first), Err(PoolError::StaleHandle));
        assert_eq!(free(&slot, second), Ok(Freed::Now(Content(5))));
        assert_eq!(free(&slot, second), Err(PoolError::StaleHandle));
    }

    /// A handle from outside may say a generation with bits that no word has room for: it names
    /// nothing.
    #[test]
    fn pin_of_too_large_generation_is_stale() {
        let slot = Slot::default();
        let generation = slot.publish(Content(5));
        for bit in GENERATION_BITS..16 {
            let forged = generation | 1 << bit;
            assert_eq!(pin(&slot, forged), Err(PoolError::StaleHandle));
            assert_eq!(free(&slot, forged), Err(PoolError::StaleHandle));
            assert_eq!(
                (slot.look(forged), slot.share(forged)),
                (None, Err(PoolError::StaleHandle))
            );
            assert_eq!(slot.pin_idle(Some(forged)), Err(NotIdle::Gone));
        }
        assert_eq!(slot.look(generation), Some(Content(5)));
    }
}
