//! The thrash meter: how soon blocks that were evicted or made cold are looked up again.
//!
//! ```text
//!   evicted, made cold ─► slot of the key's hash: a tag, the kind, the second
//!   load, take         ─► same tag? one more in the bucket of its age; the slot is free again
//!   removed, replaced  ─► same tag? removed before it was looked up again
//! ```
//!
//! Only one key in [`SAMPLED_ONE_IN`] is looked at, by its hash. The others cost a comparison. A
//! slot is 8 bytes and serves any number of keys, so an entry costs nothing. A newer block takes
//! the slot of an older one, which is then counted as displaced.

use std::time::Instant;

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

/// One key of this many is looked at.
pub const SAMPLED_ONE_IN: u64 = 16;

/// Slots. At most this many blocks are remembered, each of which stands for 16.
const SLOTS: usize = 4096;

/// Bits of a slot's word: the second since the meter was made, the kind, and a tag that is not 0.
const SECOND_BITS: u32 = 31;
const KIND_SHIFT: u32 = SECOND_BITS;
const TAG_SHIFT: u32 = 32;

/// Buckets of a [`ThrashCounts`]: below 1, 2, 4, and so on to 128 seconds.
pub const THRASH_BUCKETS: usize = 8;

/// How blocks that left the current pool fared. See
/// [`StoreBuilder::thrash_meter`](crate::StoreBuilder::thrash_meter).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThrashStats {
    /// Blocks that were made cold.
    pub cold: ThrashCounts,
    /// Blocks that were evicted.
    pub evicted: ThrashCounts,
}

/// Counts of sampled blocks: one in [`SAMPLED_ONE_IN`].
///
/// `noted` is the sum of the others and of the blocks that are still remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThrashCounts {
    /// Blocks that left.
    pub noted: u64,
    /// Blocks that were looked up again: in less than 1 second, less than 2, less than 4, and so on
    /// to 128.
    pub reloaded: [u64; THRASH_BUCKETS],
    /// Blocks that were looked up again after 128 seconds or more.
    pub reloaded_late: u64,
    /// Blocks that were removed or replaced before they were looked up again.
    pub removed_unread: u64,
    /// Blocks whose fate is unknown, because a newer one took their slot.
    pub displaced: u64,
}

/// The reason why a block left the current pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    Cold = 0,
    Evicted = 1,
}

/// The meter.
#[derive(Debug)]
pub(crate) struct ThrashMeter {
    born: Instant,
    slots: Box<[AtomicU64]>,
    counts: [ThrashCounters; 2],
}

#[derive(Debug, Default)]
struct ThrashCounters {
    noted: AtomicU64,
    reloaded: [AtomicU64; THRASH_BUCKETS + 1],
    removed: AtomicU64,
    displaced: AtomicU64,
}

impl ThrashMeter {
    pub(crate) fn new() -> ThrashMeter {
        ThrashMeter {
            born: Instant::now(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            counts: Default::default(),
        }
    }

    /// Returns the bytes of the meter.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<ThrashMeter>() + size_of_val(&*self.slots)
    }

    /// Notes that the block of a key has left.
    #[inline]
    pub(crate) fn note(&self, hash: u64, departure: Departure) {
        if let Some((slot, tag)) = self.place(hash) {
            self.note_at(slot, tag, departure, self.born.elapsed().as_secs());
        }
    }

    fn note_at(&self, slot: &AtomicU64, tag: u64, departure: Departure, second: u64) {
        let word = tag << TAG_SHIFT | (departure as u64) << KIND_SHIFT | second;
        // Relaxed, here and below: statistics only. Each exchange has one winner.
        let before = slot.swap(word, Ordering::Relaxed);
        count(&self.counts_of(word).noted);
        if before != 0 {
            count(&self.counts_of(before).displaced);
        }
    }

    /// Notes that a key was looked up.
    #[inline]
    pub(crate) fn note_lookup(&self, hash: u64) {
        if let Some((slot, tag)) = self.place(hash) {
            self.note_lookup_at(slot, tag, self.born.elapsed().as_secs());
        }
    }

