//! Statistics of a store: what it holds, and what it has done.

pub(crate) mod cold_report;
mod display;
pub(crate) mod drain_report;
pub(crate) mod latency;
pub(crate) mod thrash;
pub(crate) mod tier_stats;

use zpool_core::PoolId;
use zpool_core::PoolStats;
use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};
use zpool_manager::ManagerStats;

pub use self::cold_report::ColdStats;
pub use self::latency::LatencySummary;
pub use self::thrash::{SAMPLED_ONE_IN, THRASH_BUCKETS, ThrashCounts, ThrashStats};
pub use self::tier_stats::{LostBlocks, TierStats};
use crate::value::error::Error;

/// Statistics of a store. Each figure was true at some moment during the call. Those about stored
/// values add up exactly while no call runs. `Display` prints a table.
///
/// ```text
///   entries      = stored_compressed + stored_raw + same_filled + large_values + tier.backed
///   bytes_held() = pool_bytes + context_bytes + index_bytes
///   pool_bytes   = the parts of `current`, summed over all pools
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Keys with something stored.
    pub entries: usize,
    /// Entries in a pool, compressed.
    pub stored_compressed: usize,
    /// Entries in a pool as they are, because they do not shrink.
    pub stored_raw: usize,
    /// Entries that repeat eight bytes, and empty ones: they are in no pool.
    pub same_filled: usize,
    /// Entries that are values longer than a block.
    pub large_values: usize,
    /// The tier below memory, if there is one.
    pub tier: Option<TierStats>,
    /// Bytes of all that is stored, as it was given.
    pub stored_bytes: usize,
    /// The sum of the lengths of the objects in all pools.
    pub payload_bytes: usize,
    /// Objects by pool, oldest pool first.
    pub objects_by_pool: Vec<(PoolId, usize)>,
    /// Bytes that the allocators of all pools hold, their metadata included; retired pools too.
    pub pool_bytes: usize,
    /// Statistics of the current pool: what its bytes are used for.
    pub current: PoolStats,
    /// Bytes of the compressors' contexts of all pools.
    pub context_bytes: usize,
    /// Bytes of the index, and of the memory of a tier. What keys own on the heap is not in it.
    pub index_bytes: usize,
    /// The limit of the sum of those three, if there is one.
    pub limit_bytes: Option<usize>,
    /// Stores that succeeded, so far.
    pub stores: u64,
    /// Loads that found something, including those that then failed: `load`, `load_vec`,
    /// `load_with`, and each item of `load_many`.
    pub loads_hit: u64,
    /// Loads that found nothing.
    pub loads_missed: u64,
    /// Peeks that found something, including those that then failed: `peek`, `peek_vec`, `export`.
    /// A peek is not a use, so it does not count for the [hit rate](Self::hit_percent).
    pub peeks_hit: u64,
    /// Peeks that found nothing.
    pub peeks_missed: u64,
    /// Takes that removed and returned something: `take`, `take_vec`. A take that fails is not
    /// counted here.
    pub taken: u64,
    /// Takes that found nothing.
    pub takes_missed: u64,
    /// Removed by `invalidate`, `retain` or `clear`, or because a newer block could not be stored.
    pub invalidated: u64,
    /// Removed to make room.
    pub evicted: u64,
    /// Times that an entry was to be evicted, and the listener of
    /// [`on_evict_with`](crate::StoreBuilder::on_evict_with) kept it, or it could not be shown.
    pub evictions_kept: u64,
    /// Entries moved to another pool, by a [drain](crate::Store::drain) or by the heat clock.
    pub moved: u64,
    /// Blocks that were not compressed because they look random.
    pub incompressible_skipped: u64,
    /// Stores that returned an error.
    pub rejected: Rejected,
    /// Loads and takes that found a block whose object the compressor could not decompress, or
    /// whose checksum was wrong.
    pub decompress_failed: u64,
    /// Loads and takes that found a block whose object the allocator did not return.
    pub read_failed: u64,
    /// Objects that an allocator did not free: lost until their pool is destroyed. Always zero
    /// unless an allocator is broken.
    pub free_failed: u64,
    /// Panics of an allocator when a reader was done with an object. The reader still received its
    /// bytes. Always zero unless an allocator is broken.
    pub unpins_panicked: u64,
    /// Calls of eviction listeners that panicked.
    pub listeners_panicked: u64,
    /// Statistics of the cold pool, if there is one.
    pub cold: Option<ColdStats>,
    /// How soon blocks that were made cold or evicted were looked up again, if the store has a
    /// [thrash meter](crate::StoreBuilder::thrash_meter).
    pub thrash: Option<ThrashStats>,
    /// How long stores and loads took, if the store has [latency
    /// histograms](crate::StoreBuilder::latency_histograms).
    pub latencies: Option<LatencyStats>,
    /// The pool manager's counters.
    pub manager: ManagerStats,
}

