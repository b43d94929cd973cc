//! Stores: from a block to an entry in the index.
//!
//! ```text
//!   hash ─► length ─► same-filled? ─► current pool ─► limit ─► incompressible? ─► compress
//!     ─► insert into the pool ─► exchange with the older block, or insert into the index
//!   on any failure: remove the older entry and return the error
//! ```
//!
//! A value longer than a block is divided. Its parts are encoded one by one, and then inserted into
//! the index as one entry. If one part fails, the others are freed.

use std::hash::{BuildHasher, Hash};

use zpool_core::internal::TryArc;
use zpool_core::internal::catch;
use zpool_core::might_block;

use crate::index::shard::{Inserted, Replaced};
use crate::ops::encode::Placement;
use crate::stats::latency::Latencies;
use crate::store::Store;
use crate::store::cost::page_share;
use crate::value::error::Error;
use crate::value::pooled_object::{PooledObject, call_allocator};
use crate::value::same_filled;
use crate::value::{LargeValue, PooledBlock, Value};

/// Upper bound of what a pool that holds a single value costs apart from its objects: 1/32 of their
/// bytes...
const OVERHEAD_SHARE: usize = 32;
/// ...and this per object, with its place in the value's list...
const PART_BYTES: usize = 64;
/// ...and 1/64 of the limit.
const POOL_SHARE: usize = 64;

