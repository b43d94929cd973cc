//! Magazines: a few free slots per CPU and class, kept with their entries from a free to the next
//! insert (Bonwick and Adams 2001).
//!
//! ```text
//!   free ───► magazine of this CPU and class ─ a place empty? ──► cached: still claimed, its entry
//!                                            │                    says where it is
//!                                            └ full? ───────────► the class's lock
//!   insert ─► magazine of this CPU and class ─ a slot? ─────────► one exchange, and no lock
//!                                            └ empty? ──────────► the class's lock. Before the
//!                                                                 class grows, it drains the
//!                                                                 magazines of all CPUs.
//! ```
//!
//! If objects of a class come and go in random order, a magazine of `n` places serves all but one
//! of `n + 1` frees, and as many inserts. Threads that replace objects of one size on different
//! CPUs do not meet at all.
//!
//! A cached slot is free, but its class counts it as claimed. So it keeps its frames, and without
//! compaction its zspage, from looking empty. So `compact`, `trim` and the statistics drain the
//! magazines first.
//!
//! A CPU that only frees requests background work every [`STREAK`] cached slots. Once everything is
//! freed and all jobs have run, at most the slots of its last two streaks are left: one that ended
//! while a job ran, and one that has not ended. Streaks do not shorten the cooldown of a job, but
//! the last job of a series drains the magazines.

use std::sync::OnceLock;

use zpool_core::internal::cpu_shards;
use zpool_core::internal::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::collections::fallible::try_boxed_defaults;
use crate::geometry::size_class::ClassIndex;

/// Places of a magazine. More of them hold up more memory in small pools, and speed up churn by
/// little: `zlab density` and the bench `zsmalloc --only churn` show both.
const PLACES: usize = 4;

/// Slots that a CPU pushes without an insert in between, until they should be drained. Few enough
/// that they do not hold up much memory, and enough that the job, which visits all classes, costs
/// little per free.
///
/// Within a streak the slots are expected to be written soon. If two pools alternate, each of them
/// sees a streak of frees before its inserts continue.
const STREAK: u32 = 256;

/// Words of a CPU before its magazines: [`STREAK_AT`], [`INSERTED_AT`], [`LENGTHS_AT`], and one
/// that is not used, so that a magazine does not cross a cache line.
const WORDS: usize = 4;

/// Slots that the CPU has pushed since its last insert.
const STREAK_AT: usize = 0;
/// Whether the CPU has inserted since this was last asked.
const INSERTED_AT: usize = 1;
/// Bytes by which objects in reused slots are longer than their predecessors.
const LENGTHS_AT: usize = 2;

/// A CPU's length delta is moved to `carried` at this magnitude, before 32 bits overflow.
const CARRY: u32 = 1 << 30;

/// The most shards. Each costs four bytes per place of every class.
const MAX_SHARDS: usize = 16;

/// Words of a cache line.
const LINE: usize = 16;

/// The magazines of a pool.
#[derive(Debug)]
pub struct MagazineSet {
    /// For each CPU its words, and a magazine for each class: [`PLACES`] words of entry index + 1,
    /// or 0. Allocated by the first insert: pools come and go, and a free allocates nothing.
    words: OnceLock<Box<[AtomicU32]>>,
    shards: usize,
    /// Words from one CPU's to the next one's: they share no cache line.
    stride: usize,
    /// Lengths that were carried here from the words of the CPUs.
    carried: AtomicUsize,
}

/// Words and magazines of one CPU.
struct MagazineShard<'a> {
    words: &'a [AtomicU32; WORDS],
    places: &'a [AtomicU32],
}

/// A cached slot that the caller has popped.
#[derive(Debug)]
pub struct CachedSlot<'a> {
    /// Index of the entry, which says where the slot is.
    pub index: u32,
    lengths: &'a AtomicU32,
}

/// Result of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// The magazine has no empty place. The caller still owns the slot.
    Full,
    /// Cached. This CPU also inserts, so the slot is going to be written soon.
    Hot,
    /// Cached. This CPU has not inserted for a streak.
    Cold,
    /// Cached, and with it a streak has ended: the magazines should be drained.
    StreakEnded,
}

impl MagazineSet {
    /// Returns a set for a pool of `classes` classes. It has allocated nothing.
    pub fn new(classes: usize) -> MagazineSet {
        MagazineSet {
            words: OnceLock::new(),
            shards: cpu_shards().min(MAX_SHARDS),
            stride: (WORDS + classes * PLACES + LINE).next_multiple_of(LINE),
            carried: AtomicUsize::new(0),
        }
    }

    /// Allocates the magazines, if no call has before, and calls `grown` with their bytes. If the
    /// heap refuses, nothing is cached until a later call succeeds.
    #[inline]
    pub fn ensure_allocated(&self, grown: impl FnOnce(usize)) {
        if self.words.get().is_none() {
            self.allocate(grown);
        }
    }

