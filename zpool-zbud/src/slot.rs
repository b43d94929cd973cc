//! A slot: all that is known of one buddy, in one word.
//!
//! ```text
//!   63            48 47            32 31 30 29      18 17                0
//!  +----------------+----------------+-----+----------+------------------+
//!  |   generation   |      pins      |state|  unused  |  bytes, less 1   |
//!  +----------------+----------------+-----+----------+------------------+
//!
//!   Free ──fill──► Filling ──publish──► Live ──kill, no pins──► Free, next generation
//!    ▲                │                  │                       ▲
//!    └────abandon─────┘                  └──kill, pinned──► Zombie ──last unpin, bury
//! ```
//!
//! `fill`, `abandon`, `kill` and `bury` run under the pool's lock, so the slot agrees with the page's chunks whenever that is held. `publish`, `pin` and `unpin`
//! take no lock: a reader needs this word only, because where the object lies follows from the slot's number and the length.

use core::fmt;

use zpool_core::PoolError;
use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

use crate::geometry::MAX_PAGE;

const LEN_BITS: u32 = 18;
const STATE_SHIFT: u32 = 30;
const PINS_SHIFT: u32 = 32;
const GENERATION_SHIFT: u32 = 48;
const PIN: u64 = 1 << PINS_SHIFT;
const MAX_PINS: u64 = (1 << (GENERATION_SHIFT - PINS_SHIFT)) - 1;

const _: () =
    assert!(MAX_PAGE == 1 << LEN_BITS, "the length of the largest object, less 1, fits its field");
const _: () = assert!(LEN_BITS <= STATE_SHIFT, "the fields do not overlap");

/// One word a slot.
pub(crate) struct Slot(AtomicU64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No object.
    Free,
    /// Its place is taken and being written; there is no handle yet.
    Filling,
    /// It has a handle.
    Live,
    /// Freed while guards hold it.
    Zombie,
}

/// A slot's word, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: State,
    pub(crate) generation: u16,
    pub(crate) pins: u64,
    /// Bytes of the object; means nothing while the slot is free.
    pub(crate) len: usize,
}

/// What a free made of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    /// Nobody looks: its `len` bytes can be used again.
    Gone {
        len: usize,
    },
    Zombie,
}

impl Slot {
    pub(crate) fn new() -> Slot {
        Slot(AtomicU64::new(0))
    }

    pub(crate) fn word(&self) -> Word {
        // Relaxed: whoever acts on it holds the pool's lock, or compares again.
        Word::decode(self.0.load(Ordering::Relaxed))
    }

    /// Takes a free slot for an object of `len` bytes. Under the pool's lock.
    pub(crate) fn fill(&self, len: usize) {
        let word = self.word();
        debug_assert_eq!((word.state, word.pins), (State::Free, 0), "a slot is taken once");
        debug_assert!((1..=MAX_PAGE).contains(&len), "{len} bytes");
        // Relaxed: the lock orders this before whoever looks under it, and readers refuse a slot that is not live.
        self.0.store(Word { state: State::Filling, len, ..word }.encode(), Ordering::Relaxed);
    }

    /// The object's bytes are in place: makes it live, and tells in which generation.
    pub(crate) fn publish(&self) -> u16 {
        let word = self.word();
        debug_assert_eq!(
            (word.state, word.pins),
            (State::Filling, 0),
            "only its own insert publishes a slot"
        );
        // Release: pairs with the Acquire in pin(): who pins the object sees its bytes.
        self.0.store(Word { state: State::Live, ..word }.encode(), Ordering::Release);
        word.generation
    }

    /// The insert failed. Under the pool's lock.
    pub(crate) fn abandon(&self) {
        let word = self.word();
        debug_assert_eq!(
            (word.state, word.pins),
            (State::Filling, 0),
            "only its own insert abandons a slot"
        );
        // Relaxed: as in fill(). The generation stays: no handle was made.
        self.0.store(Word { state: State::Free, ..word }.encode(), Ordering::Relaxed);
    }

