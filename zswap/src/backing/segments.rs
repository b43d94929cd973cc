//! The segments of a tier: which are free, what they hold, and in which order they were written.
//!
//! ```text
//!   id of a segment   | generation | number of its slot |   a new one with each reuse of the slot
//!   word of a slot    | id: 32 bits | live units: 32 bits |  changed by compare-exchange
//! ```
//!
//! A place in the tier names its segment by id. When a segment is dropped, its slot gets the next
//! id *before* anything is overwritten. So a place whose id is not current is a miss, and a reader
//! that finds the id current after it has read knows that no write had begun.
//!
//! Entries count what they refer to in the word of the slot, under their shard's lock. All else is
//! the writer's, of which there is one at a time.

use std::collections::VecDeque;

use zpool_core::backing::{BackingCapabilities, SegmentNumber};
use zpool_core::internal::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::backing::record::{directory_len, record_len};
use crate::value::tier_place::{PlaceParts, TierPlace};

/// The table.
#[derive(Debug)]
pub(crate) struct TierSegments {
    slots: Box<[SegmentSlot]>,
    /// Bits of an id that are the number of a slot.
    slot_bits: u32,
    unit: usize,
}

/// A slot of the backing store.
#[derive(Debug)]
struct SegmentSlot {
    /// Id of the segment, and units of it that entries refer to.
    word: AtomicU64,
    /// Bytes that were written, and records among them. Written before an entry refers to them.
    written: AtomicU32,
    records: AtomicU32,
    /// Bytes of the longest record.
    longest: AtomicU32,
}

impl TierSegments {
    /// Makes the table. `None` if memory is refused.
    pub(crate) fn new(capabilities: &BackingCapabilities) -> Option<TierSegments> {
        let count = capabilities.segments();
        let slot_bits = u32::BITS - (count - 1).leading_zeros();
        let mut slots = Vec::new();
        slots.try_reserve_exact(count as usize).ok()?;
        slots.extend((0..count).map(|slot| SegmentSlot {
            word: AtomicU64::new(u64::from(slot) << 32),
            written: AtomicU32::new(0),
            records: AtomicU32::new(0),
            longest: AtomicU32::new(0),
        }));
        let unit = TierPlace::unit_of(capabilities.segment_bytes());
        Some(TierSegments { slots: slots.into_boxed_slice(), slot_bits, unit })
    }

    /// Returns the bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Returns the bytes that offsets are counted in.
    #[inline]
    pub(crate) fn unit(&self) -> usize {
        self.unit
    }

    /// Returns the slot of an id.
    #[inline]
    pub(crate) fn slot_of(&self, id: u32) -> SegmentNumber {
        let mask = (1u64 << self.slot_bits) - 1;
        SegmentNumber::new((u64::from(id) & mask) as u32)
    }

    #[inline]
    fn slot(&self, number: SegmentNumber) -> &SegmentSlot {
        &self.slots[number.get() as usize]
    }

