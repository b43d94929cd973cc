//! Settings of a store, and how it is built from them. The settings are in the modules below, by
//! topic.

// In the order in which rustdoc shows them.
mod blocks;

mod pools;

mod limits;

mod moves;

mod tier;

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

use self::moves::MoveSettings;
use self::tier::TierSettings;
use crate::build_error::BuildError;
use crate::limit::Limit;
use crate::limit::policy::{AtLimit, Eviction};
use crate::store::Store;
use crate::store::settings::{
    DEFAULT_BLOCK_SIZE, DEFAULT_MAX_VALUE_LEN, EncodeOptions, StoreSettings,
};
use crate::value::MAX_BLOCK_SIZE;

/// Default of [`StoreBuilder::accept_percent`]: a store that was full accepts blocks again below
/// this percentage of its limit. The kernel uses the same figure.
pub const DEFAULT_ACCEPT_PERCENT: u8 = 90;

/// Settings of a [`Store`]. Made by [`Store::builder`].
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
    at_limit: Option<AtLimit>,
    eviction: Eviction<K>,
    max_value_len: Option<usize>,
    encode_options: EncodeOptions,
    latencies: bool,
    thrash_meter: bool,
    exclude_from_dumps: bool,
    wipe_on_free: bool,
    moves: MoveSettings<K, S>,
    tier: TierSettings<K, S>,
    hasher: S,
}

/// # Build
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
            at_limit: None,
            eviction: Eviction {
                at_limit: AtLimit::Refuse,
                keep_compressible: false,
                listener: None,
                deciding: None,
                advisor: None,
            },
            max_value_len: None,
            encode_options: EncodeOptions {
                min_gain_percent: 0,
                skip_incompressible: true,
                checksums: false,
            },
            latencies: false,
            thrash_meter: false,
            exclude_from_dumps: false,
            wipe_on_free: false,
            moves: MoveSettings::default(),
            tier: TierSettings::default(),
            hasher: RandomState::new(),
        }
    }
}

impl<K, S> StoreBuilder<K, S> {
    /// Sets whether stores and loads are timed, for [histograms](crate::StoreStats::latencies):
    /// each reads the clock twice, and an item of a batch once (default false). An item counts as
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

    /// Sets whether the store notes how soon blocks that it made cold or evicted are asked for
    /// again, and how many are removed without that, for [statistics](crate::StoreStats::thrash)
    /// (default false). A load or take asks for a block, a peek does not.
    ///
    /// Takes 32 KiB for the whole store, and nothing per entry. One key in
    /// [16](crate::stats::SAMPLED_ONE_IN) is looked at, by its hash; evicting one hashes its key.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().thrash_meter(true).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// assert!(store.stats().thrash.is_some());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn thrash_meter(self, on: bool) -> Self {
        StoreBuilder { thrash_meter: on, ..self }
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
            at_limit: self.at_limit,
            eviction: self.eviction,
            max_value_len: self.max_value_len,
            encode_options: self.encode_options,
            latencies: self.latencies,
            thrash_meter: self.thrash_meter,
            exclude_from_dumps: self.exclude_from_dumps,
            wipe_on_free: self.wipe_on_free,
            moves: self.moves.with_other_hasher(),
            tier: self.tier.with_other_hasher(),
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
        // The names of drivers and the capabilities of an executor come from foreign code.
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
        self.moves.check()?;
        let Eviction { keep_compressible, listener, deciding, advisor, .. } = &self.eviction;
        let evicts = self.eviction.evicts();
        let limited = self.limit_bytes.is_some();
        self.tier.check(limited, evicts)?;
        for (setting, given) in
            [("accept_percent", self.accept_percent.is_some()), ("at_limit", evicts)]
        {
            if given && !limited {
                return Err(BuildError::NoLimit { setting });
            }
        }
        for (setting, given) in [
            ("on_evict", listener.is_some()),
            ("on_evict_with", deciding.is_some()),
            ("keep_compressible", *keep_compressible),
            ("eviction_advice", advisor.is_some()),
        ] {
            if given && !evicts {
                return Err(BuildError::NoEviction { setting });
            }
        }
        if deciding.is_some() && self.tier.is_set() {
            return Err(BuildError::TierWithListener);
        }
        match self.limit_bytes {
            Some(limit) if self.at_limit.is_none() && limit != usize::MAX => {
                Err(BuildError::NoPolicy { limit })
            }
            _ => Ok(()),
        }
    }

    fn build_checked(self) -> Result<Store<K, S>, BuildError> {
        let spec = self.spec.or_else(default_spec).ok_or(BuildError::NoSpec)?;
        let registry = registry(self.allocators, self.compressors).map_err(BuildError::Registry)?;
        let mut manager = PoolManager::builder(Arc::new(registry))
            .block_size(self.block_size)
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
        if let Some(cold) = &self.moves.cold {
            manager.set_cold(cold).map_err(BuildError::Switch)?;
        }
        let settings = StoreSettings {
            block_size: self.block_size,
            max_value_len: self.max_value_len.unwrap_or(DEFAULT_MAX_VALUE_LEN),
            encode_options: self.encode_options,
            eviction: self.eviction,
            wipe_on_free: self.wipe_on_free,
        };
        let limit =
            Limit::new(self.limit_bytes, self.accept_percent.unwrap_or(DEFAULT_ACCEPT_PERCENT));
        let store = Store::new(manager, settings, limit, self.latencies, self.hasher)
            .with_thrash_meter(self.thrash_meter);
        let store = self.tier.apply(store, self.latencies)?;
        let store = self.moves.apply(store);
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

/// Returns the spec of a store for which none was set.
fn default_spec() -> Option<PoolSpec> {
    let built_in = cfg!(all(feature = "zsmalloc", feature = "lz4"));
    built_in.then(|| PoolSpec::new(Component::named("zsmalloc"), Component::named("lz4")))
}

/// Returns all drivers: those given, and the built-in ones whose names are still free.
fn registry(
    allocators: Vec<Arc<dyn ZPoolDriver>>,
    compressors: Vec<Arc<dyn CompressorDriver>>,
) -> Result<Registry, RegistryError> {
    let registry = Registry::new();
    allocators.into_iter().try_for_each(|driver| registry.register_allocator(driver))?;
    compressors.into_iter().try_for_each(|driver| registry.register_compressor(driver))?;
    for built_in in built_in_allocators() {
        // An error means that a driver of that name was given, to replace this one.
        let _ = registry.register_allocator(built_in);
    }
    for built_in in built_in_compressors() {
        let _ = registry.register_compressor(built_in);
    }
    for (name, hint) in NOT_BUILT_IN {
        registry.set_hint(name, hint);
    }
    Ok(registry)
}

/// Hints for errors about back ends of this workspace that are not compiled in. A hint for one that
/// is registered is never shown.
const NOT_BUILT_IN: [(&str, &str); 6] = [
    ("zsmalloc", "turn on the feature `zsmalloc` of zswap"),
    ("zbud", "turn on the feature `zbud` of zswap"),
    ("lz4", "turn on the feature `lz4` of zswap"),
    ("pagelz", "turn on the feature `pagelz` of zswap"),
    ("zstd", "turn on the feature `zstd` of zswap"),
    ("lzo", "add the crate zpool-lzo, which is GPL-2.0, and set `compressor(Arc::new(LzoDriver))`"),
];

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
