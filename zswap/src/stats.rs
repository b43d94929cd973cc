//! What a store holds and what it has done.

use zpool_core::sync::atomic::{AtomicU64, Ordering};
use zpool_manager::ManagerStats;

use crate::error::ErrorKind;

/// A store's books. Each figure was true at some moment during the call; what is stored adds up exactly while nothing runs.
///
/// ```text
///   entries    = stored_compressed + stored_raw + same_filled
///   held_bytes = pool_bytes + context_bytes + index_bytes
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Blocks stored.
    pub entries: usize,
    /// Of those, blocks in a pool, compressed.
    pub stored_compressed: usize,
    /// Of those, blocks in a pool as they are, since they do not shrink.
    pub stored_raw: usize,
    /// Of those, blocks that repeat eight bytes: they are in no pool.
    pub same_filled: usize,
    /// The sum of the lengths of the objects in all pools.
    pub payload_bytes: usize,
    /// Bytes that the allocators of all pools hold, their metadata included; retired pools too.
    pub pool_bytes: usize,
    /// Bytes of the compressors' contexts of all pools.
    pub context_bytes: usize,
    /// Bytes of the index. What keys own on the heap is not in it.
    pub index_bytes: usize,
    /// The limit of the sum of those three, if there is one.
    pub limit_bytes: Option<usize>,
    /// Blocks stored so far.
    pub stores: u64,
    /// Loads that found a block, those that could not give it back included.
    pub loads_hit: u64,
    /// Loads and takes that found none.
    pub loads_missed: u64,
    /// Blocks taken.
    pub taken: u64,
    /// Blocks removed by `invalidate`, by `clear` or because a newer block of their key could not be stored.
    pub invalidated: u64,
    /// Stores that returned an error.
    pub rejected: Rejected,
    /// Loads and takes that found a block whose object the compressor could not decompress.
    pub decompress_failed: u64,
    /// Loads and takes that found a block whose object the allocator did not give.
    pub read_failed: u64,
    /// Objects that an allocator did not free: lost until their pool goes. Not zero only with a broken allocator.
    pub free_failed: u64,
    /// The pool manager's counters.
    pub manager: ManagerStats,
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
    /// The block was empty or over the block size.
    pub bad_input: u64,
}

impl StoreStats {
    /// What is held altogether: what the limit is about.
    pub fn held_bytes(&self) -> usize {
        self.pool_bytes + self.context_bytes + self.index_bytes
    }
}

impl Rejected {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.full + self.compress_failed + self.alloc_failed + self.no_pool + self.bad_input
    }
}

/// Counts of what seldom happens; what happens often is counted in the shards.
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
}

impl Counters {
    /// A store returned this error.
    pub(crate) fn store_failed(&self, kind: &ErrorKind) {
        count(match kind {
            ErrorKind::EmptyBlock | ErrorKind::BlockTooLong { .. } | ErrorKind::BufferTooSmall { .. } => {
                &self.bad_input
            }
            ErrorKind::Full { .. } => &self.full,
            ErrorKind::NoPool => &self.no_pool,
            ErrorKind::IndexOutOfMemory | ErrorKind::Pool(_) | ErrorKind::AllocatorPanicked(_) => {
                &self.alloc_failed
            }
            ErrorKind::Codec(_) => &self.compress_failed,
        });
    }

    /// A load or take returned this error.
    pub(crate) fn load_failed(&self, kind: &ErrorKind) {
        match kind {
            ErrorKind::Codec(_) => count(&self.decompress_failed),
            ErrorKind::Pool(_) | ErrorKind::AllocatorPanicked(_) => count(&self.read_failed),
            _ => {}
        }
    }

    pub(crate) fn free_failed(&self) {
        count(&self.free_failed);
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
    }
}

fn count(counter: &AtomicU64) {
    // Relaxed: statistics only.
    counter.fetch_add(1, Ordering::Relaxed);
}
