//! The numbers of a page: chunks, sides, frames.
//!
//! ```text
//!   page (here of four frames)
//!   |  frame 0  |  frame 1  |  frame 2  |  frame 3  |
//!   |################                    %%%%%%%%%%%|   # first buddy: from the front
//!    ^0             ^ end of its chunks ^ end of the page   % last buddy: to the back
//!                                         less its chunks
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

/// One of a page's two objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BuddySide {
    /// Left-justified.
    First = 0,
    /// Right-justified.
    Last = 1,
}

pub(crate) const SIDES: [BuddySide; 2] = [BuddySide::First, BuddySide::Last];

/// The number of a page in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageIndex(pub(crate) u32);

/// The number of a buddy, which a handle carries: two per page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuddyIndex(u32);

/// Pages whose buddies the 32 bits of a handle can number.
pub(crate) const MAX_PAGES: usize = 1 << 31;

impl BuddyIndex {
    pub(crate) fn new(page: PageIndex, side: BuddySide) -> BuddyIndex {
        debug_assert!((page.0 as usize) < MAX_PAGES, "{page:?} has no buddies");
        BuddyIndex(page.0 << 1 | side as u32)
    }

    /// Decodes any 32 bits. The page may not exist.
    pub(crate) fn from_bits(bits: u32) -> BuddyIndex {
        BuddyIndex(bits)
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn page(self) -> PageIndex {
        PageIndex(self.0 >> 1)
    }

    pub(crate) fn side(self) -> BuddySide {
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

    /// Returns the chunks that two buddies leave free.
    pub(crate) fn left_by(first: Chunks, last: Chunks) -> Chunks {
        let used = first.count() + last.count();
        debug_assert!(used <= CHUNKS_PER_PAGE, "{first:?} and {last:?} overlap");
        Chunks((CHUNKS_PER_PAGE - used) as u8)
    }
}

/// A set of a page's frames.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FrameSet(u64);

impl FrameSet {
    pub(crate) const NONE: FrameSet = FrameSet(0);

    pub(crate) fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the frames `from..to`.
    fn between(from: usize, to: usize) -> FrameSet {
        debug_assert!(from < to && to <= 64, "frames {from}..{to}");
        FrameSet((u64::MAX >> (64 - (to - from))) << from)
    }

    /// Iterates over the runs of neighbouring frames in this set.
    pub(crate) fn ranges(self) -> impl Iterator<Item = core::ops::Range<usize>> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let from = left.trailing_zeros() as usize;
            let len = (left >> from).trailing_ones() as usize;
            left &= !FrameSet::between(from, from + len).0;
            Some(from..from + len)
        })
    }
}

impl BitAnd for FrameSet {
    type Output = FrameSet;
    fn bitand(self, other: FrameSet) -> FrameSet {
        FrameSet(self.0 & other.0)
    }
}

impl BitOr for FrameSet {
    type Output = FrameSet;
    fn bitor(self, other: FrameSet) -> FrameSet {
        FrameSet(self.0 | other.0)
    }
}

impl Not for FrameSet {
    type Output = FrameSet;
    fn not(self) -> FrameSet {
        FrameSet(!self.0)
    }
}

impl fmt::Debug for FrameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ranges()).finish()
    }
}

/// The sizes of a pool's pages, all in bytes, all powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    page: usize,
    frame: usize,
}

impl Geometry {
    /// Makes the geometry of pages of at least `page` bytes over frames of `frame` bytes. A page
    /// consists of whole frames, so it is a frame if that is larger.
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

    /// Returns the chunks that an object of `len` bytes takes.
    pub(crate) fn chunks_for(self, len: usize) -> Chunks {
        debug_assert!((1..=self.page).contains(&len), "{len} bytes in a page of {}", self.page);
        Chunks(len.div_ceil(self.chunk()) as u8)
    }

    /// Returns the bytes of frames that an object of `len` bytes takes if the pool has many of that
    /// length. Objects of up to half a page pair, and longer ones are alone in their page.
    pub(crate) fn footprint(self, len: usize) -> usize {
        let chunks = self.chunks_for(len.clamp(1, self.page));
        let bytes = self.frames(BuddySide::First, chunks).count() * self.frame;
        let paired = self.frames_per_page() == 1 && chunks.count() <= CHUNKS_PER_PAGE / 2;
        if paired { self.page / 2 } else { bytes.max(len) }
    }

