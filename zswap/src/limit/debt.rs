//! Eviction debt: what a store above its low watermark still has to evict.

use zpool_core::internal::sync::atomic::{AtomicIsize, Ordering};

/// Eviction debt in bytes: stored since the limit was reached, minus evicted or removed since.
/// Negative means credit.
#[derive(Debug, Default)]
pub(crate) struct EvictionDebt(AtomicIsize);

impl EvictionDebt {
    /// Charges the bytes by which the store has grown, which are negative if it has shrunk.
    /// Returns the debt.
    pub(crate) fn charge(&self, bytes: isize) -> isize {
        // Relaxed: an account. If two threads evict for the same debt, they evict too much once,
        // which is credited.
        self.0.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes)
    }

    /// Credits bytes that were evicted or removed. Returns the debt that is left.
    pub(crate) fn credit(&self, bytes: usize) -> isize {
        self.charge(-(bytes as isize))
    }

    /// Resets debt and credit to 0.
    pub(crate) fn reset(&self) {
        // Relaxed: as in `charge`.
        self.0.store(0, Ordering::Relaxed);
    }
}
