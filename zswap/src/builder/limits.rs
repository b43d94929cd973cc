//! Settings of the limit, and of eviction.

use crate::builder::StoreBuilder;
use crate::index::clock::EvictionAdvice;
use crate::limit::decision::{DecidingListener, EvictionDecision, ShownKeys};
use crate::limit::policy::{AtLimit, Listener};
use crate::value::eviction_candidate::EvictionCandidate;

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
    /// is freed (default: none). Needs [`AtLimit::Evict`]. One that needs the bytes is set by
    /// [`on_evict_with`](Self::on_evict_with).
    ///
    /// The listener runs with no lock held and may use the store. Blocks that it stores do not
    /// evict. Its panics are contained and [counted](crate::StoreStats::listeners_panicked).
    ///
    /// The listener runs on the thread that evicts. That is the thread of a `store`, `set_limit` or
    /// `write_back`, or one of the executor if there is a [tier](Self::tier), or the thread of a
    /// load that finds a block lost.
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

    /// Sets whether every second turn of the eviction clock spares blocks that compress to 1/4 or
    /// less, since evicting them gains little (default false). Needs [`AtLimit::Evict`].
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
    pub fn keep_compressible(mut self, keep: bool) -> Self {
        self.eviction.keep_compressible = keep;
        self
    }
}

impl<K: Clone, S> StoreBuilder<K, S> {
    /// Sets a listener that receives the key and the value of each entry that is to be evicted,
    /// before it is freed, and decides whether it may go (default: none). Needs
    /// [`AtLimit::Evict`].
    ///
    /// It is for programs with a place of their own for what is evicted: a file of pages that are
    /// dirty, a second store, a database. The [candidate](EvictionCandidate) is in its encoded
    /// form, as [`import`](crate::Store::import) takes it back, and can be decoded.
    ///
    /// - The entry is still in the store while the listener runs. It is removed only if the
    ///   listener answers [`Evict`](EvictionDecision::Evict) and no other call has replaced or
    ///   removed it meanwhile. So a newer value is never lost, and a look-up finds a value in the
    ///   store until the listener has saved it.
    /// - What is [kept](EvictionDecision::Keep) counts as used, and [in the
    ///   statistics](crate::StoreStats::evictions_kept). If the listener panics, the entry is kept.
    ///   So is one that cannot be shown, because its object or memory for a list of blocks is
    ///   missing; a load returns the reason.
    /// - A store that needs room asks until enough may go. If the listener keeps all entries, each
    ///   of which is shown once or twice, then the store fails with
    ///   [`Error::Full`](crate::Error::Full), which says so. `store` removes the older value under
    ///   its key then, which the caller has to save; [`store_if`](crate::Store::store_if) does not.
    /// - Entries that [`eviction_advice`](Self::eviction_advice) calls worthless are evicted
    ///   without a question. So is everything that is replaced, taken, invalidated or cleared.
    /// - [`on_evict`](Self::on_evict) may be set too. It is called after what was evicted is freed.
    /// - There can be no [`tier`](Self::tier): its segments are dropped as a whole.
    ///
    /// # Concurrency
    ///
    /// The listener runs on the thread whose `store` or `set_limit` needs room, with no lock held,
    /// and may use the store. Blocks that it stores do not evict. Several threads may be in it at
    /// once, but never with one key: the listener is not called with a newer value of a key before
    /// the call with the older one has returned. So writes of one key to a file are in order. A
    /// program that also writes or deletes there itself has to put those in order with the
    /// listener's own.
    ///
    /// A listener that has a clone of the store keeps it alive for ever.
    ///
    /// A value that was replaced, or moved to another pool, while it was shown is shown again when
    /// the clock's hand next finds it cold. A same-filled value that was replaced by an equal one
    /// counts as unchanged.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use std::collections::HashMap;
    /// use std::sync::{Arc, Mutex};
    /// use zswap::{AtLimit, EvictionDecision, Store};
    ///
    /// let saved = Arc::new(Mutex::new(HashMap::new()));
    /// let place = saved.clone();
    /// let store = Store::<u64>::builder()
    ///     .limit_bytes(1 << 20)
    ///     .at_limit(AtLimit::Evict)
    ///     .on_evict_with(move |&key, value| match value.decode_vec() {
    ///         Ok(bytes) => {
    ///             place.lock().unwrap().insert(key, bytes);
    ///             EvictionDecision::Evict
    ///         }
    ///         Err(_) => EvictionDecision::Keep,
    ///     })
    ///     .build()?;
    /// for key in 0..1000 {
    ///     store.store(key, page(key))?;
    /// }
    /// for key in 0..1000 {
    ///     let found = store.load_vec(&key)?.or_else(|| saved.lock().unwrap().remove(&key));
    ///     assert_eq!(found, Some(page(key).into_bytes()));
    /// }
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_evict_with(
        mut self,
        decide: impl Fn(&K, &EvictionCandidate<'_>) -> EvictionDecision + Send + Sync + 'static,
    ) -> Self {
        self.eviction.deciding = Some(DecidingListener {
            decide: Box::new(decide),
            clone_key: K::clone,
            shown: ShownKeys::new(),
        });
        self
    }
}