/// # Store
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores a copy of `block` under `key`, and replaces what was stored under it before.
    ///
    /// A block that repeats eight bytes costs no pool memory, and neither does an empty one, which
    /// is stored like any other. An incompressible block is kept raw. Values longer than a block,
    /// up to [a length](crate::StoreBuilder::max_value_len), are stored whole or not at all.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::builder().build()?;
    /// store.store("greeting", b"hello ".repeat(100))?;
    /// store.store("greeting", b"good morning ".repeat(100))?;
    /// assert_eq!(store.load_vec(&"greeting")?, Some(b"good morning ".repeat(100)));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error`]. After any error, nothing is stored under `key`. The older block is removed,
    /// because stale data is worse than none. The key is dropped.
    ///
    /// # Panics
    ///
    /// If the key's `Hash` or `Eq` panics. Panics of allocators, compressors and listeners are
    /// contained.
    ///
    /// # Concurrency
    ///
    /// May block: allocators may ask for memory, and a first store creates a compression context. A
    /// store at the limit may have to [evict](crate::AtLimit), and destroys pools that await
    /// destruction, so hold no lock that a plug-in's destructor takes. A concurrent
    /// [`switch`](Self::switch) never makes a store fail or wait.
    #[doc(alias = "insert")]
    #[doc(alias = "put")]
    #[doc(alias = "set")]
    pub fn store(&self, key: K, block: impl AsRef<[u8]>) -> Result<(), Error> {
        might_block("Store::store");
        let block = block.as_ref();
        match self.latencies() {
            None => self.store_untimed(key, block),
            Some(latencies) => self.store_timed(latencies, key, block),
        }
    }

    /// Stores with a timer. Out of line for the same reason as `fetch_timed`.
    #[inline(never)]
    fn store_timed(&self, latencies: &Latencies, key: K, block: &[u8]) -> Result<(), Error> {
        let _timer = latencies.store.timer();
        self.store_untimed(key, block)
    }

    #[inline]
    pub(crate) fn store_untimed(&self, key: K, block: &[u8]) -> Result<(), Error> {
        let hash = self.hash(&key);
        self.forget_in_thrash_meter(hash);
        let pool = || self.manager().current().ok_or(Error::NoPool);
        let stored = match self.check_len(block) {
            Ok(()) if block.len() > self.block_size() => self.large(hash, block),
            Ok(()) => match self.place(block, pool) {
                // Fast path: most blocks end up in a pool.
                Ok(Placement::Pool(pool)) => {
                    // The prefetch finishes while the codec works.
                    self.index().prefetch(hash);
                    match self.encode(&pool, pool.codec(), block) {
                        Ok((handle, meta)) => {
                            let object = PooledObject::new(pool, handle);
                            return self.put_block(hash, key, PooledBlock { object, meta });
                        }
                        Err(error) => Err(error),
                    }
                }
                Ok(Placement::SameFilled(word))
                    if self.replace_same(hash, &key, word, block.len()) =>
                {
                    return Ok(());
                }
                Ok(Placement::SameFilled(word)) => Ok(Value::SameFilled { word, len: block.len() }),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match stored {
            Ok(stored) => self.put(hash, key, stored),
            Err(error) => Err(self.store_failed(hash, key, error)),
        }
    }

    pub(crate) fn check_len(&self, block: &[u8]) -> Result<(), Error> {
        if block.len() > self.max_value_len() {
            return Err(Error::BlockTooLong { len: block.len(), max: self.max_value_len() });
        }
        Ok(())
    }

    /// Encodes one block into the current pool. The result is not in the index yet.
    pub(crate) fn encode_block(&self, hash: u64, block: &[u8]) -> Result<Value, Error> {
        Ok(match self.place(block, || self.manager().current().ok_or(Error::NoPool))? {
            Placement::SameFilled(word) => Value::SameFilled { word, len: block.len() },
            Placement::Pool(pool) => {
                // The prefetch finishes while the codec works.
                self.index().prefetch(hash);
                let (handle, meta) = self.encode(&pool, pool.codec(), block)?;
                Value::Pooled(PooledBlock { object: PooledObject::new(pool, handle), meta })
            }
        })
    }

    /// Stores the parts of a long value.
    #[inline(never)]
    pub(crate) fn large(&self, hash: u64, value: &[u8]) -> Result<Value, Error> {
        self.could_fit(value)?;
        let mut parts = Vec::new();
        let count = value.len().div_ceil(self.block_size());
        parts.try_reserve_exact(count).map_err(|_| Error::IndexOutOfMemory)?;
        for part in value.chunks(self.block_size()) {
            // A switch or a reached limit between two parts has the same effect as between two
            // blocks.
            parts.push(self.encode_block(hash, part)?);
        }
        let large = LargeValue { parts: parts.into_boxed_slice(), len: value.len() };
        TryArc::try_new(large).map(Value::Large).map_err(|_| Error::IndexOutOfMemory)
    }

    /// Refuses a value that could not be kept even if it were alone, before all others are evicted
    /// for it. If the value is about as long as the limit, it is compressed once more to find out.
    /// A store that refuses has nothing to lose, so it refuses only a value that is surely over the
    /// limit.
    fn could_fit(&self, value: &[u8]) -> Result<(), Error> {
        let Some(limit) = self.limit().bytes() else { return Ok(()) };
        let pool = self.manager().current().ok_or(Error::NoPool)?;
        let codec = pool.codec();
        let parts = value.len().div_ceil(self.block_size());
        let shared =
            call_allocator(|| codec.largest_context_bytes() + codec.compressor().shared_bytes())?;
        let fixed = self.index().fixed_bytes() + shared;
        let evicts = self.eviction().evicts();
        let with_overhead = |bytes: usize| match evicts {
            true => {
                fixed + limit / POOL_SHARE + bytes + bytes / OVERHEAD_SHARE + parts * PART_BYTES
            }
            false => bytes,
        };
        // With a bounded number of objects per page, each takes a share of a page, whatever its
        // length.
        let per_page = pool.objects_per_page();
        let taken = |len: usize| match per_page {
            Some(objects) => page_share(self.page_bytes(), objects, len),
            // With size classes, an object takes its rounded length. A store that refuses takes
            // what may fit.
            None if evicts => catch(|| pool.zpool().footprint(len)).unwrap_or(len).max(len),
            None => len,
        };
        if with_overhead(value.len().max(parts * taken(self.block_size()))) <= limit {
            return Ok(());
        }
        let mut session = codec.session();
        let mut needed = 0;
        for part in value.chunks(self.block_size()) {
            if same_filled::detect(part).is_none() {
                // As long as `encode` will make it. Not counted as skipped yet.
                let shorter = if self.encode_options().looks_incompressible(part) {
                    None
                } else {
                    let max_object_len = self.encode_options().max_object_len(part.len());
                    session.compress(part, max_object_len).map_err(Error::Codec)?
                };
                needed += taken(shorter.unwrap_or(part).len());
            }
            if with_overhead(needed) > limit {
                return Err(self.full_error(with_overhead(needed), limit, 0));
            }
        }
        Ok(())
    }

    /// Replaces a same-filled block by another one. Both cost the same, and nothing is freed.
    #[inline]
    fn replace_same(&self, hash: u64, key: &K, word: u64, len: usize) -> bool {
        let (mut shard, hash) = self.index().lock(hash);
        shard.replace_same(hash, key, word, len)
    }

    /// Inserts a block that is in a pool into the index: the path of repeated stores.
    ///
    /// If the key already has a block, exchanges the two field by field. A block that is moved on
    /// its way is written in narrow pieces and read with wide loads, which defeats store
    /// forwarding: the read waits until all earlier writes, the object's included, are in the
    /// cache. The bench `overhead` shows it. In return, a new key is looked up twice.
    #[inline(always)]
    pub(crate) fn put_block(&self, hash: u64, key: K, mut new: PooledBlock) -> Result<(), Error> {
        let added = self.object_cost(&new);
        match self.index().exchange(hash, &key, &mut new) {
            Replaced::Yes { unused_ref } => {
                drop(unused_ref);
                let replaced = self.object_cost(&new);
                self.free_object(new.object);
                self.charge_eviction_debt(added, replaced);
                Ok(())
            }
            Replaced::No => self.put(hash, key, Value::Pooled(new)),
            Replaced::Failed { broken, error } => {
                self.free_object(new.object);
                self.free_removed(broken);
                Err(self.store_failed(hash, key, error))
            }
        }
    }

    /// Inserts a value into the index.
    #[inline]
    pub(crate) fn put(&self, hash: u64, key: K, stored: Value) -> Result<(), Error> {
        let mut added = self.cost(&stored);
        if matches!(stored, Value::Large(_)) {
            // Before the insert, so that a long value does not evict itself.
            self.charge_eviction_debt(added, 0);
            added = 0;
        }
        // Here, so that the value is freed without the shard's lock if the key panics.
        let mut new = Some((key, stored));
        match self.index().put(hash, &mut new, |key| self.hash(key)) {
            Ok(Inserted { replaced, unused_ref }) => {
                drop(unused_ref);
                let Some((key, stored)) = replaced else {
                    self.charge_eviction_debt(added, 0);
                    return Ok(());
                };
                let replaced_cost = self.cost(&stored);
                self.free(stored);
                self.charge_eviction_debt(added, replaced_cost);
                // The key last: its drop is foreign code, and may panic.
                drop(key);
                Ok(())
            }
            Err(_) => {
                let Some((key, stored)) = new else {
                    unreachable!("an entry that was not put in is still here")
                };
                self.free(stored);
                Err(self.store_failed(hash, key, Error::IndexOutOfMemory))
            }
        }
    }

    /// Ends a store that failed: removes what the key had before (B23).
    #[cold]
    pub(crate) fn store_failed(&self, hash: u64, key: K, error: Error) -> Error {
        self.counters().store_failed(&error);
        self.remove(hash, &key);
        error
    }
}
