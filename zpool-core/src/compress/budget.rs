//! An account of the contexts of several codecs, with a bound for compression contexts.

use crate::internal::sync::atomic::{AtomicUsize, Ordering};

/// No bound.
const NONE: usize = usize::MAX;

/// An account that several [codecs](super::Codec) share: the bytes of their contexts, and a bound
/// for compression contexts.
///
/// With a bound, a codec makes another compression context only if all contexts together stay
/// within it, or if the codec has none yet. Otherwise the thread waits until another thread returns
/// a context. These threads do not wait, and may exceed the bound by one context each:
///
/// - a thread that is using a context of any codec: it could be waiting for itself;
/// - a thread inside a [`NoBlock`](crate::NoBlock) section;
/// - a thread that has waited for [2 s](Self::MAX_WAIT) without any context being returned: those
///   in use may never be returned.
///
/// Decompression contexts are counted but not bounded, since a load is never refused.
#[derive(Debug)]
pub struct ContextBudget {
    /// Bytes of all contexts, and of what the contexts of a codec share.
    bytes: AtomicUsize,
    /// Bytes of compression contexts, including those that are being made.
    compression: AtomicUsize,
    max_compression: AtomicUsize,
}

impl ContextBudget {
    /// Longest wait of a thread while no context is returned.
    pub const MAX_WAIT: core::time::Duration = core::time::Duration::from_secs(2);

    /// Makes an account without a bound.
    pub fn new() -> ContextBudget {
        ContextBudget {
            bytes: AtomicUsize::new(0),
            compression: AtomicUsize::new(0),
            max_compression: AtomicUsize::new(NONE),
        }
    }

    /// Returns the bytes that all contexts hold, with what they share.
    #[inline]
    pub fn bytes(&self) -> usize {
        // Relaxed, here and below: an account, which orders nothing.
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the bytes of compression contexts, including those that are being made.
    pub fn compression_bytes(&self) -> usize {
        self.compression.load(Ordering::Relaxed)
    }

    /// Returns the bound for compression contexts in bytes, if there is one.
    pub fn max_compression_bytes(&self) -> Option<usize> {
        let max = self.max_compression.load(Ordering::Relaxed);
        (max != NONE).then_some(max)
    }

    /// Sets the bound for compression contexts. Existing contexts stay: see
    /// [`Codec::free_surplus_contexts`](super::Codec::free_surplus_contexts).
    pub fn set_max_compression_bytes(&self, max: Option<usize>) {
        self.max_compression.store(max.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Returns whether compression contexts exceed the bound.
    pub(super) fn is_exceeded(&self) -> bool {
        self.max_compression_bytes().is_some_and(|max| self.compression_bytes() > max)
    }

    /// Adds to the bytes, wrapping. To subtract, add the negative.
    pub(super) fn add(&self, more: usize, compression: bool) {
        self.bytes.fetch_add(more, Ordering::Relaxed);
        if compression {
            self.compression.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Reserves `bytes` for a compression context that is about to be made, if the bound allows.
    pub(super) fn try_reserve(&self, bytes: usize) -> bool {
        let Some(max) = self.max_compression_bytes() else { return self.reserve(bytes) };
        let fits = |held: usize| held.checked_add(bytes).filter(|&sum| sum <= max);
        self.compression.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Reserves `bytes` for a compression context that is about to be made. Returns true.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        self.compression.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Ends a reservation: the context was made and counted, or was not made.
    pub(super) fn unreserve(&self, bytes: usize) {
        self.compression.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for ContextBudget {
    fn default() -> Self {
        ContextBudget::new()
    }
}