    fn note_lookup_at(&self, slot: &AtomicU64, tag: u64, second: u64) {
        let Some(word) = take(slot, tag) else { return };
        let age = second.saturating_sub(word & ((1 << SECOND_BITS) - 1));
        let bucket = (u64::BITS - age.leading_zeros()) as usize;
        count(&self.counts_of(word).reloaded[bucket.min(THRASH_BUCKETS)]);
    }

    /// Notes that the value of a key was removed or replaced.
    #[inline]
    pub(crate) fn removed(&self, hash: u64) {
        if let Some((slot, tag)) = self.place(hash)
            && let Some(word) = take(slot, tag)
        {
            count(&self.counts_of(word).removed);
        }
    }

    /// Returns the counts so far.
    pub(crate) fn stats(&self) -> ThrashStats {
        let [cold, evicted] = &self.counts;
        ThrashStats { cold: cold.read(), evicted: evicted.read() }
    }

    /// Returns the slot of a hash and its tag, if the hash is in the sample.
    #[inline]
    fn place(&self, hash: u64) -> Option<(&AtomicU64, u64)> {
        // Multiplied, because hashes may be numbers in sequence.
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if !(mixed >> 32).is_multiple_of(SAMPLED_ONE_IN) {
            return None;
        }
        let slot = &self.slots[(mixed >> 36) as usize % self.slots.len()];
        Some((slot, (mixed & 0xFFFF_FFFF).max(1)))
    }

    fn counts_of(&self, word: u64) -> &ThrashCounters {
        &self.counts[(word >> KIND_SHIFT & 1) as usize]
    }
}

impl ThrashCounters {
    fn read(&self) -> ThrashCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ThrashCounts {
            noted: read(&self.noted),
            reloaded: std::array::from_fn(|bucket| read(&self.reloaded[bucket])),
            reloaded_late: read(&self.reloaded[THRASH_BUCKETS]),
            removed_unread: read(&self.removed),
            displaced: read(&self.displaced),
        }
    }
}

/// Empties a slot that has this tag. Returns its word.
fn take(slot: &AtomicU64, tag: u64) -> Option<u64> {
    let word = slot.load(Ordering::Relaxed);
    let taken = word >> TAG_SHIFT == tag
        && slot.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    taken.then_some(word)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// A block counts in the bucket of its age, once, and by its kind.
    #[test]
    fn reloaded_block_counts_by_age_once() {
        let meter = ThrashMeter::new();
        let slot = &meter.slots[0];
        for (age, bucket) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (127, 7), (128, 8), (9999, 8)]
        {
            let read = |counts: ThrashCounts| {
                [&counts.reloaded[..], &[counts.reloaded_late]].concat()[bucket]
            };
            let before = read(meter.stats().evicted);
            meter.note_at(slot, 7, Departure::Evicted, 1000);
            meter.note_lookup_at(slot, 8, 1000 + age);
            meter.note_lookup_at(slot, 7, 1000 + age);
            meter.note_lookup_at(slot, 7, 1000 + age);
            assert_eq!(read(meter.stats().evicted), before + 1, "age {age}");
        }
        assert_eq!((meter.stats().evicted.noted, meter.stats().cold.noted), (8, 0));
    }

    /// Every block that was noted is looked up, removed, displaced, or still there.
    #[test]
    fn fates_of_noted_blocks_add_up() {
        let meter = ThrashMeter::new();
        for hash in 0..200_000u64 {
            meter.note(hash, if hash % 3 == 0 { Departure::Evicted } else { Departure::Cold });
            if hash % 5 == 0 {
                meter.note_lookup(hash);
            } else if hash % 7 == 0 {
                meter.removed(hash);
            }
        }
        let there = meter.slots.iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count();
        let ThrashStats { cold, evicted } = meter.stats();
        let fates = |counts: ThrashCounts| {
            let reloaded = counts.reloaded.iter().sum::<u64>() + counts.reloaded_late;
            [reloaded, counts.removed_unread, counts.displaced]
        };
        let all: u64 = [cold, evicted].map(fates).as_flattened().iter().sum();
        assert_eq!(cold.noted + evicted.noted, all + there as u64);
        assert!([cold, evicted].map(fates).as_flattened().iter().all(|&fate| fate > 100));
        // One in 16, with keys in sequence.
        assert!((11_000..14_000).contains(&(cold.noted + evicted.noted)), "{cold:?} {evicted:?}");
    }
}
