//! The store: the front door. Storing is in `storing`, loading in `loading`.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use zpool_core::might_block;
use zpool_core::spec::{Component, PoolSpec};
use zpool_manager::{PoolManager, SwitchError, Switched};

use crate::builder::StoreBuilder;
use crate::index::Index;
use crate::limit::Limit;
use crate::shard::Item;
use crate::stats::{Counters, StoreStats};

/// A compressed store: from keys to blocks of bytes, in memory. See the [crate's essay](crate).
///
/// Cheap to clone: clones are the same store. Any number of threads may use it at once; of operations on one key at the same time some order is the one that
/// counts, and a load gives the block of the latest store before it in that order, or nothing.
///
/// When the last clone is dropped, so is every block; that may block.
///
/// # Keys
///
/// `Eq` and, when the index grows, `Hash` of keys run under a lock of the index: they must not call the store. If they panic, so does the call, and the store is
/// as it was before, except that a block that was to be stored is not.
pub struct Store<K, S = RandomState> {
    inner: Arc<Inner<K, S>>,
}

/// What clones share. Dropped in this order: blocks first, then the manager, which sees the pools out.
struct Inner<K, S> {
    index: Index<K>,
    manager: PoolManager,
    hasher: S,
    block_size: usize,
    limit: Option<Limit>,
    counters: Counters,
}

impl<K> Store<K, RandomState> {
    /// Starts to build a store.
    pub fn builder() -> StoreBuilder<K, RandomState> {
        StoreBuilder::new()
    }
}

impl<K, S> Store<K, S> {
    pub(crate) fn new(
        manager: PoolManager,
        block_size: usize,
        limit: Option<Limit>,
        hasher: S,
    ) -> Store<K, S> {
        let (index, counters) = (Index::new(), Counters::default());
        Store { inner: Arc::new(Inner { index, manager, hasher, block_size, limit, counters }) }
    }

    /// The largest block in bytes.
    #[inline]
    pub fn block_size(&self) -> usize {
        self.inner.block_size
    }

    /// The pool manager: its pools, its registry, its executor.
    #[inline]
    pub fn manager(&self) -> &PoolManager {
        &self.inner.manager
    }

    /// Blocks stored.
    pub fn len(&self) -> usize {
        self.inner.index.len()
    }

    /// Is no block stored?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes every block that was there when the call began, and gives back the index's memory. A block stored meanwhile may stay.
    pub fn clear(&self) {
        self.inner.index.clear();
    }

    /// Makes a pool of `spec` the one that blocks are stored in from now on. Blocks stored before stay where they are, and load as before. May block.
    ///
    /// # Errors
    ///
    /// As for [`PoolManager::switch`]; everything is then as it was.
    pub fn switch(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        self.inner.manager.switch(spec)
    }

    /// Switches to another allocator and keeps the compressor. May block.
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_allocator(&self, allocator: &Component) -> Result<Switched, SwitchError> {
        self.inner.manager.set_allocator(allocator)
    }

    /// Switches to another compressor and keeps the allocator. May block.
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_compressor(&self, compressor: &Component) -> Result<Switched, SwitchError> {
        self.inner.manager.set_compressor(compressor)
    }

    /// What the store holds and what it has done. Walks shards and pools: not for every store.
    pub fn stats(&self) -> StoreStats {
        let tally = self.index().tally();
        let pools = self.inner.manager.pools();
        let context_bytes = pools.iter().map(|pool| pool.context_bytes).sum();
        let mut stats = StoreStats {
            entries: tally.compressed + tally.raw + tally.same,
            stored_compressed: tally.compressed,
            stored_raw: tally.raw,
            same_filled: tally.same,
            payload_bytes: tally.payload,
            pool_bytes: pools.iter().map(|pool| pool.bytes_held).sum::<usize>().saturating_sub(context_bytes),
            context_bytes,
            index_bytes: self.index().bytes(),
            limit_bytes: self.limit().map(Limit::bytes),
            stores: tally.stores,
            loads_hit: tally.hits,
            loads_missed: tally.misses,
            taken: tally.taken,
            invalidated: tally.invalidated,
            manager: self.inner.manager.stats(),
            ..StoreStats::default()
        };
        self.counters().fill(&mut stats);
        stats
    }

    #[inline]
    pub(crate) fn index(&self) -> &Index<K> {
        &self.inner.index
    }

    #[inline]
    pub(crate) fn limit(&self) -> Option<&Limit> {
        self.inner.limit.as_ref()
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Frees what was taken out of the index, if anything was. Called with no lock held.
    #[inline]
    pub(crate) fn discard(&self, item: Option<Item<K>>) -> bool {
        let Some((key, entry)) = item else { return false };
        if !entry.free() {
            self.counters().free_failed();
        }
        // The key last: its drop is foreign.
        drop(key);
        true
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Removes the block of `key`. False when there is none.
    ///
    /// Never blocks, allocates or fails: legal in a [`NoBlock`](zpool_core::NoBlock) section, as far as the drop of a key is.
    pub fn invalidate(&self, key: &K) -> bool {
        let hash = self.hash(key);
        self.remove(hash, key)
    }

    /// Bytes of the block of `key`. Not counted as a load.
    pub fn len_of(&self, key: &K) -> Option<usize> {
        let hash = self.hash(key);
        self.index().lock(hash).find(hash, key).map(|entry| entry.len())
    }

    /// Is there a block of `key`? Not counted as a load.
    pub fn contains(&self, key: &K) -> bool {
        self.len_of(key).is_some()
    }

    #[inline]
    pub(crate) fn hash(&self, key: &K) -> u64 {
        self.inner.hasher.hash_one(key)
    }

    pub(crate) fn remove(&self, hash: u64, key: &K) -> bool {
        let removed = {
            let mut shard = self.index().lock(hash);
            let removed = shard.remove_if(hash, key, |_| true);
            shard.tally.invalidated += u64::from(removed.is_some());
            removed
        };
        self.discard(removed)
    }
}

impl<K, S> Clone for Store<K, S> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone() }
    }
}

impl<K, S> fmt::Debug for Store<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("block_size", &self.inner.block_size)
            .field("len", &self.len())
            .field("manager", &self.inner.manager)
            .finish_non_exhaustive()
    }
}

impl<K, S> Drop for Inner<K, S> {
    fn drop(&mut self) {
        might_block("dropping a Store");
        self.index.clear();
    }
}
