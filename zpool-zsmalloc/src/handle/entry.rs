//! A handle's entry: one word that says where the object is, and the protocol of pins on it.
//!
//! ```text
//!   63                                              20 19        11 10  9  8   7     0
//!  +--------------------------------------------------+------------+-----+----+-------+
//!  |  zspage      |  slot          |  slack           | generation |state|move| pins  | live, dead
//!  |             packed location: 44 bits             |   9 bits   |  2  |  1 | 8 bits|
//!  +--------------------------------------------------+------------+-----+----+-------+
//!  |  zspage      |  slot          |  previous slack  |            |cache|      0     |  cached
//!  +--------------------------------------------------+------------+-----+------------+
//!  |             index of the next free entry + 1     |            |free |      0     |  free
//!  +--------------------------------------------------+------------+-----+------------+
//! ```
//!
//! [`LocationLayout`] splits the location according to the pool's classes. A cached entry is in a
//! magazine: see `class::magazines`.
//!
//! # The protocol
//!
//! ```text
//!          set_live            kill          last unpin
//!   free ───────────► live ───────► dead ─────────────► free
//! ```
//!
//! The thread that takes the last step releases the object's slot.
//!
//! - **Read.** A reader publishes a hazard and looks at the word, if that has no pins: see
//!   `hazards`. Otherwise it pins: it compares and exchanges the whole word (live, its generation,
//!   pins + 1). So one step reads where the object is and keeps it there. An unpin subtracts.
//! - **Free.** `kill` exchanges a live word for a dead one with a pin of its own. The free then
//!   converts hazards into pins and takes its pin back. If it has the word alone, as it mostly
//!   does, no further exchange is needed. A dead word cannot be pinned.
//! - **Many readers.** Pins of readers are counted up to [`MAX_PINS`](word::MAX_PINS). Readers
//!   beyond that share one more pin: see `shared_pins`.
//! - **Move.** Compaction has no state of its own, but a pin of its own, the bit `move`. It pins an
//!   object without pin or hazard, copies it, and exchanges (old place, its pin) for (new place, no
//!   pin). If a reader pinned the object meanwhile or its owner freed it, then the exchange fails
//!   and the copy is discarded.
//! - **Exchange** of two handles' objects: see `exchange`. It makes one word dead for a moment, and
//!   moves the other object as compaction does.
//! - **Cache.** A free entry may be cached: it keeps the place of the object that is gone, still
//!   claimed, and the next object is published there.
//! - **ABA.** A thread interprets the location only after its exchange succeeded, so it does not
//!   matter whether the word had the same value in another life.
//!
//! # Orderings
//!
//! | step | ordering | pairs with |
//! |---|---|---|
//! | set live | Release | the Acquire of a pin: the bytes are in place |
//! | pin, idle pin | Acquire | set live, move: the bytes are where the location says |
//! | unpin | Release | the Acquire of free, move, or the last unpin: reads precede reuse |
//! | read if idle | SeqCst | set live and move, as a pin; kill and idle pin: see `hazards` |
//! | kill, idle pin | SeqCst | read if idle; as Acquire: unpin, and set live on another thread |
//! | retract | SeqCst | read if idle; as Acquire: unpin, and set live on another thread |
//! | restore | Release | as set live |
//! | last unpin of a dead word | Acquire load | the other readers' unpins |
//! | move | Acquire, Release | unpins before it: reads of the old place; pins after it: the copy |
//!
//! All steps that write, except `set_live` and `restore`, are read-modify-writes. So the release
//! sequence of a step continues through all later ones until the next of these two, whose thread
//! has seen all of them.

mod exchange;
mod free;
mod location;
mod moves;
mod pins;
mod word;

use core::fmt;

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

pub use self::exchange::{ExchangeOutcome, exchange};
pub use self::free::{Freed, Killed, Settled};
pub(crate) use self::location::{Location, LocationLayout};
pub use self::moves::NotIdle;
pub use self::pins::{ReaderPin, Unpinned};

