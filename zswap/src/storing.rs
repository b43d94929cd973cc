//! From a block to an entry in the index.
//!
//! ```text
//!   length ─► hash ─► current pool ─► limit ─► same-filled? ─► noise? ─► compress ─► insert ─► put into the index, in the older entry's place
//!                                                              └──── whatever fails: remove the older entry, tell why
//! ```
//!
//! A value longer than a block is cut up; its parts are stored one by one, and only then put into the index, as one entry. If one part fails, the others are
//! freed.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use zpool_core::might_block;
use zpool_manager::PoolRef;

use crate::checksum::checksum;
use crate::error::{Error, ErrorKind};
use crate::evict::cost;
use crate::incompressible;
use crate::object::{Object, insert};
use crate::same_filled;
use crate::shard::Put;
use crate::store::Store;
use crate::stored::{Block, Large, Stored};

/// How blocks are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coding {
    /// An object has to be shorter than its block by this part of it, or the block is kept raw.
    pub(crate) min_gain_percent: u8,
    /// Blocks that look incompressible are not compressed.
    pub(crate) skip_noise: bool,
    pub(crate) checksums: bool,
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores a copy of `block` under `key`, in the place of what was stored under it before.
    ///
    /// A block that repeats eight bytes costs no pool memory, and one that does not shrink is kept as it is. Where values longer than a block are
    /// [allowed](crate::StoreBuilder::max_value_len), they are stored whole or not at all.
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
    /// May block: allocators may ask for memory, a first store makes a compression context, and one at the limit may have to [evict](crate::AtLimit). A
    /// [`switch`](Self::switch) at the same time never makes it fail or wait.
    pub fn store(&self, key: K, block: &[u8]) -> Result<(), Error<K>> {
        might_block("Store::store");
        let timer = self.latencies().map(|latencies| latencies.store.timer());
        let outcome = self.store_untimed(key, block);
        drop(timer);
        outcome
    }

    #[inline]
    pub(crate) fn store_untimed(&self, key: K, block: &[u8]) -> Result<(), Error<K>> {
        let hash = self.hash(&key);
        match self.stored(hash, block) {
            Ok(Stored::Same { word, len }) if self.replace_same(hash, &key, word, len) => Ok(()),
            Ok(stored) => self.put(hash, key, stored),
            Err(kind) => Err(self.store_failed(hash, key, kind)),
        }
    }

    /// Checks a block or value and puts it where it belongs.
    fn stored(&self, hash: u64, block: &[u8]) -> Result<Stored, ErrorKind> {
        self.check_len(block)?;
        if block.len() > self.block_size() {
            return self.large(hash, block);
        }
        self.block(hash, block)
    }

    /// Puts a block where it belongs.
    #[inline]
    fn block(&self, hash: u64, block: &[u8]) -> Result<Stored, ErrorKind> {
        let word = same_filled::detect(block);
        if let Some(word) = word
            && self.limit().bytes().is_none()
        {
            return Ok(Stored::Same { word, len: block.len() });
        }
        let pool = self.manager().current().ok_or(ErrorKind::NoPool)?;
        // A same-filled block costs its place in the index, so it is subject to the limit as well.
        self.admit(&pool)?;
        match word {
            Some(word) => Ok(Stored::Same { word, len: block.len() }),
            None => self.compress_into(pool, hash, block),
        }
    }

    pub(crate) fn check_len(&self, block: &[u8]) -> Result<(), ErrorKind> {
        if block.is_empty() {
            return Err(ErrorKind::EmptyBlock);
        }
        if block.len() > self.max_value_len() {
            return Err(ErrorKind::BlockTooLong { len: block.len(), max: self.max_value_len() });
        }
        Ok(())
    }

    /// Stores the parts of a long value.
    pub(crate) fn large(&self, hash: u64, value: &[u8]) -> Result<Stored, ErrorKind> {
        self.could_fit(value)?;
        let mut parts = Vec::new();
        let count = value.len().div_ceil(self.block_size());
        parts.try_reserve_exact(count).map_err(|_| ErrorKind::IndexOutOfMemory)?;
        for part in value.chunks(self.block_size()) {
            // A switch or the limit in between is as for any other block.
            parts.push(self.block(hash, part)?);
        }
        // The one heap call of the store itself that aborts where there is no memory: `Arc` has no stable form that fails.
        Ok(Stored::Large(Arc::new(Large { parts: parts.into_boxed_slice(), len: value.len() })))
    }

    /// A value that is longer than the limit, and could not be kept even if it were alone, is refused before all others are evicted for it. To know that, it
    /// is compressed once more.
    fn could_fit(&self, value: &[u8]) -> Result<(), ErrorKind> {
        let Some(limit) = self.limit().bytes().filter(|&limit| value.len() > limit) else { return Ok(()) };
        let pool = self.manager().current().ok_or(ErrorKind::NoPool)?;
        let mut session = pool.codec().session();
        let mut needed = 0;
        for part in value.chunks(self.block_size()) {
            if same_filled::detect(part).is_none() {
                let shorter =
                    session.compress(part, self.coding().max_len(part.len())).map_err(ErrorKind::Codec)?;
                needed += shorter.unwrap_or(part).len();
            }
            if needed > limit {
                return Err(ErrorKind::Full { held: self.held_bytes(), limit });
            }
        }
        Ok(())
    }

    /// Compresses `block` and inserts the result into `pool`; as it is, if it does not get much shorter. The context's scratch is borrowed meanwhile, so
    /// nothing is copied twice.
    #[inline]
    fn compress_into(&self, pool: PoolRef, hash: u64, block: &[u8]) -> Result<Stored, ErrorKind> {
        let coding = self.coding();
        // Its place in the index is there when the codec is done.
        self.index().prefetch(hash);
        if self.is_noise(block) {
            return keep(pool, block, None, coding);
        }
        let max_len = coding.max_len(block.len());
        let outcome = pool.codec().compress(block, max_len, |shorter| {
            let object = shorter.unwrap_or(block);
            let sum = if coding.checksums { checksum(object, block.len()) } else { 0 };
            insert(&pool, object).map(|handle| (handle, shorter.is_none(), object.len(), sum))
        });
        let (handle, raw, object_len, sum) = outcome.map_err(ErrorKind::Codec)??;
        let object = Object::new(pool, handle);
        Ok(Stored::Block(Block { object, len: block.len(), object_len, raw, sum }))
    }

    /// Does a same-filled block take the place of another? That costs as much as before, and frees nothing.
    #[inline]
    fn replace_same(&self, hash: u64, key: &K, word: u64, len: usize) -> bool {
        let (mut shard, hash) = self.index().lock(hash);
        shard.replace_same(hash, key, word, len)
    }

    /// Is this a block to keep raw without asking the codec?
    #[inline]
    pub(crate) fn is_noise(&self, block: &[u8]) -> bool {
        let noise = self.coding().skip_noise && incompressible::looks_so(block);
        if noise {
            self.counters().noise_skipped();
        }
        noise
    }

    /// Puts what was made of a block into the index.
    #[inline]
    pub(crate) fn put(&self, hash: u64, key: K, stored: Stored) -> Result<(), Error<K>> {
        let added = cost(&stored);
        // Here, so that it is freed without the shard's lock if the key panics.
        let mut new = Some((key, stored));
        match self.index().put(hash, &mut new, |key| self.hash(key)) {
            Ok(Put { replaced, spare }) => {
                drop(spare);
                let replaced_cost = replaced.as_ref().map_or(0, |(_, stored)| cost(stored));
                self.discard(replaced);
                self.pay(added, replaced_cost);
                Ok(())
            }
            Err(_) => {
                let Some((key, stored)) = new else {
                    unreachable!("an entry that was not put in is still here")
                };
                self.free(stored);
                Err(self.store_failed(hash, key, ErrorKind::IndexOutOfMemory))
            }
        }
    }

    /// The end of a store that failed: nothing older is left behind (B23).
    #[cold]
    pub(crate) fn store_failed(&self, hash: u64, key: K, kind: ErrorKind) -> Error<K> {
        self.counters().store_failed(&kind);
        self.remove(hash, &key);
        Error { key, kind }
    }
}

impl Coding {
    /// Bytes that the object of a block of `len` bytes may have at most; a longer one is kept raw.
    #[inline]
    pub(crate) fn max_len(self, len: usize) -> usize {
        len - (len * usize::from(self.min_gain_percent) / 100).max(1)
    }
}

/// Inserts what a block was compressed to, or the block itself if that is `None`.
pub(crate) fn keep(
    pool: PoolRef,
    block: &[u8],
    shorter: Option<&[u8]>,
    coding: Coding,
) -> Result<Stored, ErrorKind> {
    let object = shorter.unwrap_or(block);
    let sum = if coding.checksums { checksum(object, block.len()) } else { 0 };
    let handle = insert(&pool, object)?;
    let object_len = object.len();
    let (raw, object) = (shorter.is_none(), Object::new(pool, handle));
    Ok(Stored::Block(Block { object, len: block.len(), object_len, raw, sum }))
}
