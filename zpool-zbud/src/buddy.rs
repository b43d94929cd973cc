//! A buddy: the state of one object, in one word.
//!
//! ```text
//!   63            48 47            32 31 30 29      18 17                0
//!  +----------------+----------------+-----+----------+------------------+
//!  |   generation   |      pins      |state|  unused  |  bytes, less 1   |
//!  +----------------+----------------+-----+----------+------------------+
//!
//!   Free ──claim──► Claimed ──set_live──► Live ──kill, no pins──► Free, next generation
//!    ▲                 │                   │                       ▲
//!    └─────cancel──────┘                   └──kill, pinned──► Zombie ──last unpin, finish_zombie
//! ```
//!
//! `claim`, `cancel`, `kill` and `finish_zombie` run under the pool's lock, so the word agrees with
//! the page's chunks whenever the lock is held. `set_live`, `pin` and `unpin` take no lock. A
//! reader needs only this word, because the buddy's number and the length determine where the
//! object lies.

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

/// The word of one buddy.
pub(crate) struct Buddy(AtomicU64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuddyState {
    /// No object.
    Free,
    /// Its bytes are being written; there is no handle yet.
    Claimed,
    /// It has a handle.
    Live,
    /// Freed while guards hold it.
    Zombie,
}

/// A buddy's word, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuddyWord {
    pub(crate) state: BuddyState,
    pub(crate) generation: u16,
    pub(crate) pins: u64,
    /// Bytes of the object. Meaningless while the buddy is free.
    pub(crate) len: usize,
}

/// Effect of a free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FreeOutcome {
    /// No reader holds it: its `len` bytes can be reused.
    Freed {
        len: usize,
    },
    Zombie,
}

impl Buddy {
    pub(crate) fn new() -> Buddy {
        Buddy(AtomicU64::new(0))
    }

    pub(crate) fn word(&self) -> BuddyWord {
        // Relaxed: a caller that acts on it holds the pool's lock, or compares again.
        BuddyWord::decode(self.0.load(Ordering::Relaxed))
    }

    /// Takes a free buddy for an object of `len` bytes. Under the pool's lock.
    pub(crate) fn claim(&self, len: usize) {
        let word = self.word();
        debug_assert_eq!((word.state, word.pins), (BuddyState::Free, 0), "a buddy is taken once");
        debug_assert!((1..=MAX_PAGE).contains(&len), "{len} bytes");
        // Relaxed: the lock orders this for all who look under it, and readers refuse a buddy that
        // is not live.
        self.0.store(
            BuddyWord { state: BuddyState::Claimed, len, ..word }.encode(),
            Ordering::Relaxed,
        );
    }

    /// Makes the object live, whose bytes are in place. Returns its generation.
    pub(crate) fn set_live(&self) -> u16 {
        let word = self.word();
        debug_assert_eq!(
            (word.state, word.pins),
            (BuddyState::Claimed, 0),
            "only its own insert publishes a buddy"
        );
        // Release: pairs with the Acquire in `pin`: a reader that pins the object sees its bytes.
        self.0.store(BuddyWord { state: BuddyState::Live, ..word }.encode(), Ordering::Release);
        word.generation
    }

    /// Frees the buddy of an insert that failed. Under the pool's lock.
    pub(crate) fn cancel(&self) {
        let word = self.word();
        debug_assert_eq!(
            (word.state, word.pins),
            (BuddyState::Claimed, 0),
            "only its own insert abandons a buddy"
        );
        // Relaxed: as in `claim`. The generation stays: no handle was made.
        self.0.store(BuddyWord { state: BuddyState::Free, ..word }.encode(), Ordering::Relaxed);
    }

    /// Pins the live object of this generation. Returns its length.
    #[inline]
    pub(crate) fn pin(&self, generation: u16) -> Result<usize, PoolError> {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let word = BuddyWord::decode(bits);
            if word.state != BuddyState::Live || word.generation != generation {
                return Err(PoolError::StaleHandle);
            }
            if word.pins == MAX_PINS {
                return Err(PoolError::TooManyReaders);
            }
            // Acquire: pairs with the Release in `set_live`. A compare that succeeds saw the very
            // word that was decoded, so the object is the handle's (unless the generation has
            // wrapped), and from here on `kill` finds the pin.
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

    /// Takes back a pin. Returns whether it was the last one of a zombie: then the caller
    /// [finishes](Self::finish_zombie) the free.
    #[inline]
    pub(crate) fn unpin(&self) -> bool {
        // Release: the reads come before reuse by the thread that finds no pin left (`kill`, or the
        // last unpin). Acquire: the last unpin of a zombie passes on what the others released.
        let before = BuddyWord::decode(self.0.fetch_sub(PIN, Ordering::AcqRel));
        debug_assert!(before.pins > 0, "an unpin without a pin: {before:?}");
        before.state == BuddyState::Zombie && before.pins == 1
    }

    /// Ends the live object of this generation. Under the pool's lock.
    pub(crate) fn kill(&self, generation: u16) -> Result<FreeOutcome, PoolError> {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let word = BuddyWord::decode(bits);
            if word.state != BuddyState::Live || word.generation != generation {
                return Err(PoolError::StaleHandle);
            }
            let (to, killed) = if word.pins == 0 {
                (word.freed(), FreeOutcome::Freed { len: word.len })
            } else {
                (BuddyWord { state: BuddyState::Zombie, ..word }, FreeOutcome::Zombie)
            };
            // Acquire: pairs with the Release in `unpin`: past readers are done with the bytes.
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

    /// Frees the buddy of a zombie whose last guard was dropped. Returns the object's length. Under
    /// the pool's lock, once.
    pub(crate) fn finish_zombie(&self) -> usize {
        let word = self.word();
        debug_assert_eq!(
            (word.state, word.pins),
            (BuddyState::Zombie, 0),
            "finished by its last guard"
        );
        // Relaxed: as in `claim`. A zombie cannot be pinned, so the word does not change.
        self.0.store(word.freed().encode(), Ordering::Relaxed);
        word.len
    }
}

impl fmt::Debug for Buddy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.word().fmt(f)
    }
}

