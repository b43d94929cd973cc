//! Spare slots: a few a class and a processor, kept with their handles' slots from a free to the next insert.
//!
//! ```text
//!   free ───► places of this class and processor ─ one empty? ──► parked: still claimed, its handle's slot says where it is
//!                                                 └ none? ──────► the class's lock
//!   insert ─► places of this class and processor ─ one filled? ─► one exchange, and no lock
//!                                                 └ none? ──────► the class's lock; before it grows, it takes back the spares of other processors
//! ```
//!
//! Objects of a class come and go in turns: at random, `n` of `n + 1` frees find a place, and as many inserts a spare. Threads that replace objects of one
//! size on different processors do not meet at all. A spare is an open slot under another name: what looks for empty frames (`compact`, `trim`, the books) takes the
//! spares back first. Until then it holds up the frames that it lies in; or without compaction its zspage. So a processor that only frees has the pool's job look every
//! [`STREAK`] spares: when everything is freed and all jobs have run, the spares of its last two streaks at most are left, one whose end came
//! while a job ran, and one that has not ended. A job that rests does not come sooner for that; the last of its kind takes them.

use std::sync::OnceLock;

use zpool_core::internal::cpu_shards;
use zpool_core::internal::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::class::ClassIndex;
use crate::few::boxed_defaults;

/// Spares of a class and a processor. Measured, before a free had the next object's place fetched: replacing objects at random took 1.13 times what it takes with
/// mimalloc with 2, and 1.10 with 4 and with 8. More of them hold up more memory in pools of 2 MiB: 1.10, 1.11 and 1.13 bytes a byte of payload after that.
const PLACES: usize = 4;

/// Spares that a processor leaves without an insert between them until somebody is to take them back. Few enough that they do not hold up much memory, and many enough
/// that a job, which looks at all classes, does not weigh on the frees. Until then their slots are expected to be written before long: where two pools take turns, each is
/// inserted into again after as many frees as the other's turn is long.
const STREAK: u32 = 256;

/// Words of a processor before its places: [`STREAK_AT`], [`INSERTED_AT`], [`LENGTHS_AT`], and one
/// that is not used, so that the places of a class share a cache line.
const WORDS: usize = 4;

/// What a processor has parked since it last inserted something.
const STREAK_AT: usize = 0;
/// Whether it has inserted since this was asked.
const INSERTED_AT: usize = 1;
/// By how many bytes its spares have changed their objects' lengths.
const LENGTHS_AT: usize = 2;

/// A word of lengths that has come so far from 0 is carried to the pool's own.
const CARRY: u32 = 1 << 30;

/// Processors told apart: each costs four bytes a class and place.
const MAX_SHARDS: usize = 16;

/// Entries of a cache line.
const LINE: usize = 16;

/// The spares of a pool.
#[derive(Debug)]
pub struct Spares {
    /// For each processor its words and [`PLACES`] for each class, which hold index + 1 of a
    /// handle's slot, or 0. Made by the first insert: pools come and go, and a free allocates
    /// nothing.
    places: OnceLock<Box<[AtomicU32]>>,
    shards: usize,
    /// Entries from one processor's to the next one's: they share no cache line.
    stride: usize,
    /// What was carried here of the counts in the processors' words.
    carried: AtomicUsize,
}

/// What is one processor's.
struct Shard<'a> {
    words: &'a [AtomicU32; WORDS],
    places: &'a [AtomicU32],
}

/// A spare that the caller has taken.
#[derive(Debug)]
pub struct Spare<'a> {
    /// The handle's slot.
    pub index: u32,
    lengths: &'a AtomicU32,
}

/// Whether a slot was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// The caller still owns it.
    No,
    /// This processor frees, and has not inserted for long.
    ForLater,
    /// The same, and it has done so for so long that the spares should be taken back.
    TooMany,
    /// It does both, so the slot is going to be written before long.
    ForSoon,
}

impl Spares {
    /// Without places yet, for a pool of so many classes.
    pub fn new(classes: usize) -> Spares {
        Spares {
            places: OnceLock::new(),
            shards: cpu_shards().min(MAX_SHARDS),
            stride: (WORDS + classes * PLACES + LINE).next_multiple_of(LINE),
            carried: AtomicUsize::new(0),
        }
    }

    /// Makes the places. `grown` is told the bytes that this call allocated. If the heap refuses,
    /// there are no spares until a later call has made them.
    #[inline]
    pub fn prepare(&self, grown: impl FnOnce(usize)) {
        if self.places.get().is_none() {
            self.make_places(grown);
        }
    }

