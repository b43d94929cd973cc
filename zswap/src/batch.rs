//! Many blocks at once: what a call costs besides its codec is shared by a group of blocks.
//!
//! ```text
//!   store_many   a context for all ─► compress each into a bump arena ─► insert each ─► index: a lock a shard ─► free what was replaced
//!   load_many    a reference to the current pool ─► find and pin each ─► ask memory for the beginning of each ─► decompress each
//! ```
//!
//! Each item has its own result, as if it had been alone (B35). A batch is not atomic: others may see a part of it.

use std::hash::{BuildHasher, Hash};

use bumpalo::Bump;
use zpool_core::compress::Session;
use zpool_core::{ReadGuard, might_block};
use zpool_manager::PoolRef;

use crate::error::{Error, ErrorKind};
use crate::evict::cost;
use crate::incompressible;
use crate::index::New;
use crate::loading::{Shape, Then};
use crate::object::pin;
use crate::same_filled;
use crate::shard::Found;
use crate::store::Store;
use crate::stored::Stored;
use crate::storing::keep;

/// Blocks that are worked on together: as many as have what they were compressed to in the first cache at a time.
const GROUP: usize = 16;

/// Blocks that are pinned together: as many as have their first lines under way at a time.
const PINNED: usize = 16;

/// Lines of each object that are asked for ahead; for the rest the processor sees what comes.
const LINES: usize = 4;
const LINE: usize = 64;

/// An arena that has grown beyond this is not kept.
const MAX_ARENA: usize = 1 << 20;

