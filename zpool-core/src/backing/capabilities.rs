//! Facts about a backing store, and the checks that they make possible.

use core::fmt;
use core::ops::Range;

use super::{AlignedBytes, AllocationRefused, SegmentNumber};

/// The facts about a [`BackingStore`](super::BackingStore) that its user plans with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackingCapabilities {
    segment_bytes: usize,
    segments: u32,
    alignment: usize,
    partial_reads: bool,
    remote: bool,
}

impl BackingCapabilities {
    /// The greatest [`segment_bytes`](Self::segment_bytes): 1 GiB, so that an offset fits 32 bits.
    pub const MAX_SEGMENT_BYTES: usize = 1 << 30;
    /// The greatest [`alignment`](Self::alignment): 1 MiB.
    pub const MAX_ALIGNMENT: usize = 1 << 20;

    /// Makes the capabilities of `segments` segments of `segment_bytes` each. Parts of a segment
    /// can be read, nothing has to be aligned, and the medium is local.
    ///
    /// # Errors
    ///
    /// [`CapabilitiesError`] if there is no segment, or if a segment has no byte or more than
    /// [`MAX_SEGMENT_BYTES`](Self::MAX_SEGMENT_BYTES).
    pub const fn new(
        segment_bytes: usize,
        segments: u32,
    ) -> Result<BackingCapabilities, CapabilitiesError> {
        if segment_bytes == 0 || segment_bytes > BackingCapabilities::MAX_SEGMENT_BYTES {
            return Err(CapabilitiesError::SegmentBytes(segment_bytes));
        }
        if segments == 0 {
            return Err(CapabilitiesError::NoSegments);
        }
        Ok(BackingCapabilities {
            segment_bytes,
            segments,
            alignment: 1,
            partial_reads: true,
            remote: false,
        })
    }

    /// Makes the capabilities of as many segments of `segment_bytes` as fit in `bytes`, as
    /// [`new`](Self::new) does.
    ///
    /// # Errors
    ///
    /// [`CapabilitiesError`] as for `new`, or if there are more than [`u32::MAX`] segments.
    pub fn with_capacity(
        bytes: u64,
        segment_bytes: usize,
    ) -> Result<BackingCapabilities, CapabilitiesError> {
        // Segments without bytes are an error of `new`.
        let segments = bytes.checked_div(segment_bytes as u64).unwrap_or(0);
        let segments =
            u32::try_from(segments).map_err(|_| CapabilitiesError::TooManySegments { segments })?;
        BackingCapabilities::new(segment_bytes, segments)
    }

    /// Sets the [`alignment`](Self::alignment).
    ///
    /// # Errors
    ///
    /// [`CapabilitiesError`] if `alignment` is no power of two, is over
    /// [`MAX_ALIGNMENT`](Self::MAX_ALIGNMENT), or does not divide the segment.
    pub const fn with_alignment(
        self,
        alignment: usize,
    ) -> Result<BackingCapabilities, CapabilitiesError> {
        let allowed =
            alignment.is_power_of_two() && alignment <= BackingCapabilities::MAX_ALIGNMENT;
        if !allowed || !self.segment_bytes.is_multiple_of(alignment) {
            return Err(CapabilitiesError::Alignment {
                alignment,
                segment_bytes: self.segment_bytes,
            });
        }
        Ok(BackingCapabilities { alignment, ..self })
    }

    /// States that only all that was written of a segment can be read, not a part.
    pub const fn without_partial_reads(self) -> BackingCapabilities {
        BackingCapabilities { partial_reads: false, ..self }
    }

    /// States that another machine or process keeps the segments.
    pub const fn with_remote(self) -> BackingCapabilities {
        BackingCapabilities { remote: true, ..self }
    }

    /// Returns the bytes of a segment, the most that one write takes.
    pub const fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Returns the number of segments, which are numbered from 0.
    pub const fn segments(&self) -> u32 {
        self.segments
    }

