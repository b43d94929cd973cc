//! The map of slots to frames: where the slots of a class lie in a zspage.

use core::ops::Range;

use super::bits::runs;
use super::size_class::{ClassTable, SizeClass};

/// The geometry of one class, in the form that the hot paths use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotMap {
    /// Bytes of a slot.
    pub(crate) slot_bytes: u32,
    /// Slots of a zspage.
    pub(crate) slots: u16,
    /// Words of a zspage's bitmap.
    pub(crate) words: u16,
    /// Frames of a zspage.
    pub(crate) frames: u16,
    frame_shift: u16,
}

impl SlotMap {
    pub(crate) fn of(table: &ClassTable, class: &SizeClass) -> SlotMap {
        SlotMap {
            slot_bytes: class.slot_bytes,
            slots: class.slots,
            words: class.slots.div_ceil(64),
            frames: class.frames,
            frame_shift: table.config().frame_size.trailing_zeros() as u16,
        }
    }

    /// Returns where a slot begins, in bytes from the front.
    #[inline]
    pub(crate) fn offset(&self, slot: u16) -> usize {
        usize::from(slot) * self.slot_bytes as usize
    }

    pub(crate) fn frame_size(&self) -> usize {
        1 << self.frame_shift
    }

    /// Returns the frames that an object of `len` bytes in `slot` lies in, as bits.
    #[inline]
    pub(crate) fn frames_of(&self, slot: u16, len: u32) -> u64 {
        let from = self.offset(slot);
        let last = (from + len as usize - 1) >> self.frame_shift;
        let first = from >> self.frame_shift;
        (u64::MAX >> (63 - (last - first))) << first
    }

    /// Returns the frames that the whole slot reaches into, as bits.
    #[inline]
    pub(crate) fn frames_of_slot(&self, slot: u16) -> u64 {
        self.frames_of(slot, self.slot_bytes)
    }

    /// Returns the frame in which the last slot ends and the tail of the zspage begins, as a bit,
    /// and the bytes of the tail in it. Frames after it are never resident, because no slot reaches
    /// into them.
    pub(crate) fn tail(&self) -> (u64, usize) {
        let end = self.offset(self.slots);
        let frame = (end - 1) >> self.frame_shift;
        (1 << frame, ((frame + 1) << self.frame_shift) - end)
    }

    /// Returns the bytes of `slot` that lie in `frames`.
    pub(crate) fn bytes_in(&self, slot: u16, frames: u64) -> usize {
        let (from, to) = (self.offset(slot), self.offset(slot + 1));
        let here = runs(self.frames_of_slot(slot) & frames).flatten();
        here.map(|frame| {
            let (start, end) =
                ((frame as usize) << self.frame_shift, (frame as usize + 1) << self.frame_shift);
            to.min(end) - from.max(start)
        })
        .sum()
    }

    /// Returns the slot that begins before this frame and reaches into it.
    pub(crate) fn slot_across(&self, frame: u32) -> Option<u16> {
        let start = (frame as usize) << self.frame_shift;
        let slot_bytes = self.slot_bytes as usize;
        (!start.is_multiple_of(slot_bytes) && start / slot_bytes < usize::from(self.slots))
            .then(|| (start / slot_bytes) as u16)
    }

    /// Returns the slots that reach into one of these frames.
    pub(crate) fn slots_in(&self, frames: Range<u32>) -> Range<u16> {
        let slot_bytes = self.slot_bytes as usize;
        let from = (frames.start as usize) << self.frame_shift;
        let to = (frames.end as usize) << self.frame_shift;
        let end = to.div_ceil(slot_bytes).min(usize::from(self.slots));
        ((from / slot_bytes).min(end) as u16)..(end as u16)
    }

    /// Returns the first slot that begins in this frame or after it.
    pub(crate) fn first_slot_from(&self, frame: u32) -> u16 {
        ((frame as usize) << self.frame_shift)
            .div_ceil(self.slot_bytes as usize)
            .min(usize::from(self.slots)) as u16
    }

