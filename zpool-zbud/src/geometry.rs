//! The numbers of a page: chunks, sides, frames.
//!
//! ```text
//!   page (here of four frames)
//!   |  frame 0  |  frame 1  |  frame 2  |  frame 3  |
//!   |################                    %%%%%%%%%%%|      # first buddy: from the front
//!    ^0             ^ its chunks' end   ^ the page's end less its chunks      % last buddy: to the back
//!   \_ 64 chunks in all; a buddy's bytes begin where its chunks begin
//! ```

use core::fmt;
use core::ops::{BitAnd, BitOr, Not};

/// Chunks of a page, all of them usable.
pub(crate) const CHUNKS_PER_PAGE: usize = 64;

/// The smallest page, in bytes.
pub(crate) const MIN_PAGE: usize = 4096;

/// The largest page, in bytes.
pub(crate) const MAX_PAGE: usize = 256 << 10;

/// The smallest frame that a page source may have, in bytes.
const MIN_FRAME: usize = 4096;

const _: () =
    assert!(MAX_PAGE / MIN_FRAME <= u64::BITS as usize, "a page's frames are the bits of a word");
const _: () = assert!(
    MAX_PAGE / CHUNKS_PER_PAGE <= MIN_FRAME,
    "a chunk lies inside a frame, so an object's chunks touch the frames that its bytes touch"
);

/// Which of a page's two objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Side {
    /// Left-justified.
    First = 0,
    /// Right-justified.
    Last = 1,
}

pub(crate) const SIDES: [Side; 2] = [Side::First, Side::Last];

/// The number of a page in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageIndex(pub(crate) u32);

/// The number of a slot, which is what a handle carries: two a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotIndex(u32);

/// Pages whose slots a handle's 32 bits can number.
pub(crate) const MAX_PAGES: usize = 1 << 31;

impl SlotIndex {
    pub(crate) fn new(page: PageIndex, side: Side) -> SlotIndex {
        debug_assert!((page.0 as usize) < MAX_PAGES, "{page:?} has no slots");
        SlotIndex(page.0 << 1 | side as u32)
    }

    /// Any number is the number of some slot, of a page that may not exist.
    pub(crate) fn from_bits(bits: u32) -> SlotIndex {
        SlotIndex(bits)
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn page(self) -> PageIndex {
        PageIndex(self.0 >> 1)
    }

    pub(crate) fn side(self) -> Side {
        SIDES[(self.0 & 1) as usize]
    }
}

/// A number of chunks, 0 to [`CHUNKS_PER_PAGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Chunks(u8);

impl Chunks {
    pub(crate) const NONE: Chunks = Chunks(0);

    pub(crate) fn count(self) -> usize {
        usize::from(self.0)
    }

    /// What two buddies leave of a page.
    pub(crate) fn left_by(first: Chunks, last: Chunks) -> Chunks {
        let used = first.count() + last.count();
        debug_assert!(used <= CHUNKS_PER_PAGE, "{first:?} and {last:?} overlap");
        Chunks((CHUNKS_PER_PAGE - used) as u8)
    }
}

/// A set of a page's frames.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Frames(u64);

impl Frames {
    pub(crate) const NONE: Frames = Frames(0);

    pub(crate) fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The frames from number `from` up to, but not including, number `to`.
    fn between(from: usize, to: usize) -> Frames {
        debug_assert!(from < to && to <= 64, "frames {from}..{to}");
        Frames((u64::MAX >> (64 - (to - from))) << from)
    }

    /// The stretches of neighbours in this set, each from its first number to the one past its last.
    pub(crate) fn stretches(self) -> impl Iterator<Item = core::ops::Range<usize>> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let from = left.trailing_zeros() as usize;
            let len = (left >> from).trailing_ones() as usize;
            left &= !Frames::between(from, from + len).0;
            Some(from..from + len)
        })
    }
}

impl BitAnd for Frames {
    type Output = Frames;
    fn bitand(self, other: Frames) -> Frames {
        Frames(self.0 & other.0)
    }
}

impl BitOr for Frames {
    type Output = Frames;
    fn bitor(self, other: Frames) -> Frames {
        Frames(self.0 | other.0)
    }
}

impl Not for Frames {
    type Output = Frames;
    fn not(self) -> Frames {
        Frames(!self.0)
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.stretches()).finish()
    }
}

/// The sizes of a pool's pages, all in bytes, all powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    page: usize,
    frame: usize,
}

