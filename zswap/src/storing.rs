//! From a block to an entry in the index.
//!
//! ```text
//!   length ─► hash ─► same-filled? ─► limit ─► current pool ─► compress ─► insert ─► put into the index, in the older entry's place
//!                                                              └──── whatever fails: remove the older entry, tell why
//! ```

use std::hash::{BuildHasher, Hash};

use zpool_core::might_block;
use zpool_manager::PoolRef;

use crate::entry::Entry;
use crate::error::{Error, ErrorKind};
use crate::object::{Object, insert};
use crate::same_filled;
use crate::store::Store;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores a copy of `block` under `key`, in the place of the block that was stored under it before.
    ///
    /// A block that repeats eight bytes costs no pool memory, and one that does not shrink is kept as it is.
    ///
    /// # Errors
    ///
    /// [`Error`]. No block is stored under `key` then, whatever the reason: an older one is removed, since stale data is worse than none.
    ///
    /// # Panics
    ///
    /// If the key's `Hash` or `Eq` does. Panics of allocators and compressors are contained and become errors.
    ///
    /// # Concurrency
    ///
    /// May block: allocators may ask for memory, and a first store makes a compression context. A [`switch`](Self::switch) at the same time never
    /// makes it fail or wait.
    pub fn store(&self, key: K, block: &[u8]) -> Result<(), Error<K>> {
        might_block("Store::store");
        let hash = self.hash(&key);
        let entry = match self.entry_of(block) {
            Ok(entry) => entry,
            Err(kind) => return Err(self.store_failed(hash, key, kind)),
        };
        match self.index().put(hash, key, entry, |key| self.hash(key)) {
            Ok(replaced) => {
                self.discard(replaced);
                Ok(())
            }
            Err((key, entry)) => {
                drop(entry);
                Err(self.store_failed(hash, key, ErrorKind::IndexOutOfMemory))
            }
        }
    }

    /// Checks a block and puts it where it belongs.
    fn entry_of(&self, block: &[u8]) -> Result<Entry, ErrorKind> {
        if block.is_empty() {
            return Err(ErrorKind::EmptyBlock);
        }
        if block.len() > self.block_size() {
            return Err(ErrorKind::BlockTooLong { len: block.len(), max: self.block_size() });
        }
        let word = same_filled::detect(block);
        let pool = self.manager().current().ok_or(ErrorKind::NoPool)?;
        if let Some(limit) = self.limit() {
            // A same-filled block costs its place in the index, so it is subject to the limit as well.
            limit.admit(&pool, self.manager(), self.index().bytes())?;
        }
        match word {
            Some(word) => Ok(Entry::Same { word, len: len_of(block) }),
            None => compress_into(pool, block),
        }
    }

    /// The end of a store that failed: nothing older is left behind (B23).
    #[cold]
    fn store_failed(&self, hash: u64, key: K, kind: ErrorKind) -> Error<K> {
        self.counters().store_failed(&kind);
        self.remove(hash, &key);
        Error { key, kind }
    }
}

/// Compresses `block` and inserts the result into `pool`; as it is, if it does not get shorter. The context's scratch is borrowed meanwhile, so nothing
/// is copied twice.
fn compress_into(pool: PoolRef, block: &[u8]) -> Result<Entry, ErrorKind> {
    let outcome = pool.codec().compress(block, block.len() - 1, |shorter| {
        let object_len = shorter.and_then(|bytes| u16::try_from(bytes.len()).ok());
        insert(&pool, shorter.unwrap_or(block)).map(|handle| (handle, object_len))
    });
    let (handle, object_len) = outcome.map_err(ErrorKind::Codec)??;
    let object = Object::new(pool, handle);
    Ok(match object_len {
        Some(object_len) => Entry::Compressed { object, len: len_of(block), object_len },
        None => Entry::Raw { object, len: len_of(block) },
    })
}

fn len_of(block: &[u8]) -> u32 {
    const { assert!(crate::MAX_BLOCK_SIZE <= u32::MAX as usize) };
    block.len() as u32
}