    #[cold]
    fn allocate(&self, grown: impl FnOnce(usize)) {
        let Some(words) = try_boxed_defaults(self.shards * self.stride) else { return };
        let bytes = size_of_val::<[AtomicU32]>(&words);
        // If another thread was faster, these are dropped.
        if self.words.set(words).is_ok() {
            grown(bytes);
        }
    }

    /// Pushes the slot of entry `index`, which the caller owns and has set to cached, into the
    /// magazine of `class` on CPU `cpu`, the [current](zpool_core::internal::current_cpu) one.
    // `inline(always)`, because every free comes here, and the cold copy for zombies must not keep
    // the compiler from inlining.
    #[inline(always)]
    pub fn push(&self, cpu: usize, class: ClassIndex, index: u32) -> PushOutcome {
        let Some(shard) = self.shard(cpu) else { return PushOutcome::Full };
        // Relaxed: a glance that avoids an exchange which could only fail.
        let empty = |place: &&AtomicU32| place.load(Ordering::Relaxed) == 0;
        let Some(place) = shard.places[range_of(class)].iter().find(empty) else {
            return PushOutcome::Full;
        };
        // Release: pairs with the Acquire of `claim`: it passes on the entry's word, and the end of
        // all reads of the object before.
        if place.compare_exchange(0, index + 1, Ordering::Release, Ordering::Relaxed).is_err() {
            return PushOutcome::Full;
        }
        // Relaxed: a hint. Threads that alternate on this CPU may lose a step.
        let streak = &shard.words[STREAK_AT];
        let now = streak.load(Ordering::Relaxed).wrapping_add(1);
        streak.store(now, Ordering::Relaxed);
        match now {
            _ if now.is_multiple_of(STREAK) => PushOutcome::StreakEnded,
            1..STREAK => PushOutcome::Hot,
            _ => PushOutcome::Cold,
        }
    }

    /// Pops a cached slot of `class` on CPU `cpu`, the [current](zpool_core::internal::current_cpu)
    /// one: normally the most recently freed. The caller then owns slot and entry, and
    /// [notes](Self::note_length) the length of the next object.
    #[inline]
    pub fn pop(&self, cpu: usize, class: ClassIndex) -> Option<CachedSlot<'_>> {
        let shard = self.shard(cpu)?;
        // Relaxed: hints.
        shard.words[STREAK_AT].store(0, Ordering::Relaxed);
        shard.words[INSERTED_AT].store(1, Ordering::Relaxed);
        let index = shard.places[range_of(class)].iter().rev().find_map(claim)?;
        Some(CachedSlot { index, lengths: &shard.words[LENGTHS_AT] })
    }

    /// Notes that a popped slot, whose last object had `before` bytes, has one of `after` bytes
    /// now. The class has counted the first and does not learn of the second, so that an insert
    /// from a magazine takes no lock.
    #[inline]
    pub fn note_length(&self, slot: &CachedSlot<'_>, before: u32, after: u32) {
        if before == after {
            return;
        }
        // Relaxed: statistics only; so below.
        let delta = slot.lengths.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        if (delta as i32).unsigned_abs() >= CARRY {
            self.carry(slot.lengths);
        }
    }

    #[cold]
    fn carry(&self, lengths: &AtomicU32) {
        let delta = lengths.swap(0, Ordering::Relaxed) as i32;
        self.carried.fetch_add(delta as usize, Ordering::Relaxed);
    }

    /// Returns the bytes by which the objects in all claimed slots are longer than their classes
    /// have counted. Wraps.
    pub(crate) fn payload_delta(&self) -> usize {
        let words = self
            .shards()
            .map(|shard| shard.words[LENGTHS_AT].load(Ordering::Relaxed) as i32 as usize);
        words.fold(self.carried.load(Ordering::Relaxed), usize::wrapping_add)
    }

    /// Pops the cached slots of one class, or of all, on all CPUs. Returns the indices of their
    /// entries.
    pub fn drain(&self, class: Option<ClassIndex>) -> impl Iterator<Item = u32> {
        let of_class = move |places: &[AtomicU32]| class.map_or(0..places.len(), range_of);
        let places =
            self.shards().filter_map(move |shard| shard.places.get(of_class(shard.places)));
        places.flatten().filter_map(claim)
    }

    /// Counts the cached slots of a class on all CPUs.
    pub(crate) fn cached(&self, class: ClassIndex) -> usize {
        let places =
            self.shards().flat_map(|shard| shard.places.get(range_of(class)).unwrap_or_default());
        // Relaxed: statistics only.
        places.filter(|place| place.load(Ordering::Relaxed) != 0).count()
    }

    /// Returns whether any CPU has tried to insert since the last call.
    pub fn take_inserted(&self) -> bool {
        // Relaxed: a hint. Resets all shards, whatever one says.
        let since =
            |shard: MagazineShard<'_>| shard.words[INSERTED_AT].swap(0, Ordering::Relaxed) != 0;
        self.shards().fold(false, |any, shard| any | since(shard))
    }

    #[inline]
    fn shard(&self, cpu: usize) -> Option<MagazineShard<'_>> {
        let words = self.words.get()?;
        // The number of shards is a power of two.
        let shard = cpu & (self.shards - 1);
        MagazineShard::of(&words[shard * self.stride..][..self.stride])
    }

    fn shards(&self) -> impl Iterator<Item = MagazineShard<'_>> {
        let words = self.words.get().into_iter().flat_map(|words| words.chunks(self.stride));
        words.filter_map(MagazineShard::of)
    }
}

