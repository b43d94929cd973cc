//! Statistics of a cache.

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

/// Statistics of a cache. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries, including those that have expired and still take up memory.
    pub entries: usize,
    /// Bytes of all values, as they were given.
    pub value_bytes: usize,
    /// Bytes of the compressed values in memory. Those in a tier are not in it, although
    /// [`value_bytes`](Self::value_bytes) counts them.
    pub compressed_bytes: usize,
    /// Bytes held altogether, as the operating system counts them.
    pub bytes_held: usize,
    /// Limit of `bytes_held`, if there is one.
    pub limit_bytes: Option<usize>,
    /// Bytes of pinned values, as they were given.
    pub pinned_bytes: usize,
    /// Look-ups that found a value.
    pub hits: u64,
    /// Look-ups that found none, or one that had expired.
    pub misses: u64,
    /// Values that were stored, computed ones included.
    pub inserts: u64,
    /// Entries that were evicted.
    pub evicted: u64,
    /// Entries that were replaced.
    pub replaced: u64,
    /// Entries that were gone because they had expired.
    pub expired: u64,
    /// Entries that the program removed, or whose newer value could not be stored.
    pub invalidated: u64,
    /// Entries that a clear removed.
    pub cleared: u64,
    /// Calls of the listener that panicked.
    pub listeners_panicked: u64,
    /// Loaders that ran.
    pub loads: u64,
    /// Loaders that failed or panicked.
    pub loads_failed: u64,
    /// Misses that received a value that another thread computed.
    pub loads_shared: u64,
    /// Computed values that were not stored: the cache had no room or no memory, or their key was
    /// removed or stored meanwhile.
    pub loads_not_stored: u64,
}

impl CacheStats {
    /// Returns the percentage of look-ups that found a value, or `None` if there were none.
    pub fn hit_percent(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| 100.0 * self.hits as f64 / all as f64)
    }

    /// Sets gauges and counters of the `metrics` facade to these statistics: `zswap_cache_entries`
    /// and so on, with a label `cache`. Call it at each scrape.
    #[cfg(feature = "metrics")]
    pub fn record(&self, cache: &'static str) {
        let gauges = [
            ("zswap_cache_entries", self.entries),
            ("zswap_cache_value_bytes", self.value_bytes),
            ("zswap_cache_compressed_bytes", self.compressed_bytes),
            ("zswap_cache_bytes_held", self.bytes_held),
            ("zswap_cache_pinned_bytes", self.pinned_bytes),
        ];
        for (name, value) in gauges {
            metrics::gauge!(name, "cache" => cache).set(value as f64);
        }
        if let Some(limit) = self.limit_bytes {
            metrics::gauge!("zswap_cache_limit_bytes", "cache" => cache).set(limit as f64);
        }
        let counters = [
            ("zswap_cache_hits", self.hits),
            ("zswap_cache_misses", self.misses),
            ("zswap_cache_inserts", self.inserts),
            ("zswap_cache_loads", self.loads),
            ("zswap_cache_loads_failed", self.loads_failed),
            ("zswap_cache_loads_shared", self.loads_shared),
            ("zswap_cache_loads_not_stored", self.loads_not_stored),
            ("zswap_cache_listeners_panicked", self.listeners_panicked),
        ];
        for (name, value) in counters {
            metrics::counter!(name, "cache" => cache).absolute(value);
        }
        let removals = [
            ("evicted", self.evicted),
            ("replaced", self.replaced),
            ("expired", self.expired),
            ("invalidated", self.invalidated),
            ("cleared", self.cleared),
        ];
        for (cause, value) in removals {
            metrics::counter!("zswap_cache_removals", "cache" => cache, "cause" => cause)
                .absolute(value);
        }
    }
}

/// Counts of loaders.
#[derive(Debug, Default)]
pub(crate) struct LoadCounters {
    runs: AtomicU64,
    failed: AtomicU64,
    shared: AtomicU64,
    not_stored: AtomicU64,
}

/// A running loader. Its drop counts a failure, unless it has succeeded.
pub(crate) struct LoaderRun<'c>(Option<&'c LoadCounters>);

impl LoadCounters {
    /// Counts a loader that begins.
    pub(crate) fn begin(&self) -> LoaderRun<'_> {
        // Relaxed, here and below: statistics.
        self.runs.fetch_add(1, Ordering::Relaxed);
        LoaderRun(Some(self))
    }

    pub(crate) fn shared(&self) {
        self.shared.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn not_stored(&self) {
        self.not_stored.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns statistics with these figures and no others.
    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            loads: self.runs.load(Ordering::Relaxed),
            loads_failed: self.failed.load(Ordering::Relaxed),
            loads_shared: self.shared.load(Ordering::Relaxed),
            loads_not_stored: self.not_stored.load(Ordering::Relaxed),
            ..CacheStats::default()
        }
    }
}

impl LoaderRun<'_> {
    /// Notes that the loader has returned a value.
    pub(crate) fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for LoaderRun<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
