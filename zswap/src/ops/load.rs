//! From an entry in the index to its block.
//!
//! ```text
//!   under the shard's lock        without any lock
//!   find ─► reference the pool ─► room in the buffer? ─► decompress from the guard ─► [take: still the same entry? remove it] ─► unpin
//!           pin the object                                                                        └ no: again
//! ```
//!
//! The guard keeps the object's bytes, whatever becomes of the entry; the reference keeps the pool.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash};

use zpool_core::TryArc;
use zpool_core::compress::CodecError;
use zpool_core::{PoolError, prefetch};
use zpool_manager::Pool;

use crate::index::shard::ValueRef;
use crate::stats::latency::Latencies;
use crate::store::Store;
use crate::value::access::Access;
use crate::value::backoff::{Backoff, is_too_many_readers};
use crate::value::checksum::checksum;
use crate::value::error::{Error, ErrorKind};
use crate::value::pooled_object::{PinnedObject, pin};
use crate::value::same_filled;
use crate::value::{LargeValue, Value, ValueId};

/// Lines of an object that are asked for together, before the decoder wants one after the other.
const LINES: usize = 8;

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Copies what is stored under `key` to the front of `buffer` and gives its length; `None` when there is nothing. Counts as a use: it is evicted later.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BufferTooSmall`] with the length needed; or the pool or the compressor failed, or the checksum is wrong, and the front of the buffer is
    /// unspecified. What is stored stays in any case.
    ///
    /// If the allocator cannot count one more reader of this block, the load waits for others to
    /// finish. zsmalloc counts any number, as long as there is memory for it; any allocator counts
    /// at least 255. The load fails with
    /// [`PoolError::TooManyReaders`](crate::PoolError::TooManyReaders) if that takes longer than
    /// about half a second, and at once inside a [`NoBlock`](zpool_core::NoBlock) section.
    ///
    /// # Concurrency
    ///
    /// Holds no lock while it decompresses or waits. May block where the compressor needs a context
    /// to decompress and has none yet.
    pub fn load(&self, key: &K, buffer: &mut [u8]) -> Result<Option<usize>, Error<K>> {
        self.fetch(key, &mut { buffer }, Access::Load)
    }

    /// The same, into a vector of its own.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), but [`ErrorKind::BufferOutOfMemory`] where there is no memory for the vector.
    pub fn load_vec(&self, key: &K) -> Result<Option<Vec<u8>>, Error<K>> {
        self.fetch_vec(key, Access::Load)
    }

    /// Hands what is stored under `key` to `look`, in a buffer that the thread keeps for that; `None` when there is nothing. Counts as a use.
    ///
    /// `look` runs with no lock held and may use the store. The buffer holds on to the memory of the thread's longest value.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), but [`ErrorKind::BufferOutOfMemory`] where the buffer has to grow and there is no memory.
    pub fn load_with<R>(
        &self,
        key: &K,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error<K>> {
        let mut scratch = Scratch::take();
        let found = self.fetch(key, &mut scratch.0, Access::Load)?;
        Ok(found.map(|len| look(&scratch.0[..len])))
    }

    /// Like [`load`](Self::load), but does not count as a use: for those who look through everything.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn peek(&self, key: &K, buffer: &mut [u8]) -> Result<Option<usize>, Error<K>> {
        self.fetch(key, &mut { buffer }, Access::Peek)
    }

    /// The same, into a vector of its own.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), but [`ErrorKind::BufferOutOfMemory`] where there is no memory for the vector.
    pub fn peek_vec(&self, key: &K) -> Result<Option<Vec<u8>>, Error<K>> {
        self.fetch_vec(key, Access::Peek)
    }

    /// Like [`load`](Self::load), and removes what is stored once its bytes are in the buffer: of several that take the same, one gets it.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load): what is stored stays.
    ///
    /// # Concurrency
    ///
    /// As for [`load`](Self::load). If the block is replaced while it is decompressed, the newer one is taken.
    pub fn take(&self, key: &K, buffer: &mut [u8]) -> Result<Option<usize>, Error<K>> {
        self.fetch(key, &mut { buffer }, Access::Take)
    }

    /// The same, into a vector of its own.
    ///
    /// # Errors
    ///
    /// As for [`take`](Self::take), but [`ErrorKind::BufferOutOfMemory`] where there is no memory for the vector.
    pub fn take_vec(&self, key: &K) -> Result<Option<Vec<u8>>, Error<K>> {
        self.fetch_vec(key, Access::Take)
    }

    fn fetch_vec(&self, key: &K, access: Access) -> Result<Option<Vec<u8>>, Error<K>> {
        let mut block = Vec::new();
        let found = self.fetch(key, &mut block, access)?;
        Ok(found.map(|len| {
            // An earlier try may have found a longer one.
            block.truncate(len);
            block
        }))
    }

    #[inline]
    fn fetch(
        &self,
        key: &K,
        to: &mut impl Destination,
        access: Access,
    ) -> Result<Option<usize>, Error<K>> {
        match self.latencies() {
            None => self.fetch_untimed(key, to, access),
            Some(latencies) => self.fetch_timed(latencies, key, to, access),
        }
    }

    /// Out of the way of those who want no histogram: with a timer to drop, an outcome is copied once more, see [`put_block`](Self::put_block).
    #[inline(never)]
    fn fetch_timed(
        &self,
        latencies: &Latencies,
        key: &K,
        to: &mut impl Destination,
        access: Access,
    ) -> Result<Option<usize>, Error<K>> {
        let _timer = latencies.load.timer();
        self.fetch_untimed(key, to, access)
    }

    #[inline]
    fn fetch_untimed(
        &self,
        key: &K,
        to: &mut impl Destination,
        access: Access,
    ) -> Result<Option<usize>, Error<K>> {
        let hash = self.hash(key);
        let mut backoff = Backoff::default();
        loop {
            let kind = match self.fetch_once(hash, key, to, access, &mut backoff) {
                Ok(LoadOutcome::Loaded(len)) => break Ok(Some(len)),
                Ok(LoadOutcome::Missing) => break Ok(None),
                Ok(LoadOutcome::Replaced) => continue,
                Ok(LoadOutcome::TooManyReaders) if backoff.wait() => continue,
                Ok(LoadOutcome::TooManyReaders) => self.give_up_waiting(hash, access),
                Err(kind) => kind,
            };
            self.counters().load_failed(&kind);
            break Err(Error { key: key.clone(), kind });
        }
    }

    /// Counts the block that a look-up found and did not get, and returns why.
    #[cold]
    pub(crate) fn give_up_waiting(&self, hash: u64, access: Access) -> ErrorKind {
        self.index().lock(hash).0.stats.count_hit(access);
        ErrorKind::Pool(PoolError::TooManyReaders)
    }

    /// [`load`](Self::load) as a part of a batch, which keeps the histogram itself.
    pub(crate) fn load_untimed(
        &self,
        key: &K,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Error<K>> {
        self.fetch_untimed(key, &mut { buffer }, Access::Load)
    }

    #[inline]
    fn fetch_once(
        &self,
        hash: u64,
        key: &K,
        to: &mut impl Destination,
        access: Access,
        backoff: &mut Backoff,
    ) -> Result<LoadOutcome, ErrorKind> {
        let (mut shard, table_hash) = self.index().lock(hash);
        let is_sequential = shard.is_sequential(table_hash);
        let Some(found) = shard.look_up(table_hash, key, access) else {
            return Ok(LoadOutcome::Missing);
        };
        let seen = (access == Access::Take).then(|| found.id());
        match found {
            ValueRef::Pooled { handle, pool, len, object_len, raw, sum } => {
                let pool = pool.clone();
                let mut pinned = pin(&pool, handle);
                match &pinned {
                    Ok(object) => prefetch(object, LINES),
                    // Not counted yet: this look-up is repeated when readers are done.
                    Err(kind) if is_too_many_readers(kind) => {
                        shard.stats.uncount_hit(access);
                        drop(shard);
                        return Ok(LoadOutcome::TooManyReaders);
                    }
                    Err(_) => {}
                }
                drop(shard);
                if is_sequential {
                    self.index().prefetch_next_group(hash);
                }
                // Borrowed, not moved: a move reads with wide loads what narrow stores have just
                // written, see `put_block`.
                let object = match &mut pinned {
                    Ok(object) => object,
                    Err(kind) => return Err(kind.clone()),
                };
                let decoded = to.room(len).and_then(|block| {
                    self.decode(&pool, object, Shape { object_len, raw, sum }, block)
                });
                if decoded.is_ok() && seen.is_some() {
                    return Ok(self.finish(hash, key, len, seen, || self.unpin(object)));
                }
                self.unpin(object);
                decoded.map(|()| LoadOutcome::Loaded(len))
            }
            ValueRef::SameFilled { word, len } => {
                drop(shard);
                same_filled::fill(to.room(len)?, word);
                Ok(self.finish(hash, key, len, seen, || ()))
            }
            ValueRef::Large(large) => {
                let large = TryArc::clone(large);
                drop(shard);
                self.join(&large, to.room(large.len)?, backoff)?;
                let len = large.len;
                Ok(self.finish(hash, key, len, seen, || drop(large)))
            }
        }
    }

    /// The second half of a take: the bytes are in the buffer, so the entry may go, if it is still the one `seen`.
    ///
    /// `release` gives up what keeps the object. Until then no other entry can have its id. A guard
    /// holds no lock, so the shard's may be taken under it; but it goes before the object is freed,
    /// so that an allocator whose `free` waits for readers does not wait for this thread (B20).
    #[inline]
    fn finish(
        &self,
        hash: u64,
        key: &K,
        len: usize,
        seen: Option<ValueId>,
        release: impl FnOnce(),
    ) -> LoadOutcome {
        let Some(seen) = seen else { return LoadOutcome::Loaded(len) };
        let taken = self.index().edit(hash, |shard, hash| {
            let taken = shard.remove_if(hash, key, |found| found.id() == seen);
            shard.stats.taken += u64::from(taken.is_some());
            taken
        });
        release();
        if self.free_removed(taken) { LoadOutcome::Loaded(len) } else { LoadOutcome::Replaced }
    }
}

impl<K, S> Store<K, S> {
    /// Brings a block back from its object.
    #[inline]
    pub(crate) fn decode(
        &self,
        pool: &Pool,
        object: &[u8],
        shape: Shape,
        block: &mut [u8],
    ) -> Result<(), ErrorKind> {
        self.check_object(object, shape, block.len())?;
        if shape.raw {
            block.copy_from_slice(object);
            return Ok(());
        }
        pool.codec().decompress(object, block).map_err(ErrorKind::Codec)
    }

    /// Is `object` what was kept of a block of `len` bytes, as far as that can be told?
    #[inline]
    pub(crate) fn check_object(
        &self,
        object: &[u8],
        shape: Shape,
        len: usize,
    ) -> Result<(), ErrorKind> {
        let same = object.len() == shape.object_len
            && (!self.encode_options().checksums || checksum(object, len) == shape.sum);
        if same { Ok(()) } else { Err(ErrorKind::Codec(CodecError::Corrupt)) }
    }

    /// Unpins an object. A panic of the allocator is counted; the bytes that were read are good.
    #[inline]
    pub(crate) fn unpin(&self, object: &mut PinnedObject<'_>) {
        if !object.unpin() {
            self.counters().unpin_panicked();
        }
    }

    /// Brings a value of several blocks back.
    pub(crate) fn join(
        &self,
        large: &LargeValue,
        mut value: &mut [u8],
        backoff: &mut Backoff,
    ) -> Result<(), ErrorKind> {
        for part in &large.parts {
            let (block, rest) = value.split_at_mut(part.len());
            value = rest;
            match part {
                Value::SameFilled { word, .. } => same_filled::fill(block, *word),
                Value::Pooled(part) => {
                    let pool = part.object.pool();
                    let mut object = backoff.retry(|| pin(pool, part.object.handle()))?;
                    let shape = Shape { object_len: part.object_len, raw: part.raw, sum: part.sum };
                    let decoded = self.decode(pool, &object, shape, block);
                    self.unpin(&mut object);
                    decoded?;
                }
                Value::Large(large) => self.join(large, block, backoff)?,
            }
        }
        Ok(())
    }
}

/// What an object has to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) object_len: usize,
    pub(crate) raw: bool,
    pub(crate) sum: u32,
}

enum LoadOutcome {
    /// A block of that length.
    Loaded(usize),
    Missing,
    /// A block, but it was to be removed and is another one, or gone, by now.
    Replaced,
    /// A block that more readers hold than its allocator can count. Nothing was counted.
    TooManyReaders,
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
        if let Some(more) = len.checked_sub(self.len()) {
            self.try_reserve(more).map_err(|_| ErrorKind::BufferOutOfMemory { needed: len })?;
            self.resize(len, 0);
        }
        Ok(&mut self[..len])
    }
}

thread_local! {
    /// Where `load_with` puts what it loads. Empty while in use: a call inside of another one has a buffer of its own.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer, on loan.
struct Scratch(Vec<u8>);

impl Scratch {
    fn take() -> Scratch {
        // While the thread ends it may be gone.
        Scratch(SCRATCH.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // While the thread ends there is nowhere to put it.
        let _ = SCRATCH.try_with(|scratch| scratch.set(std::mem::take(&mut self.0)));
    }
}
