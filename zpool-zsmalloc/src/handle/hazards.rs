//! Hazard pointers (Michael 2004), sharded by CPU: a read writes to no memory that readers on other
//! CPUs write to.
//!
//! ```text
//!   CPU 0   | entry 17 |    -     |    -     |    -     |      one cache line each
//!   CPU 1   |    -     | entry 17 |    -     |    -     |
//!                 ▲          ▲
//!   reader: publish ─────────┘          └── free, compaction: change the word, then scan all
//!           then read the word              hazards. A free converts a hazard into a pin of the
//!                                           word; compaction leaves the object where it is.
//! ```
//!
//! A pin in the entry's word would suffice, and is used if a CPU has no hazard left. But eight
//! words share a cache line, so threads that read objects of one small pool would take these lines
//! from each other at every other read.
//!
//! # The protocol
//!
//! A reader publishes the entry's index as a hazard of its CPU, *then* looks at the word. If the
//! word is live, of the handle's generation and without pins, then the hazard is as good as a pin.
//! A thread that ends or moves the object changes the word (dead, or pinned by the mover), *then*
//! scans the hazards. One of the two sees the other:
//!
//! - The reader finds the word changed. It clears the hazard and pins, or fails.
//! - The other thread finds the hazard.
//!
//! So a word with pins is only read by readers with pins. The publisher clears its hazard. Before
//! that a free may convert it, from the index to [`CONVERTED`]: then the reader has a pin instead.
//!
//! Both steps and both looks are sequentially consistent: no weaker ordering orders a store before
//! a load of another word.

use crossbeam_utils::CachePadded;
use zpool_core::internal::sync::atomic::{AtomicU32, Ordering};
use zpool_core::internal::{cpu_shards, current_cpu};

use super::entry::HandleEntry;

/// Hazards of a CPU. A thread rarely holds more than one or two guards.
const PER_SHARD: usize = if cfg!(zpool_loom) { 1 } else { 4 };

/// The most shards. A free looks at a cache line of each.
const MAX_SHARDS: usize = 16;

/// The most hazards, and so the most pins that a free may add to a word.
pub(crate) const MAX_HAZARDS: u64 = (PER_SHARD * MAX_SHARDS) as u64;

const EMPTY: u32 = 0;
/// A free has converted the hazard into a pin. No index + 1 is that large.
const CONVERTED: u32 = u32::MAX;

/// The hazards of a pool. Each holds the index + 1 of an entry.
#[derive(Debug)]
pub struct HazardTable {
    shards: Box<[CachePadded<[AtomicU32; PER_SHARD]>]>,
}

/// A published hazard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hazard(u32);

impl Hazard {
    /// Returns the hazard as a number other than 0.
    #[inline]
    pub(crate) fn to_number(self) -> u32 {
        self.0 + 1
    }

    /// Returns the hazard of this number, or `None` for 0.
    #[inline]
    pub(crate) fn from_number(number: u32) -> Option<Hazard> {
        number.checked_sub(1).map(Hazard)
    }
}

impl HazardTable {
    /// Returns a table of empty hazards.
    pub fn new() -> HazardTable {
        let shards = cpu_shards().min(MAX_SHARDS);
        let empty = || CachePadded::new(core::array::from_fn(|_| AtomicU32::new(EMPTY)));
        HazardTable { shards: (0..shards).map(|_| empty()).collect() }
    }

