//! Batches: all costs of a call except those of the codec are shared.
//!
//! ```text
//!   store_many   a context and a reference to the current pool for all
//!                  └► each: compress, insert, put into the index
//!   load_many    a reference to the current pool
//!                  └► a group at a time: find and pin each, prefetch it ─► decompress each
//! ```
//!
//! Each item has its own result, as if it had been alone (B35). A batch is not atomic: other
//! threads may see a part of it. Why nothing is staged between compressing and the index:
//! docs/decisions/0021.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use zpool_core::compress::Session;
use zpool_core::internal::prefetch;
use zpool_core::might_block;
use zpool_manager::PoolRef;

use crate::batches::batch_results::{BatchResults, ResultsBuilder};
use crate::index::shard::ValueRef;
use crate::ops::encode::Placement;
use crate::stats::latency::Laps;
use crate::store::Store;
use crate::value::access::Access;
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PinnedObject, PooledObject, pin};
use crate::value::{PooledBlock, Value};

/// Blocks pinned together: as many as have their first cache lines in flight at a time.
const GROUP: usize = 8;

/// Cache lines of each object that are prefetched; the processor's own prefetcher fetches the rest.
const LINES: usize = 4;

/// Cache lines of each block to be stored that are prefetched. `--bin store` shows the effect in
/// `store_many_over_store`.
const BLOCK_LINES: usize = 12;

