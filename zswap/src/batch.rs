//! Many blocks at once: what a call costs besides its codec is shared.
//!
//! ```text
//!   store_many   a context and a reference to the current pool for all ─► each: compress, insert, put into the index
//!   load_many    a reference to the current pool ─► a group at a time: find and pin each, ask memory for it ─► decompress each
//! ```
//!
//! Each item has its own result, as if it had been alone (B35). A batch is not atomic: others may see a part of it. Why nothing is staged between
//! compressing and the index: docs/decisions/0021.

use std::hash::{BuildHasher, Hash};

use zpool_core::compress::Session;
use zpool_core::{ReadGuard, might_block, prefetch};
use zpool_manager::PoolRef;

use crate::error::{Error, ErrorKind};
use crate::loading::{Shape, Then};
use crate::object::pin;
use crate::same_filled;
use crate::shard::Found;
use crate::store::Store;
use crate::stored::Stored;
use crate::storing::keep;

/// Blocks that are pinned together: as many as have their first lines under way at a time.
const GROUP: usize = 8;

/// Lines of each object that are asked for ahead; for the rest the processor sees what comes.
const LINES: usize = 4;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores many blocks, as [`store`](Self::store) does each. Gives their results in order. Of several blocks under one key the last one counts.
    ///
    /// # Panics
    ///
    /// If a key's `Hash` or `Eq` does: then those before it are stored.
    ///
    /// # Concurrency
    ///
    /// As for [`store`](Self::store). All go to the pool that is current when the call begins.
    pub fn store_many<'b>(
        &self,
        items: impl IntoIterator<Item = (K, &'b [u8])>,
    ) -> Vec<Result<(), Error<K>>> {
        might_block("Store::store_many");
        let Some(pool) = self.manager().current() else {
            let refuse = |(key, _)| {
                let hash = self.hash(&key);
                Err(self.store_failed(hash, key, ErrorKind::NoPool))
            };
            return items.into_iter().map(refuse).collect();
        };
        let mut session = pool.codec().session();
        let store = |(key, block): (K, &[u8])| {
            let hash = self.hash(&key);
            match self.stored_in(&pool, &mut session, hash, block) {
                Ok(stored) => self.put(hash, key, stored),
                Err(kind) => Err(self.store_failed(hash, key, kind)),
            }
        };
        items.into_iter().map(store).collect()
    }

    /// Checks a block or value and puts it where it belongs. A value longer than a block is stored on its own.
    #[inline]
    fn stored_in(
        &self,
        pool: &PoolRef,
        session: &mut Session<'_>,
        hash: u64,
        block: &[u8],
    ) -> Result<Stored, ErrorKind> {
        self.check_len(block)?;
        if block.len() > self.block_size() {
            return self.large(hash, block);
        }
        self.admit(pool)?;
        if let Some(word) = same_filled::detect(block) {
            return Ok(Stored::Same { word, len: block.len() });
        }
        self.index().prefetch(hash);
        let coding = self.coding();
        if self.is_noise(block) {
            return keep(pool.clone(), block, None, coding);
        }
        let max_len = block.len() - coding.min_gain(block.len());
        let shorter = session.compress(block, max_len).map_err(ErrorKind::Codec)?;
        keep(pool.clone(), block, shorter, coding)
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Loads many blocks, each into the buffer at its place, as [`load`](Self::load) does. Gives their results in order.
    ///
    /// # Panics
    ///
    /// If there are not as many buffers as keys.
    pub fn load_many<B: AsMut<[u8]>>(
        &self,
        keys: &[K],
        buffers: &mut [B],
    ) -> Vec<Result<Option<usize>, Error<K>>> {
        assert_eq!(keys.len(), buffers.len(), "a buffer for each key");
        let mut results = Vec::with_capacity(keys.len());
        // Without a current pool nothing is stored in it.
        let Some(pool) = self.manager().current() else {
            results.extend(keys.iter().zip(buffers).map(|(key, buffer)| self.load(key, buffer.as_mut())));
            return results;
        };
        for (keys, buffers) in keys.chunks(GROUP).zip(buffers.chunks_mut(GROUP)) {
            // Pinned first, so that the beginnings of all are under way while the first are decoded.
            let hashes: [_; GROUP] = std::array::from_fn(|i| {
                let hash = self.hash(keys.get(i)?);
                self.index().prefetch(hash);
                Some(hash)
            });
            let pinned: [_; GROUP] = std::array::from_fn(|i| self.pin_in(&pool, keys.get(i)?, hashes[i]?));
            for ((key, buffer), pinned) in keys.iter().zip(buffers).zip(pinned) {
                let buffer = buffer.as_mut();
                results.push(match pinned {
                    Some((guard, shape, len)) => {
                        self.decode_pinned(&pool, guard, shape, len, buffer).map_err(|kind| {
                            self.counters().load_failed(&kind);
                            Error { key: key.clone(), kind }
                        })
                    }
                    None => self.load(key, buffer),
                });
            }
        }
        results
    }

    /// Pins the block of `key`, if it is one in `pool`; anything else, a failure included, is left to a load on its own.
    #[inline(always)]
    fn pin_in<'p>(&self, pool: &'p PoolRef, key: &K, hash: u64) -> Option<(ReadGuard<'p>, Shape, usize)> {
        let (mut shard, hash) = self.index().lock(hash);
        let at = shard.slot_of(hash, key)?;
        let Found::Block { handle, pool: its, len, object_len, raw, sum } = shard.found(at)? else {
            return None;
        };
        if !PoolRef::same(its, pool) {
            return None;
        }
        let guard = pin(pool, handle).ok()?;
        prefetch(&guard, LINES);
        shard.count_hit(at, Then::Keep);
        Some((guard, Shape { object_len, raw, sum }, len))
    }

    fn decode_pinned(
        &self,
        pool: &PoolRef,
        guard: ReadGuard<'_>,
        shape: Shape,
        len: usize,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, ErrorKind> {
        let given = buffer.len();
        let place = buffer.get_mut(..len).ok_or(ErrorKind::BufferTooSmall { needed: len, given })?;
        self.decode(pool, &guard, shape, place).map(|()| Some(len))
    }
}