    /// Returns the id that the slot has now.
    pub(crate) fn id(&self, number: SegmentNumber) -> u32 {
        // Relaxed: the writer, which is the one that changes it.
        (self.slot(number).word.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Returns whether the segment of this id is still there.
    #[inline]
    pub(crate) fn is_current(&self, id: u32) -> bool {
        // Acquire: pairs with the Release in `retire`. A reader that has seen a byte that was
        // written after the id had changed sees the change.
        (self.slot(self.slot_of(id)).word.load(Ordering::Acquire) >> 32) as u32 == id
    }

    /// Returns what was written of a segment: bytes, and records among them.
    pub(crate) fn written(&self, id: u32) -> (usize, usize) {
        let slot = self.slot(self.slot_of(id));
        // Relaxed: written before any place of the segment was given out under a lock. If the slot
        // was reused meanwhile, the id differs.
        let read = |word: &AtomicU32| word.load(Ordering::Relaxed) as usize;
        (read(&slot.written), read(&slot.records))
    }

    /// Notes what is about to be written to a segment: its bytes, its records, and the bytes of the
    /// longest of these.
    pub(crate) fn set_written(&self, id: u32, bytes: usize, records: usize, longest: usize) {
        let slot = self.slot(self.slot_of(id));
        // Relaxed: as above.
        slot.written.store(bytes as u32, Ordering::Relaxed);
        slot.records.store(records as u32, Ordering::Relaxed);
        slot.longest.store(longest as u32, Ordering::Relaxed);
    }

    /// Returns the bytes of the segment that entries refer to.
    pub(crate) fn live_bytes(&self, number: SegmentNumber) -> usize {
        // Relaxed: an estimate, but for 0, which stays 0 while there is no writer.
        self.slot(number).word.load(Ordering::Relaxed) as u32 as usize * self.unit
    }

    /// Returns what compacting a segment would take.
    fn usage(&self, number: SegmentNumber) -> SegmentUse {
        let (_, records) = self.written(self.id(number));
        // Relaxed: as above.
        let longest = self.slot(number).longest.load(Ordering::Relaxed) as usize;
        SegmentUse {
            number,
            bytes_to_move: self.live_bytes(number) + directory_len(records),
            longest: longest + directory_len(1),
        }
    }

    /// Counts one more reference to a record. Returns false if its segment is gone.
    #[inline]
    pub(crate) fn acquire(&self, place: &PlaceParts) -> bool {
        self.change(place, |live, units| live + units)
    }

    /// Counts one reference less, if the segment is still there.
    #[inline]
    pub(crate) fn release(&self, place: &PlaceParts) {
        self.change(place, u64::wrapping_sub);
    }

    #[inline]
    fn change(&self, place: &PlaceParts, change: impl Fn(u64, u64) -> u64) -> bool {
        let units = (record_len(place.object_len, self.unit) / self.unit) as u64;
        let word = &self.slot(self.slot_of(place.segment)).word;
        let changed = |word: u64| {
            ((word >> 32) as u32 == place.segment).then(|| {
                let live = change(word & u64::from(u32::MAX), units) & u64::from(u32::MAX);
                word >> 32 << 32 | live
            })
        };
        // Relaxed: an account. The id is only compared with one that was read under a lock.
        word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed).is_ok()
    }

    /// Moves the slot on to its next id: from now on all places in it are misses.
    pub(crate) fn retire(&self, number: SegmentNumber) {
        let word = &self.slot(number).word;
        let next = self.id(number).wrapping_add(1u32.checked_shl(self.slot_bits).unwrap_or(0));
        // AcqRel: pairs with the Acquire in `is_current`. What is written to the slot comes after.
        word.swap(u64::from(next) << 32, Ordering::AcqRel);
    }
}

/// A segment that may be compacted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentUse {
    pub(crate) number: SegmentNumber,
    /// Bytes of a new segment that its live records would take, at most.
    pub(crate) bytes_to_move: usize,
    /// Bytes that the longest of its records would take in an empty segment. A segment is full when
    /// it has less left.
    pub(crate) longest: usize,
}

impl SegmentUse {
    pub(crate) const NONE: SegmentUse =
        SegmentUse { number: SegmentNumber::new(0), bytes_to_move: 0, longest: 0 };
}

/// The writer's view: free slots, and those in use in the order of their writes.
#[derive(Debug)]
pub(crate) struct SegmentOrder {
    /// Slots that hold nothing. The first ones are used first.
    free: VecDeque<SegmentNumber>,
    /// Slots in use, oldest first.
    used: VecDeque<SegmentNumber>,
    /// Slots in use that cannot be compacted, because their directories cannot be read.
    unreadable: Vec<SegmentNumber>,
}