    /// Pins the live object of this generation and gives its length.
    #[inline]
    pub(crate) fn pin(&self, generation: u16) -> Result<usize, PoolError> {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let word = Word::decode(bits);
            if word.state != State::Live || word.generation != generation {
                return Err(PoolError::StaleHandle);
            }
            if word.pins == MAX_PINS {
                return Err(PoolError::TooManyReaders);
            }
            // Acquire: pairs with the Release in publish(). A compare that succeeds saw the very word that it decoded, so the object is the handle's (but for a
            // generation that came round), and from here on kill() finds the pin.
            match self.0.compare_exchange_weak(
                bits,
                bits + PIN,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(word.len),
                Err(now) => bits = now,
            }
        }
    }

    /// Takes back a pin. True when it was the last one of a zombie: then the caller buries it.
    #[inline]
    pub(crate) fn unpin(&self) -> bool {
        // Release: what was read is read before whoever finds no pin left uses the bytes again (kill, or the last unpin).
        // Acquire: the last one of a zombie passes on what the others released.
        let before = Word::decode(self.0.fetch_sub(PIN, Ordering::AcqRel));
        debug_assert!(before.pins > 0, "an unpin without a pin: {before:?}");
        before.state == State::Zombie && before.pins == 1
    }

    /// Ends the live object of this generation. Under the pool's lock.
    pub(crate) fn kill(&self, generation: u16) -> Result<Killed, PoolError> {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let word = Word::decode(bits);
            if word.state != State::Live || word.generation != generation {
                return Err(PoolError::StaleHandle);
            }
            let (to, killed) = if word.pins == 0 {
                (word.freed(), Killed::Gone { len: word.len })
            } else {
                (Word { state: State::Zombie, ..word }, Killed::Zombie)
            };
            // Acquire: pairs with the Release in unpin(): past readers are done with the bytes. Weak would do as well; readers race with it.
            match self.0.compare_exchange_weak(
                bits,
                to.encode(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(killed),
                Err(now) => bits = now,
            }
        }
    }

    /// Frees the slot of a zombie that nobody holds any more, and gives the object's length. Under the pool's lock, once.
    pub(crate) fn bury(&self) -> usize {
        let word = self.word();
        debug_assert_eq!((word.state, word.pins), (State::Zombie, 0), "buried by its last guard");
        // Relaxed: as in fill(); nobody can pin a zombie, so the word does not change under us.
        self.0.store(word.freed().encode(), Ordering::Relaxed);
        word.len
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.word().fmt(f)
    }
}

impl Word {
    fn freed(self) -> Word {
        Word { state: State::Free, generation: self.generation.wrapping_add(1), ..self }
    }

    #[inline]
    fn decode(bits: u64) -> Word {
        let state = match bits >> STATE_SHIFT & 3 {
            0 => State::Free,
            1 => State::Filling,
            2 => State::Live,
            _ => State::Zombie,
        };
        Word {
            state,
            generation: (bits >> GENERATION_SHIFT) as u16,
            pins: bits >> PINS_SHIFT & MAX_PINS,
            len: (bits & ((1 << LEN_BITS) - 1)) as usize + 1,
        }
    }

    #[inline]
    fn encode(self) -> u64 {
        let state = match self.state {
            State::Free => 0,
            State::Filling => 1,
            State::Live => 2,
            State::Zombie => 3,
        };
        u64::from(self.generation) << GENERATION_SHIFT
            | self.pins << PINS_SHIFT
            | state << STATE_SHIFT
            | (self.len as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(len: usize) -> (Slot, u16) {
        let slot = Slot::new();
        slot.fill(len);
        let generation = slot.publish();
        (slot, generation)
    }

    #[test]
    fn a_word_survives_its_encoding() {
        for state in [State::Free, State::Filling, State::Live, State::Zombie] {
            for (generation, pins, len) in [(0, 0, 1), (u16::MAX, MAX_PINS, MAX_PAGE), (7, 3, 4095)]
            {
                let word = Word { state, generation, pins, len };
                assert_eq!(Word::decode(word.encode()), word);
            }
        }
    }

    #[test]
    fn only_a_live_slot_of_that_generation_is_pinned_or_killed() {
        let slot = Slot::new();
        assert_eq!(slot.pin(0), Err(PoolError::StaleHandle));
        slot.fill(5);
        assert_eq!(
            (slot.pin(0), slot.kill(0)),
            (Err(PoolError::StaleHandle), Err(PoolError::StaleHandle))
        );
        slot.publish();
        assert_eq!(
            (slot.pin(1), slot.kill(1)),
            (Err(PoolError::StaleHandle), Err(PoolError::StaleHandle))
        );
        assert_eq!(slot.pin(0), Ok(5));
    }

    #[test]
    fn a_kill_under_pins_waits_for_the_last_one() {
        let (slot, generation) = live(9);
        slot.pin(generation).unwrap();
        slot.pin(generation).unwrap();
        assert_eq!(slot.kill(generation), Ok(Killed::Zombie));
        assert_eq!(slot.kill(generation), Err(PoolError::StaleHandle));
        assert_eq!((slot.unpin(), slot.unpin(), slot.bury()), (false, true, 9));
        assert_eq!((slot.word().state, slot.word().generation), (State::Free, generation + 1));
    }

    #[test]
    fn pins_are_counted_up_to_the_limit_and_leave_their_neighbours_alone() {
        let (slot, generation) = live(MAX_PAGE);
        for _ in 0..MAX_PINS {
            slot.pin(generation).unwrap();
        }
        assert_eq!(slot.pin(generation), Err(PoolError::TooManyReaders));
        assert_eq!((slot.unpin(), slot.pin(generation)), (false, Ok(MAX_PAGE)));
        assert_eq!(
            slot.word(),
            Word { state: State::Live, generation, pins: MAX_PINS, len: MAX_PAGE }
        );
    }

    #[test]
    fn generations_wrap() {
        let slot = Slot::new();
        for expected in (0..=u16::MAX).chain([0, 1]) {
            slot.fill(1);
            assert_eq!(slot.publish(), expected);
            assert_eq!(slot.kill(expected), Ok(Killed::Gone { len: 1 }));
        }
    }
}