impl BuddyWord {
    fn freed(self) -> BuddyWord {
        BuddyWord { state: BuddyState::Free, generation: self.generation.wrapping_add(1), ..self }
    }

    #[inline]
    fn decode(bits: u64) -> BuddyWord {
        let state = match bits >> STATE_SHIFT & 3 {
            0 => BuddyState::Free,
            1 => BuddyState::Claimed,
            2 => BuddyState::Live,
            _ => BuddyState::Zombie,
        };
        BuddyWord {
            state,
            generation: (bits >> GENERATION_SHIFT) as u16,
            pins: bits >> PINS_SHIFT & MAX_PINS,
            len: (bits & ((1 << LEN_BITS) - 1)) as usize + 1,
        }
    }

    #[inline]
    fn encode(self) -> u64 {
        let state = match self.state {
            BuddyState::Free => 0,
            BuddyState::Claimed => 1,
            BuddyState::Live => 2,
            BuddyState::Zombie => 3,
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

    fn live(len: usize) -> (Buddy, u16) {
        let buddy = Buddy::new();
        buddy.claim(len);
        let generation = buddy.set_live();
        (buddy, generation)
    }

    #[test]
    fn word_survives_its_encoding() {
        for state in [BuddyState::Free, BuddyState::Claimed, BuddyState::Live, BuddyState::Zombie] {
            for (generation, pins, len) in [(0, 0, 1), (u16::MAX, MAX_PINS, MAX_PAGE), (7, 3, 4095)]
            {
                let word = BuddyWord { state, generation, pins, len };
                assert_eq!(BuddyWord::decode(word.encode()), word);
            }
        }
    }

    /// Only a live buddy of the right generation can be pinned or killed.
    #[test]
    fn pin_and_kill_need_right_generation() {
        let buddy = Buddy::new();
        assert_eq!(buddy.pin(0), Err(PoolError::StaleHandle));
        buddy.claim(5);
        assert_eq!(
            (buddy.pin(0), buddy.kill(0)),
            (Err(PoolError::StaleHandle), Err(PoolError::StaleHandle))
        );
        buddy.set_live();
        assert_eq!(
            (buddy.pin(1), buddy.kill(1)),
            (Err(PoolError::StaleHandle), Err(PoolError::StaleHandle))
        );
        assert_eq!(buddy.pin(0), Ok(5));
    }

    /// A pinned object that is killed is a zombie until its last unpin.
    #[test]
    fn killed_object_is_zombie_until_last_unpin() {
        let (buddy, generation) = live(9);
        buddy.pin(generation).unwrap();
        buddy.pin(generation).unwrap();
        assert_eq!(buddy.kill(generation), Ok(FreeOutcome::Zombie));
        assert_eq!(buddy.kill(generation), Err(PoolError::StaleHandle));
        assert_eq!((buddy.unpin(), buddy.unpin(), buddy.finish_zombie()), (false, true, 9));
        assert_eq!(
            (buddy.word().state, buddy.word().generation),
            (BuddyState::Free, generation + 1)
        );
    }

    /// Pins are counted up to the limit, and do not spill into the bits next to them.
    #[test]
    fn pins_are_counted_up_to_the_limit() {
        let (buddy, generation) = live(MAX_PAGE);
        for _ in 0..MAX_PINS {
            buddy.pin(generation).unwrap();
        }
        assert_eq!(buddy.pin(generation), Err(PoolError::TooManyReaders));
        assert_eq!((buddy.unpin(), buddy.pin(generation)), (false, Ok(MAX_PAGE)));
        assert_eq!(
            buddy.word(),
            BuddyWord { state: BuddyState::Live, generation, pins: MAX_PINS, len: MAX_PAGE }
        );
    }

    #[test]
    fn generations_wrap() {
        let buddy = Buddy::new();
        for expected in (0..=u16::MAX).chain([0, 1]) {
            buddy.claim(1);
            assert_eq!(buddy.set_live(), expected);
            assert_eq!(buddy.kill(expected), Ok(FreeOutcome::Freed { len: 1 }));
        }
    }
}