    #[cold]
    fn make_places(&self, grown: impl FnOnce(usize)) {
        let Some(places) = boxed_defaults(self.shards * self.stride) else { return };
        let bytes = size_of_val::<[AtomicU32]>(&places);
        // Another thread may have been faster: then ours are dropped.
        if self.places.set(places).is_ok() {
            grown(bytes);
        }
    }

    /// Parks the slot of handle slot `index`, which the caller owns and has said to be parked,
    /// unless processor `cpu`, the [current](zpool_core::internal::current_cpu) one, has all the spares of
    /// that class that it may have.
    #[inline]
    pub fn park(&self, cpu: usize, class: ClassIndex, index: u32) -> Parked {
        let Some(shard) = self.shard(cpu) else { return Parked::No };
        // Relaxed: a glance, which spares an exchange that could only fail.
        let empty = |place: &&AtomicU32| place.load(Ordering::Relaxed) == 0;
        let Some(place) = shard.places[range_of(class)].iter().find(empty) else {
            return Parked::No;
        };
        // Release: pairs with the Acquire of `claim`: the word of the handle's slot, and the end of all that was read of the object before.
        if place.compare_exchange(0, index + 1, Ordering::Release, Ordering::Relaxed).is_err() {
            return Parked::No;
        }
        // Relaxed: a hint; and so it is no harm if threads that take turns on this processor lose a step.
        let streak = &shard.words[STREAK_AT];
        let now = streak.load(Ordering::Relaxed).wrapping_add(1);
        streak.store(now, Ordering::Relaxed);
        match now {
            _ if now.is_multiple_of(STREAK) => Parked::TooMany,
            1..STREAK => Parked::ForSoon,
            _ => Parked::ForLater,
        }
    }

    /// Takes a spare of a class from processor `cpu`, the [current](zpool_core::internal::current_cpu) one:
    /// normally the slot that it freed last. The caller then owns slot and handle's slot, and
    /// [notes](Self::note_length) the length of the next object there.
    #[inline]
    pub fn take(&self, cpu: usize, class: ClassIndex) -> Option<Spare<'_>> {
        let shard = self.shard(cpu)?;
        // Relaxed: hints.
        shard.words[STREAK_AT].store(0, Ordering::Relaxed);
        shard.words[INSERTED_AT].store(1, Ordering::Relaxed);
        let index = shard.places[range_of(class)].iter().rev().find_map(claim)?;
        Some(Spare { index, lengths: &shard.words[LENGTHS_AT] })
    }

    /// Notes that a spare, whose last object had `before` bytes, has one of `after` bytes now. The
    /// class has counted the first one and does not learn of the second, so that an insert which
    /// finds a spare takes no lock.
    #[inline]
    pub fn note_length(&self, spare: &Spare<'_>, before: u32, after: u32) {
        if before == after {
            return;
        }
        // Relaxed: for the books. So below.
        let shift = spare.lengths.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        if (shift as i32).unsigned_abs() >= CARRY {
            self.carry(spare.lengths);
        }
    }

    #[cold]
    fn carry(&self, lengths: &AtomicU32) {
        let shift = lengths.swap(0, Ordering::Relaxed) as i32;
        self.carried.fetch_add(shift as usize, Ordering::Relaxed);
    }

    /// Bytes by which the objects in all claimed slots are longer than their classes have counted.
    /// Wraps.
    pub(crate) fn payload_shift(&self) -> usize {
        let words = self
            .shards()
            .map(|shard| shard.words[LENGTHS_AT].load(Ordering::Relaxed) as i32 as usize);
        words.fold(self.carried.load(Ordering::Relaxed), usize::wrapping_add)
    }

    /// Takes the spares of one class, or of all, on all processors.
    pub fn drain(&self, class: Option<ClassIndex>) -> impl Iterator<Item = u32> {
        let of_class = move |places: &[AtomicU32]| class.map_or(0..places.len(), range_of);
        let places =
            self.shards().filter_map(move |shard| shard.places.get(of_class(shard.places)));
        places.flatten().filter_map(claim)
    }

    /// Spares of a class now, on all processors.
    pub(crate) fn parked(&self, class: ClassIndex) -> usize {
        let places =
            self.shards().flat_map(|shard| shard.places.get(range_of(class)).unwrap_or_default());
        // Relaxed: for the books.
        places.filter(|place| place.load(Ordering::Relaxed) != 0).count()
    }

    /// Has somebody inserted something, or tried to, since this was asked the last time?
    pub fn inserted_since(&self) -> bool {
        // Relaxed: a hint. All of them, whatever one says.
        let since = |shard: Shard<'_>| shard.words[INSERTED_AT].swap(0, Ordering::Relaxed) != 0;
        self.shards().fold(false, |any, shard| any | since(shard))
    }

    /// A processor's words and places.
    #[inline]
    fn shard(&self, cpu: usize) -> Option<Shard<'_>> {
        let places = self.places.get()?;
        // Their number is a power of two.
        let shard = cpu & (self.shards - 1);
        Shard::of(&places[shard * self.stride..][..self.stride])
    }

    fn shards(&self) -> impl Iterator<Item = Shard<'_>> {
        let entries = self.places.get().into_iter().flat_map(|places| places.chunks(self.stride));
        entries.filter_map(Shard::of)
    }
}