#[cfg(all(test, not(zpool_loom)))]
pub(crate) use self::word::MAX_PINS;
use self::word::{CACHED, DEAD, EntryWord, FREE, LIVE};

/// Location and slack of an object as bits, or for a free entry the link to the next one.
/// [`LocationLayout`] packs and unpacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLocation(pub u64);

/// The word of one handle.
#[derive(Default)]
pub struct HandleEntry(AtomicU64);

/// An entry, with the object's life that a handle names.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// The entry.
    pub entry: &'a HandleEntry,
    /// Its index.
    pub index: u32,
    /// The generation of the handle.
    pub generation: u16,
}

impl HandleEntry {
    /// Makes a free entry, which the caller owns, name an object whose bytes are in place. Returns
    /// the generation for its handle.
    pub fn set_live(&self, location: PackedLocation) -> u16 {
        // Relaxed: the entry is the caller's alone.
        let generation = EntryWord(self.0.load(Ordering::Relaxed)).generation();
        let word = EntryWord::new(location.0, u64::from(generation), LIVE, 0);
        // Release: pairs with the Acquire of `pin`.
        self.0.store(word.0, Ordering::Release);
        generation
    }

    /// Returns the entry's state now, for walks over the table. Nothing keeps it so.
    pub(crate) fn snapshot(&self) -> EntrySnapshot {
        // Relaxed: the caller expects that the word changes.
        let word = EntryWord(self.0.load(Ordering::Relaxed));
        match word.state() {
            LIVE => EntrySnapshot::Live { location: word.location(), pins: word.pins() as u32 },
            DEAD => EntrySnapshot::Dead { location: word.location(), pins: word.pins() as u32 },
            _ => EntrySnapshot::Free,
        }
    }

    /// Returns the link of a free entry. The lock of the caller's free list protects it.
    pub(crate) fn link(&self) -> u32 {
        // Relaxed: ordered by the lock of the free list.
        EntryWord(self.0.load(Ordering::Relaxed)).location().0 as u32
    }

    /// Makes the entry, which the caller owns and whose object is gone, free with this link. Keeps
    /// its generation.
    pub(crate) fn set_free(&self, link: u32) {
        // Relaxed: the entry is the caller's, and the lock of the free list passes it on.
        let generation = u64::from(EntryWord(self.0.load(Ordering::Relaxed)).generation());
        self.0.store(EntryWord::new(u64::from(link), generation, FREE, 0).0, Ordering::Relaxed);
    }

    /// Makes the entry, which the caller owns and whose object is gone, say where a claimed slot
    /// is, for the next object. Keeps its generation.
    #[inline]
    pub fn set_cached(&self, location: PackedLocation) {
        // Relaxed: the entry is the caller's; the magazine that passes it on orders this.
        let generation = u64::from(EntryWord(self.0.load(Ordering::Relaxed)).generation());
        self.0.store(EntryWord::new(location.0, generation, CACHED, 0).0, Ordering::Relaxed);
    }

    /// Returns the location of a cached entry, which the caller owns.
    #[inline]
    pub fn cached(&self) -> PackedLocation {
        // Relaxed: as in `set_cached`.
        let word = EntryWord(self.0.load(Ordering::Relaxed));
        debug_assert!(word.state() == CACHED && word.pin_bits() == 0, "not cached: {word:?}");
        word.location()
    }

    #[inline]
    fn exchange_weak(
        &self,
        current: EntryWord,
        new: EntryWord,
        success: Ordering,
    ) -> Result<(), EntryWord> {
        // Relaxed on failure: the caller guesses again.
        match self.0.compare_exchange_weak(current.0, new.0, success, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(seen) => Err(EntryWord(seen)),
        }
    }
}

impl fmt::Debug for HandleEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EntryWord(self.0.load(Ordering::Relaxed)).fmt(f)
    }
}

