//! The cache: its parts, and the calls that need no more than these.

#[cfg(feature = "bytes")]
mod bytes_values;
mod expiry;
mod pins;
mod read;
mod scan;
mod single_flight;
mod versions;
mod write;

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};
use zswap::Store;

use crate::builder::CacheBuilder;
use crate::entry::options::Lifetime;
use crate::entry::stamp::{EntryStamp, Stamp, Unstamped};
use crate::entry::stamped::Stamped;
use crate::error::CacheError;
use crate::flight::FlightTable;
use crate::removal::{CallbackState, RemovalCause};
use crate::stats::{CacheStats, LoadCounters};

/// A compressed cache, from keys to values of bytes. See the [crate's essay](crate).
///
/// Cheap to clone: clones are the same cache. Any number of threads may use it at once. Concurrent
/// operations on one key happen in some order, and a look-up finds the value of the latest insert
/// before it in that order, or nothing.
///
/// Look-ups take any borrowed form of a key, such as `&str` for a `String`, and allocate none.
///
/// # Panics
///
/// Calls panic if the key's `Hash`, `Eq` or `Clone` does. What holds then is said at
/// [`zswap::Store`].
pub struct Cache<K, S = RandomState, M = Stamp> {
    shared: Arc<CacheState<K, S, M>>,
}

/// State that clones share.
struct CacheState<K, S, M> {
    store: Store<Stamped<K, M>, S>,
    flights: FlightTable<K>,
    callbacks: Arc<CallbackState<K>>,
    lifetime: Lifetime,
    pinned_percent: u8,
    max_wait: Option<Duration>,
    /// The latest version.
    versions: AtomicU64,
    loads: LoadCounters,
}

impl<K> Cache<K, RandomState, Stamp> {
    /// Starts to build a cache.
    pub fn builder() -> CacheBuilder<K, RandomState, Stamp> {
        CacheBuilder::new()
    }
}

impl<K> Cache<K, RandomState, Unstamped> {
    /// Starts to build a cache whose entries cost no more than in a store, and that has no expiry,
    /// versions or pins.
    ///
    /// ```
    /// use zswap_cache::Cache;
    ///
    /// let pages = Cache::unstamped_builder().limit_bytes(16 << 20).build()?;
    /// assert_eq!(pages.get_or_insert_with(&7u64, || [1; 4096])?, [1; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unstamped_builder() -> CacheBuilder<K, RandomState, Unstamped> {
        CacheBuilder::new()
    }
}

impl<K, S, M: EntryStamp> Cache<K, S, M> {
    pub(crate) fn new(
        store: Store<Stamped<K, M>, S>,
        callbacks: Arc<CallbackState<K>>,
        lifetime: Lifetime,
        pinned_percent: u8,
        max_wait: Option<Duration>,
    ) -> Cache<K, S, M> {
        Cache {
            shared: Arc::new(CacheState {
                store,
                flights: FlightTable::new(),
                callbacks,
                lifetime,
                pinned_percent,
                max_wait,
                versions: AtomicU64::new(0),
                loads: LoadCounters::default(),
            }),
        }
    }

    /// Returns the store below: for switches of allocator and compressor, `compact`, `trim` and its
    /// statistics.
    ///
    /// Its own stores and removals bypass the cache: they are not reported to the listener, and
    /// pins are not accounted for.
    pub fn store(&self) -> &Store<Stamped<K, M>, S> {
        &self.shared.store
    }

    /// Returns the number of entries, including those that have expired and still take up memory.
    pub fn len(&self) -> usize {
        self.store().len()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes held now, as the operating system counts them. Walks the pools.
    pub fn bytes_held(&self) -> usize {
        self.store().bytes_held()
    }

    /// Returns the limit of [`bytes_held`](Self::bytes_held), if there is one.
    pub fn limit_bytes(&self) -> Option<usize> {
        self.store().limit_bytes()
    }

    /// Returns statistics. Walks the shards and pools of the store, but no values.
    pub fn stats(&self) -> CacheStats {
        let store = self.store().stats();
        let shared = &*self.shared;
        let by_cause = |cause| shared.callbacks.count(cause);
        CacheStats {
            entries: store.entries,
            value_bytes: store.stored_bytes,
            compressed_bytes: store.payload_bytes,
            bytes_held: store.bytes_held(),
            limit_bytes: store.limit_bytes,
            pinned_bytes: shared.callbacks.pinned.load(Ordering::Relaxed),
            hits: store.loads_hit,
            misses: store.loads_missed,
            inserts: store.stores,
            evicted: by_cause(RemovalCause::Evicted),
            replaced: by_cause(RemovalCause::Replaced),
            expired: by_cause(RemovalCause::Expired),
            invalidated: by_cause(RemovalCause::Invalidated),
            cleared: by_cause(RemovalCause::Cleared),
            listeners_panicked: shared.callbacks.listeners_panicked.load(Ordering::Relaxed),
            ..shared.loads.stats()
        }
    }

    fn next_version(&self) -> u64 {
        // Relaxed: each number only has to differ from the others. A cache without stamps has none.
        if M::STAMPED { self.shared.versions.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 }
    }

    /// Returns the bytes that pinned values may have together.
    fn pinned_share(&self) -> usize {
        match self.limit_bytes() {
            None => usize::MAX,
            Some(limit) => {
                let share = limit as u128 * u128::from(self.shared.pinned_percent) / 100;
                usize::try_from(share).unwrap_or(usize::MAX)
            }
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Sets another limit in bytes, or none. A cache that holds more evicts until it holds less, on
    /// the calling thread. See [`Store::set_limit`].
    ///
    /// What is pinned stays so, even if it is more than its share of the new limit.
    ///
    /// # Errors
    ///
    /// [`zswap::Error::Full`] when what cannot be evicted, pinned entries included, is over the
    /// limit by itself. The new limit holds in any case.
    pub fn set_limit(&self, bytes: Option<usize>) -> Result<(), CacheError> {
        Ok(self.store().set_limit(bytes)?)
    }
}

impl<K, S, M> Clone for Cache<K, S, M> {
    fn clone(&self) -> Self {
        Cache { shared: self.shared.clone() }
    }
}

impl<K, S, M: EntryStamp> fmt::Debug for Cache<K, S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("len", &self.len())
            .field("lifetime", &self.shared.lifetime)
            .field("flights", &self.shared.flights)
            .field("callbacks", &self.shared.callbacks)
            .finish_non_exhaustive()
    }
}
