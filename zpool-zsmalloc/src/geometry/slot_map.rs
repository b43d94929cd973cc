//! Where slots lie among the frames of a zspage: arithmetic of one class, and bits of words.

use core::ops::Range;

use crate::geometry::size_class::{ClassTable, SizeClass};

/// The geometry of one class, in the form that the hot paths want.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotMap {
    /// Bytes of a slot.
    pub(crate) slot: u32,
    /// Slots of a zspage.
    pub(crate) objects: u16,
    /// Words of a zspage's bitmap.
    pub(crate) words: u16,
    /// Frames of a zspage.
    pub(crate) frames: u16,
    frame_shift: u16,
}

impl SlotMap {
    pub(crate) fn of(table: &ClassTable, class: &SizeClass) -> SlotMap {
        SlotMap {
            slot: class.slot_bytes,
            objects: class.slots,
            words: class.slots.div_ceil(64),
            frames: class.frames,
            frame_shift: table.config().frame_size.trailing_zeros() as u16,
        }
    }

    /// Where a slot begins, in bytes from the front.
    #[inline]
    pub(crate) fn offset(&self, object: u16) -> usize {
        usize::from(object) * self.slot as usize
    }

    pub(crate) fn frame_size(&self) -> usize {
        1 << self.frame_shift
    }

    /// The frames that an object of `len` bytes in slot `object` lies in, as bits.
    #[inline]
    pub(crate) fn frames_of(&self, object: u16, len: u32) -> u64 {
        let from = self.offset(object);
        let last = (from + len as usize - 1) >> self.frame_shift;
        let first = from >> self.frame_shift;
        (u64::MAX >> (63 - (last - first))) << first
    }

    /// The frames that the whole slot reaches into.
    #[inline]
    pub(crate) fn frames_of_slot(&self, object: u16) -> u64 {
        self.frames_of(object, self.slot)
    }

    /// The one frame in which slots end and the tail of the zspage begins, as a bit, and the bytes
    /// of the tail in it. The frames after it are never resident, since no slot reaches into them.
    pub(crate) fn tail(&self) -> (u64, usize) {
        let end = self.offset(self.objects);
        let frame = (end - 1) >> self.frame_shift;
        (1 << frame, ((frame + 1) << self.frame_shift) - end)
    }

    /// Bytes of slot `object` that lie in `frames`.
    pub(crate) fn bytes_in(&self, object: u16, frames: u64) -> usize {
        let (from, to) = (self.offset(object), self.offset(object + 1));
        let here = runs(self.frames_of_slot(object) & frames).flatten();
        here.map(|frame| {
            let (start, end) =
                ((frame as usize) << self.frame_shift, (frame as usize + 1) << self.frame_shift);
            to.min(end) - from.max(start)
        })
        .sum()
    }

    /// The slot that begins before this frame and reaches into it.
    pub(crate) fn slot_across(&self, frame: u32) -> Option<u16> {
        let start = (frame as usize) << self.frame_shift;
        let slot = self.slot as usize;
        (!start.is_multiple_of(slot) && start / slot < usize::from(self.objects))
            .then(|| (start / slot) as u16)
    }

    /// The slots that reach into one of these frames.
    pub(crate) fn slots_in(&self, frames: Range<u32>) -> Range<u16> {
        let slot = self.slot as usize;
        let from = (frames.start as usize) << self.frame_shift;
        let to = (frames.end as usize) << self.frame_shift;
        let end = to.div_ceil(slot).min(usize::from(self.objects));
        ((from / slot).min(end) as u16)..(end as u16)
    }

    /// The first slot that begins in this frame or after it.
    pub(crate) fn first_slot_from(&self, frame: u32) -> u16 {
        ((frame as usize) << self.frame_shift)
            .div_ceil(self.slot as usize)
            .min(usize::from(self.objects)) as u16
    }