impl<'a> Shard<'a> {
    #[inline]
    fn of(entries: &'a [AtomicU32]) -> Option<Shard<'a>> {
        let (words, places) = entries.split_first_chunk()?;
        Some(Shard { words, places })
    }
}

/// Where the places of a class are among those of a processor.
#[inline]
fn range_of(class: ClassIndex) -> core::ops::Range<usize> {
    let first = usize::from(class.0) * PLACES;
    first..first + PLACES
}

#[inline]
fn claim(place: &AtomicU32) -> Option<u32> {
    // Relaxed: most places are empty, and looking is cheaper than exchanging.
    if place.load(Ordering::Relaxed) == 0 {
        return None;
    }
    // Acquire: pairs with the Release of `park`.
    place.swap(0, Ordering::Acquire).checked_sub(1)
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use zpool_core::internal::current_cpu;

    use super::*;

    #[test]
    fn a_class_has_a_few_spares_a_processor_and_nobody_takes_one_twice() {
        let spares = Spares::new(3);
        let (first, last) = (ClassIndex(0), ClassIndex(2));
        assert_eq!(
            spares.park(current_cpu(), first, 7),
            Parked::No,
            "no room before an insert has made it"
        );
        spares.prepare(|bytes| assert!(bytes > 0));
        spares.prepare(|_| panic!("made once"));
        let parked = (0..100)
            .filter(|&index| spares.park(current_cpu(), first, index) != Parked::No)
            .count();
        assert!((PLACES..=PLACES * spares.shards).contains(&parked), "{parked}");
        assert_eq!(spares.park(current_cpu(), last, u32::MAX - 1), Parked::ForSoon);
        assert_eq!(spares.drain(Some(last)).collect::<Vec<_>>(), [u32::MAX - 1]);
        assert_eq!((spares.drain(None).count(), spares.drain(None).count()), (parked, 0));
        assert!(spares.take(current_cpu(), first).is_none());
    }

    #[test]
    fn a_slot_is_wanted_soon_where_inserts_come_between_the_frees() {
        let spares = Spares { shards: 1, ..Spares::new(2) };
        spares.prepare(|_| ());
        let (one, other) = (ClassIndex(0), ClassIndex(1));
        let park = |_| (spares.park(current_cpu(), one, 1), spares.drain(None).count()).0;
        for _ in 0..3 {
            assert!(spares.take(current_cpu(), other).is_none());
            let parked: Vec<_> = (1..=STREAK + 1).map(park).collect();
            assert!(parked[..STREAK as usize - 1].iter().all(|&parked| parked == Parked::ForSoon));
            assert_eq!(parked[STREAK as usize - 1..], [Parked::TooMany, Parked::ForLater]);
        }
    }

    #[test]
    fn whether_somebody_inserts_is_known_once() {
        let spares = Spares::new(2);
        assert!(!spares.inserted_since(), "no insert has made room");
        spares.prepare(|_| ());
        spares.park(current_cpu(), ClassIndex(1), 7);
        assert!(!spares.inserted_since(), "a free is no insert");
        for class in [1, 0] {
            spares.take(current_cpu(), ClassIndex(class));
            assert!(spares.inserted_since(), "whether it found a spare or not");
            assert!(!spares.inserted_since());
        }
    }

    #[test]
    fn a_processor_that_only_frees_says_so_now_and_then() {
        let spares = Spares { shards: 1, ..Spares::new(1) };
        spares.prepare(|_| ());
        let park_many = |n: u32| {
            let park =
                |_| (spares.park(current_cpu(), ClassIndex(0), 1), spares.drain(None).count()).0;
            (0..n).map(park).filter(|&parked| parked == Parked::TooMany).count()
        };
        assert_eq!((park_many(STREAK - 1), park_many(1), park_many(2 * STREAK)), (0, 1, 2));
        // An insert begins anew.
        assert!(spares.take(current_cpu(), ClassIndex(0)).is_none());
        assert_eq!((park_many(STREAK - 1), park_many(1)), (0, 1));
    }
}
