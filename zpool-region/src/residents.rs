//! The resident units in the order in which they may be evicted, and what is remembered of the
//! others.
//!
//! ```text
//!   first touch, readahead ──► small FIFO (1/10) ──► evicted: the number of the eviction is kept
//!                                                        │
//!   fault soon after its eviction ◄──────────────────────┘
//!      └──► main FIFO (the rest) ──► evicted
//! ```
//!
//! User space sees no accessed bits, so a fault is the only sign that a unit is in use. A unit that
//! is faulted in again before as many others were evicted as are resident goes to the main FIFO
//! (as in S3-FIFO: Yang and others, *FIFO queues are all you need for cache eviction*, SOSP 2023).
//!
//! A resident unit has a *slot* with its links and its fingerprint. A unit that is not resident
//! needs none: its word holds the number of its eviction instead. All of it is behind one lock.

use std::ops::Range;

use crate::fingerprint::Fingerprint;
use crate::mapping::Mapping;

/// No slot.
const NONE: u32 = u32::MAX;

/// One of the two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fifo {
    /// For units that may be used once only.
    Small = 0,
    /// For units that came back soon after they were evicted.
    Main = 1,
}

/// A unit that was taken out of its queue to be put away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evictee {
    /// The unit.
    pub(crate) unit: usize,
    /// Fingerprint of the block that the store has of it, if it has one.
    pub(crate) copy: Option<Fingerprint>,
}

/// A doubly linked list of slots.
#[derive(Debug, Clone, Copy)]
struct SlotList {
    head: u32,
    tail: u32,
    len: usize,
}

/// The queues, the slots, and the ranges that are held.
///
/// The tables have an entry per unit, because the limit may be raised at any time. Slots are reused
/// in last-in, first-out order, and the tables begin as untouched zeros. So they cost memory only
/// for as many slots as were ever in use at once.
#[derive(Debug)]
pub(crate) struct Residents {
    /// Slot of each resident unit; number of the latest eviction of the others.
    words: Vec<u32>,
    /// Unit, next and previous slot, and fingerprint of each slot.
    units: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    copies: Vec<u128>,
    /// Slots that were freed, linked by `next`. Those from `touched` on were never used.
    free: u32,
    touched: u32,
    fifos: [SlotList; 2],
    /// Evictions so far, modulo 2^32.
    evictions: u32,
    held: Vec<Range<usize>>,
}

impl Residents {
    /// Makes tables for `units` units, none of which is resident. Returns `None` if there is no
    /// memory for them.
    pub(crate) fn new(units: usize) -> Option<Residents> {
        fn zeros<T: Clone + Default>(len: usize) -> Option<Vec<T>> {
            // Asked for first, because `vec!` ends the process if it is refused. Not from the heap:
            // once glibc has freed such a block, it clears the next ones, which costs frames.
            drop(Mapping::new((len * size_of::<T>()).max(1)).ok()?);
            Some(vec![T::default(); len])
        }
        let empty = SlotList { head: NONE, tail: NONE, len: 0 };
        Some(Residents {
            words: zeros(units)?,
            units: zeros(units)?,
            next: zeros(units)?,
            previous: zeros(units)?,
            copies: zeros(units)?,
            free: NONE,
            touched: 0,
            fifos: [empty; 2],
            evictions: 0,
            held: Vec::new(),
        })
    }

    /// Returns the number of resident units.
    pub(crate) fn len(&self) -> usize {
        self.fifos[0].len + self.fifos[1].len
    }

    /// Returns the bytes of the tables that were ever written.
    pub(crate) fn bytes(&self) -> usize {
        let per_slot = 3 * size_of::<u32>() + size_of::<u128>();
        self.words.len() * size_of::<u32>() + self.touched as usize * per_slot
    }

    /// Returns the queue for a unit that faulted and is not resident. `ever_evicted` is whether it
    /// has a block.
    pub(crate) fn fifo_of_fault(&self, unit: usize, ever_evicted: bool) -> Fifo {
        let distance = self.evictions.wrapping_sub(self.words[unit]);
        let soon = ever_evicted && (distance as usize) < self.len();
        if soon { Fifo::Main } else { Fifo::Small }
    }

    /// Puts a unit at the end of a queue.
    pub(crate) fn push(&mut self, unit: usize, fifo: Fifo, copy: Option<Fingerprint>) {
        let slot = self.take_slot();
        self.words[unit] = slot;
        let at = slot as usize;
        self.units[at] = unit as u32 * 2 + fifo as u32;
        // Most fingerprints are 0, and a table of untouched zeros costs nothing.
        let bits = Fingerprint::bits(copy);
        if self.copies[at] != bits {
            self.copies[at] = bits;
        }
        let tail = self.fifos[fifo as usize].tail;
        (self.previous[at], self.next[at]) = (tail, NONE);
        let list = &mut self.fifos[fifo as usize];
        list.tail = slot;
        list.len += 1;
        match tail {
            NONE => list.head = slot,
            tail => self.next[tail as usize] = slot,
        }
    }

