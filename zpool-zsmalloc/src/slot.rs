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
//! - The pins of readers are counted up to [`MAX_PINS`]. Readers beyond that share one more pin: see `overflow`.
//! - Compaction has no state of its own, but a pin of its own, the bit `move`. It pins an object that no reader has pinned or announced, copies it, and exchanges
//!   (old place, its pin) for (new place, no pin). If a reader pinned it or its owner freed it meanwhile, the exchange fails, and the copy is forgotten.
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
mod layout;

use core::fmt;

use zpool_core::PoolError;
use zpool_core::sync::atomic::{AtomicU64, Ordering};

pub use self::exchange::{Exchanged, exchange};
pub(crate) use self::layout::{Layout, Location};
use crate::readers::MAX_ANNOUNCED;
#[cfg(any(test, zpool_loom))]
use crate::readers::Readers;

/// Pins of readers, and above them the mover's.
const PIN_BITS: u32 = 9;
const READER_BITS: u32 = PIN_BITS - 1;
/// The pin of compaction, or of an exchange.
const MOVER: u64 = 1 << READER_BITS;
const STATE_BITS: u32 = 2;
const GENERATION_BITS: u32 = 9;
const CONTENT_BITS: u32 = 44;
const _: () = assert!(PIN_BITS + STATE_BITS + GENERATION_BITS + CONTENT_BITS == u64::BITS, "one word");
const _: () = assert!(CONTENT_BITS > u32::BITS, "a free slot's link fits the content");

const STATE_SHIFT: u32 = PIN_BITS;
const GENERATION_SHIFT: u32 = STATE_SHIFT + STATE_BITS;
const CONTENT_SHIFT: u32 = GENERATION_SHIFT + GENERATION_BITS;

/// All pins.
const HOLDS_MASK: u64 = (1 << PIN_BITS) - 1;
/// State and generation.
const LIFE_MASK: u64 = (1 << CONTENT_SHIFT) - 1 - HOLDS_MASK;

/// Pins of readers on one object, each of its own. The others share one: see `overflow`. What is announced comes on top.
pub(crate) const MAX_PINS: u64 = 128;
const _: () = assert!(
    MAX_PINS + 1 + MAX_ANNOUNCED + 1 < MOVER,
    "readers beyond the limit share a pin, and a free pins, too, and turns announcements into pins"
);

const FREE: u64 = 0;
const LIVE: u64 = 1;
const DEAD: u64 = 2;
const PARKED: u64 = 3;

/// The value of a slot's word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn new(content: u64, generation: u64, state: u64, pins: u64) -> Word {
        Word(content << CONTENT_SHIFT | generation << GENERATION_SHIFT | state << STATE_SHIFT | pins)
    }
    /// Pins of readers, and of a free.
    fn pins(self) -> u64 {
        self.0 & (MOVER - 1)
    }
    /// All pins: not a count, but 0 if there is none.
    fn holds(self) -> u64 {
        self.0 & HOLDS_MASK
    }
    fn state(self) -> u64 {
        self.0 >> STATE_SHIFT & ((1 << STATE_BITS) - 1)
    }
    fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16 & ((1 << GENERATION_BITS) - 1)
    }
    fn content(self) -> Content {
        Content(self.0 >> CONTENT_SHIFT)
    }
    fn is_live(self, generation: u16) -> bool {
        // State and generation at once. A handle may say a generation that no word has.
        self.0 & LIFE_MASK == Word::new(0, u64::from(generation), LIVE, 0).0
    }
    /// Live in this life, and without a pin.
    fn is_idle(self, generation: u16) -> bool {
        self.0 & (LIFE_MASK | HOLDS_MASK) == Word::new(0, u64::from(generation), LIVE, 0).0
    }
    /// The generation of the slot's next life.
    fn next_generation(self) -> u64 {
        (u64::from(self.generation()) + 1) & ((1 << GENERATION_BITS) - 1)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = ["free", "live", "dead", "parked"][self.state() as usize];
        write!(f, "{state} gen {} pins {} {:?}", self.generation(), self.pins(), self.content())
    }
}

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