impl Geometry {
    /// Pages of at least `page` bytes over frames of `frame` bytes: a page is whole frames, so it is a frame where that is larger.
    pub(crate) fn new(page: usize, frame: usize) -> Geometry {
        assert!(
            page.is_power_of_two() && (MIN_PAGE..=MAX_PAGE).contains(&page),
            "a page of {page} bytes"
        );
        assert!(frame.is_power_of_two() && frame >= MIN_FRAME, "a frame of {frame} bytes");
        Geometry { page: page.max(frame), frame }
    }

    pub(crate) fn page(self) -> usize {
        self.page
    }

    pub(crate) fn frame(self) -> usize {
        self.frame
    }

    pub(crate) fn frames_per_page(self) -> usize {
        self.page / self.frame
    }

    pub(crate) fn chunk(self) -> usize {
        self.page / CHUNKS_PER_PAGE
    }

    /// The chunks that an object of `len` bytes takes.
    pub(crate) fn chunks_for(self, len: usize) -> Chunks {
        debug_assert!((1..=self.page).contains(&len), "{len} bytes in a page of {}", self.page);
        Chunks(len.div_ceil(self.chunk()) as u8)
    }

    /// Where a buddy of so many chunks begins, in bytes from the page's front.
    pub(crate) fn offset(self, side: Side, chunks: Chunks) -> usize {
        match side {
            Side::First => 0,
            Side::Last => self.page - chunks.count() * self.chunk(),
        }
    }

    /// The frames that a buddy of so many chunks lies on.
    pub(crate) fn frames(self, side: Side, chunks: Chunks) -> Frames {
        if chunks == Chunks::NONE {
            return Frames::NONE;
        }
        let start = self.offset(side, chunks);
        let end = start + chunks.count() * self.chunk();
        Frames::between(start / self.frame, end.div_ceil(self.frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gets_the_fewest_chunks_that_hold_it() {
        for (page, frame) in
            [(4096, 4096), (8192, 4096), (65_536, 4096), (4096, 16_384), (262_144, 4096)]
        {
            let g = Geometry::new(page, frame);
            for len in (1..=g.page()).step_by(if page > 8192 { 61 } else { 1 }).chain([g.page()]) {
                let chunks = g.chunks_for(len);
                let bytes = chunks.count() * g.chunk();
                assert!(
                    (len..len + g.chunk()).contains(&bytes),
                    "{len} bytes in {chunks:?} of {g:?}"
                );
                assert_eq!(g.offset(Side::First, chunks), 0);
                assert_eq!(g.offset(Side::Last, chunks), g.page() - bytes);
            }
            assert_eq!(Chunks::left_by(g.chunks_for(g.page()), Chunks::NONE), Chunks::NONE);
        }
    }

    #[test]
    fn frames_are_those_that_the_bytes_touch() {
        let g = Geometry::new(16_384, 4096);
        for (side, len, expected) in [
            (Side::First, 1, 0..1),
            (Side::First, 4096, 0..1),
            (Side::First, 4097, 0..2),
            (Side::Last, 1, 3..4),
            (Side::Last, 4097, 2..4),
            (Side::Last, 16_384, 0..4),
        ] {
            let chunks = g.chunks_for(len);
            let touched = |byte: usize| (byte + g.offset(side, chunks)) / 4096;
            assert_eq!(touched(0)..touched(len - 1) + 1, expected, "{len} bytes");
            assert!(
                g.frames(side, chunks).stretches().eq(core::iter::once(expected)),
                "{len} bytes"
            );
        }
        assert_eq!(Geometry::new(262_144, 4096).frames(Side::First, Chunks(64)).count(), 64);
        assert_eq!(g.frames(Side::Last, Chunks::NONE), Frames::NONE);
    }

    #[test]
    fn stretches_name_each_frame_once() {
        let set = Frames(0b1100_1110_0000_0001 | 1 << 63);
        assert!(set.stretches().eq([0..1, 9..12, 14..16, 63..64]));
        assert!(Frames(u64::MAX).stretches().eq(core::iter::once(0..64)));
        assert_eq!(Frames::NONE.stretches().count(), 0);
    }

    #[test]
    fn slots_are_numbered_by_page_and_side() {
        for (page, side) in
            [(0, Side::First), (0, Side::Last), (77, Side::Last), ((1 << 31) - 1, Side::Last)]
        {
            let slot = SlotIndex::new(PageIndex(page), side);
            let again = SlotIndex::from_bits(slot.bits());
            assert_eq!((again.page(), again.side()), (PageIndex(page), side));
        }
    }
}
