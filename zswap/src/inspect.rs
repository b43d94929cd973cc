//! Looking at a store: one entry, their number, and statistics collected from all parts.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use zpool_core::internal::catch;

use crate::stats::thrash::ThrashMeter;
use crate::stats::{ColdStats, LatencyStats, StoreStats, TierStats};
use crate::store::Store;

/// # Look, without a use
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Returns whether something is stored under `key`. Not counted as a load.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, "one")?;
    /// assert!(store.contains(&1) && !store.contains(&2));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "contains_key")]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.len_of(key).is_some()
    }

    /// Returns the length of what is stored under `key` in bytes. Not counted as a load.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, "three")?;
    /// assert_eq!(store.len_of(&1), Some(5));
    /// assert_eq!(store.len_of(&2), None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len_of<Q>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (shard, hash) = self.index().lock(self.hash(key));
        shard.find(hash, key).map(|found| found.len())
    }
}

/// # Statistics
impl<K, S> Store<K, S> {
    /// Returns the number of keys with something stored.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, "one")?;
    /// store.store(1, "one again")?;
    /// assert_eq!(store.len(), 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.index().len()
    }

    /// Returns whether nothing is stored.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// assert!(store.is_empty());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns statistics of what the store holds and has done. Walks shards and pools, but no
    /// objects: cheap enough for once per second, not for each store. Needs memory for its lists,
    /// and ends the process if the heap refuses it.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// store.store(2, [0; 4096])?;
    /// store.load_vec(&1)?;
    /// let stats = store.stats();
    /// assert_eq!((stats.entries, stats.same_filled, stats.loads_hit), (2, 1, 1));
    /// assert_eq!(stats.stored_bytes, 4080 + 4096);
    /// println!("{stats}");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> StoreStats {
        let stats = self.index().stats();
        // An allocator that panics here counts as holding nothing.
        let pools = catch(|| self.manager().pools()).unwrap_or_default();
        let current = || self.manager().current().map(|pool| pool.zpool().stats());
        let manager = self.manager().stats();
        let in_allocators: usize =
            pools.iter().map(|pool| pool.bytes_held.saturating_sub(pool.context_bytes)).sum();
        let mut stats = StoreStats {
            entries: stats.compressed + stats.raw + stats.same + stats.large + stats.backed,
            tier: self.index().tier().map(|tier| {
                let (backed, backed_bytes) = (stats.backed, stats.backed_bytes);
                let mut stats = TierStats { backed, backed_bytes, ..TierStats::default() };
                tier.fill(&mut stats);
                stats
            }),
            stored_compressed: stats.compressed,
            stored_raw: stats.raw,
            same_filled: stats.same,
            large_values: stats.large,
            stored_bytes: stats.stored_bytes,
            payload_bytes: stats.payload,
            objects_by_pool: self.index().entries_by_pool(),
            cold: self.cold_stats(),
            thrash: self.index().meter().map(ThrashMeter::stats),
            pool_bytes: in_allocators + manager.pending_destroy_bytes,
            current: catch(current).flatten().unwrap_or_default(),
            context_bytes: self.manager().context_bytes(),
            index_bytes: self.index().bytes(),
            limit_bytes: self.limit_bytes(),
            stores: stats.stores,
            loads_hit: stats.load_hits,
            loads_missed: stats.load_misses,
            peeks_hit: stats.peek_hits,
            peeks_missed: stats.peek_misses,
            taken: stats.taken,
            takes_missed: stats.take_misses,
            invalidated: stats.invalidated,
            evicted: stats.evicted,
            moved: stats.moved,
            latencies: self.latencies().map(|latencies| LatencyStats {
                store: latencies.store.summary(),
                load: latencies.load.summary(),
            }),
            manager,
            ..StoreStats::default()
        };
        self.counters().fill(&mut stats);
        stats
    }

    /// Returns the statistics of the cold pool. An allocator that panics counts as holding nothing.
    fn cold_stats(&self) -> Option<ColdStats> {
        let pool = self.manager().cold()?;
        let [made_cold, returned, stayed] = self.cold_state().counts();
        Some(ColdStats {
            blocks: self.index().blocks_in(|id| id == pool.id()),
            pool_bytes: catch(|| pool.zpool().bytes_held()).unwrap_or(0),
            made_cold,
            returned,
            stayed,
        })
    }
}
