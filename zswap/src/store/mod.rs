//! The store: its parts, and the calls that need no more than these. The other calls are in `ops`.

pub(crate) mod cold_state;
pub(crate) mod cost;
pub(crate) mod drain_state;
pub(crate) mod settings;

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Weak};
use std::time::Duration;

use zpool_core::might_block;
use zpool_core::spec::{Component, PoolSpec};
use zpool_manager::{PoolManager, SwitchError, Switched};

use crate::backing::Tier;
use crate::index::Index;
use crate::index::shard::Item;
use crate::limit::Limit;
use crate::limit::policy::Eviction;
use crate::stats::Counters;
use crate::stats::latency::Latencies;
use crate::store::cold_state::ColdState;
use crate::store::drain_state::{DrainPolicy, DrainState, StartJob};
use crate::store::settings::{EncodeOptions, StoreSettings};
use crate::value::Value;
use crate::value::deferred_panic::DeferredPanic;
use crate::value::pooled_object::PooledObject;

/// A compressed store: from keys to blocks of bytes, in memory. See the [crate's essay](crate).
///
/// Cheap to clone: clones are the same store. Any number of threads may use it at once. Concurrent
/// operations on one key happen in some order, and a load returns the block of the latest store
/// before it in that order, or nothing.
///
/// Dropping the last clone drops every block; that may block. Keys are dropped one by one. Blocks
/// are left to their pools, which are destroyed as a whole, unless the store
/// [wipes](crate::StoreBuilder::wipe_on_free) what it frees. With the default executor all pools
/// are destroyed when the drop returns, unless it runs inside a job. An executor of your own
/// destroys them later. The drop waits for no job that it could run itself, so it is safe on any
/// thread, even one of the executor.
///
/// # Keys
///
/// `Eq` of keys runs under a lock of the index, and so does `Hash` when a part of the index is
/// rebuilt because it grows or shrinks: they must not call the store. If they panic, so does the
/// call, and the store is as it was before, except that a block that was to be stored is not.
///
/// # Fork
///
/// A child that is forked without an `exec` has a copy of the store and one thread: the one that
/// called `fork`. It has no worker that destroys pools. The child may use the copy and drop it: the
/// thread that switches, flushes or drops destroys the pools, and no call waits for the worker. The
/// child must not take a lock that another thread held at the moment of the fork, the worker
/// included. So call `store.manager().flush()` before `fork`, and fork while no other thread is in
/// a call.
///
/// The child shares the pages of all blocks with its parent. The system copies them when one of the
/// two writes to them, so a store of a gigabyte may cost the two of them a gigabyte more. A child
/// that calls `exec` at once has neither problem. A child made by `std::process::Command` does so.
pub struct Store<K, S = RandomState> {
    inner: Arc<Inner<K, S>>,
}

/// State that clones share. Dropped in this order: blocks first, then the manager, which destroys
/// the pools.
struct Inner<K, S> {
    index: Index<K>,
    manager: PoolManager,
    hasher: S,
    settings: StoreSettings<K>,
    limit: Limit,
    counters: Counters,
    latencies: Option<Box<Latencies>>,
    drain: DrainState,
    cold: ColdState,
    /// Called after each switch, if the policy is to drain.
    start_drain: Option<StartJob<K, S>>,
    /// Submits the job that writes to the tier, if there is one.
    start_writeback: Option<StartJob<K, S>>,
}

/// A reference to a store that does not keep it alive.
pub(crate) struct WeakStore<K, S>(Weak<Inner<K, S>>);

impl<K, S> WeakStore<K, S> {
    pub(crate) fn upgrade(&self) -> Option<Store<K, S>> {
        self.0.upgrade().map(|inner| Store { inner })
    }
}

impl<K, S> Store<K, S> {
    pub(crate) fn new(
        manager: PoolManager,
        settings: StoreSettings<K>,
        limit: Limit,
        latencies: bool,
        hasher: S,
    ) -> Store<K, S> {
        let (index, counters) =
            (Index::new(settings.encode_options.checksums), Counters::default());
        let latencies = latencies.then(Box::default);
        manager.set_max_context_bytes(limit.max_context_bytes());
        Store {
            inner: Arc::new(Inner {
                index,
                manager,
                hasher,
                settings,
                limit,
                counters,
                latencies,
                drain: DrainState::default(),
                cold: ColdState::default(),
                start_drain: None,
                start_writeback: None,
            }),
        }
    }