    /// Returns the alignment in bytes of addresses, offsets and lengths in all calls: a power of
    /// two that divides the segment.
    pub const fn alignment(&self) -> usize {
        self.alignment
    }

    /// Returns whether a part of what was written can be read.
    pub const fn partial_reads(&self) -> bool {
        self.partial_reads
    }

    /// Returns whether another machine or process keeps the segments, so that they may be lost
    /// while this process lives, and each call costs a round trip.
    pub const fn remote(&self) -> bool {
        self.remote
    }

    /// Returns the bytes of all segments.
    pub const fn capacity(&self) -> u64 {
        self.segment_bytes as u64 * self.segments as u64
    }

    /// Makes a buffer of zeros that is as long as a segment, and aligned.
    ///
    /// # Errors
    ///
    /// [`AllocationRefused`] if the heap has no memory.
    pub fn segment_buffer(&self) -> Result<AlignedBytes, AllocationRefused> {
        AlignedBytes::zeroed(self.segment_bytes, self.alignment)
    }

    /// Rounds `len` up to a multiple of the alignment.
    pub const fn round_up(&self, len: usize) -> usize {
        len.next_multiple_of(self.alignment)
    }

    /// Returns the shortest range that can be read and contains `bytes`, where `written` bytes of
    /// the segment were written.
    pub const fn window(&self, bytes: Range<usize>, written: usize) -> Range<usize> {
        if !self.partial_reads {
            return 0..written;
        }
        bytes.start - bytes.start % self.alignment..self.round_up(bytes.end)
    }

    /// Checks the arguments of a [`write`](super::BackingStore::write).
    ///
    /// # Panics
    ///
    /// If they contradict the capabilities, which is a bug of the caller.
    pub fn check_write(&self, segment: SegmentNumber, bytes: &[u8]) {
        self.check_discard(segment);
        self.check_range(0, bytes);
    }

    /// Checks the arguments of a [`read`](super::BackingStore::read).
    ///
    /// # Panics
    ///
    /// If they contradict the capabilities, which is a bug of the caller.
    pub fn check_read(&self, segment: SegmentNumber, offset: usize, into: &[u8]) {
        self.check_discard(segment);
        assert!(
            offset == 0 || self.partial_reads,
            "a read from offset {offset} of a backing store that reads whole segments only"
        );
        self.check_range(offset, into);
    }

    /// Checks the argument of a [`discard`](super::BackingStore::discard).
    ///
    /// # Panics
    ///
    /// If there is no such segment, which is a bug of the caller.
    pub fn check_discard(&self, segment: SegmentNumber) {
        let segments = self.segments;
        assert!(
            segment.get() < segments,
            "segment {segment} is out of range: the backing store has {segments} segments"
        );
    }

    fn check_range(&self, offset: usize, bytes: &[u8]) {
        let (len, whole, alignment) = (bytes.len(), self.segment_bytes, self.alignment);
        assert!(
            len > 0 && offset <= whole && len <= whole - offset,
            "{len} bytes at offset {offset} of a segment of {whole}"
        );
        let address = bytes.as_ptr().addr();
        assert!(
            (offset | len | address) & (alignment - 1) == 0,
            "{len} bytes at offset {offset}, in memory at {address:#x}: all three must be \
             multiples of {alignment}"
        );
    }
}

/// The error of capabilities that no backing store can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CapabilitiesError {
    /// Bytes of a segment: 0, or above [`BackingCapabilities::MAX_SEGMENT_BYTES`].
    SegmentBytes(usize),
    /// No segments at all.
    NoSegments,
    /// More segments than can be numbered.
    TooManySegments {
        /// Number of segments.
        segments: u64,
    },
    /// An alignment that is no power of two, too great, or does not divide the segment.
    Alignment {
        /// The alignment in bytes.
        alignment: usize,
        /// Bytes of a segment.
        segment_bytes: usize,
    },
}

