//! Settings of the limit, and of eviction.

use crate::builder::StoreBuilder;
use crate::index::clock::EvictionAdvice;
use crate::limit::policy::{AtLimit, Listener};

/// # Limit and eviction
impl<K, S> StoreBuilder<K, S> {
    /// Sets the bytes at which the store is full, as the operating system counts them: pools,
    /// contexts and index (default: never). Needs [`at_limit`](Self::at_limit), and must be more
    /// than an empty store holds. `usize::MAX` means no limit, or one that
    /// [`set_limit`](crate::Store::set_limit) sets later.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use zswap::{AtLimit, Error, Store};
    ///
    /// let store = Store::<u64>::builder().limit_bytes(1 << 20).at_limit(AtLimit::Refuse).build()?;
    /// let full = (0..1000).find_map(|key| store.store(key, page(key)).err());
    /// assert!(matches!(full, Some(Error::Full { limit: 1_048_576, .. })));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit_bytes(self, bytes: usize) -> Self {
        StoreBuilder { limit_bytes: Some(bytes), ..self }
    }

    /// Sets the part of its limit at or below which a full store takes blocks again: 1 to 100
    /// percent (default [`DEFAULT_ACCEPT_PERCENT`](crate::DEFAULT_ACCEPT_PERCENT)). Needs
    /// [`limit_bytes`](Self::limit_bytes).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{AtLimit, Store};
    ///
    /// let store = Store::<u64>::builder()
    ///     .limit_bytes(64 << 20)
    ///     .at_limit(AtLimit::Refuse)
    ///     .accept_percent(75)
    ///     .build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn accept_percent(self, percent: u8) -> Self {
        StoreBuilder { accept_percent: Some(percent), ..self }
    }

    /// Sets what to do at the limit. Required with [`limit_bytes`](Self::limit_bytes).
    /// [`AtLimit::Evict`] needs `limit_bytes`.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use zswap::{AtLimit, Store};
    ///
    /// let store = Store::<u64>::builder().limit_bytes(1 << 20).at_limit(AtLimit::Evict).build()?;
    /// for key in 0..1000 {
    ///     store.store(key, page(key))?;
    /// }
    /// assert!(store.stats().evicted > 0 && store.len() < 1000);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at_limit(mut self, at_limit: AtLimit) -> Self {
        self.at_limit = Some(at_limit);
        self.eviction.at_limit = at_limit;
        self
    }

    /// Sets a listener that receives the key and the length in bytes of each evicted item, after it
    /// is freed, on the thread whose `store` caused the eviction (default: none). Needs
    /// [`AtLimit::Evict`].
    ///
    /// The listener runs with no lock held and may use the store. Blocks that it stores do not
    /// evict. Its panics are contained and [counted](crate::StoreStats::listeners_panicked).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use zswap::{AtLimit, Store};
    ///
    /// let bytes = Arc::new(AtomicU64::new(0));
    /// let counted = bytes.clone();
    /// let store = Store::<u64>::builder()
    ///     .limit_bytes(1 << 20)
    ///     .at_limit(AtLimit::Evict)
    ///     .on_evict(move |_key, len| {
    ///         counted.fetch_add(len as u64, Relaxed);
    ///     })
    ///     .build()?;
    /// for key in 0..1000 {
    ///     store.store(key, page(key))?;
    /// }
    /// assert!(bytes.load(Relaxed) > 1000 * store.stats().evicted);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_evict(mut self, listener: impl Fn(&K, usize) + Send + Sync + 'static) -> Self {
        let listener: Listener<K> = Box::new(listener);
        self.eviction.listener = Some(listener);
        self
    }

    /// Sets a function that says how the eviction clock treats the entry of a key: by its use,
    /// taken at once, or never (default: all by their use). Needs [`AtLimit::Evict`].
    ///
    /// It runs under a lock of the index for each entry that the hand passes, so it must be short
    /// and must not call the store. If it panics, the entry is treated by its use. If nothing but
    /// entries that may never be taken is left, a store that needs room fails with
    /// [`Error::Full`](crate::Error::Full).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use zswap::conditional::EvictionAdvice;
    /// use zswap::{AtLimit, Store};
    ///
    /// let store = Store::<u64>::builder()
    ///     .limit_bytes(1 << 20)
    ///     .at_limit(AtLimit::Evict)
    ///     .eviction_advice(|key| match key {
    ///         0 => EvictionAdvice::Never,
    ///         _ => EvictionAdvice::ByUse,
    ///     })
    ///     .build()?;
    /// for key in 0..1000 {
    ///     store.store(key, page(key))?;
    /// }
    /// assert!(store.contains(&0) && store.stats().evicted > 0);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn eviction_advice(
        mut self,
        advise: impl Fn(&K) -> EvictionAdvice + Send + Sync + 'static,
    ) -> Self {
        self.eviction.advisor = Some(Box::new(advise));
        self
    }

    /// Sets whether what compresses to 1/4 or less is spared by every second turn of the eviction
    /// clock, since evicting it gains little (default false). Needs [`AtLimit::Evict`].
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{AtLimit, Store};
    ///
    /// let store = Store::<u64>::builder()
    ///     .limit_bytes(64 << 20)
    ///     .at_limit(AtLimit::Evict)
    ///     .keep_compressible(true)
    ///     .build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_compressible(mut self, unused_ref: bool) -> Self {
        self.eviction.keep_compressible = unused_ref;
        self
    }
}
