//! What the contexts of several codecs hold together, and how much those that compress may hold.

use crate::internal::sync::atomic::{AtomicUsize, Ordering};

/// No bound.
const NONE: usize = usize::MAX;

/// An account that several [codecs](super::Codec) share: bytes of their contexts, and a bound for
/// compression contexts.
///
/// With a bound, a codec makes another compression context only if all of them together stay
/// within it, or if the codec has none yet. A thread that finds neither waits until another thread
/// is done with one. These cases do not wait, and may pass the bound by a context each:
///
/// - a thread that uses a context already, of any codec: it could be waiting for itself;
/// - a thread inside a [`NoBlock`](crate::NoBlock) section;
/// - a thread that has waited while no context came back for [two seconds](Self::PATIENCE): one of
///   those that are out may never return.
///
/// Decompression contexts are counted and not bounded, since a load is never refused.
#[derive(Debug)]
pub struct ContextBudget {
    /// Bytes of all contexts, and of what codecs share among theirs.
    bytes: AtomicUsize,
    /// Bytes of compression contexts, those that are being made included.
    compression: AtomicUsize,
    max_compression: AtomicUsize,
}

impl ContextBudget {
    /// How long a thread waits while no context comes back.
    pub const PATIENCE: core::time::Duration = core::time::Duration::from_secs(2);

    /// Returns an account without a bound.
    pub fn new() -> ContextBudget {
        ContextBudget {
            bytes: AtomicUsize::new(0),
            compression: AtomicUsize::new(0),
            max_compression: AtomicUsize::new(NONE),
        }
    }

    /// Returns the bytes that all contexts hold, with what their codecs share.
    #[inline]
    pub fn bytes(&self) -> usize {
        // Relaxed, here and below: an account, which orders nothing.
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the compression contexts, those that are being made included.
    pub fn compression_bytes(&self) -> usize {
        self.compression.load(Ordering::Relaxed)
    }

    /// Returns the bound for compression contexts in bytes, if there is one.
    pub fn max_compression_bytes(&self) -> Option<usize> {
        let max = self.max_compression.load(Ordering::Relaxed);
        (max != NONE).then_some(max)
    }

    /// Sets the bound for compression contexts. See
    /// [`Codec::free_surplus_contexts`](super::Codec::free_surplus_contexts) for those that exist
    /// already.
    pub fn set_max_compression_bytes(&self, max: Option<usize>) {
        self.max_compression.store(max.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Are compression contexts over the bound?
    pub(super) fn is_exceeded(&self) -> bool {
        self.max_compression_bytes().is_some_and(|max| self.compression_bytes() > max)
    }

    /// Adds to the bytes, wrapping: to subtract, add the negative.
    pub(super) fn add(&self, more: usize, compression: bool) {
        self.bytes.fetch_add(more, Ordering::Relaxed);
        if compression {
            self.compression.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Counts a compression context of `bytes` that is about to be made, if it fits below the
    /// bound.
    pub(super) fn try_reserve(&self, bytes: usize) -> bool {
        let Some(max) = self.max_compression_bytes() else { return self.reserve(bytes) };
        let fits = |held: usize| held.checked_add(bytes).filter(|&sum| sum <= max);
        self.compression.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Counts a compression context of `bytes` that is about to be made. Returns true.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        self.compression.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Takes a reservation back: the context is made and counted, or is not made.
    pub(super) fn unreserve(&self, bytes: usize) {
        self.compression.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for ContextBudget {
    fn default() -> Self {
        ContextBudget::new()
    }
}