    /// Sets what a new store does after a switch.
    pub(crate) fn with_drain_policy(
        mut self,
        policy: DrainPolicy,
        start: Option<StartJob<K, S>>,
    ) -> Store<K, S> {
        let inner = Arc::get_mut(&mut self.inner).expect("a new store has no clone");
        (inner.drain.policy, inner.start_drain) = (policy, start);
        self
    }

    /// Adds a thrash meter to a new store.
    pub(crate) fn with_thrash_meter(mut self, wanted: bool) -> Store<K, S> {
        if wanted {
            Arc::get_mut(&mut self.inner).expect("a new store has no clone").index.add_meter();
        }
        self
    }

    /// Adds a tier to a store that was just made, and what submits the job that writes to it.
    pub(crate) fn with_tier(mut self, tier: Tier, start: Option<StartJob<K, S>>) -> Store<K, S> {
        let inner = Arc::get_mut(&mut self.inner).expect("a new store has no clone");
        inner.index.add_tier(tier);
        inner.limit.watch_low_watermark();
        inner.start_writeback = start;
        self
    }

    /// Returns what submits the job that writes to the tier.
    pub(crate) fn start_writeback(&self) -> Option<StartJob<K, S>> {
        self.inner.start_writeback
    }

    /// Sets the time of a turn of the heat clock in a new store.
    pub(crate) fn with_cold_turn(mut self, turn: Duration) -> Store<K, S> {
        Arc::get_mut(&mut self.inner).expect("a new store has no clone").cold.turn = turn;
        self
    }
}

/// # Lengths and limits
impl<K, S> Store<K, S> {
    /// Returns the largest block in bytes.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().block_size(16 << 10).build()?;
    /// assert_eq!(store.block_size(), 16 << 10);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn block_size(&self) -> usize {
        self.inner.settings.block_size
    }

    /// Returns the length of the longest value in bytes.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().max_value_len(1 << 20).build()?;
    /// assert_eq!(store.max_value_len(), 1 << 20);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn max_value_len(&self) -> usize {
        self.inner.settings.max_value_len
    }

    /// Returns the bytes held now, as the operating system counts them: pools, contexts and index.
    /// This is what the limit bounds. Walks the pools.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// let empty = store.bytes_held();
    /// for key in 0..1000 {
    ///     store.store(key, format!("{key:>4000}"))?;
    /// }
    /// println!("{} bytes for 4 MB of values", store.bytes_held() - empty);
    /// assert!(store.bytes_held() - empty < 1 << 20);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes_held(&self) -> usize {
        self.inner.manager.bytes_held() + self.index().bytes()
    }

    /// Returns the limit of [`bytes_held`](Self::bytes_held), if there is one.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder()
    ///     .limit_bytes(64 << 20)
    ///     .at_limit(zswap::AtLimit::Refuse)
    ///     .build()?;
    /// assert_eq!(store.limit_bytes(), Some(64 << 20));
    /// store.set_limit(None)?;
    /// assert_eq!(store.limit_bytes(), None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit_bytes(&self) -> Option<usize> {
        self.limit().bytes()
    }
}