    /// Returns the bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val::<[_]>(&self.shards)
    }

    /// Publishes a hazard for entry `index`, if this CPU has an empty one. The reader may look at
    /// the word then, and [clears](Self::clear) the hazard in any case.
    #[inline]
    pub fn publish(&self, index: u32) -> Option<Hazard> {
        // The number of shards is a power of two.
        let shard = current_cpu() & (self.shards.len() - 1);
        for (i, hazard) in self.shards[shard].iter().enumerate() {
            // Relaxed: a glance that avoids an exchange which could only fail.
            if hazard.load(Ordering::Relaxed) != EMPTY {
                continue;
            }
            // SeqCst: before the read of the word. Relaxed on failure: another thread of this CPU
            // took the hazard.
            let taken =
                hazard.compare_exchange(EMPTY, index + 1, Ordering::SeqCst, Ordering::Relaxed);
            if taken.is_ok() {
                loom_store_load_fence();
                return Some(Hazard((shard * PER_SHARD + i) as u32));
            }
        }
        None
    }

    /// Clears a hazard. Returns `false` if it was converted into a pin, which the reader takes
    /// back.
    #[inline]
    pub fn clear(&self, hazard: Hazard) -> bool {
        let hazard = &self.shards[hazard.0 as usize / PER_SHARD][hazard.0 as usize % PER_SHARD];
        // Release: pairs with the Acquire of a scan, so that the reads come before the bytes are
        // reused. Acquire: pairs with `convert_to_pins`, for the thread that unpins last.
        hazard.swap(EMPTY, Ordering::AcqRel) != CONVERTED
    }

    /// Returns whether a hazard protects this entry. Called after changing its word.
    pub fn is_protected(&self, index: u32) -> bool {
        loom_store_load_fence();
        // SeqCst: after the change of the word; as Acquire it pairs with `clear`.
        self.shards
            .iter()
            .flat_map(|shard| shard.iter())
            .any(|hazard| hazard.load(Ordering::SeqCst) == index + 1)
    }

    /// Returns whether no hazard is published. Called after changing words: if it is so, then no
    /// hazard protects any of them.
    pub fn is_empty(&self) -> bool {
        loom_store_load_fence();
        // SeqCst: after the change of the words; as Acquire it pairs with `clear`.
        let mut hazards = self.shards.iter().flat_map(|shard| shard.iter());
        hazards.all(|hazard| hazard.load(Ordering::SeqCst) == EMPTY)
    }

    /// Converts all hazards of entry `index` into pins of it. Called after changing its word, by a
    /// thread that has a pin.
    #[inline]
    pub fn convert_to_pins(&self, index: u32, entry: &HandleEntry) {
        loom_store_load_fence();
        // Two loops: a flat iterator costs more instructions, at each free.
        for shard in &self.shards {
            for hazard in shard.iter() {
                // SeqCst: as in `is_protected`.
                if hazard.load(Ordering::SeqCst) == index + 1 {
                    convert_to_pin(hazard, index, entry);
                }
            }
        }
    }

    /// Returns the indices of entries that were protected a moment ago.
    pub(crate) fn published(&self) -> Vec<u32> {
        let hazards = self.shards.iter().flat_map(|shard| shard.iter());
        // Relaxed: statistics only.
        let filled = hazards.filter_map(|hazard| hazard.load(Ordering::Relaxed).checked_sub(1));
        filled.filter(|&index| index != CONVERTED - 1).collect()
    }
}

/// Converts the hazard that was just seen into a pin, unless the reader has cleared it.
#[cold]
fn convert_to_pin(hazard: &AtomicU32, index: u32, entry: &HandleEntry) {
    entry.add_pin();
    // Release: pairs with `clear`, so that the reader sees its pin. Acquire on failure: the reader
    // has cleared the hazard, and its reads come before what follows.
    if hazard.compare_exchange(index + 1, CONVERTED, Ordering::AcqRel, Ordering::Acquire).is_err() {
        entry.drop_pin();
    }
}

/// Makes a fence, for loom only. The store before and the load after are sequentially consistent,
/// which suffices. Loom takes such accesses for Acquire and Release, and orders them by fences
/// alone.
#[inline]
fn loom_store_load_fence() {
    #[cfg(zpool_loom)]
    zpool_core::internal::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::handle::entry::PackedLocation;

    /// A CPU has a few hazards, and each is its publisher's until cleared.
    #[test]
    fn hazards_are_exclusive_until_cleared() {
        let table = HazardTable::new();
        let hazards: Vec<_> = (0..1000).map_while(|index| table.publish(index)).collect();
        assert!(
            (PER_SHARD..=PER_SHARD * table.shards.len()).contains(&hazards.len()),
            "{}",
            hazards.len()
        );
        assert_eq!(table.published().len(), hazards.len());
        assert!(table.is_protected(0) && !table.is_protected(5000));
        for &hazard in &hazards {
            assert_eq!(Hazard::from_number(hazard.to_number()), Some(hazard));
            assert!(table.clear(hazard));
        }
        assert!(!table.is_protected(0) && table.published().is_empty());
    }

    /// A converted hazard is a pin, and its reader learns of that when it clears the hazard.
    #[test]
    fn converted_hazard_is_a_pin() {
        let (table, entry) = (HazardTable::new(), HandleEntry::default());
        let generation = entry.set_live(PackedLocation(3));
        let (mine, other) = (table.publish(7).unwrap(), table.publish(8).unwrap());
        assert_eq!(entry.location_if_idle(generation), Some(PackedLocation(3)));
        entry.pin(generation).unwrap();
        assert_eq!(entry.location_if_idle(generation), None, "with pins, readers pin");
        table.convert_to_pins(7, &entry);
        assert_eq!(table.published(), [8]);
        assert_eq!((table.clear(mine), table.clear(other)), (false, true));
        assert!(!entry.unpin().last && entry.unpin().last);
        assert_eq!(entry.location_if_idle(generation), Some(PackedLocation(3)));
    }
}