    /// Takes a resident unit out of its queue.
    pub(crate) fn remove(&mut self, unit: usize) -> Evictee {
        let slot = self.words[unit];
        let at = slot as usize;
        debug_assert_eq!(self.units[at] as usize / 2, unit, "a slot belongs to its unit");
        let (previous, next) = (self.previous[at], self.next[at]);
        let list = &mut self.fifos[self.units[at] as usize % 2];
        list.len -= 1;
        match previous {
            NONE => list.head = next,
            slot => self.next[slot as usize] = next,
        }
        match next {
            NONE => list.tail = previous,
            slot => self.previous[slot as usize] = previous,
        }
        self.next[at] = self.free;
        self.free = slot;
        Evictee { unit, copy: Fingerprint::from_bits(self.copies[at]) }
    }

    /// Returns the unit that should go next. The small queue is used while it has more than 1/10 of
    /// what is resident.
    pub(crate) fn coldest(&self) -> Option<usize> {
        let [small, main] = &self.fifos;
        let list = if main.len == 0 || small.len * 10 > self.len() { small } else { main };
        (list.head != NONE).then(|| self.units[list.head as usize] as usize / 2)
    }

    /// Moves a resident unit to the end of the main queue, because it cannot go now.
    pub(crate) fn defer(&mut self, unit: usize) {
        let Evictee { copy, .. } = self.remove(unit);
        self.push(unit, Fifo::Main, copy);
    }

    /// Notes that a unit, which is in no queue, was put away.
    pub(crate) fn note_evicted(&mut self, unit: usize) {
        self.words[unit] = self.evictions;
        self.evictions = self.evictions.wrapping_add(1);
    }

    /// Keeps a range of units from being chosen, until [`release`](Self::release).
    pub(crate) fn hold(&mut self, units: Range<usize>) {
        self.held.push(units);
    }

    /// Ends one hold of this range.
    pub(crate) fn release(&mut self, units: &Range<usize>) {
        if let Some(at) = self.held.iter().position(|held| held == units) {
            self.held.swap_remove(at);
        }
    }

    /// Ends all holds of ranges inside of this one.
    pub(crate) fn release_inside(&mut self, units: &Range<usize>) {
        self.held.retain(|held| held.start < units.start || held.end > units.end);
    }

    /// Returns whether a unit is in a range that is held.
    pub(crate) fn is_held(&self, unit: usize) -> bool {
        self.held.iter().any(|held| held.contains(&unit))
    }

    fn take_slot(&mut self) -> u32 {
        if self.free == NONE {
            self.touched += 1;
            return self.touched - 1;
        }
        let slot = self.free;
        self.free = self.next[slot as usize];
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Both queues keep their order through random pushes, removals and deferrals.
        #[test]
        fn residents_match_two_queues(
            steps in vec((0_usize..64, any::<bool>(), any::<bool>()), 0..2000),
        ) {
            let mut residents = Residents::new(64).unwrap();
            let mut model: [VecDeque<usize>; 2] = Default::default();
            for (unit, defers, is_small) in steps {
                step(&mut residents, &mut model, unit, defers, is_small);
                let len = model[0].len() + model[1].len();
                prop_assert_eq!(residents.len(), len);
                let from = usize::from(!(model[1].is_empty() || model[0].len() * 10 > len));
                prop_assert_eq!(residents.coldest(), model[from].front().copied());
            }
        }
    }

    /// Pushes a unit that is in no queue; defers or removes one that is.
    fn step(
        residents: &mut Residents,
        model: &mut [VecDeque<usize>; 2],
        unit: usize,
        defers: bool,
        is_small: bool,
    ) {
        let copy = Fingerprint::from_bits(unit as u128);
        let Some(place) = model.iter().position(|queue| queue.contains(&unit)) else {
            let fifo = if is_small { Fifo::Small } else { Fifo::Main };
            residents.push(unit, fifo, copy);
            return model[fifo as usize].push_back(unit);
        };
        model[place].retain(|&other| other != unit);
        if defers {
            residents.defer(unit);
            model[1].push_back(unit);
        } else {
            assert_eq!(residents.remove(unit).copy, copy);
            residents.note_evicted(unit);
        }
    }

    /// A unit that comes back soon goes to the main queue, and one that comes back late does not.
    #[test]
    fn residents_refault_distance() {
        let mut residents = Residents::new(16).unwrap();
        (0..4).for_each(|unit| residents.push(unit, Fifo::Small, None));
        residents.remove(0);
        residents.note_evicted(0);
        assert_eq!(residents.fifo_of_fault(0, true), Fifo::Main);
        assert_eq!(residents.fifo_of_fault(9, false), Fifo::Small);
        for unit in 10..13 {
            residents.note_evicted(unit);
        }
        assert_eq!(residents.fifo_of_fault(0, true), Fifo::Small);
    }
}
