//! Backing stores: where the segments of a tier below memory are kept.
//!
//! ```text
//!   a store's tier                                          implementations
//!      │  write(segment, bytes)     one whole segment  ──►  a file, an object store, Redis
//!      │  read(segment, offset, ..) a part of one      ──►
//!      │  discard(segment)          its place is free  ──►
//!      └  under no lock, from several threads at once
//! ```
//!
//! - A *segment* is a run of bytes that is written at once, read in parts, and discarded as a
//!   whole. Nothing is overwritten in place, so a write that fails loses nothing but itself.
//! - [`BackingStore`] is the contract. Its user verifies what comes back: a backing store promises
//!   nothing about contents that its medium damaged.
//! - [`AlignedBytes`] are buffers for it, as direct I/O needs them. [`SegmentVersions`] names
//!   segments for media that may carry out a request late.

#[allow(unsafe_code, reason = "owns an allocation with an alignment of its own")]
mod aligned_bytes;
mod capabilities;
mod versions;

use core::error::Error;
use core::fmt::{self, Debug, Display};
use std::sync::Arc;

pub use aligned_bytes::{AlignedBytes, AllocationRefused};
pub use capabilities::{BackingCapabilities, CapabilitiesError};
pub use versions::SegmentVersions;

/// Keeps the segments of a tier, outside of the pools' memory.
///
/// # Behavior
///
/// - W1. After `write` returned `Ok`, a `read` inside the bytes written returns them, until the
///   segment is discarded or written again, or is [`Gone`](BackingError::Gone). Once gone, it stays
///   gone until it is written again. A medium may damage bytes; an implementation never mixes up
///   segments or offsets.
/// - W2. A segment may be written shorter than
///   [`segment_bytes`](BackingCapabilities::segment_bytes). A read beyond what was written, or of a
///   segment that was never written or was discarded, fails or returns unspecified bytes. It never
///   blocks for ever.
/// - W3. A segment may be written again after a discard, after a failed write, or when it is gone.
///   The number of times is not limited. Other segments are not changed.
/// - W4. A `read` that runs while its segment is discarded or written may return the old bytes, the
///   new ones, a mixture at any granularity, or an error. Its user tells these apart by checksums.
/// - W5. After `discard`, the implementation may free the segment's memory or keep it. A discard of
///   a segment that holds nothing is no error.
///
/// # Errors
///
/// - W6. After a `write` that failed, the contents of that segment are unspecified. All other
///   segments are unchanged, and the same write may succeed later. If the failed one is carried out
///   late, it does not replace a later one.
/// - W7. A `read` that returns less than the whole range is an error, not a short success. The
///   contents of `into` are then unspecified.
///
/// # Panics
///
/// - W8. A call outside of the [capabilities](BackingCapabilities) panics before it changes
///   anything: [`check_write`](BackingCapabilities::check_write),
///   [`check_read`](BackingCapabilities::check_read) and
///   [`check_discard`](BackingCapabilities::check_discard) do that.
///
/// # Concurrency
///
/// - W9. Any thread may call any method at any time, several at once. The caller never writes or
///   discards one segment in two threads at once; reads may run at the same time as either.
/// - W10. Every method may block, but not for ever: an implementation that waits for another
///   machine has a timeout. The caller holds no lock, and is in no
///   [`NoBlock`](crate::NoBlock) section. An implementation may panic; its caller contains that.
pub trait BackingStore: Send + Sync + Debug {
    /// Returns facts about this backing store. They never change.
    fn capabilities(&self) -> BackingCapabilities;

    /// Writes `bytes` to the front of `segment`.
    ///
    /// `bytes` begins at an address that is a multiple of the
    /// [`alignment`](BackingCapabilities::alignment). Its length is a multiple of it too, at least
    /// 1 and at most [`segment_bytes`](BackingCapabilities::segment_bytes).
    ///
    /// # Errors
    ///
    /// [`BackingError::Full`] or [`BackingError::Failed`] (W6).
    ///
    /// # Panics
    ///
    /// See W8.
    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError>;