    /// Returns how many slots lie entirely in the first `frames` frames.
    pub(crate) fn slots_within(&self, frames: usize) -> u16 {
        ((frames << self.frame_shift) / self.slot_bytes as usize).min(usize::from(self.slots))
            as u16
    }

    /// Returns the frames that `objects` objects need when they are packed to the front. An ideal
    /// compaction leaves that many.
    pub(crate) fn frames_needed(&self, objects: usize) -> usize {
        let slots = usize::from(self.slots);
        let frames =
            |slots: usize| (slots * self.slot_bytes as usize).div_ceil(1 << self.frame_shift);
        objects / slots * frames(slots) + frames(objects % slots)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::geometry::size_class::ClassConfig;

    fn table() -> ClassTable {
        ClassTable::new(ClassConfig { chain: 16, ..ClassConfig::new(4096, 4096) }).unwrap()
    }

    /// The frames of a slot and the slots of a frame are two views of one relation.
    #[test]
    fn frames_and_slots_agree() {
        let table = table();
        for class in table.classes() {
            let map = SlotMap::of(&table, class);
            for slot in 0..map.slots {
                let mask = map.frames_of_slot(slot);
                for frame in 0..u32::from(map.frames) {
                    let inside = map.slots_in(frame..frame + 1).contains(&slot);
                    assert_eq!(inside, mask >> frame & 1 == 1, "{class:?} {slot} in {frame}");
                    let begins = map.offset(slot) >= (frame as usize) * 4096;
                    assert_eq!(begins, slot >= map.first_slot_from(frame));
                }
            }
            assert_eq!(map.slots_in(0..u32::from(map.frames)), 0..map.slots);
        }
    }

    /// Every map agrees with a walk over the bytes of a zspage.
    #[test]
    fn maps_agree_with_bytes() {
        let table = table();
        for class in table.classes() {
            let map = SlotMap::of(&table, class);
            let size = map.slot_bytes as usize;
            assert_eq!(
                (map.frame_size(), usize::from(map.words)),
                (4096, usize::from(map.slots).div_ceil(64))
            );
            let bits = |bytes: Range<usize>| {
                let frames = bytes.map(|byte| byte / 4096);
                frames.fold(0u64, |mask, frame| mask | 1 << frame)
            };
            for slot in 0..map.slots {
                let from = usize::from(slot) * size;
                assert_eq!(map.offset(slot), from);
                for len in [1, size / 2, size - 1, size].into_iter().filter(|&len| len > 0) {
                    assert_eq!(
                        map.frames_of(slot, len as u32),
                        bits(from..from + len),
                        "{class:?}"
                    );
                }
                for frame in 0..usize::from(map.frames) {
                    let (start, end) = (frame * 4096, (frame + 1) * 4096);
                    let inside = (from..from + size).filter(|byte| (start..end).contains(byte));
                    assert_eq!(map.bytes_in(slot, 1 << frame), inside.count());
                }
                assert_eq!(map.bytes_in(slot, u64::MAX), size);
            }
            let end = usize::from(map.slots) * size;
            let last = (end - 1) / 4096;
            assert_eq!(map.tail(), (1 << last, (last + 1) * 4096 - end));
            for frame in 0..=usize::from(map.frames) {
                let start = frame * 4096;
                let across = (0..map.slots).find(|&slot| {
                    let from = map.offset(slot);
                    from < start && start < from + size
                });
                assert_eq!(map.slot_across(frame as u32), across, "{class:?}, {frame}");
                let within = (0..map.slots).filter(|&slot| map.offset(slot) + size <= start);
                assert_eq!(usize::from(map.slots_within(frame)), within.count());
            }
        }
    }

    /// The frames needed are those of full zspages, and of the front of the last one.
    #[test]
    fn frames_needed_counts_front_of_last_zspage() {
        let table = table();
        let map = SlotMap::of(&table, table.get(table.class_of(1456)));
        let needed: Vec<_> = [0, 1, 2, 3, 45, 46, 90].map(|n| map.frames_needed(n)).into();
        assert_eq!(needed, [0, 1, 1, 2, 16, 17, 32]);
    }
}
