//! From a block to an entry in the index.
//!
//! ```text
//!   hash ─► length ─► same-filled? ─► current pool ─► limit ─► noise? ─► compress ─► insert ─► exchange with the older block, or put in
//!              └──────────────────────── whatever fails: remove the older entry, tell why
//! ```
//!
//! A value longer than a block is cut up; its parts are stored one by one, and only then put into the index, as one entry. If one part fails, the others are
//! freed.

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

/// What a pool costs besides its objects, at most, where one value is all that it has: 1/32 of
/// them...
const OVERHEAD_SHARE: usize = 32;
/// ...and this for each, with its place in the value's list...
const PART_BYTES: usize = 64;
/// ...and altogether one in so many of the limit.
const POOL_SHARE: usize = 64;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores a copy of `block` under `key`, in the place of what was stored under it before.
    ///
    /// A block that repeats eight bytes costs no pool memory, and neither does an empty one, which
    /// is stored like any other. A block that does not shrink is kept as it is. Values longer than
    /// a block, where they are [allowed](crate::StoreBuilder::max_value_len), are stored whole or
    /// not at all.
    ///
    /// # Errors
    ///
    /// [`Error`]. Nothing is stored under `key` then, whatever the reason: what was there is removed, since stale data is worse than none.
    ///
    /// # Panics
    ///
    /// If the key's `Hash` or `Eq` does. Panics of allocators, compressors and listeners are contained.
    ///
    /// # Concurrency
    ///
    /// May block: allocators may ask for memory, a first store makes a compression context, and one
    /// at the limit may have to [evict](crate::AtLimit), and destroys pools that await it: hold no
    /// lock that a plug-in's destructor wants. A [`switch`](Self::switch) at the same time never
    /// makes it fail or wait.
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

    /// Out of line, as `fetch_timed` of a load.
    #[inline(never)]
    fn store_timed(&self, latencies: &Latencies, key: K, block: &[u8]) -> Result<(), Error> {
        let _timer = latencies.store.timer();
        self.store_untimed(key, block)
    }

    #[inline]
    pub(crate) fn store_untimed(&self, key: K, block: &[u8]) -> Result<(), Error> {
        let hash = self.hash(&key);
        let pool = || self.manager().current().ok_or(Error::NoPool);
        let stored = match self.check_len(block) {
            Ok(()) if block.len() > self.block_size() => self.large(hash, block),
            Ok(()) => match self.place(block, pool) {
                // Fast path: most blocks end up in a pool.
                Ok(Placement::Pool(pool)) => {
                    // The codec gives the prefetch time to finish.
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

    /// Stores the parts of a long value.
    #[inline(never)]
    pub(crate) fn large(&self, hash: u64, value: &[u8]) -> Result<Value, Error> {
        self.could_fit(value)?;
        let mut parts = Vec::new();
        let count = value.len().div_ceil(self.block_size());
        parts.try_reserve_exact(count).map_err(|_| Error::IndexOutOfMemory)?;
        for part in value.chunks(self.block_size()) {
            // A switch, or the limit reached, between two parts acts as between two blocks.
            let pool = || self.manager().current().ok_or(Error::NoPool);
            parts.push(match self.place(part, pool)? {
                Placement::Pool(pool) => {
                    self.index().prefetch(hash);
                    let (handle, meta) = self.encode(&pool, pool.codec(), part)?;
                    Value::Pooled(PooledBlock { object: PooledObject::new(pool, handle), meta })
                }
                Placement::SameFilled(word) => Value::SameFilled { word, len: part.len() },
            });
        }
        let large = LargeValue { parts: parts.into_boxed_slice(), len: value.len() };
        TryArc::try_new(large).map(Value::Large).map_err(|_| Error::IndexOutOfMemory)
    }

    /// Refuses a value that could not be kept even if it were alone, before all others are evicted
    /// for it. To know that of one about as long as the limit, it is compressed once more. A store
    /// that refuses has nothing to lose, so it refuses only what is surely over the limit.
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
        // Where objects have a share of a page each, whatever their length.
        let per_page = pool.objects_per_page();
        let taken = |len: usize| match per_page {
            Some(objects) => page_share(self.page_bytes(), objects, len),
            // What its size classes round it up to. A store that refuses takes what may fit.
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
                // As `compress_into` will keep it; not counted as skipped yet.
                let shorter = if self.encode_options().looks_incompressible(part) {
                    None
                } else {
                    let max_object_len = self.encode_options().max_object_len(part.len());
                    session.compress(part, max_object_len).map_err(Error::Codec)?
                };
                needed += taken(shorter.unwrap_or(part).len());
            }
            if with_overhead(needed) > limit {
                return Err(self.full_error(with_overhead(needed), limit));
            }
        }
        Ok(())
    }

    /// Does a same-filled block take the place of another? That costs as much as before, and frees nothing.
    #[inline]
    fn replace_same(&self, hash: u64, key: &K, word: u64, len: usize) -> bool {
        let (mut shard, hash) = self.index().lock(hash);
        shard.replace_same(hash, key, word, len)
    }

    /// Puts a block that is in a pool into the index: [`put`](Self::put) for what is stored again and again.
    ///
    /// Where the key has a block, all that is done is to exchange the two, field by field. A block that is moved about on its way is written in pieces and read as a
    /// whole, and such a read waits until everything that was written before, the object in the pool included, is in the cache. A new key is looked up twice for that.
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

    /// Puts what was made of a block into the index.
    #[inline]
    pub(crate) fn put(&self, hash: u64, key: K, stored: Value) -> Result<(), Error> {
        let mut added = self.cost(&stored);
        if matches!(stored, Value::Large(_)) {
            // Before it is there: what goes for a long value must not be that value.
            self.charge_eviction_debt(added, 0);
            added = 0;
        }
        // Here, so that it is freed without the shard's lock if the key panics.
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
                // The key last: its drop is foreign, and may panic.
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

    /// The end of a store that failed: nothing older is left behind (B23).
    #[cold]
    pub(crate) fn store_failed(&self, hash: u64, key: K, error: Error) -> Error {
        self.counters().store_failed(&error);
        self.remove(hash, &key);
        error
    }
}