    /// Fills `into` with the bytes of `segment` from `offset` on.
    ///
    /// The offset, the address of `into` and its length are multiples of the
    /// [`alignment`](BackingCapabilities::alignment), and the range lies inside the
    /// [`segment_bytes`](BackingCapabilities::segment_bytes). Without
    /// [`partial_reads`](BackingCapabilities::partial_reads), the range is all that was written.
    ///
    /// # Errors
    ///
    /// [`BackingError::Gone`] if the segment's contents were lost or discarded, or
    /// [`BackingError::Failed`] (W7).
    ///
    /// # Panics
    ///
    /// See W8.
    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError>;

    /// Discards the contents of `segment`.
    ///
    /// # Errors
    ///
    /// [`BackingError::Failed`] if the backing store could not free the segment's place. The
    /// segment is discarded nevertheless and can be written again.
    ///
    /// # Panics
    ///
    /// See W8.
    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError>;
}

/// Forwards the methods of [`BackingStore`] to the value behind a pointer.
macro_rules! forward_to_pointee {
    ($($pointer:ident),*) => {$(
        impl<B: BackingStore + ?Sized> BackingStore for $pointer<B> {
            fn capabilities(&self) -> BackingCapabilities {
                (**self).capabilities()
            }

            fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
                (**self).write(segment, bytes)
            }

            fn read(
                &self,
                segment: SegmentNumber,
                offset: usize,
                into: &mut [u8],
            ) -> Result<(), BackingError> {
                (**self).read(segment, offset, into)
            }

            fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
                (**self).discard(segment)
            }
        }
    )*};
}

forward_to_pointee!(Arc, Box);

/// The number of a segment in its backing store, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(u32);

impl SegmentNumber {
    /// Makes the number `n`.
    pub const fn new(n: u32) -> SegmentNumber {
        SegmentNumber(n)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// The reason why a backing store did not write, read or discard a segment.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackingError {
    /// The segment holds nothing: it was discarded, or the medium lost it. For a cache a miss.
    Gone,
    /// The medium has no room for the segment. Another write may succeed after a discard.
    Full,
    /// Any other failure.
    Failed(Box<dyn Error + Send + Sync>),
}

impl BackingError {
    /// Wraps the error of the medium.
    pub fn failed(cause: impl Into<Box<dyn Error + Send + Sync>>) -> BackingError {
        BackingError::Failed(cause.into())
    }

    /// Makes the error of a medium that returned `got` of `wanted` bytes from `offset` on (W7).
    pub fn short_read(offset: usize, wanted: usize, got: usize) -> BackingError {
        let cause = format!("the medium returned {got} of {wanted} bytes at offset {offset}");
        BackingError::failed(cause)
    }
}

impl Display for BackingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackingError::Gone => {
                f.write_str("the segment is not in the backing store any more: treat it as a miss")
            }
            BackingError::Full => f.write_str(
                "the backing store has no room for the segment: discard others, or give it more",
            ),
            BackingError::Failed(cause) => write!(f, "the backing store failed: {cause}"),
        }
    }
}

/// The text is whole, so there is no source (`docs/decisions/0039`).
impl Error for BackingError {}

impl From<AllocationRefused> for BackingError {
    fn from(refused: AllocationRefused) -> BackingError {
        BackingError::failed(refused)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// The text names the cause, and there is no chain that would repeat it.
    #[test]
    fn error_text_is_whole() {
        let error = BackingError::failed("the disk is on fire");
        assert_eq!(error.to_string(), "the backing store failed: the disk is on fire");
        assert!(error.source().is_none());
        let refused = BackingError::from(AlignedBytes::zeroed(usize::MAX, 4096).unwrap_err());
        assert!(matches!(refused, BackingError::Failed(_)), "{refused}");
    }
}