    /// Returns where a buddy of `chunks` chunks begins, in bytes from the front of the page.
    pub(crate) fn offset(self, side: BuddySide, chunks: Chunks) -> usize {
        match side {
            BuddySide::First => 0,
            BuddySide::Last => self.page - chunks.count() * self.chunk(),
        }
    }

    /// Returns the frames that a buddy of `chunks` chunks lies on.
    pub(crate) fn frames(self, side: BuddySide, chunks: Chunks) -> FrameSet {
        if chunks == Chunks::NONE {
            return FrameSet::NONE;
        }
        let start = self.offset(side, chunks);
        let end = start + chunks.count() * self.chunk();
        FrameSet::between(start / self.frame, end.div_ceil(self.frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length gets the fewest chunks that hold it.
    #[test]
    fn chunks_for_length_are_fewest_that_fit() {
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
                assert_eq!(g.offset(BuddySide::First, chunks), 0);
                assert_eq!(g.offset(BuddySide::Last, chunks), g.page() - bytes);
            }
            assert_eq!(Chunks::left_by(g.chunks_for(g.page()), Chunks::NONE), Chunks::NONE);
        }
    }

    /// A buddy's frames are those that its bytes touch.
    #[test]
    fn frames_are_those_bytes_touch() {
        let g = Geometry::new(16_384, 4096);
        for (side, len, expected) in [
            (BuddySide::First, 1, 0..1),
            (BuddySide::First, 4096, 0..1),
            (BuddySide::First, 4097, 0..2),
            (BuddySide::Last, 1, 3..4),
            (BuddySide::Last, 4097, 2..4),
            (BuddySide::Last, 16_384, 0..4),
        ] {
            let chunks = g.chunks_for(len);
            let touched = |byte: usize| (byte + g.offset(side, chunks)) / 4096;
            assert_eq!(touched(0)..touched(len - 1) + 1, expected, "{len} bytes");
            assert!(g.frames(side, chunks).ranges().eq(core::iter::once(expected)), "{len} bytes");
        }
        assert_eq!(Geometry::new(262_144, 4096).frames(BuddySide::First, Chunks(64)).count(), 64);
        assert_eq!(g.frames(BuddySide::Last, Chunks::NONE), FrameSet::NONE);
    }

    /// In a page of one frame, an object takes half a page or all of it. In a page of several
    /// frames it takes those that it lies on.
    #[test]
    fn footprint_is_half_page_or_frames_touched() {
        for (page, frame, len, expected) in [
            (4096, 4096, 1, 2048),
            (4096, 4096, 2048, 2048),
            (4096, 4096, 2049, 4096),
            (4096, 4096, 4096, 4096),
            (4096, 16_384, 4096, 8192),
            (16_384, 4096, 1, 4096),
            (16_384, 4096, 4097, 8192),
            (16_384, 4096, 8192, 8192),
            (16_384, 4096, 8193, 12_288),
            (16_384, 4096, 16_384, 16_384),
        ] {
            let g = Geometry::new(page, frame);
            assert_eq!(g.footprint(len), expected, "{len} bytes in {g:?}");
        }
    }

    #[test]
    fn ranges_name_each_frame_once() {
        let set = FrameSet(0b1100_1110_0000_0001 | 1 << 63);
        assert!(set.ranges().eq([0..1, 9..12, 14..16, 63..64]));
        assert!(FrameSet(u64::MAX).ranges().eq(core::iter::once(0..64)));
        assert_eq!(FrameSet::NONE.ranges().count(), 0);
    }

    #[test]
    fn buddies_are_numbered_by_page_and_side() {
        for (page, side) in [
            (0, BuddySide::First),
            (0, BuddySide::Last),
            (77, BuddySide::Last),
            ((1 << 31) - 1, BuddySide::Last),
        ] {
            let buddy = BuddyIndex::new(PageIndex(page), side);
            let again = BuddyIndex::from_bits(buddy.bits());
            assert_eq!((again.page(), again.side()), (PageIndex(page), side));
        }
    }
}