    /// Slots that lie entirely in the first `frames` frames.
    pub(crate) fn slots_within(&self, frames: usize) -> u16 {
        ((frames << self.frame_shift) / self.slot as usize).min(usize::from(self.objects)) as u16
    }
}

/// The runs of ones in a word.
pub(crate) fn runs(mut bits: u64) -> impl Iterator<Item = Range<u32>> {
    core::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let start = bits.trailing_zeros();
        let end = start + (bits >> start).trailing_ones();
        bits &= u64::MAX.checked_shl(end).unwrap_or(0);
        Some(start..end)
    })
}

/// Is bit `at` set?
#[inline]
pub(crate) fn bit(words: &[u64], at: u16) -> bool {
    words[usize::from(at / 64)] >> (at % 64) & 1 == 1
}

/// The first clear bit of `from..end`.
pub(crate) fn first_clear(words: &[u64], from: u16, end: u16) -> Option<u16> {
    first(words, from, end, |word| !word)
}

/// The first set bit of `from..end`.
pub(crate) fn first_set(words: &[u64], from: u16, end: u16) -> Option<u16> {
    first(words, from, end, |word| word)
}

#[inline]
fn first(words: &[u64], from: u16, end: u16, look: impl Fn(u64) -> u64) -> Option<u16> {
    let mut at = from;
    while at < end {
        let word = look(words[usize::from(at / 64)]) >> (at % 64);
        if word != 0 {
            return Some(at + word.trailing_zeros() as u16).filter(|&found| found < end);
        }
        at = (at / 64 + 1) * 64;
    }
    None
}

/// The set bits of `range`, counted.
pub(crate) fn count_set(words: &[u64], range: Range<u16>) -> usize {
    let mut count = 0;
    let mut at = range.start;
    while at < range.end {
        let here = (range.end - at).min(64 - at % 64);
        let word = words[usize::from(at / 64)] >> (at % 64);
        count += (word & (u64::MAX >> (64 - here))).count_ones() as usize;
        at += here;
    }
    count
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::geometry::size_class::ClassConfig;

    #[test]
    fn frames_and_slots_agree() {
        let table =
            ClassTable::new(ClassConfig { chain: 16, ..ClassConfig::new(4096, 4096) }).unwrap();
        for class in table.classes() {
            let shape = SlotMap::of(&table, class);
            for object in 0..shape.objects {
                let mask = shape.frames_of_slot(object);
                for frame in 0..u32::from(shape.frames) {
                    let inside = shape.slots_in(frame..frame + 1).contains(&object);
                    assert_eq!(
                        inside,
                        mask >> frame & 1 == 1,
                        "{class:?} slot {object} frame {frame}"
                    );
                    let begins = shape.offset(object) >= (frame as usize) * 4096;
                    assert_eq!(begins, object >= shape.first_slot_from(frame));
                }
            }
            assert_eq!(shape.slots_in(0..u32::from(shape.frames)), 0..shape.objects);
        }
    }

    #[test]
    fn bits_are_found_and_counted_in_ranges() {
        let words = [0b1011u64 | 1 << 63, u64::MAX, 0];
        assert_eq!((first_clear(&words, 0, 192), first_clear(&words, 3, 192)), (Some(2), Some(4)));
        assert_eq!((first_clear(&words, 63, 192), first_clear(&words, 63, 128)), (Some(128), None));
        assert_eq!((first_set(&words, 4, 192), first_set(&words, 128, 192)), (Some(63), None));
        assert_eq!(
            (count_set(&words, 0..192), count_set(&words, 1..66), count_set(&words, 5..5)),
            (68, 5, 0)
        );
        assert_eq!(runs(0b1101_1000 | 1 << 63).collect::<Vec<_>>(), [3..5, 6..8, 63..64]);
        assert_eq!(runs(u64::MAX).map(|run| (run.start, run.end)).collect::<Vec<_>>(), [(0, 64)]);
    }
}