/// # Batches
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores many blocks, as [`store`](Self::store) does each. Returns their results in order. Of
    /// several blocks under one key, the last one counts.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// let results = store.store_many((0..64).map(|key| (key, format!("value {key}"))));
    /// assert!(results.iter().all(Result::is_ok));
    /// assert_eq!(store.len(), 64);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Each item has its own. If there is no memory for the list of results, it ends with
    /// [`Error::ResultsOutOfMemory`] for the first item without a place. Neither this item nor one
    /// after it is stored then, and what was stored under their keys is removed, as for every store
    /// that fails.
    ///
    /// # Panics
    ///
    /// If the iterator or a key's `Hash` or `Eq` panics. We take an item from the iterator and hash
    /// its key before we store the one before it. So one more item may be lost:
    ///
    /// - If taking an item or hashing its key panics, the item before it is not stored either.
    /// - If storing an item panics (`Eq`, or `Hash` while the index grows), the item after it was
    ///   already taken from the iterator, and is dropped.
    ///
    /// All items before those are stored. What was stored earlier under the keys of the lost ones
    /// is still there.
    ///
    /// # Concurrency
    ///
    /// As for [`store`](Self::store). Blocks go to the pool that is current when the call begins. A
    /// value longer than a block is stored as if alone, and so is each item if there is no pool
    /// then.
    pub fn store_many<B: AsRef<[u8]>>(
        &self,
        items: impl IntoIterator<Item = (K, B)>,
    ) -> BatchResults<()> {
        might_block("Store::store_many");
        let mut laps = Laps::new(self.latencies().map(|latencies| &latencies.store));
        // Without a pool, each item is stored on its own: not all items need a pool, and there may
        // be one by the next item.
        let pool = self.manager().current();
        let mut session = pool.as_ref().map(|pool| (pool, pool.codec().session()));
        // The next item is prefetched while the codec works on the one before it.
        let mut items = items.into_iter().map(|(key, block)| {
            let hash = self.hash(&key);
            self.forget_in_thrash_meter(hash);
            self.index().prefetch(hash);
            prefetch(block.as_ref(), BLOCK_LINES);
            (hash, key, block)
        });
        let mut results = ResultsBuilder::new(items.size_hint().0);
        let mut next = items.next();
        while let Some((hash, key, block)) = next {
            if !results.has_room() {
                let error = self.store_failed(hash, key, Error::ResultsOutOfMemory);
                items.for_each(|(hash, key, _)| drop(self.store_failed(hash, key, error.clone())));
                return results.finish_with(error);
            }
            if let Some((_, session)) = &mut session {
                // Another thread may wait for this context, and asking for an item may take long.
                session.yield_to_waiter();
            }
            next = items.next();
            results.push(match &mut session {
                Some((pool, session)) => self.store_in(pool, session, hash, key, block.as_ref()),
                None => self.store_untimed(key, block.as_ref()),
            });
            laps.lap();
        }
        results.finish()
    }

    /// Stores an item of a batch.
    #[inline(always)]
    fn store_in(
        &self,
        pool: &PoolRef,
        session: &mut Session<'_>,
        hash: u64,
        key: K,
        block: &[u8],
    ) -> Result<(), Error> {
        match self.stored_in(pool, session, hash, block) {
            Ok(Value::Pooled(block)) => self.put_block(hash, key, block),
            Ok(stored) => self.put(hash, key, stored),
            Err(error) => Err(self.store_failed(hash, key, error)),
        }
    }

    /// Checks and encodes a block or value. A value longer than a block is encoded on its own.
    #[inline]
    fn stored_in(
        &self,
        pool: &PoolRef,
        session: &mut Session<'_>,
        hash: u64,
        block: &[u8],
    ) -> Result<Value, Error> {
        self.check_len(block)?;
        if block.len() > self.block_size() {
            return self.large(hash, block);
        }
        Ok(match self.place(block, || Ok(pool))? {
            Placement::Pool(pool) => {
                let (handle, meta) = self.encode(pool, session, block)?;
                Value::Pooled(PooledBlock { object: PooledObject::new(pool.clone(), handle), meta })
            }
            Placement::SameFilled(word) => Value::SameFilled { word, len: block.len() },
        })
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Loads many blocks, each into the buffer at its place, as [`load`](Self::load) does. Returns
    /// their results in order.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, "one")?;
    /// store.store(3, "three")?;
    /// let mut buffers = [[0; 8]; 3];
    /// let results = store.load_many(&[1, 2, 3], &mut buffers);
    /// assert_eq!(results, [Ok(Some(3)), Ok(None), Ok(Some(5))]);
    /// assert_eq!(&buffers[2][..5], b"three");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Each item has its own. If there is no memory for the list of results, nothing is loaded, and
    /// the only result is [`Error::ResultsOutOfMemory`].
    ///
    /// # Panics
    ///
    /// If there are not as many buffers as keys.
    pub fn load_many<Q, B: AsMut<[u8]>>(
        &self,
        keys: &[Q],
        buffers: &mut [B],
    ) -> BatchResults<Option<usize>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq,
    {
        assert_eq!(keys.len(), buffers.len(), "a buffer for each key");
        let mut laps = Laps::new(self.latencies().map(|latencies| &latencies.load));
        let mut results = match BatchResults::filled(keys.len(), || Ok(None)) {
            Ok(results) => results,
            Err(refused) => return refused,
        };
        // Without a current pool nothing is stored in it.
        let pool = self.manager().current();
        let groups = keys
            .chunks(GROUP)
            .zip(buffers.chunks_mut(GROUP))
            .zip(results.list_mut().chunks_mut(GROUP));
        for ((keys, buffers), results) in groups {
            let done = match &pool {
                Some(pool) => self.load_pinned(pool, keys, buffers, results, &mut laps),
                None => [false; GROUP],
            };
            // No guard is held here: a thread that loads a long value while another removes it
            // frees its objects (B20).
            for (((key, buffer), result), done) in keys.iter().zip(buffers).zip(results).zip(done) {
                if !done {
                    *result = self.load_untimed(key, buffer.as_mut());
                    laps.lap();
                }
            }
        }
        results
    }

    /// Loads those of a group that are blocks in `pool`. Returns which of them it loaded.
    #[inline]
    fn load_pinned<Q, B: AsMut<[u8]>>(
        &self,
        pool: &PoolRef,
        keys: &[Q],
        buffers: &mut [B],
        results: &mut [Result<Option<usize>, Error>],
        laps: &mut Laps<'_>,
    ) -> [bool; GROUP]
    where
        K: Borrow<Q>,
        Q: Hash + Eq,
    {
        // Pinned first, so that the beginnings of all are under way while the first are decoded.
        let hashes: [_; GROUP] = std::array::from_fn(|i| {
            let hash = self.hash(keys.get(i)?);
            self.index().prefetch(hash);
            Some(hash)
        });
        let pinned: [_; GROUP] =
            std::array::from_fn(|i| self.pin_in(pool, keys.get(i)?, hashes[i]?));
        let mut done = [false; GROUP];
        for (i, pinned) in pinned.into_iter().enumerate() {
            let Some((mut object, meta)) = pinned else { continue };
            let loaded = self.decode_pinned(pool, &object, meta, buffers[i].as_mut());
            self.unpin(&mut object);
            results[i] = loaded.inspect_err(|error| self.counters().load_failed(error));
            done[i] = true;
            laps.lap();
        }
        done
    }

    /// Pins the block of `key` if it is in `pool`. Anything else, including a failure, is left to a
    /// separate load.
    #[inline(always)]
    fn pin_in<'p, Q>(
        &self,
        pool: &'p PoolRef,
        key: &Q,
        hash: u64,
    ) -> Option<(PinnedObject<'p>, ObjectMeta)>
    where
        K: Borrow<Q>,
        Q: Eq,
    {
        let (full_hash, (mut shard, hash)) = (hash, self.index().lock(hash));
        let at = shard.bucket_of(hash, key)?;
        let ValueRef::Pooled { handle, pool: its, meta } = shard.found(at)? else { return None };
        if !PoolRef::same(its, pool) {
            return None;
        }
        let object = pin(pool, handle).ok()?;
        prefetch(&object, LINES);
        if let Some(meter) = self.index().meter() {
            meter.note_lookup(full_hash);
        }
        shard.count_hit(at, Access::Load);
        Some((object, meta))
    }

    fn decode_pinned(
        &self,
        pool: &PoolRef,
        object: &[u8],
        meta: ObjectMeta,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        let (given, len) = (buffer.len(), meta.block_len);
        let block = buffer.get_mut(..len).ok_or(Error::BufferTooSmall { needed: len, given })?;
        self.decode(pool, object, meta, block).map(|()| Some(len))
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::hash::RandomState;
    use std::sync::Arc;

    use zpool_lz4::Lz4Driver;
    use zpool_manager::{PoolManager, Registry};
    use zpool_zsmalloc::ZsmallocDriver;

    use super::*;
    use crate::limit::Limit;
    use crate::limit::policy::{AtLimit, Eviction};
    use crate::stats::StoreStats;
    use crate::store::settings::{DEFAULT_BLOCK_SIZE, EncodeOptions, StoreSettings};

    /// Returns a store in its state before its first pool is made. No builder returns one.
    fn without_pool(limit: Option<usize>, hasher: &RandomState) -> Store<u64> {
        let registry = Registry::new();
        registry.register_allocator(Arc::new(ZsmallocDriver)).unwrap();
        registry.register_compressor(Arc::new(Lz4Driver)).unwrap();
        let manager = PoolManager::builder(Arc::new(registry)).build_idle().unwrap();
        let settings = StoreSettings {
            block_size: DEFAULT_BLOCK_SIZE,
            max_value_len: 4 * DEFAULT_BLOCK_SIZE,
            encode_options: EncodeOptions {
                min_gain_percent: 0,
                skip_incompressible: true,
                checksums: false,
            },
            eviction: Eviction {
                at_limit: AtLimit::Refuse,
                keep_compressible: false,
                listener: None,
                deciding: None,
                advisor: None,
            },
            wipe_on_free: false,
        };
        Store::new(manager, settings, Limit::new(limit, 90), true, hasher.clone())
    }

    /// Returns a block of every kind, including one that fails.
    fn blocks() -> Vec<(u64, Vec<u8>)> {
        let text = b"a block that is not the same all over".to_vec();
        let longer = [vec![7; 4096], text.clone()].concat();
        vec![
            (0, vec![7; 100]),
            (1, text),
            (2, vec![7; 5 * 4096]),
            (3, vec![9; 8192]),
            (4, longer),
            (5, vec![1]),
        ]
    }

    /// A store without a pool removes the older block, which does not return when there is a pool
    /// (B24).
    #[test]
    fn b24_store_without_pool_removes_older_block() {
        let store = without_pool(None, &RandomState::new());
        let (old, newer) = ([7; 4096], b"a block that needs a pool".as_slice());
        let spec = |text: &str| text.parse().unwrap();
        (0..6).for_each(|key| store.store(key, old).unwrap());
        assert_eq!(store.store(0, newer), Err(Error::NoPool));
        assert_eq!(
            store.store_many([(1, newer), (2, newer)]),
            [Err(Error::NoPool), Err(Error::NoPool)]
        );
        // A pool that cannot be made changes nothing.
        store.switch(&spec("zsmalloc(chain=0)+lz4")).unwrap_err();
        store.switch(&spec("zsmalloc+zip")).unwrap_err();
        assert_eq!(store.store(3, newer), Err(Error::NoPool));
        assert_eq!((store.len(), store.stats().rejected.no_pool), (2, 4));
        store.switch(&spec("zsmalloc+lz4")).unwrap();
        for key in 0..6 {
            assert_eq!(store.load_vec(&key).unwrap(), (key > 3).then(|| old.to_vec()), "key {key}");
            store.store(key, newer).unwrap();
            assert_eq!(store.take_vec(&key).unwrap().as_deref(), Some(newer));
        }
        let stats = store.stats();
        assert_eq!((stats.entries, stats.current.objects, stats.invalidated), (0, 0, 4));
    }

    #[test]
    fn without_a_pool_a_batch_does_what_single_calls_do() {
        for limit in [None, Some(1 << 30)] {
            let hasher = RandomState::new();
            let (alone, batch) = (without_pool(limit, &hasher), without_pool(limit, &hasher));
            let blocks = blocks();
            let one_by_one: Vec<_> =
                blocks.iter().map(|(key, block)| alone.store(*key, block)).collect();
            let at_once =
                batch.store_many(blocks.iter().map(|(key, block)| (*key, block.as_slice())));
            assert_eq!(one_by_one, at_once);
            let stored: Vec<u64> = (0..6).filter(|key| batch.contains(key)).collect();
            assert_eq!(stored, if limit.is_none() { vec![0, 3, 5] } else { vec![] });
            let (alone, at_once) = (alone.stats(), batch.stats());
            let timed = |stats: &StoreStats| stats.latencies.map(|latencies| latencies.store.calls);
            assert_eq!((timed(&alone), timed(&at_once)), (Some(6), Some(6)));
            // Each index has a seed of its own, so its tables are not equally long.
            let plain = |stats| StoreStats { latencies: None, index_bytes: 0, ..stats };
            assert_eq!(plain(alone), plain(at_once));
            let keys: Vec<u64> = (0..6).collect();
            let loaded = batch.load_many(&keys, &mut vec![[0; 8192]; 6]);
            for ((key, block), result) in blocks.iter().zip(loaded) {
                assert_eq!(result.unwrap(), stored.contains(key).then_some(block.len()));
            }
            assert_eq!(batch.stats().latencies.map(|latencies| latencies.load.calls), Some(6));
        }
    }
}