/// What [`Slot::free`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// The object is the caller's, to take down; the slot too.
    Now(Content),
    /// Guards hold the object: the last unpin takes it down.
    Later,
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

    /// Keeps the object where it is until [`unpin`](Self::unpin), and returns where that is.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`]; [`PoolError::TooManyReaders`] where this reader has to share a pin with others.
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

    /// Takes one pin of a reader back. If this was the last pin of a dead object, then the caller takes object and slot down.
    #[inline]
    pub fn unpin(&self) -> Unpinned {
        self.subtract(1)
    }

    /// Takes the mover's pin back, as [`unpin`](Self::unpin). Returns the content if the object was freed meanwhile and has no reader: then the caller takes it down.
    #[inline]
    pub fn unpin_mover(&self) -> Option<Content> {
        self.subtract(MOVER).dead
    }

    #[inline]
    fn subtract(&self, pin: u64) -> Unpinned {
        // Release: pairs with the Acquire of whoever reuses the bytes next.
        let before = Word(self.0.fetch_sub(pin, Ordering::Release));
        debug_assert!(before.holds() >= pin && before.state() != FREE, "unpinned without a pin: {before:?}");
        let last = pin == 1 && before.pins() == 1;
        let dead = before.holds() == pin && before.state() == DEAD;
        if dead {
            // Acquire: pairs with the Release of the other readers' unpins. A load and no fence: the thread sanitizer does not know fences.
            self.0.load(Ordering::Acquire);
        }
        Unpinned { dead: dead.then(|| before.content()), last }
    }

    /// Where the object of a pinned slot is.
    pub(crate) fn content(&self) -> Content {
        // Relaxed: it stays as long as the caller's pin.
        Word(self.0.load(Ordering::Relaxed)).content()
    }

    /// Where the object is, for a reader who has announced itself; `None` if it has to pin, or if there is no such object.
    #[inline]
    pub fn look(&self, generation: u16) -> Option<Content> {
        // SeqCst: after the announcement; as Acquire it pairs with publish and move.
        let word = Word(self.0.load(Ordering::SeqCst));
        word.is_idle(generation).then(|| word.content())
    }

    /// Ends the object's life for everybody: all steps of a free. `index` is the slot's own.
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

    /// The first step of a free: makes the word dead, with a pin of the caller's. The caller then turns announcements
    /// into pins, and [`settle`](Self::settle)s.
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
        // Acquire: pairs with the Release of the readers' unpins. With one pin the word is ours alone, since no reader
        // pins a dead word.
        Word(self.0.load(Ordering::Acquire)).holds() == 1
    }

    /// The last step of a free: takes back the pin of [`kill`](Self::kill), which returned `content`.
    #[inline]
    pub fn settle(&self, content: Content) -> Settled {
        if self.is_settled() {
            return Settled { freed: Freed::Now(content), pinned: false };
        }
        let Unpinned { dead, last } = self.unpin();
        Settled { freed: dead.map_or(Freed::Later, Freed::Now), pinned: !last }
    }

    /// Adds a pin on behalf of a reader who has announced itself, by whoever has one.
    pub(crate) fn add_pin(&self) {
        // Relaxed: the caller's own pin keeps the object; it tells the reader with an ordering of its own.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back what [`add_pin`](Self::add_pin) added: not the last one.
    pub(crate) fn drop_pin(&self) {
        // Relaxed: nothing was read under it.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The pin of compaction or of an exchange: only of a live object that nobody has pinned, of any generation or of this one. The caller then asks
    /// [`Readers::is_announced`], and [unpins](Self::unpin_mover) if so.
    ///
    /// # Errors
    ///
    /// Says whether the object is there, but pinned.
    pub fn pin_idle(&self, generation: Option<u16>) -> Result<Content, NotIdle> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = Word(self.0.load(Ordering::Relaxed));
        loop {
            let wanted = generation.unwrap_or(word.generation());
            if !word.is_idle(wanted) {
                return Err(if word.is_live(wanted) { NotIdle::Pinned } else { NotIdle::Gone });
            }
            match self.exchange_weak(word, Word(word.0 + MOVER), Ordering::SeqCst) {
                Ok(()) => return Ok(word.content()),
                Err(seen) => word = seen,
            }
        }
    }

    /// Exchanges the caller's pin on the object at `from` for its new place `to`, or for the object there. False, with the pin still held, if somebody
    /// else pinned or freed it.
    pub fn relocate(&self, from: Content, to: Content) -> bool {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = Word(self.0.load(Ordering::Relaxed));
        while word.state() == LIVE && word.holds() == MOVER {
            debug_assert_eq!(word.content(), from, "only its holder moves a pinned object");
            let next = Word::new(to.0, u64::from(word.generation()), LIVE, 0);
            match self.exchange_weak(word, next, Ordering::AcqRel) {
                Ok(()) => return true,
                Err(seen) => word = seen,
            }
        }
        false
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

/// Why [`Slot::pin_idle`] did not pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIdle {
    /// There is no live object.
    Gone,
    /// A guard holds it.
    Pinned,
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
    use super::*;

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

    /// A handle from outside may say a generation with bits that no word has room for: it names nothing.
    #[test]
    fn pin_of_too_large_generation_is_stale() {
        let slot = Slot::default();
        let generation = slot.publish(Content(5));
        for bit in GENERATION_BITS..16 {
            let forged = generation | 1 << bit;
            assert_eq!(pin(&slot, forged), Err(PoolError::StaleHandle));
            assert_eq!(free(&slot, forged), Err(PoolError::StaleHandle));
            assert_eq!((slot.look(forged), slot.share(forged)), (None, Err(PoolError::StaleHandle)));
            assert_eq!(slot.pin_idle(Some(forged)), Err(NotIdle::Gone));
        }
        assert_eq!(slot.look(generation), Some(Content(5)));
    }

    #[test]
    fn pins_are_counted_up_to_the_limit() {
        let slot = Slot::default();
        let generation = slot.publish(Content(1));
        for _ in 0..MAX_PINS {
            slot.pin(generation).unwrap();
        }
        assert_eq!(slot.pin(generation), Err(PoolError::TooManyReaders));
        assert_eq!(unpin(&slot), None);
        slot.pin(generation).unwrap();
    }

    #[test]
    fn a_move_succeeds_only_while_nobody_else_is_there() {
        let slot = Slot::default();
        let generation = slot.publish(Content(1));
        assert_eq!(slot.pin_idle(None), Ok(Content(1)));
        assert!(slot.relocate(Content(1), Content(2)));
        assert_eq!(pin(&slot, generation), Ok(Content(2)));
        assert_eq!(slot.pin_idle(None), Err(NotIdle::Pinned));
        slot.unpin();

        slot.pin_idle(None).unwrap();
        slot.pin(generation).unwrap();
        assert!(!slot.relocate(Content(2), Content(3)));
        assert_eq!((slot.unpin_mover(), unpin(&slot)), (None, None));

        slot.pin_idle(None).unwrap();
        assert_eq!(free(&slot, generation), Ok(Freed::Later));
        assert!(!slot.relocate(Content(2), Content(3)));
        assert_eq!(slot.unpin_mover(), Some(Content(2)), "the mover takes the freed object down");
        assert_eq!(slot.pin_idle(None), Err(NotIdle::Gone));
    }
}
