//! Where readers announce what they look at: a read writes to no memory that readers on other processors write to.
//!
//! ```text
//!   processor 0   | slot 17 |    -    |    -    |    -    |      a cache line each
//!   processor 1   |    -    | slot 17 |    -    |    -    |
//!                      ▲          ▲
//!   reader: announce ──┘          └── free, compaction: mark the word, then look through all places
//!           then look at the word        free: what is announced becomes a pin of the word; compaction: leaves the object alone
//! ```
//!
//! A pin in the word of a handle's slot would do alone, and does where no place is empty. But eight words share a cache line: threads that read objects of
//! one small pool would take these lines from each other at every other read.
//!
//! # The protocol
//!
//! A reader takes an empty place of its processor for the slot's index, *then* looks at the word. If it is live, of the handle's generation and
//! without pins, the announcement is as good as a pin. Whoever wants to end or move the object changes the word (dead, or pinned by the mover), *then* looks
//! through the places. One of the two sees the other: either the reader finds the word changed, and takes the announcement back for a pin or an error;
//! or the other finds the announcement. So a word with pins is only read by readers with pins.
//!
//! The owner of a place empties it. In between, a free may turn it from the index to *taken*: the reader then has a pin of the word instead.
//!
//! Both steps and both looks are sequentially consistent, which is what the order between a store and a load of something else takes.

use crossbeam_utils::CachePadded;
use zpool_core::internal::sync::atomic::{AtomicU32, Ordering};
use zpool_core::internal::{cpu_shards, current_cpu};

use crate::slot::Slot;

/// Guards that a processor can announce at a time: a thread has rarely more than one or two.
const PLACES: usize = if cfg!(zpool_loom) { 1 } else { 4 };

/// Processors told apart: a free looks at a cache line of each.
const MAX_SHARDS: usize = 16;

/// Announcements at most, so pins that a free may add to a word.
pub(crate) const MAX_ANNOUNCED: u64 = (PLACES * MAX_SHARDS) as u64;

const EMPTY: u32 = 0;
/// A free has turned the announcement into a pin. No index + 1 is that large.
const TAKEN: u32 = u32::MAX;

/// The places of a pool. Holds index + 1 of handle slots.
#[derive(Debug)]
pub struct Readers {
    shards: Box<[CachePadded<[AtomicU32; PLACES]>]>,
}

/// A place that its reader has filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// As a number other than 0.
    #[inline]
    pub(crate) fn to_number(self) -> u32 {
        self.0 + 1
    }

    /// The place of this number; none for 0.
    #[inline]
    pub(crate) fn from_number(number: u32) -> Option<Place> {
        number.checked_sub(1).map(Place)
    }
}

impl Readers {
    /// Empty places.
    pub fn new() -> Readers {
        let shards = cpu_shards().min(MAX_SHARDS);
        let empty = || CachePadded::new(core::array::from_fn(|_| AtomicU32::new(EMPTY)));
        Readers { shards: (0..shards).map(|_| empty()).collect() }
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val::<[_]>(&self.shards)
    }

    /// Announces a reader of handle slot `index`, if this processor has an empty place. It may look at the word now, and withdraws in any case.
    #[inline]
    pub fn announce(&self, index: u32) -> Option<Place> {
        // Their number is a power of two.
        let shard = current_cpu() & (self.shards.len() - 1);
        for (i, place) in self.shards[shard].iter().enumerate() {
            // Relaxed: a glance, which spares an exchange that could only fail.
            if place.load(Ordering::Relaxed) != EMPTY {
                continue;
            }
            // SeqCst: before the look at the word. Relaxed on failure: another thread of this processor took it.
            let taken =
                place.compare_exchange(EMPTY, index + 1, Ordering::SeqCst, Ordering::Relaxed);
            if taken.is_ok() {
                between_step_and_look();
                return Some(Place((shard * PLACES + i) as u32));
            }
        }
        None
    }

    /// Takes an announcement back. False: it is a pin of the word by now, and the reader has to unpin.
    #[inline]
    pub fn withdraw(&self, place: Place) -> bool {
        let place = &self.shards[place.0 as usize / PLACES][place.0 as usize % PLACES];
        // Release: pairs with the Acquire of those who look through the places: what was read was read before the bytes are reused. Acquire:
        // pairs with `turn_into_pins`, for whoever is the last to unpin.
        place.swap(EMPTY, Ordering::AcqRel) != TAKEN
    }