/// # Switch
impl<K, S> Store<K, S> {
    /// Returns the pool manager: its pools, its registry, its executor.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for pool in store.manager().pools() {
    ///     println!("{} holds {} bytes", pool.label.name, pool.bytes_held);
    /// }
    /// assert!(store.manager().registry().compressors().contains(&"lz4".to_owned()));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn manager(&self) -> &PoolManager {
        &self.inner.manager
    }

    /// Makes a pool of `spec` the one that blocks are stored in from now on. Blocks that are
    /// already stored stay where they are, and load as before, until they are
    /// [drained](Self::drain). May block.
    ///
    /// Needs memory for a pool and its codec, and ends the process if the heap refuses it.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::Switched;
    ///
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// let switched = store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
    /// assert!(matches!(switched, Switched::Created(_)));
    /// // The old block is still in the old pool, and loads as before.
    /// assert_eq!(store.load_vec(&1)?, Some(b"a page of memory ".repeat(240)));
    /// assert_eq!(store.manager().pools().len(), 2);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`PoolManager::switch`]; everything is then as it was.
    pub fn switch(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        self.switched(self.inner.manager.switch(spec)?)
    }

    /// Switches to another allocator and keeps the compressor. May block.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.set_allocator(&"zsmalloc(chain=8)".parse()?)?;
    /// let current = store.manager().current().ok_or("a store always has a pool")?;
    /// assert_eq!(current.spec().to_string(), "zsmalloc(chain=8)+lz4");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_allocator(&self, allocator: &Component) -> Result<Switched, SwitchError> {
        self.switched(self.inner.manager.set_allocator(allocator)?)
    }

    /// Switches to another compressor and keeps the allocator. May block.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// // An unknown name changes nothing. The error lists the known ones.
    /// let error = store.set_compressor(&"lz5".parse()?).unwrap_err();
    /// assert!(error.to_string().contains("lz4"), "{error}");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_compressor(&self, compressor: &Component) -> Result<Switched, SwitchError> {
        self.switched(self.inner.manager.set_compressor(compressor)?)
    }

    /// Makes a pool of `spec` the [cold pool](crate::StoreBuilder::cold). The next turn of the
    /// [heat clock](Self::turn_heat_clock) moves the blocks of the previous one over, and so does a
    /// [drain](Self::drain). May block.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.set_cold(&"zsmalloc(chain=8)+lz4".parse()?)?;
    /// assert!(store.stats().cold.is_some());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch); everything is then as it was.
    pub fn set_cold(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        self.switched(self.inner.manager.set_cold(spec)?)
    }

    /// Finishes a switch: begins to drain, if that is the policy.
    fn switched(&self, switched: Switched) -> Result<Switched, SwitchError> {
        if let (Some(start), false) =
            (self.inner.start_drain, matches!(switched, Switched::Unchanged(_)))
        {
            start(self);
        }
        Ok(switched)
    }
}

/// Access for the calls in other folders.
impl<K, S> Store<K, S> {
    #[inline]
    pub(crate) fn cold_state(&self) -> &ColdState {
        &self.inner.cold
    }

    pub(crate) fn downgrade(&self) -> WeakStore<K, S> {
        WeakStore(Arc::downgrade(&self.inner))
    }

    /// Notes in the thrash meter that a key is stored anew or removed.
    #[inline]
    pub(crate) fn forget_in_thrash_meter(&self, hash: u64) {
        if let Some(meter) = self.index().meter() {
            meter.removed(hash);
        }
    }

    #[inline]
    pub(crate) fn index(&self) -> &Index<K> {
        &self.inner.index
    }

    #[inline]
    pub(crate) fn limit(&self) -> &Limit {
        &self.inner.limit
    }

    #[inline]
    pub(crate) fn encode_options(&self) -> EncodeOptions {
        self.inner.settings.encode_options
    }

    #[inline]
    pub(crate) fn eviction(&self) -> &Eviction<K> {
        &self.inner.settings.eviction
    }

    #[inline]
    pub(crate) fn wipes_on_free(&self) -> bool {
        self.inner.settings.wipe_on_free
    }

    #[inline]
    pub(crate) fn latencies(&self) -> Option<&Latencies> {
        self.inner.latencies.as_deref()
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    #[inline]
    pub(crate) fn drain_state(&self) -> &DrainState {
        &self.inner.drain
    }

    /// Frees an item that was taken out of the index, if there is one. Called with no lock held.
    #[inline]
    pub(crate) fn free_item(&self, item: Option<Item<K>>) -> bool {
        let Some((key, stored)) = item else { return false };
        self.free(stored);
        // The key last: its drop is foreign code.
        drop(key);
        true
    }

    #[inline]
    pub(crate) fn free(&self, stored: Value) {
        if !stored.free() {
            self.counters().free_failed();
        }
    }

    #[inline]
    pub(crate) fn free_object(&self, object: PooledObject) {
        if !object.free() {
            self.counters().free_failed();
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.inner.hasher.hash_one(key)
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
            .field("block_size", &self.block_size())
            .field("len", &self.len())
            .field("manager", &self.inner.manager)
            .finish_non_exhaustive()
    }
}

impl<K, S> Drop for Inner<K, S> {
    fn drop(&mut self) {
        might_block("dropping a Store");
        let mut panics = DeferredPanic::default();
        for shard in 0..self.index.shards() {
            let contents = self.index.take_shard(shard);
            if self.settings.wipe_on_free {
                contents.free(None, &mut panics);
            } else {
                contents.forget_objects(&mut panics);
            }
        }
        panics.raise();
    }
}