/// An entry as a walk over the table sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntrySnapshot {
    /// Without an object: free or cached.
    Free,
    Live {
        location: PackedLocation,
        pins: u32,
    },
    Dead {
        location: PackedLocation,
        pins: u32,
    },
}

impl EntrySnapshot {
    /// Returns the location of the object that the entry names. A dead entry names its object as
    /// long as a pin is left. Without one, a free is about to release the slot, or an exchange has
    /// made another entry name the object.
    pub(crate) fn named(self) -> Option<PackedLocation> {
        match self {
            EntrySnapshot::Live { location, .. } => Some(location),
            EntrySnapshot::Dead { location, pins } if pins > 0 => Some(location),
            _ => None,
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use zpool_core::PoolError;

    use super::word::GENERATION_BITS;
    use super::*;
    use crate::handle::hazards::HazardTable;

    fn free(entry: &HandleEntry, generation: u16) -> Result<Freed, PoolError> {
        entry.free(generation, 0, &HazardTable::new())
    }

    fn pin(entry: &HandleEntry, generation: u16) -> Result<PackedLocation, PoolError> {
        entry.pin(generation).map(|pinned| pinned.location)
    }

    fn unpin(entry: &HandleEntry) -> Option<PackedLocation> {
        entry.unpin().dead
    }

    /// An entry lives through two objects: a handle of the first one is stale in the second life.
    #[test]
    fn second_life_refuses_first_handle() {
        let entry = HandleEntry::default();
        let first = entry.set_live(PackedLocation(77));
        assert_eq!(pin(&entry, first), Ok(PackedLocation(77)));
        assert_eq!(pin(&entry, first), Ok(PackedLocation(77)));
        assert_eq!(free(&entry, first), Ok(Freed::Later));
        assert_eq!(
            (pin(&entry, first), free(&entry, first)),
            (Err(PoolError::StaleHandle), Err(PoolError::StaleHandle))
        );
        assert_eq!((unpin(&entry), unpin(&entry)), (None, Some(PackedLocation(77))));
        entry.set_free(9);
        assert_eq!(entry.link(), 9);
        let second = entry.set_live(PackedLocation(5));
        assert_ne!(first, second);
        assert_eq!(pin(&entry, first), Err(PoolError::StaleHandle));
        assert_eq!(free(&entry, second), Ok(Freed::Now(PackedLocation(5))));
        assert_eq!(free(&entry, second), Err(PoolError::StaleHandle));
    }

    /// A handle from outside may have a generation with bits that no word has room for. It names
    /// nothing.
    #[test]
    fn pin_of_too_large_generation_is_stale() {
        let entry = HandleEntry::default();
        let generation = entry.set_live(PackedLocation(5));
        for bit in GENERATION_BITS..16 {
            let forged = generation | 1 << bit;
            assert_eq!(pin(&entry, forged), Err(PoolError::StaleHandle));
            assert_eq!(free(&entry, forged), Err(PoolError::StaleHandle));
            assert_eq!(
                (entry.location_if_idle(forged), entry.share(forged)),
                (None, Err(PoolError::StaleHandle))
            );
            assert_eq!(entry.pin_idle(Some(forged)), Err(NotIdle::Gone));
        }
        assert_eq!(entry.location_if_idle(generation), Some(PackedLocation(5)));
    }

    /// A dead entry names its object exactly as long as it is pinned.
    #[test]
    fn dead_entry_names_object_while_pinned() {
        let location = PackedLocation(7);
        assert_eq!(EntrySnapshot::Free.named(), None);
        for pins in [0, 1, 3] {
            assert_eq!(EntrySnapshot::Live { location, pins }.named(), Some(location));
            let dead = EntrySnapshot::Dead { location, pins };
            assert_eq!(dead.named(), (pins > 0).then_some(location));
        }
    }
}