impl fmt::Display for CapabilitiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CapabilitiesError::SegmentBytes(bytes) => write!(
                f,
                "a segment of {bytes} bytes: choose 1 to {}",
                BackingCapabilities::MAX_SEGMENT_BYTES
            ),
            CapabilitiesError::NoSegments => {
                f.write_str("a backing store without segments: give it at least the bytes of one")
            }
            CapabilitiesError::TooManySegments { segments } => write!(
                f,
                "{segments} segments: choose fewer bytes, or larger segments, so that there are at \
                 most {}",
                u32::MAX
            ),
            CapabilitiesError::Alignment { alignment, segment_bytes } => write!(
                f,
                "an alignment of {alignment} bytes for segments of {segment_bytes}: choose a \
                 power of two that divides the segment, {} at most",
                BackingCapabilities::MAX_ALIGNMENT
            ),
        }
    }
}

impl core::error::Error for CapabilitiesError {}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn aligned() -> BackingCapabilities {
        BackingCapabilities::new(1 << 16, 4).unwrap().with_alignment(4096).unwrap()
    }

    /// Capabilities that contradict themselves are an error.
    #[test]
    fn impossible_capabilities_are_refused() {
        let new = BackingCapabilities::new;
        assert_eq!(new(0, 1), Err(CapabilitiesError::SegmentBytes(0)));
        assert_eq!(new((1 << 30) + 1, 1), Err(CapabilitiesError::SegmentBytes((1 << 30) + 1)));
        assert_eq!(new(1, 0), Err(CapabilitiesError::NoSegments));
        for alignment in [0, 3, 8192, 1 << 21] {
            let error = new(4096, 1).unwrap().with_alignment(alignment);
            let expected = CapabilitiesError::Alignment { alignment, segment_bytes: 4096 };
            assert_eq!(error, Err(expected));
        }
        assert_eq!(new(1 << 30, u32::MAX).unwrap().capacity(), u64::from(u32::MAX) << 30);
        let with_capacity = BackingCapabilities::with_capacity;
        assert_eq!(with_capacity(10_000, 4096), new(4096, 2));
        assert_eq!(with_capacity(u64::MAX, 0), Err(CapabilitiesError::SegmentBytes(0)));
        assert_eq!(with_capacity(4095, 4096), Err(CapabilitiesError::NoSegments));
        let segments = u64::MAX / 4096;
        assert_eq!(
            with_capacity(u64::MAX, 4096),
            Err(CapabilitiesError::TooManySegments { segments })
        );
    }

    /// The window of a record is aligned and contains it; without partial reads it is everything.
    #[test]
    fn window_covers_a_record() {
        let parts = aligned();
        assert_eq!(parts.window(5000..9000, 65_536), 4096..12_288);
        assert_eq!(parts.window(4096..8192, 65_536), 4096..8192);
        assert_eq!(parts.without_partial_reads().window(5000..9000, 20_480), 0..20_480);
    }

    /// Each call outside of the capabilities panics, and those inside do not.
    #[test]
    fn checks_find_calls_outside_of_capabilities() {
        let capabilities = aligned();
        let buffer = capabilities.segment_buffer().unwrap();
        let (first, fifth) = (SegmentNumber::new(0), SegmentNumber::new(4));
        capabilities.check_write(SegmentNumber::new(3), &buffer);
        capabilities.check_read(first, 61_440, &buffer[..4096]);
        capabilities.without_partial_reads().check_read(first, 0, &buffer[..4096]);
        let refused = |call: &(dyn Fn() + std::panic::RefUnwindSafe)| catch_unwind(call).is_err();
        assert!(refused(&|| capabilities.check_discard(fifth)));
        assert!(refused(&|| capabilities.check_write(first, &buffer[..0])));
        assert!(refused(&|| capabilities.check_write(first, &buffer[..100])));
        assert!(refused(&|| capabilities.check_write(first, &buffer[1..4097])));
        assert!(refused(&|| capabilities.check_read(first, 100, &buffer[..4096])));
        assert!(refused(&|| capabilities.check_read(first, 4096, &buffer)));
        let whole = capabilities.without_partial_reads();
        assert!(refused(&|| whole.check_read(first, 4096, &buffer[..4096])));
    }
}
