//! Settings of a cache, and how it is built from them.

use std::fmt;
use std::hash::RandomState;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use zswap::conditional::EvictionAdvice;
use zswap::{AtLimit, PoolSpec, Store, StoreBuilder};

use crate::build_error::CacheBuildError;
use crate::cache::Cache;
use crate::entry::options::Lifetime;
use crate::entry::stamp::{EntryStamp, Stamp};
use crate::entry::stamped::Stamped;
use crate::removal::{CallbackState, RemovalCause, RemovalListener};
use crate::settings::CacheSettings;
use crate::time::{Clock, ManualTime};

/// Default of [`CacheBuilder::pinned_percent`].
pub const DEFAULT_PINNED_PERCENT: u8 = 25;

/// Default of [`CacheBuilder::block_size`]: 16 KiB. Values of a cache are of any length, and longer
/// blocks compress better.
const DEFAULT_BLOCK_SIZE: usize = 16 << 10;

/// Settings of a [`Cache`]. Made by [`Cache::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct CacheBuilder<K, S = RandomState, M = Stamp> {
    store: StoreBuilder<Stamped<K, M>, S>,
    limit_bytes: Option<usize>,
    lifetime: Lifetime,
    pinned_percent: u8,
    max_wait: Option<Duration>,
    listener: Option<RemovalListener<K>>,
    manual_time: Option<Arc<ManualTime>>,
    stamp: PhantomData<M>,
}

impl<K, M> CacheBuilder<K, RandomState, M> {
    pub(crate) fn new() -> Self {
        CacheBuilder {
            store: Store::builder().block_size(DEFAULT_BLOCK_SIZE),
            limit_bytes: None,
            lifetime: Lifetime::default(),
            pinned_percent: DEFAULT_PINNED_PERCENT,
            max_wait: None,
            listener: None,
            manual_time: None,
            stamp: PhantomData,
        }
    }
}

impl<K, S, M> CacheBuilder<K, S, M> {
    /// Sets how many bytes the cache may hold, as the operating system counts them: compressed
    /// values, keys and everything else (default: any number). A cache at its limit evicts what its
    /// eviction clock found cold. `usize::MAX` means no limit, or one that
    /// [`set_limit`](Cache::set_limit) sets later.
    pub fn limit_bytes(self, bytes: usize) -> Self {
        CacheBuilder { limit_bytes: Some(bytes), ..self }
    }

    /// Expires each entry this long after it was stored (default: never).
    ///
    /// In whole milliseconds, at least 1. An [entry](crate::EntryOptions) can have another time.
    pub fn time_to_live(mut self, after: Duration) -> Self {
        self.lifetime.time_to_live = Some(after);
        self
    }

    /// Expires each entry this long after it was last loaded or stored (default: never).
    pub fn time_to_idle(mut self, after: Duration) -> Self {
        self.lifetime.time_to_idle = Some(after);
        self
    }

    /// Sets the part of the limit that pinned values may have together, by their lengths before
    /// compression: 0 to 100 percent (default [`DEFAULT_PINNED_PERCENT`]). Without a limit they may
    /// have any number of bytes.
    pub fn pinned_percent(self, percent: u8) -> Self {
        CacheBuilder { pinned_percent: percent, ..self }
    }

    /// Sets the longest wait for a value that another thread computes (default: unbounded). A
    /// longer wait fails with [`CacheError::WaitedTooLong`](crate::CacheError::WaitedTooLong).
    pub fn max_wait(self, wait: Duration) -> Self {
        CacheBuilder { max_wait: Some(wait), ..self }
    }

    /// Sets a listener that receives the key, the length in bytes and the cause of each removal,
    /// after the memory is freed (default: none).
    ///
    /// It runs with no lock held on the thread that removed the entry, which may be one of the
    /// executor if the store has a tier, and may use the cache. It is not called for what it
    /// removes itself, so that it cannot recurse for ever; what it stores does not evict. Its
    /// panics are contained and [counted](crate::CacheStats::listeners_panicked). It is not called
    /// for what the drop of the cache removes.
    pub fn on_removal(
        self,
        listener: impl Fn(&K, usize, RemovalCause) + Send + Sync + 'static,
    ) -> Self {
        CacheBuilder { listener: Some(Box::new(listener)), ..self }
    }

    /// Sets allocator and compressor (default: `zsmalloc+lz4`, if those features are on).
    pub fn spec(self, spec: PoolSpec) -> Self {
        self.configure_store(|store| store.spec(spec))
    }

    /// Sets the size in bytes of the blocks that longer values are split into: 1 to
    /// [`zswap::MAX_BLOCK_SIZE`] (default 16 KiB). Longer blocks compress better, and a
    /// [range](Cache::get_range) costs more.
    pub fn block_size(self, bytes: usize) -> Self {
        self.configure_store(|store| store.block_size(bytes))
    }

