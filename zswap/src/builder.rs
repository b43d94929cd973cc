//! Settings of a store, and its making.

use std::fmt;
use std::hash::RandomState;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zpool_core::ZPoolDriver;
use zpool_core::compress::CompressorDriver;
use zpool_core::exec::Executor;
use zpool_core::internal::take_panic_message;
#[cfg(unix)]
use zpool_core::page::MmapSource;
use zpool_core::page::PageSource;
use zpool_core::spec::{Component, PoolSpec};
use zpool_manager::{DEFAULT_MAX_PENDING, PoolManager, Registry, RegistryError};

use crate::build_error::BuildError;
use crate::limit::Limit;
use crate::limit::policy::{AtLimit, Eviction, Listener};
use crate::store::Store;
use crate::store::settings::{DEFAULT_BLOCK_SIZE, EncodeOptions, StoreSettings};
use crate::value::MAX_BLOCK_SIZE;

/// Default of [`StoreBuilder::accept_percent`]: a store that was full accepts blocks again below
/// this percentage of its limit. The kernel uses the same figure.
pub const DEFAULT_ACCEPT_PERCENT: u8 = 90;

/// Settings of a [`Store`] to be. Made by [`Store::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct StoreBuilder<K, S = RandomState> {
    block_size: usize,
    spec: Option<PoolSpec>,
    allocators: Vec<Arc<dyn ZPoolDriver>>,
    compressors: Vec<Arc<dyn CompressorDriver>>,
    executor: Option<Arc<dyn Executor>>,
    source: Option<Arc<dyn PageSource>>,
    max_pending: usize,
    revive: bool,
    limit_bytes: Option<usize>,
    accept_percent: Option<u8>,
    eviction: Eviction<K>,
    max_value_len: Option<usize>,
    encode_options: EncodeOptions,
    latencies: bool,
    exclude_from_dumps: bool,
    wipe_on_free: bool,
    hasher: S,
}

impl<K> Store<K, RandomState> {
    /// Starts to build a store.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{AtLimit, Store};
    ///
    /// let store = Store::<u64>::builder()
    ///     .limit_bytes(64 << 20)
    ///     .at_limit(AtLimit::Evict)
    ///     .build()?;
    /// store.store(1, "one")?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> StoreBuilder<K, RandomState> {
        StoreBuilder::new()
    }
}

impl<K> StoreBuilder<K, RandomState> {
    pub(crate) fn new() -> Self {
        StoreBuilder {
            block_size: DEFAULT_BLOCK_SIZE,
            spec: None,
            allocators: Vec::new(),
            compressors: Vec::new(),
            executor: None,
            source: None,
            max_pending: DEFAULT_MAX_PENDING,
            revive: true,
            limit_bytes: None,
            accept_percent: None,
            eviction: Eviction {
                at_limit: AtLimit::Refuse,
                keep_compressible: false,
                listener: None,
            },
            max_value_len: None,
            encode_options: EncodeOptions {
                min_gain_percent: 0,
                skip_incompressible: true,
                checksums: false,
            },
            latencies: false,
            exclude_from_dumps: false,
            wipe_on_free: false,
            hasher: RandomState::new(),
        }
    }
}

