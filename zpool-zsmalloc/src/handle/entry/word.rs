//! The bits of an entry's word: location, generation, state and pins.

use core::fmt;

use super::PackedLocation;
use crate::handle::hazards::MAX_HAZARDS;

/// Pins of readers, and above them the mover's.
pub(super) const PIN_BITS: u32 = 9;
pub(super) const READER_BITS: u32 = PIN_BITS - 1;
/// The pin of compaction or of an exchange.
pub(super) const MOVER: u64 = 1 << READER_BITS;
pub(super) const STATE_BITS: u32 = 2;
pub(super) const GENERATION_BITS: u32 = 9;
pub(super) const LOCATION_BITS: u32 = 44;
const _: () =
    assert!(PIN_BITS + STATE_BITS + GENERATION_BITS + LOCATION_BITS == u64::BITS, "one word");
const _: () = assert!(LOCATION_BITS > u32::BITS, "a free entry's link fits the location");

pub(super) const STATE_SHIFT: u32 = PIN_BITS;
pub(super) const GENERATION_SHIFT: u32 = STATE_SHIFT + STATE_BITS;
pub(super) const LOCATION_SHIFT: u32 = GENERATION_SHIFT + GENERATION_BITS;

/// All pins.
pub(super) const PIN_MASK: u64 = (1 << PIN_BITS) - 1;
/// State and generation.
pub(super) const LIFE_MASK: u64 = (1 << LOCATION_SHIFT) - 1 - PIN_MASK;

/// The most pins of readers on one object, each of its own. Further readers share one: see
/// `shared_pins`. Converted hazards come on top.
pub(crate) const MAX_PINS: u64 = 128;
const _: () = assert!(
    MAX_PINS + 1 + MAX_HAZARDS + 1 < MOVER,
    "the shared pin, converted hazards and the pin of a free fit below the mover's bit"
);

pub(super) const FREE: u64 = 0;
pub(super) const LIVE: u64 = 1;
pub(super) const DEAD: u64 = 2;
pub(super) const CACHED: u64 = 3;

/// The value of an entry's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryWord(pub(super) u64);

impl EntryWord {
    pub(super) fn new(location: u64, generation: u64, state: u64, pins: u64) -> EntryWord {
        EntryWord(
            location << LOCATION_SHIFT
                | generation << GENERATION_SHIFT
                | state << STATE_SHIFT
                | pins,
        )
    }
    /// Counts the pins of readers and of a free.
    pub(super) fn pins(self) -> u64 {
        self.0 & (MOVER - 1)
    }
    /// Returns all pins, the mover's included: not a count, but 0 if there is none.
    pub(super) fn pin_bits(self) -> u64 {
        self.0 & PIN_MASK
    }
    pub(super) fn state(self) -> u64 {
        self.0 >> STATE_SHIFT & ((1 << STATE_BITS) - 1)
    }
    pub(super) fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16 & ((1 << GENERATION_BITS) - 1)
    }
    pub(super) fn location(self) -> PackedLocation {
        PackedLocation(self.0 >> LOCATION_SHIFT)
    }
    pub(super) fn is_live(self, generation: u16) -> bool {
        // State and generation at once. A forged handle may have a generation that no word has.
        self.0 & LIFE_MASK == EntryWord::new(0, u64::from(generation), LIVE, 0).0
    }
    /// Returns whether the object is live in this generation, without any pin.
    pub(super) fn is_idle(self, generation: u16) -> bool {
        self.0 & (LIFE_MASK | PIN_MASK) == EntryWord::new(0, u64::from(generation), LIVE, 0).0
    }
    /// Returns the generation of the entry's next life.
    pub(super) fn next_generation(self) -> u64 {
        (u64::from(self.generation()) + 1) & ((1 << GENERATION_BITS) - 1)
    }
}

impl fmt::Debug for EntryWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = ["free", "live", "dead", "cached"][self.state() as usize];
        write!(f, "{state} gen {} pins {} {:?}", self.generation(), self.pins(), self.location())
    }
}