    /// Sets the longest value in bytes (default [`zswap::DEFAULT_MAX_VALUE_LEN`], 64 MiB).
    pub fn max_value_len(self, bytes: usize) -> Self {
        self.configure_store(|store| store.max_value_len(bytes))
    }

    /// Changes other settings of the store below: back ends, executor, checksums and so on.
    ///
    /// What the cache sets itself, `build` sets last: the limit and its policy, `on_evict` and
    /// `eviction_advice`. A listener set by [`StoreBuilder::on_evict_with`] is not shown entries
    /// that are pinned or have expired.
    pub fn configure_store(
        self,
        configure: impl FnOnce(StoreBuilder<Stamped<K, M>, S>) -> StoreBuilder<Stamped<K, M>, S>,
    ) -> Self {
        CacheBuilder { store: configure(self.store), ..self }
    }

    /// Applies settings that were read from a configuration. What they leave out stays.
    pub fn settings(mut self, settings: &CacheSettings) -> Self {
        if let Some(limit) = settings.limit {
            self.limit_bytes = Some(limit.bytes());
        }
        if let Some(after) = settings.time_to_live {
            self.lifetime.time_to_live = Some(after.duration());
        }
        if let Some(after) = settings.time_to_idle {
            self.lifetime.time_to_idle = Some(after.duration());
        }
        if let Some(wait) = settings.max_wait {
            self.max_wait = Some(wait.duration());
        }
        if let Some(percent) = settings.pinned_percent {
            self.pinned_percent = percent;
        }
        if let Some(bytes) = settings.block_size {
            self = self.block_size(bytes.bytes());
        }
        if let Some(bytes) = settings.max_value_len {
            self = self.max_value_len(bytes.bytes());
        }
        if let Some(spec) = settings.spec.clone() {
            self = self.spec(spec);
        }
        self
    }

    /// Sets a clock that the caller moves: for tests of expiry.
    pub fn manual_time(self, time: &Arc<ManualTime>) -> Self {
        CacheBuilder { manual_time: Some(time.clone()), ..self }
    }

    /// Sets how keys are hashed: see [`StoreBuilder::hasher`].
    pub fn hasher<S2>(self, hasher: S2) -> CacheBuilder<K, S2, M> {
        CacheBuilder {
            store: self.store.hasher(hasher),
            limit_bytes: self.limit_bytes,
            lifetime: self.lifetime,
            pinned_percent: self.pinned_percent,
            max_wait: self.max_wait,
            listener: self.listener,
            manual_time: self.manual_time,
            stamp: self.stamp,
        }
    }
}

impl<K: 'static, S, M: EntryStamp> CacheBuilder<K, S, M> {
    /// Makes the cache and its first pool. May block.
    ///
    /// # Errors
    ///
    /// [`CacheBuildError`]: a setting is out of its range, settings contradict each other, or the
    /// first pool cannot be made.
    pub fn build(self) -> Result<Cache<K, S, M>, CacheBuildError> {
        if self.pinned_percent > 100 {
            return Err(CacheBuildError::PinnedPercent(self.pinned_percent));
        }
        let timed = [
            ("time_to_live", self.lifetime.time_to_live),
            ("time_to_idle", self.lifetime.time_to_idle),
        ];
        if let Some((setting, _)) = timed.iter().find(|(_, time)| !M::STAMPED && time.is_some()) {
            return Err(CacheBuildError::Unstamped { setting });
        }
        let callbacks = CallbackState::new(self.listener, Clock::new(self.manual_time));
        let on_evict = callbacks.clone();
        let mut store = self
            .store
            .limit_bytes(self.limit_bytes.unwrap_or(usize::MAX))
            .at_limit(AtLimit::Evict)
            .on_evict(move |key: &Stamped<K, M>, len| {
                on_evict.note_removed(key, len, RemovalCause::Evicted);
            });
        if M::STAMPED {
            let advisor = callbacks.clone();
            store = store.eviction_advice(move |key: &Stamped<K, M>| {
                if key.stamp.is_expired(advisor.clock.now()) {
                    EvictionAdvice::AtOnce
                } else if key.stamp.is_pinned() {
                    EvictionAdvice::Never
                } else {
                    EvictionAdvice::ByUse
                }
            });
        }
        let store = store.build()?;
        Ok(Cache::new(store, callbacks, self.lifetime, self.pinned_percent, self.max_wait))
    }
}

impl<K, S, M> fmt::Debug for CacheBuilder<K, S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("limit_bytes", &self.limit_bytes)
            .field("lifetime", &self.lifetime)
            .field("pinned_percent", &self.pinned_percent)
            .field("max_wait", &self.max_wait)
            .field("listener", &self.listener.is_some())
            .finish_non_exhaustive()
    }
}
