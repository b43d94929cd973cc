//! Removal of one value, and of all.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use zpool_core::NoBlock;
use zpool_manager::PoolRef;

use crate::index::shard_contents;
use crate::store::Store;
use crate::value::deferred_panic::DeferredPanic;

/// The number of entries from which on [`Store::clear`] replaces the pool.
const RENEWED_FROM: usize = 1 << 16;

/// # Remove
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Removes what is stored under `key`. Returns false if there is nothing.
    ///
    /// Never blocks, allocates or fails: legal in a [`NoBlock`](zpool_core::NoBlock) section, if
    /// the drop of the key is.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<String>::builder().build()?;
    /// store.store("key".to_owned(), "a value")?;
    /// assert!(store.invalidate("key"));
    /// assert!(!store.invalidate("key"));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "remove")]
    #[doc(alias = "delete")]
    pub fn invalidate<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        self.remove(hash, key)
    }

    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let removed = self.index().edit(hash, |shard, hash| {
            let removed = shard.remove_if(hash, key, |_| true);
            shard.stats.invalidated += u64::from(removed.is_some());
            removed
        });
        self.forget_in_thrash_meter(hash);
        self.free_removed(removed)
    }
}

impl<K, S> Store<K, S> {
    /// Removes everything that was there when the call began, and releases the memory of the index.
    /// Blocks stored meanwhile may stay. Needs no memory below 65 536 entries. From there on it
    /// makes a new pool, and ends the process if the heap refuses that, as [`switch`](Self::switch)
    /// does.
    ///
    /// A store of many blocks gets a new pool of the same spec, and the old one is destroyed as a
    /// whole with all its contents, unless something else still refers to it. This may block.
    /// Otherwise pools may keep frames that became empty until one of their jobs runs or
    /// [`trim`](Self::trim) is called. A full store trims by itself.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, "one")?;
    /// store.clear();
    /// assert!(store.is_empty());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the drop of a key panics: with the first such panic, after everything is removed.
    /// Dropping the store does the same.
    pub fn clear(&self) {
        let mut panics = DeferredPanic::default();
        let renewed = self.renew_for_clear();
        let mut taken = Vec::new();
        // Without memory for the list, or another pool, objects are freed one by one.
        if renewed.is_some() && taken.try_reserve_exact(self.index().shards()).is_ok() {
            taken.extend((0..self.index().shards()).map(|shard| self.index().take_shard(shard)));
        }
        let whole = renewed.filter(|pool| shard_contents::have_all_references(&taken, pool));
        let rest = (taken.len()..self.index().shards()).map(|shard| self.index().take_shard(shard));
        for contents in taken.into_iter().chain(rest) {
            let failed = contents.free(whole.as_ref(), &mut panics);
            (0..failed).for_each(|_| self.counters().free_failed());
        }
        if let Some(pool) = whole {
            drop(pool);
            // Inside a job the executor does it later.
            let _ = self.manager().flush();
        }
        // All blocks are removed, so no debt is left to evict for.
        self.limit().debt().reset();
        self.limit().note_removed();
        panics.raise();
    }

    /// Renews the current pool, if it has many objects, so that destroying it as a whole is cheaper
    /// than freeing them.
    fn renew_for_clear(&self) -> Option<PoolRef> {
        let many = self.len() >= RENEWED_FROM && !self.wipes_on_free() && !NoBlock::is_active();
        if many { self.manager().renew().ok().flatten() } else { None }
    }
}