    /// Has somebody announced this slot? For whoever has changed the word just now.
    pub fn is_announced(&self, index: u32) -> bool {
        between_step_and_look();
        // SeqCst: after the change of the word; as Acquire it pairs with `withdraw`.
        self.shards
            .iter()
            .flat_map(|shard| shard.iter())
            .any(|place| place.load(Ordering::SeqCst) == index + 1)
    }

    /// Returns whether no reader has announced any slot: then none of the words that the caller has
    /// changed just now is read on the strength of an announcement.
    pub fn is_quiet(&self) -> bool {
        between_step_and_look();
        // SeqCst: after the change of the words; as Acquire it pairs with `withdraw`.
        let mut places = self.shards.iter().flat_map(|shard| shard.iter());
        places.all(|place| place.load(Ordering::SeqCst) == EMPTY)
    }

    /// Turns all announcements of `slot`, which is that of `index`, into pins of it. For whoever has changed the word just now, and has a pin.
    #[inline]
    pub fn turn_into_pins(&self, index: u32, slot: &Slot) {
        between_step_and_look();
        // Two loops: one over a flat iterator costs twice as many instructions, at each free.
        for shard in &self.shards {
            for place in shard.iter() {
                // SeqCst: as in `is_announced`.
                if place.load(Ordering::SeqCst) == index + 1 {
                    turn_into_pin(place, index, slot);
                }
            }
        }
    }

    /// What is announced, a moment ago: indices of handle slots.
    pub(crate) fn announced(&self) -> Vec<u32> {
        let places = self.shards.iter().flat_map(|shard| shard.iter());
        // Relaxed: for the books.
        let filled = places.filter_map(|place| place.load(Ordering::Relaxed).checked_sub(1));
        filled.filter(|&index| index != TAKEN - 1).collect()
    }
}

/// Turns the announcement of `slot` that was just seen into a pin, unless the reader has withdrawn.
#[cold]
fn turn_into_pin(place: &AtomicU32, index: u32, slot: &Slot) {
    slot.add_pin();
    // Release: pairs with `withdraw`: the pin is there. Acquire on failure: the reader has withdrawn, and its reads come before what follows.
    if place.compare_exchange(index + 1, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_err() {
        slot.drop_pin();
    }
}

/// The step before and the look after are sequentially consistent, which suffices. But loom takes such accesses for Acquire and Release, and knows the order
/// between them from fences alone.
#[inline]
fn between_step_and_look() {
    #[cfg(zpool_loom)]
    zpool_core::internal::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::slot::Content;

    #[test]
    fn a_processor_has_a_few_places_and_each_is_its_readers_until_withdrawn() {
        let readers = Readers::new();
        let places: Vec<_> = (0..1000).map_while(|index| readers.announce(index)).collect();
        assert!(
            (PLACES..=PLACES * readers.shards.len()).contains(&places.len()),
            "{}",
            places.len()
        );
        assert_eq!(readers.announced().len(), places.len());
        assert!(readers.is_announced(0) && !readers.is_announced(5000));
        for &place in &places {
            assert_eq!(Place::from_number(place.to_number()), Some(place));
            assert!(readers.withdraw(place));
        }
        assert!(!readers.is_announced(0) && readers.announced().is_empty());
    }

    #[test]
    fn an_announcement_becomes_a_pin_and_the_reader_learns_of_it() {
        let (readers, slot) = (Readers::new(), Slot::default());
        let generation = slot.publish(Content(3));
        let (mine, other) = (readers.announce(7).unwrap(), readers.announce(8).unwrap());
        assert_eq!(slot.look(generation), Some(Content(3)));
        slot.pin(generation).unwrap();
        assert_eq!(slot.look(generation), None, "with pins, readers pin");
        readers.turn_into_pins(7, &slot);
        assert_eq!(readers.announced(), [8]);
        assert_eq!((readers.withdraw(mine), readers.withdraw(other)), (false, true));
        assert!(!slot.unpin().last && slot.unpin().last);
        assert_eq!(slot.look(generation), Some(Content(3)));
    }
}
