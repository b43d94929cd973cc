//! Counters and figures of a region.

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

/// A snapshot of a region's figures. Counters start at 0 when the region is built.
///
/// They are read one by one while other threads run, so they need not add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStats {
    /// Bytes of the slice.
    pub len: usize,
    /// Bytes of a unit: a page of the operating system.
    pub unit_bytes: usize,
    /// The limit in bytes of `resident_bytes` and `store_bytes` together.
    pub limit_bytes: usize,
    /// Bytes of pages that are there now. A page that was only read may cost the system nothing.
    pub resident_bytes: usize,
    /// Bytes that the store holds now, as the operating system counts them.
    pub store_bytes: usize,
    /// The most bytes that the store was seen to hold.
    pub store_peak_bytes: usize,
    /// Bytes by which the two exceed the limit now, because data does not compress, pages are
    /// pinned or held, or a batch is under way.
    pub over_limit_bytes: usize,
    /// Bytes of the tables of the region outside the store: 5 per unit, and the queues as far as
    /// they were ever written.
    pub table_bytes: usize,
    /// Units that the store has a block of.
    pub stored_units: usize,
    /// Accesses to missing pages that were served.
    pub faults: u64,
    /// Windows loaded from the store, by faults, prefetch and hold.
    pub loads: u64,
    /// Units loaded after the first of a window.
    pub units_read_ahead: u64,
    /// Units that were evicted.
    pub units_evicted: u64,
    /// Evictions of units whose copy in the store was still up to date, so that nothing was
    /// compressed.
    pub units_dropped_clean: u64,
    /// Evictions of units that were zero again.
    pub units_dropped_zero: u64,
    /// Times that a page could not be moved, because a device or a lock pins it.
    pub units_pinned: u64,
    /// Units whose page could not be filled: their block is unreadable, or the kernel has no
    /// memory. Accesses to them raise `SIGBUS`.
    pub units_poisoned: u64,
    /// Times that the store refused a unit, so that its page had to stay.
    pub stores_failed: u64,
}

/// A statistic. Relaxed: no decision rests on it.
#[derive(Debug, Default)]
pub(crate) struct EventCounter(AtomicU64);

impl EventCounter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`RegionStats`].
#[derive(Debug, Default)]
pub(crate) struct RegionCounters {
    pub(crate) faults: EventCounter,
    pub(crate) loads: EventCounter,
    pub(crate) read_ahead: EventCounter,
    pub(crate) evicted: EventCounter,
    pub(crate) dropped_clean: EventCounter,
    pub(crate) dropped_zero: EventCounter,
    pub(crate) pinned: EventCounter,
    pub(crate) poisoned: EventCounter,
    pub(crate) stores_failed: EventCounter,
}
