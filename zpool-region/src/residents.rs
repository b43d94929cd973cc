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
//! A resident unit has a place in its queue, and a unit that is not resident needs none: its word
//! holds the number of its eviction instead. All of it is behind one lock.

use std::ops::Range;

use crate::chunked_queue::ChunkedQueues;
use crate::fingerprint::Fingerprint;
use crate::mapping::Mapping;

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
    /// Fingerprint of its block in the store, if that was kept.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// The queues, and the ranges that are held.
///
/// The tables have room for every unit, because the limit may be raised at any time.
#[derive(Debug)]
pub(crate) struct Residents {
    /// Place in its queue of each resident unit; number of the latest eviction of the others.
    words: Vec<u32>,
    queues: ChunkedQueues<2>,
    /// Evictions so far, modulo 2^32.
    evictions: u32,
    held: Vec<Range<usize>>,
}

impl Residents {
    /// Makes tables for `units` units, none of which is resident. Returns `None` if there is no
    /// memory for them.
    pub(crate) fn new(units: usize) -> Option<Residents> {
        // Asked for first, because `vec!` ends the process if it is refused. Not from the heap:
        // once glibc has freed such a block, it clears the next ones, which costs frames.
        drop(Mapping::new((units * size_of::<u32>()).max(1)).ok()?);
        Some(Residents {
            words: vec![0; units],
            queues: ChunkedQueues::new(units)?,
            evictions: 0,
            held: Vec::new(),
        })
    }

    /// Returns the number of resident units.
    pub(crate) fn len(&self) -> usize {
        self.queues.len(Fifo::Small as usize) + self.queues.len(Fifo::Main as usize)
    }

    /// Returns the bytes of the tables: all of `words`, and the queues as far as they were ever
    /// written.
    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * size_of::<u32>() + self.queues.bytes()
    }

    /// Returns the queue for a unit that faulted and is not resident. `ever_evicted` is whether it
    /// has a block.
    pub(crate) fn fifo_of_fault(&self, unit: usize, ever_evicted: bool) -> Fifo {
        let distance = self.evictions.wrapping_sub(self.words[unit]);
        let soon = ever_evicted && (distance as usize) < self.len();
        if soon { Fifo::Main } else { Fifo::Small }
    }

    /// Puts a unit at the end of a queue.
    pub(crate) fn push(&mut self, unit: usize, fifo: Fifo, fingerprint: Option<Fingerprint>) {
        self.queues.push(fifo as usize, unit, fingerprint, &mut self.words);
    }

    /// Takes a resident unit out of its queue.
    pub(crate) fn remove(&mut self, unit: usize) -> Evictee {
        Evictee { unit, fingerprint: self.queues.remove(unit, &mut self.words) }
    }

    /// Returns the unit that should go next. The small queue is used while it has more than 1/10 of
    /// what is resident.
    pub(crate) fn coldest(&self) -> Option<usize> {
        let [small, main] = [Fifo::Small, Fifo::Main].map(|fifo| self.queues.len(fifo as usize));
        let fifo = if main == 0 || small * 10 > small + main { Fifo::Small } else { Fifo::Main };
        self.queues.first(fifo as usize)
    }

    /// Moves a resident unit to the end of the main queue, because it cannot go now.
    pub(crate) fn defer(&mut self, unit: usize) {
        let Evictee { fingerprint, .. } = self.remove(unit);
        self.push(unit, Fifo::Main, fingerprint);
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
        let fingerprint = Fingerprint::from_bits(unit as u128);
        let Some(place) = model.iter().position(|queue| queue.contains(&unit)) else {
            let fifo = if is_small { Fifo::Small } else { Fifo::Main };
            residents.push(unit, fifo, fingerprint);
            return model[fifo as usize].push_back(unit);
        };
        model[place].retain(|&other| other != unit);
        if defers {
            residents.defer(unit);
            model[1].push_back(unit);
        } else {
            assert_eq!(residents.remove(unit).fingerprint, fingerprint);
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