/// How long calls took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencyStats {
    /// Times of `store` and of each item of `store_many`, including failed ones. The time of an
    /// item begins when the one before it was done, or when the call began.
    pub store: LatencySummary,
    /// Times of loads, peeks and takes, and of each item of `load_many`, including misses and
    /// failed ones.
    pub load: LatencySummary,
}

/// Stores that returned an error, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The store was full.
    pub full: u64,
    /// The compressor failed.
    pub compress_failed: u64,
    /// The allocator or the index had no memory, or the allocator failed.
    pub alloc_failed: u64,
    /// There was no current pool.
    pub no_pool: u64,
    /// The value was longer than [`max_value_len`](crate::StoreBuilder::max_value_len), or an
    /// imported block does not fit this store.
    pub bad_input: u64,
}

impl StoreStats {
    /// Returns all held bytes, which the limit bounds.
    pub fn bytes_held(&self) -> usize {
        self.pool_bytes + self.context_bytes + self.index_bytes
    }

    /// Returns the percentage of loads and takes that found something, or `None` if there were
    /// none. Peeks do not count, because they are not uses.
    pub fn hit_percent(&self) -> Option<f64> {
        percent(self.loads_hit + self.taken, self.loads_missed + self.takes_missed)
    }
}

impl Rejected {
    /// Returns the sum of all kinds.
    pub fn total(&self) -> u64 {
        self.full + self.compress_failed + self.alloc_failed + self.no_pool + self.bad_input
    }
}

pub(crate) fn percent(hit: u64, missed: u64) -> Option<f64> {
    let all = hit + missed;
    (all > 0).then(|| 100.0 * hit as f64 / all as f64)
}

/// Counts of rare events; frequent ones are counted in the shards.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    full: AtomicU64,
    compress_failed: AtomicU64,
    alloc_failed: AtomicU64,
    no_pool: AtomicU64,
    bad_input: AtomicU64,
    decompress_failed: AtomicU64,
    read_failed: AtomicU64,
    free_failed: AtomicU64,
    unpins_panicked: AtomicU64,
    listeners_panicked: AtomicU64,
    evictions_kept: AtomicU64,
    incompressible_skipped: AtomicU64,
}

impl Counters {
    /// Counts an error that a store returned.
    pub(crate) fn store_failed(&self, error: &Error) {
        count(match error {
            Error::BlockTooLong { .. }
            | Error::BufferTooSmall { .. }
            | Error::UnknownCodec { .. }
            | Error::UnevenBlocks { .. } => &self.bad_input,
            Error::Full { .. } => &self.full,
            Error::NoPool => &self.no_pool,
            // A store does not read.
            Error::WouldBlock | Error::TierFailed(_) => &self.bad_input,
            Error::IndexOutOfMemory
            | Error::BufferOutOfMemory { .. }
            | Error::ResultsOutOfMemory
            | Error::Pool(_)
            | Error::AllocatorPanicked(_) => &self.alloc_failed,
            Error::Codec(_) => &self.compress_failed,
        });
    }

    /// Counts an error that a load or take returned.
    pub(crate) fn load_failed(&self, error: &Error) {
        match error {
            Error::TierFailed(_) => count(&self.read_failed),
            Error::Codec(_) => count(&self.decompress_failed),
            Error::Pool(_) | Error::AllocatorPanicked(_) => count(&self.read_failed),
            _ => {}
        }
    }

    pub(crate) fn free_failed(&self) {
        count(&self.free_failed);
    }

    #[cold]
    pub(crate) fn unpin_panicked(&self) {
        count(&self.unpins_panicked);
    }

    pub(crate) fn listener_panicked(&self) {
        count(&self.listeners_panicked);
    }

    pub(crate) fn eviction_kept(&self) {
        count(&self.evictions_kept);
    }

    /// Counts a block that looks random. A counter shared by all threads is fast enough, because
    /// such stores are slow.
    pub(crate) fn incompressible_skipped(&self) {
        count(&self.incompressible_skipped);
    }

    pub(crate) fn fill(&self, stats: &mut StoreStats) {
        // Relaxed: statistics only.
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.rejected = Rejected {
            full: read(&self.full),
            compress_failed: read(&self.compress_failed),
            alloc_failed: read(&self.alloc_failed),
            no_pool: read(&self.no_pool),
            bad_input: read(&self.bad_input),
        };
        stats.decompress_failed = read(&self.decompress_failed);
        stats.read_failed = read(&self.read_failed);
        stats.free_failed = read(&self.free_failed);
        stats.unpins_panicked = read(&self.unpins_panicked);
        stats.listeners_panicked = read(&self.listeners_panicked);
        stats.evictions_kept = read(&self.evictions_kept);
        stats.incompressible_skipped = read(&self.incompressible_skipped);
    }
}

fn count(counter: &AtomicU64) {
    // Relaxed: statistics only.
    counter.fetch_add(1, Ordering::Relaxed);
}