impl<K, S> StoreBuilder<K, S> {
    /// The largest block in bytes: 1 to [`MAX_BLOCK_SIZE`] (default [`DEFAULT_BLOCK_SIZE`]). Larger
    /// blocks compress better and cost more to load.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().block_size(64 << 10).build()?;
    /// store.store(1, vec![b'x'; 64 << 10])?;
    /// assert!(store.store(1, vec![b'x'; (64 << 10) + 1]).is_err());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn block_size(self, bytes: usize) -> Self {
        StoreBuilder { block_size: bytes, ..self }
    }

    /// Sets the spec of the first pool (default: `zsmalloc+lz4`, if those features are on).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().spec("zsmalloc(chain=8)+lz4".parse()?).build()?;
    /// let current = store.manager().current().ok_or("a store always has a pool")?;
    /// assert_eq!(current.spec().to_string(), "zsmalloc(chain=8)+lz4");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spec(self, spec: PoolSpec) -> Self {
        StoreBuilder { spec: Some(spec), ..self }
    }

    /// One more allocator to choose from. One that has the name of a built-in one takes its place.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::sync::Arc;
    /// use zpool_conformance::ReferenceDriver;
    /// use zswap::Store;
    ///
    /// let store = Store::<u64>::builder()
    ///     .allocator(Arc::new(ReferenceDriver))
    ///     .spec("reference+lz4".parse()?)
    ///     .build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allocator(mut self, driver: Arc<dyn ZPoolDriver>) -> Self {
        self.allocators.push(driver);
        self
    }

    /// One more compressor to choose from. One that has the name of a built-in one takes its place.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::sync::Arc;
    /// use zpool_conformance::RleDriver;
    /// use zswap::Store;
    ///
    /// let store = Store::<u64>::builder().compressor(Arc::new(RleDriver)).build()?;
    /// store.store(1, [7; 4096])?;
    /// store.set_compressor(&"rle".parse()?)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compressor(mut self, driver: Arc<dyn CompressorDriver>) -> Self {
        self.compressors.push(driver);
        self
    }

    /// Sets the executor that destroys retired pools (default: one worker thread that all stores of
    /// the process share).
    ///
    /// Stores that are to share another thread, or none with the rest of the process, are each
    /// given a clone of one `Arc<WorkQueue>`; see [`WorkQueue`](crate::plugin::WorkQueue) and
    /// [`ManagerBuilder::executor`](zpool_manager::ManagerBuilder::executor).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::sync::Arc;
    /// use zswap::Store;
    /// use zswap::plugin::WorkQueue;
    ///
    /// // One thread for these two stores, and none of the process's.
    /// let queue = Arc::new(WorkQueue::new("zswap-pools")?);
    /// let first = Store::<u64>::builder().executor(queue.clone()).build()?;
    /// let second = Store::<u64>::builder().executor(queue).build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn executor(self, executor: Arc<dyn Executor>) -> Self {
        StoreBuilder { executor: Some(executor), ..self }
    }

    /// Whether the memory of pools is left out of core dumps: it is mapped for this store alone
    /// then (default false). Cannot be combined with a [`page_source`](Self::page_source), to which
    /// it would do nothing.
    ///
    /// Heap memory stays in dumps: keys; same-filled blocks, which the index holds as they are; the
    /// compressors' contexts, which hold the latest blocks; and each thread's buffer for
    /// [`load_with`](Store::load_with), which holds plain bytes of what it loaded. Memory is left
    /// out of dumps on Linux only (`MADV_DONTDUMP`). On other systems this setting has no effect,
    /// and nothing reports that.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let secrets = zswap::Store::<u64>::builder().exclude_from_dumps(true).build()?;
    /// secrets.store(1, "not in a core dump")?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exclude_from_dumps(self, exclude: bool) -> Self {
        StoreBuilder { exclude_from_dumps: exclude, ..self }
    }

    /// Overwrites a block with zeros in its pool once it is removed, replaced, evicted or moved,
    /// and no reader holds it (default: false). This costs a write of as many bytes. Allocators
    /// that [cannot](zpool_core::Capabilities::wipes_on_free) do that are refused.
    ///
    /// It does not cover the compressors' contexts, which hold the latest blocks; the index, which
    /// holds keys and same-filled blocks; and each thread's buffer for
    /// [`load_with`](Store::load_with), which holds plain bytes until they are overwritten. The
    /// zeros are written on every system. Without this setting only memory that was returned to the
    /// system is zeroed, and only on Linux; other systems may leave its contents.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let secrets = zswap::Store::<u64>::builder().wipe_on_free(true).build()?;
    /// secrets.store(1, "overwritten once it is removed")?;
    /// secrets.invalidate(&1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wipe_on_free(self, wipe: bool) -> Self {
        StoreBuilder { wipe_on_free: wipe, ..self }
    }

    /// Sets the source of the pools' memory (default: mapped memory, shared by the process).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use std::sync::Arc;
    /// use zswap::plugin::{BudgetedSource, HeapSource};
    /// use zswap::{Error, Store};
    ///
    /// // For a test: at most 64 frames of 4 KiB, from the heap.
    /// let source = BudgetedSource::new(Arc::new(HeapSource::new(4096)), 64);
    /// let store = Store::<u64>::builder().page_source(Arc::new(source)).build()?;
    /// let refused = (0..1000).find_map(|key| store.store(key, page(key)).err());
    /// assert!(matches!(refused, Some(Error::Pool(_))));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn page_source(self, source: Arc<dyn PageSource>) -> Self {
        StoreBuilder { source: Some(source), ..self }
    }

    /// Sets how many pools may await destruction before a switch waits: at least 1 (default
    /// [`DEFAULT_MAX_PENDING`]).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().max_pending(2).build()?;
    /// for chain in 1..=8 {
    ///     store.switch(&format!("zsmalloc(chain={chain})+lz4").parse()?)?;
    /// }
    /// assert!(store.stats().manager.pools_alive <= 3);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_pending(self, pools: usize) -> Self {
        StoreBuilder { max_pending: pools, ..self }
    }

    /// Whether a switch takes a live retired pool of the same spec instead of making one (default
    /// true).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{Store, Switched};
    ///
    /// let store = Store::<u64>::builder().revive(false).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
    /// let back = store.switch(&"zsmalloc+lz4".parse()?)?;
    /// assert!(matches!(back, Switched::Created(_)));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn revive(self, revive: bool) -> Self {
        StoreBuilder { revive, ..self }
    }

    /// At this many bytes, as the operating system counts them (pools, contexts and index), the
    /// store is full (default: never). Must be more than an empty store holds. `usize::MAX` is no
    /// limit, or one that [`set_limit`](Store::set_limit) sets later.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use zswap::{Error, Store};
    ///
    /// let store = Store::<u64>::builder().limit_bytes(1 << 20).build()?;
    /// let full = (0..1000).find_map(|key| store.store(key, page(key)).err());
    /// assert!(matches!(full, Some(Error::Full { limit: 1_048_576, .. })));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit_bytes(self, bytes: usize) -> Self {
        StoreBuilder { limit_bytes: Some(bytes), ..self }
    }

    /// Once full, the store takes blocks again when it holds no more than this part of its limit: 1
    /// to 100 percent (default [`DEFAULT_ACCEPT_PERCENT`]). Needs
    /// [`limit_bytes`](Self::limit_bytes).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store =
    ///     zswap::Store::<u64>::builder().limit_bytes(64 << 20).accept_percent(75).build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn accept_percent(self, percent: u8) -> Self {
        StoreBuilder { accept_percent: Some(percent), ..self }
    }

    /// Sets what to do at the limit (default: refuse). [`AtLimit::Evict`] needs
    /// [`limit_bytes`](Self::limit_bytes).
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

    /// Whether what compresses to 1/4 or less is spared by every second turn of the eviction clock,
    /// since evicting it gains little (default false). Needs [`AtLimit::Evict`].
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

    /// The longest value in bytes (default: the block size). Longer ones than a block are cut up
    /// and joined again, and are there whole or not at all.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().max_value_len(1 << 20).build()?;
    /// store.store(1, vec![b'x'; 1 << 20])?;
    /// assert_eq!(store.len_of(&1), Some(1 << 20));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_value_len(self, bytes: usize) -> Self {
        StoreBuilder { max_value_len: Some(bytes), ..self }
    }

    /// By how many percent compression has to make a block shorter, for it not to be kept raw: 0 to
    /// 99 (default 0, at least a byte). A raw block is loaded by a copy instead of a decompression.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().min_gain_percent(25).build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn min_gain_percent(mut self, percent: u8) -> Self {
        self.encode_options.min_gain_percent = percent;
        self
    }

    /// Whether blocks whose bytes look random are kept raw without asking the compressor (default
    /// true). Decision record 0018 of the repository says how seldom that is wrong.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().skip_incompressible(false).build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_incompressible(mut self, skip: bool) -> Self {
        self.encode_options.skip_incompressible = skip;
        self
    }

    /// Whether every object has a checksum of four bytes in the index, without which a load may
    /// give wrong bytes after memory was corrupted (default false).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().checksums(true).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// assert_eq!(store.load_vec(&1)?, Some(b"a page of memory ".repeat(240)));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checksums(mut self, checksums: bool) -> Self {
        self.encode_options.checksums = checksums;
        self
    }

    /// Whether stores and loads are timed, for [histograms](crate::StoreStats::latencies): two
    /// looks at the clock each, and one for an item of a batch (default false). An item counts as
    /// the time since the one before it was done, or since the call began: together they are as
    /// long as the call.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().latency_histograms(true).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// let latencies = store.stats().latencies.ok_or("histograms are on")?;
    /// println!("{}", latencies.store);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn latency_histograms(self, on: bool) -> Self {
        StoreBuilder { latencies: on, ..self }
    }

    /// Sets how keys are hashed (default: std's `RandomState`, keyed for each store, which resists
    /// keys chosen by an attacker). [`SequentialKeys`](crate::SequentialKeys) is faster for trusted
    /// integers. If a hasher maps many keys to one hash, the store becomes slow for them, but keeps
    /// them all.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{SequentialKeys, Store};
    ///
    /// let pages = Store::<u64>::builder().hasher(SequentialKeys::default()).build()?;
    /// pages.store(0x7f00, b"a page of memory ".repeat(240))?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hasher<S2>(self, hasher: S2) -> StoreBuilder<K, S2> {
        StoreBuilder {
            block_size: self.block_size,
            spec: self.spec,
            allocators: self.allocators,
            compressors: self.compressors,
            executor: self.executor,
            source: self.source,
            max_pending: self.max_pending,
            revive: self.revive,
            limit_bytes: self.limit_bytes,
            accept_percent: self.accept_percent,
            eviction: self.eviction,
            max_value_len: self.max_value_len,
            encode_options: self.encode_options,
            latencies: self.latencies,
            exclude_from_dumps: self.exclude_from_dumps,
            wipe_on_free: self.wipe_on_free,
            hasher,
        }
    }

    /// Makes the store and its first pool. May block.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{AtLimit, Store};
    ///
    /// // A policy for a limit, and no limit: the error names both settings.
    /// let error = Store::<u64>::builder().at_limit(AtLimit::Evict).build().unwrap_err();
    /// assert!(error.to_string().contains("limit_bytes"), "{error}");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting is out of its range, settings contradict each other, or the first
    /// pool cannot be made.
    pub fn build(self) -> Result<Store<K, S>, BuildError> {
        self.check()?;
        // The names of drivers and the properties of an executor are foreign code's to tell.
        catch_unwind(AssertUnwindSafe(|| self.build_checked()))
            .unwrap_or_else(|panic| Err(BuildError::Panicked(take_panic_message(panic))))
    }

    /// Checks the settings, each alone and against the others.
    fn check(&self) -> Result<(), BuildError> {
        if !(1..=MAX_BLOCK_SIZE).contains(&self.block_size) {
            return Err(BuildError::BlockSize(self.block_size));
        }
        if let Some(percent) = self.accept_percent.filter(|percent| !(1..=100).contains(percent)) {
            return Err(BuildError::AcceptPercent(percent));
        }
        if self.encode_options.min_gain_percent > 99 {
            return Err(BuildError::MinGainPercent(self.encode_options.min_gain_percent));
        }
        if let Some(bytes) = self.max_value_len.filter(|&bytes| bytes < self.block_size) {
            return Err(BuildError::MaxValueLen { bytes, block_size: self.block_size });
        }
        if self.max_pending == 0 {
            return Err(BuildError::MaxPending);
        }
        if self.exclude_from_dumps && self.source.is_some() {
            return Err(BuildError::DumpsOfOwnSource);
        }
        let Eviction { keep_compressible, listener, .. } = &self.eviction;
        let evicts = self.eviction.evicts();
        let limited = self.limit_bytes.is_some();
        for (setting, given) in
            [("accept_percent", self.accept_percent.is_some()), ("at_limit", evicts)]
        {
            if given && !limited {
                return Err(BuildError::NoLimit { setting });
            }
        }
        for (setting, given) in
            [("on_evict", listener.is_some()), ("keep_compressible", *keep_compressible)]
        {
            if given && !evicts {
                return Err(BuildError::NoEviction { setting });
            }
        }
        Ok(())
    }

    fn build_checked(self) -> Result<Store<K, S>, BuildError> {
        let spec = self.spec.or_else(default_spec).ok_or(BuildError::NoSpec)?;
        let registry = registry(self.allocators, self.compressors).map_err(BuildError::Registry)?;
        let mut manager = PoolManager::builder(Arc::new(registry))
            .block_len(self.block_size)
            .max_pending(self.max_pending)
            .revive(self.revive)
            .wipe_on_free(self.wipe_on_free);
        if let Some(executor) = self.executor {
            manager = manager.executor(executor);
        }
        #[cfg(unix)]
        let source = self.source.or_else(|| {
            self.exclude_from_dumps
                .then(|| Arc::new(MmapSource::excluded_from_dumps()) as Arc<dyn PageSource>)
        });
        #[cfg(not(unix))]
        let source = self.source;
        if let Some(source) = source {
            manager = manager.page_source(source);
        }
        let manager = manager.build_idle().map_err(BuildError::Thread)?;
        manager.switch(&spec).map_err(BuildError::Switch)?;
        let settings = StoreSettings {
            block_size: self.block_size,
            max_value_len: self.max_value_len.unwrap_or(self.block_size),
            encode_options: self.encode_options,
            eviction: self.eviction,
            wipe_on_free: self.wipe_on_free,
        };
        let limit =
            Limit::new(self.limit_bytes, self.accept_percent.unwrap_or(DEFAULT_ACCEPT_PERCENT));
        let store = Store::new(manager, settings, limit, self.latencies, self.hasher);
        match store.limit_bytes().map(|limit| (limit, store.bytes_held())) {
            Some((limit, held)) if limit <= held => Err(BuildError::LimitTooLow { limit, held }),
            _ => Ok(store),
        }
    }
}

