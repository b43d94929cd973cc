//! From an entry in the index to its block.
//!
//! ```text
//!   under the shard's lock        without any lock
//!   find ─► reference the pool ─► room in the buffer? ─► decompress from the guard ─► [take: still the same entry? remove it] ─► unpin
//!           pin the object                                                                        └ no: again
//! ```
//!
//! The guard keeps the object's bytes, whatever becomes of the entry; the reference keeps the pool.

use std::hash::{BuildHasher, Hash};

use zpool_core::compress::CodecError;

use crate::entry::{Entry, EntryId};
use crate::error::{Error, ErrorKind};
use crate::same_filled;
use crate::store::Store;

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Copies the block of `key` to the front of `buffer` and gives its length; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BufferTooSmall`] with the length needed; or the pool or the compressor failed, and the front of the buffer is unspecified. The
    /// block stays stored in any case. [`PoolError::TooManyReaders`](crate::PoolError::TooManyReaders) if more threads than the allocator can count
    /// (255 at least) load this block at the same moment.
    ///
    /// # Concurrency
    ///
    /// Holds no lock while it decompresses. May block where the compressor needs a context to decompress and has none yet.
    pub fn load(&self, key: &K, buffer: &mut [u8]) -> Result<Option<usize>, Error<K>> {
        self.fetch(key, &mut { buffer }, Then::Keep)
    }

    /// The same, into a vector of its own.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn load_vec(&self, key: &K) -> Result<Option<Vec<u8>>, Error<K>> {
        let mut block = Vec::new();
        let found = self.fetch(key, &mut block, Then::Keep)?;
        Ok(found.map(|_| block))
    }

    /// Like [`load`](Self::load), and removes the block once its bytes are in the buffer: of several that take the same block, one gets it.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load): the block stays stored.
    ///
    /// # Concurrency
    ///
    /// As for [`load`](Self::load). If the block is replaced while it is decompressed, the newer one is taken.
    pub fn take(&self, key: &K, buffer: &mut [u8]) -> Result<Option<usize>, Error<K>> {
        self.fetch(key, &mut { buffer }, Then::Remove)
    }

    /// The same, into a vector of its own.
    ///
    /// # Errors
    ///
    /// As for [`take`](Self::take).
    pub fn take_vec(&self, key: &K) -> Result<Option<Vec<u8>>, Error<K>> {
        let mut block = Vec::new();
        let found = self.fetch(key, &mut block, Then::Remove)?;
        Ok(found.map(|_| block))
    }

    fn fetch(&self, key: &K, to: &mut impl Destination, then: Then) -> Result<Option<usize>, Error<K>> {
        let hash = self.hash(key);
        loop {
            match self.fetch_once(hash, key, to, then) {
                Ok(Fetched::Block(len)) => return Ok(Some(len)),
                Ok(Fetched::Nothing) => return Ok(None),
                Ok(Fetched::Replaced) => {}
                Err(kind) => {
                    self.counters().load_failed(&kind);
                    return Err(Error { key: key.clone(), kind });
                }
            }
        }
    }

    #[inline]
    fn fetch_once(
        &self,
        hash: u64,
        key: &K,
        to: &mut impl Destination,
        then: Then,
    ) -> Result<Fetched, ErrorKind> {
        let mut shard = self.index().lock(hash);
        let Some(entry) = shard.look_up(hash, key, then) else { return Ok(Fetched::Nothing) };
        let len = entry.len();
        let seen = (then == Then::Remove).then(|| entry.id());
        let (object, raw) = match entry {
            Entry::Same { word, .. } => {
                let word = *word;
                drop(shard);
                same_filled::fill(to.room(len)?, word);
                return Ok(self.finish(hash, key, len, seen));
            }
            Entry::Compressed { object, .. } => (object, false),
            Entry::Raw { object, .. } => (object, true),
        };
        let object_len = entry.object_len();
        let pool = object.pool().clone();
        let guard = object.pin(&pool);
        drop(shard);
        let guard = guard?;
        let block = to.room(len)?;
        if guard.len() != object_len {
            return Err(ErrorKind::Codec(CodecError::Corrupt));
        }
        if raw {
            block.copy_from_slice(&guard);
        } else {
            pool.codec().decompress(&guard, block).map_err(ErrorKind::Codec)?;
        }
        // The guard goes after this: while it holds the object, no other entry can have its id. It holds no lock, so the order of locks is no matter (B20).
        Ok(self.finish(hash, key, len, seen))
    }

    /// The second half of a take: the bytes are in the buffer, so the entry may go, if it is still the one `seen`.
    #[inline]
    fn finish(&self, hash: u64, key: &K, len: usize, seen: Option<EntryId>) -> Fetched {
        let Some(seen) = seen else { return Fetched::Block(len) };
        let mut shard = self.index().lock(hash);
        let taken = shard.remove_if(hash, key, |entry| entry.id() == seen);
        shard.tally.taken += u64::from(taken.is_some());
        drop(shard);
        if self.discard(taken) { Fetched::Block(len) } else { Fetched::Replaced }
    }
}

/// What becomes of the entry once its block is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Remove,
}

enum Fetched {
    /// A block of that length.
    Block(usize),
    Nothing,
    /// A block, but it was to be removed and is another one, or gone, by now.
    Replaced,
}

/// Where a block is copied to.
trait Destination {
    /// The place for a block of `len` bytes.
    fn room(&mut self, len: usize) -> Result<&mut [u8], ErrorKind>;
}

impl Destination for &mut [u8] {
    #[inline]
    fn room(&mut self, len: usize) -> Result<&mut [u8], ErrorKind> {
        let given = (**self).len();
        self.get_mut(..len).ok_or(ErrorKind::BufferTooSmall { needed: len, given })
    }
}

impl Destination for Vec<u8> {
    #[inline]
    fn room(&mut self, len: usize) -> Result<&mut [u8], ErrorKind> {
        self.resize(len, 0);
        Ok(self)
    }
}
