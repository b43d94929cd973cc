//! Counters and figures of a region.

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

/// A snapshot of a region's figures. Counters are since it was made.
///
/// They are read one by one while threads go on, so they need not add up.
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
    /// Bytes of the tables of the region outside the store, as far as they were ever written.
    pub table_bytes: usize,
    /// Units that the store has a block of.
    pub stored_units: usize,
    /// Accesses to missing pages that were served.
    pub faults: u64,
    /// Faults that were served from the store.
    pub loads: u64,
    /// Units that came from the store without being asked for.
    pub units_read_ahead: u64,
    /// Units that were put away.
    pub units_evicted: u64,
    /// Evictions of units whose copy in the store was still up to date, so that nothing was
    /// compressed.
    pub units_dropped_clean: u64,
    /// Evictions of units that were zero again.
    pub units_dropped_zero: u64,
    /// Times that a page could not be moved, because a device or a lock pins it.
    pub units_pinned: u64,
    /// Units that could not be read from the store. Accesses to them raise `SIGBUS`.
    pub units_poisoned: u64,
    /// Times that the store refused a unit, so that its page had to stay.
    pub stores_failed: u64,
}

/// A statistic. Relaxed: no decision rests on it.
#[derive(Debug, Default)]
pub(crate) struct Tick(AtomicU64);

impl Tick {
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
    pub(crate) faults: Tick,
    pub(crate) loads: Tick,
    pub(crate) read_ahead: Tick,
    pub(crate) evicted: Tick,
    pub(crate) dropped_clean: Tick,
    pub(crate) dropped_zero: Tick,
    pub(crate) pinned: Tick,
    pub(crate) poisoned: Tick,
    pub(crate) stores_failed: Tick,
}