impl<K, S> fmt::Debug for StoreBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("block_size", &self.block_size)
            .field("spec", &self.spec)
            .field("limit_bytes", &self.limit_bytes)
            .field("eviction", &self.eviction)
            .field("encode_options", &self.encode_options)
            .finish_non_exhaustive()
    }
}

/// The spec of a store that was given none.
fn default_spec() -> Option<PoolSpec> {
    let built_in = cfg!(all(feature = "zsmalloc", feature = "lz4"));
    built_in.then(|| PoolSpec::new(Component::named("zsmalloc"), Component::named("lz4")))
}

/// All drivers: those given, and the built-in ones whose names are still free.
fn registry(
    allocators: Vec<Arc<dyn ZPoolDriver>>,
    compressors: Vec<Arc<dyn CompressorDriver>>,
) -> Result<Registry, RegistryError> {
    let registry = Registry::new();
    allocators.into_iter().try_for_each(|driver| registry.register_allocator(driver))?;
    compressors.into_iter().try_for_each(|driver| registry.register_compressor(driver))?;
    for built_in in built_in_allocators() {
        // An error means: one of that name was given, and is meant to take its place.
        let _ = registry.register_allocator(built_in);
    }
    for built_in in built_in_compressors() {
        let _ = registry.register_compressor(built_in);
    }
    Ok(registry)
}

fn built_in_allocators() -> Vec<Arc<dyn ZPoolDriver>> {
    vec![
        #[cfg(feature = "zsmalloc")]
        Arc::new(zpool_zsmalloc::ZsmallocDriver),
        #[cfg(feature = "zbud")]
        Arc::new(zpool_zbud::ZbudDriver),
    ]
}

fn built_in_compressors() -> Vec<Arc<dyn CompressorDriver>> {
    vec![
        #[cfg(feature = "lz4")]
        Arc::new(zpool_lz4::Lz4Driver),
        #[cfg(feature = "pagelz")]
        Arc::new(zpool_pagelz::PagelzDriver),
        #[cfg(feature = "zstd")]
        Arc::new(zpool_zstd::ZstdDriver),
    ]
}