/// What a block was compressed to, before it is in a pool.
enum Staged<'a> {
    Same(u64),
    /// Shorter, in the arena.
    Shorter(&'a [u8]),
    Raw,
    /// Longer than a block: stored on its own.
    Large,
    Failed(Box<ErrorKind>),
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores many blocks, as [`store`](Self::store) does each. Gives their results in order. Of several blocks under one key the last one counts.
    ///
    /// # Panics
    ///
    /// If a key's `Hash` or `Eq` does: then some are stored, and the others' keys may still have what was stored before.
    ///
    /// # Concurrency
    ///
    /// As for [`store`](Self::store); at the limit a batch counts as one store in flight for each block of its group of 16.
    pub fn store_many<'b>(
        &self,
        items: impl IntoIterator<Item = (K, &'b [u8])>,
    ) -> Vec<Result<(), Error<K>>> {
        might_block("Store::store_many");
        let mut items = items.into_iter();
        let mut results = Vec::with_capacity(items.size_hint().0);
        let Some(pool) = self.manager().current() else {
            let refuse = |(key, _)| {
                let hash = self.hash(&key);
                Err(self.store_failed(hash, key, ErrorKind::NoPool))
            };
            return items.map(refuse).collect();
        };
        let mut session = pool.codec().session();
        let mut arena = self.arenas().take().unwrap_or_default();
        let mut group = Vec::with_capacity(GROUP);
        loop {
            group.extend(items.by_ref().take(GROUP));
            if group.is_empty() {
                break;
            }
            self.store_group(&pool, &mut session, &mut group, &arena, &mut results);
            arena.reset();
        }
        if arena.allocated_bytes() <= MAX_ARENA {
            // One too many is dropped.
            let _ = self.arenas().put(arena);
        }
        results
    }

    fn store_group(
        &self,
        pool: &PoolRef,
        session: &mut Session<'_>,
        group: &mut Vec<(K, &[u8])>,
        arena: &Bump,
        results: &mut Vec<Result<(), Error<K>>>,
    ) {
        let staged: Vec<Staged<'_>> =
            group.iter().map(|(_, block)| self.stage(session, block, arena)).collect();
        let (first, mut news) = (results.len(), Vec::with_capacity(group.len()));
        for ((key, block), staged) in group.drain(..).zip(staged) {
            let hash = self.hash(&key);
            match self.insert_staged(pool, block, staged) {
                Ok(stored) => {
                    news.push((results.len(), cost(&stored), New { hash, item: Some((key, stored)) }))
                }
                Err(kind) => {
                    // Not before those of the same key that come before it.
                    self.put_group(&mut news, results, first);
                    results.push(Err(self.store_failed(hash, key, kind)));
                    continue;
                }
            }
            results.push(Ok(()));
        }
        self.put_group(&mut news, results, first);
    }

    /// Compresses a block into the arena.
    fn stage<'a>(&self, session: &mut Session<'_>, block: &[u8], arena: &'a Bump) -> Staged<'a> {
        if let Err(kind) = self.check_len(block) {
            return Staged::Failed(Box::new(kind));
        }
        if block.len() > self.block_size() {
            return Staged::Large;
        }
        if let Some(word) = same_filled::detect(block) {
            return Staged::Same(word);
        }
        if self.coding().skip_noise && incompressible::looks_so(block) {
            self.counters().noise_skipped();
            return Staged::Raw;
        }
        match session.compress(block, block.len() - self.coding().min_gain(block.len())) {
            Ok(Some(shorter)) => match arena.try_alloc_slice_copy(shorter) {
                Ok(copy) => Staged::Shorter(copy),
                Err(_) => Staged::Failed(Box::new(ErrorKind::IndexOutOfMemory)),
            },
            Ok(None) => Staged::Raw,
            Err(error) => Staged::Failed(Box::new(ErrorKind::Codec(error))),
        }
    }

    fn insert_staged(&self, pool: &PoolRef, block: &[u8], staged: Staged<'_>) -> Result<Stored, ErrorKind> {
        let shorter = match staged {
            Staged::Failed(kind) => return Err(*kind),
            Staged::Large => return self.large(block),
            Staged::Same(word) => {
                self.admit(pool)?;
                return Ok(Stored::Same { word, len: block.len() });
            }
            Staged::Shorter(shorter) => Some(shorter),
            Staged::Raw => None,
        };
        self.admit(pool)?;
        keep(pool.clone(), block, shorter, self.coding())
    }

    /// Puts what has gathered into the index.
    fn put_group(
        &self,
        news: &mut Vec<(usize, usize, New<K>)>,
        results: &mut [Result<(), Error<K>>],
        first: usize,
    ) {
        debug_assert!(news.iter().all(|(at, ..)| (first..results.len()).contains(at)));
        let (places, mut items): (Vec<(usize, usize)>, Vec<New<K>>) =
            news.drain(..).map(|(at, cost, new)| ((at, cost), new)).unzip();
        let (mut added, mut freed, mut failed) = (0, 0, Vec::new());
        self.index().put_all(
            &mut items,
            |key| self.hash(key),
            |at, put| match put {
                Ok(put) => {
                    added += places[at].1;
                    freed += put.replaced.as_ref().map_or(0, |(_, stored)| cost(stored));
                    self.discard(put.replaced);
                }
                Err(_) => failed.push(at),
            },
        );
        for at in failed {
            let New { hash, item } = &mut items[at];
            if let Some((key, stored)) = item.take() {
                self.free(stored);
                results[places[at].0] = Err(self.store_failed(*hash, key, ErrorKind::IndexOutOfMemory));
            }
        }
        self.pay(added, freed);
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
        for (keys, buffers) in keys.chunks(PINNED).zip(buffers.chunks_mut(PINNED)) {
            let pinned: [_; PINNED] = std::array::from_fn(|i| self.pin_in(&pool, keys.get(i)?));
            // Read now, so that all are under way at once, and the decoder finds them.
            let lines =
                pinned.iter().flatten().flat_map(|(guard, ..)| guard.iter().step_by(LINE).take(LINES));
            let begun = lines.fold(0, |sum, byte| sum ^ byte);
            std::hint::black_box(begun);
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
    #[inline]
    fn pin_in<'p>(&self, pool: &'p PoolRef, key: &K) -> Option<(ReadGuard<'p>, Shape, usize)> {
        let (mut shard, hash) = self.index().lock(self.hash(key));
        let at = shard.slot_of(hash, key)?;
        let Found::Block { handle, pool: its, len, object_len, raw, sum } = shard.found(at)? else {
            return None;
        };
        if !PoolRef::same(its, pool) {
            return None;
        }
        let guard = pin(pool, handle).ok()?;
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