impl<'a> MagazineShard<'a> {
    #[inline]
    fn of(words: &'a [AtomicU32]) -> Option<MagazineShard<'a>> {
        let (words, places) = words.split_first_chunk()?;
        Some(MagazineShard { words, places })
    }
}

/// Returns where the places of a class are among those of a CPU.
#[inline]
fn range_of(class: ClassIndex) -> core::ops::Range<usize> {
    let first = usize::from(class.0) * PLACES;
    first..first + PLACES
}

#[inline]
fn claim(place: &AtomicU32) -> Option<u32> {
    // Relaxed: most places are empty, and a load is cheaper than an exchange.
    if place.load(Ordering::Relaxed) == 0 {
        return None;
    }
    // Acquire: pairs with the Release of `push`.
    place.swap(0, Ordering::Acquire).checked_sub(1)
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use zpool_core::internal::current_cpu;

    use super::*;

    /// A magazine has a few places, and no slot is popped twice.
    #[test]
    fn each_cached_slot_is_popped_once() {
        let magazines = MagazineSet::new(3);
        let (first, last) = (ClassIndex(0), ClassIndex(2));
        let push = |class, index| magazines.push(current_cpu(), class, index);
        assert_eq!(push(first, 7), PushOutcome::Full, "no insert has allocated the magazines");
        magazines.ensure_allocated(|bytes| assert!(bytes > 0));
        magazines.ensure_allocated(|_| panic!("allocated once"));
        let cached = (0..100).filter(|&index| push(first, index) != PushOutcome::Full).count();
        assert!((PLACES..=PLACES * magazines.shards).contains(&cached), "{cached}");
        assert_eq!(push(last, u32::MAX - 1), PushOutcome::Hot);
        assert_eq!(magazines.drain(Some(last)).collect::<Vec<_>>(), [u32::MAX - 1]);
        assert_eq!((magazines.drain(None).count(), magazines.drain(None).count()), (cached, 0));
        assert!(magazines.pop(current_cpu(), first).is_none());
    }

    fn one_shard(classes: usize) -> MagazineSet {
        let magazines = MagazineSet { shards: 1, ..MagazineSet::new(classes) };
        magazines.ensure_allocated(|_| ());
        magazines
    }

    fn push_and_drain(magazines: &MagazineSet) -> PushOutcome {
        let outcome = magazines.push(current_cpu(), ClassIndex(0), 1);
        assert_eq!(magazines.drain(None).count(), 1);
        outcome
    }

    /// Slots are hot until a streak has ended, and again after an insert.
    #[test]
    fn push_after_insert_is_hot() {
        let magazines = one_shard(2);
        for _ in 0..3 {
            assert!(magazines.pop(current_cpu(), ClassIndex(1)).is_none());
            let pushed: Vec<_> = (1..=STREAK + 1).map(|_| push_and_drain(&magazines)).collect();
            assert!(pushed[..STREAK as usize - 1].iter().all(|&one| one == PushOutcome::Hot));
            assert_eq!(
                pushed[STREAK as usize - 1..],
                [PushOutcome::StreakEnded, PushOutcome::Cold]
            );
        }
    }

    /// An attempt to insert is reported once, whether it found a slot or not.
    #[test]
    fn insert_is_reported_once() {
        let magazines = MagazineSet::new(2);
        assert!(!magazines.take_inserted(), "no insert has allocated the magazines");
        magazines.ensure_allocated(|_| ());
        magazines.push(current_cpu(), ClassIndex(1), 7);
        assert!(!magazines.take_inserted(), "a free is not an insert");
        for class in [1, 0] {
            magazines.pop(current_cpu(), ClassIndex(class));
            assert!(magazines.take_inserted(), "whether it found a slot or not");
            assert!(!magazines.take_inserted());
        }
    }

    /// A CPU that only frees ends a streak every 256 slots, counted from its last insert.
    #[test]
    fn streaks_end_at_regular_intervals() {
        let magazines = one_shard(1);
        let ended = |n: u32| {
            (0..n).filter(|_| push_and_drain(&magazines) == PushOutcome::StreakEnded).count()
        };
        assert_eq!((ended(STREAK - 1), ended(1), ended(2 * STREAK)), (0, 1, 2));
        assert!(magazines.pop(current_cpu(), ClassIndex(0)).is_none(), "a new count begins");
        assert_eq!((ended(STREAK - 1), ended(1)), (0, 1));
    }
}