impl SegmentOrder {
    /// Makes the order of a tier whose segments are all free. `None` if memory is refused.
    pub(crate) fn new(capabilities: &BackingCapabilities) -> Option<SegmentOrder> {
        let count = capabilities.segments() as usize;
        let (mut free, mut used) = (VecDeque::new(), VecDeque::new());
        free.try_reserve_exact(count).ok()?;
        used.try_reserve_exact(count).ok()?;
        free.extend((0..capabilities.segments()).map(SegmentNumber::new));
        Some(SegmentOrder { free, used, unreadable: Vec::new() })
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.free.capacity() + self.used.capacity()) * size_of::<SegmentNumber>()
    }

    /// Returns how many slots are free.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Returns how many segments hold something.
    pub(crate) fn used(&self) -> usize {
        self.used.len() + self.unreadable.len()
    }

    /// Returns the free slot that is written next.
    pub(crate) fn next_free(&self) -> Option<SegmentNumber> {
        self.free.front().copied()
    }

    /// Notes that the next free slot was written.
    pub(crate) fn mark_written(&mut self) {
        self.used.extend(self.free.pop_front());
    }

    /// Notes that a slot holds nothing any more.
    pub(crate) fn mark_free(&mut self, number: SegmentNumber) {
        self.used.retain(|used| *used != number);
        self.unreadable.retain(|used| *used != number);
        self.free.push_back(number);
    }

    /// Notes that a segment cannot be compacted. It stays until no entry refers to it.
    pub(crate) fn set_aside(&mut self, number: SegmentNumber) {
        self.used.retain(|used| *used != number);
        self.unreadable.push(number);
    }

    /// Returns a segment to which no entry refers.
    pub(crate) fn dead(&self, segments: &TierSegments) -> Option<SegmentNumber> {
        let mut used = self.used.iter().chain(&self.unreadable);
        used.find(|number| segments.live_bytes(**number) == 0).copied()
    }

    /// Returns the oldest segment.
    pub(crate) fn oldest(&self) -> Option<SegmentNumber> {
        self.used.front().copied()
    }

    /// Fills `into` with the segments that have the fewest live bytes, emptiest first, and returns
    /// the filled part. Ties go to the oldest.
    pub(crate) fn emptiest<'l>(
        &self,
        segments: &TierSegments,
        into: &'l mut [SegmentUse],
    ) -> &'l [SegmentUse] {
        let mut len = 0;
        for &number in &self.used {
            let usage = segments.usage(number);
            let at =
                into[..len].partition_point(|other| other.bytes_to_move <= usage.bytes_to_move);
            len = (len + 1).min(into.len());
            if at < len {
                into[at..len].rotate_right(1);
                into[at] = usage;
            }
        }
        &into[..len]
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::value::tier_place::CodecNumber;

    fn place(segment: u32) -> PlaceParts {
        let codec = CodecNumber::RAW;
        PlaceParts { segment, offset: 0, block_len: 4096, object_len: 100, codec }
    }

    fn capabilities(segments: u32) -> BackingCapabilities {
        BackingCapabilities::new(1 << 16, segments).unwrap()
    }

    /// A place of a segment that was dropped neither counts nor is current, however often its slot
    /// was reused.
    #[test]
    fn retired_segment_is_not_current() {
        for count in [1, 2, 3, 64, 65] {
            let segments = TierSegments::new(&capabilities(count)).unwrap();
            let number = SegmentNumber::new(count - 1);
            let mut seen = Vec::new();
            for _ in 0..100 {
                let id = segments.id(number);
                assert_eq!(segments.slot_of(id), number);
                assert!(segments.is_current(id) && !seen.contains(&id));
                assert!(segments.acquire(&place(id)) && segments.acquire(&place(id)));
                segments.release(&place(id));
                assert_eq!(segments.live_bytes(number), 128);
                segments.retire(number);
                assert!(!segments.is_current(id) && !segments.acquire(&place(id)));
                segments.release(&place(id));
                assert_eq!(segments.live_bytes(number), 0);
                seen.push(id);
            }
        }
    }

    /// Slots go round: free, written, free again; the emptiest one is found.
    #[test]
    fn order_finds_oldest_and_emptiest() {
        let capabilities = capabilities(4);
        let segments = TierSegments::new(&capabilities).unwrap();
        let mut order = SegmentOrder::new(&capabilities).unwrap();
        for n in 0..3 {
            let number = order.next_free().unwrap();
            for _ in 0..3 - n {
                assert!(segments.acquire(&place(segments.id(number))));
            }
            order.mark_written();
        }
        let number = SegmentNumber::new;
        assert_eq!((order.oldest(), order.free(), order.used()), (Some(number(0)), 1, 3));
        let emptiest = |order: &SegmentOrder, most| {
            let mut list = vec![SegmentUse::NONE; most];
            let found = order.emptiest(&segments, &mut list);
            found.iter().map(|found| (found.number, found.bytes_to_move)).collect::<Vec<_>>()
        };
        let used = |n, records: usize| (number(n), 128 * records + directory_len(0));
        assert_eq!(emptiest(&order, 9), [used(2, 1), used(1, 2), used(0, 3)]);
        assert_eq!(emptiest(&order, 2), [used(2, 1), used(1, 2)]);
        order.mark_free(number(0));
        assert_eq!((order.oldest(), order.next_free()), (Some(number(1)), Some(number(3))));
        // One that is set aside is found again when nothing refers to it.
        order.set_aside(number(2));
        assert_eq!(emptiest(&order, 1), [used(1, 2)]);
        assert_eq!((order.used(), order.dead(&segments)), (2, None));
        segments.release(&place(segments.id(number(2))));
        assert_eq!(order.dead(&segments), Some(number(2)));
    }
}
