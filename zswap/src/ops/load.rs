//! Loads: from an entry in the index to its block.
//!
//! ```text
//!   under the shard's lock        without any lock
//!   find ─► reference the pool ─► room in the buffer? ─► decompress ─► [take: remove] ─► unpin
//!           pin the object                                   └ entry replaced meanwhile: again
//! ```

use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{BuildHasher, Hash};

use crate::ops::pinned::PinnedValue;
use crate::stats::latency::Latencies;
use crate::store::Store;
use crate::value::ValueId;
use crate::value::access::Access;
use crate::value::backoff::Backoff;
use crate::value::destination::Destination;
use crate::value::error::Error;

/// # Load, peek, take
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Copies what is stored under `key` to the front of `buffer` and returns its length, or `None`
    /// if there is nothing. Counts as a use, which delays eviction.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().block_size(4096).build()?;
    /// store.store(7, b"a page of memory ".repeat(240))?;
    /// let mut page = [0; 4096];
    /// assert_eq!(store.load(&7, &mut page)?, Some(4080));
    /// assert_eq!(store.load(&8, &mut page)?, None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What is stored stays, whatever the error.
    ///
    /// - [`Error::BufferTooSmall`], with the length needed.
    /// - [`Error::Pool`], [`Error::AllocatorPanicked`], [`Error::Codec`]: the pool or the
    ///   compressor failed, or the checksum is wrong. The front of the buffer is unspecified.
    /// - [`Error::TierFailed`]: the block is in the tier, which could not be read.
    /// - [`Error::BufferOutOfMemory`]: the block is in the tier, and there is no memory to read its
    ///   record.
    /// - [`Error::WouldBlock`]: the block is in the tier, and this thread is in a
    ///   [`NoBlock`](crate::plugin::NoBlock) section.
    ///
    /// If the allocator cannot count one more reader of this block, the load waits for others to
    /// finish. While the heap has memory, every allocator counts at least 255 readers, zbud 65 535,
    /// and zsmalloc any number. The load fails with
    /// [`PoolError::TooManyReaders`](crate::plugin::PoolError::TooManyReaders) if that takes longer
    /// than about 0.5 s, and at once inside a [`NoBlock`](crate::plugin::NoBlock) section.
    ///
    /// # Concurrency
    ///
    /// Holds no lock while it decompresses or waits. May block to create a decompression context,
    /// or to read from the tier.
    #[doc(alias = "get")]
    pub fn load<Q>(&self, key: &Q, buffer: &mut [u8]) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fetch(key, &mut { buffer }, Access::Load)
    }

    /// Loads what is stored under `key` into a new vector; see [`load`](Self::load).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<String>::builder().build()?;
    /// store.store("name".to_owned(), "a value")?;
    /// // A `&str` finds a `String` key, so a look-up does not allocate one.
    /// assert_eq!(store.load_vec("name")?.as_deref(), Some(b"a value".as_slice()));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), except that [`Error::BufferOutOfMemory`] replaces
    /// `BufferTooSmall`.
    #[doc(alias = "get")]
    pub fn load_vec<Q>(&self, key: &Q) -> Result<Option<Vec<u8>>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fetch_vec(key, Access::Load)
    }

    /// Lends what is stored under `key` to `look`, in a buffer that the thread keeps for that.
    /// Returns `None` if there is nothing. Counts as a use.
    ///
    /// `look` runs with no lock held and may use the store. The buffer keeps the memory of the
    /// thread's longest value.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "one two three")?;
    /// let words = store.load_with(&7, |bytes| bytes.split(|byte| *byte == b' ').count())?;
    /// assert_eq!(words, Some(3));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), except that [`Error::BufferOutOfMemory`] replaces
    /// `BufferTooSmall`.
    #[doc(alias = "get")]
    pub fn load_with<Q, R>(
        &self,
        key: &Q,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut scratch = Scratch::take();
        let found = self.fetch(key, &mut scratch.0, Access::Load)?;
        Ok(found.map(|len| look(&scratch.0[..len])))
    }

    /// Copies what is stored under `key` into `buffer` without counting a use: for a scan of the
    /// store, which must not keep everything warm. See [`load`](Self::load).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(store.peek(&7, &mut buffer)?, Some(7));
    /// assert_eq!(store.stats().loads_hit, 0);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn peek<Q>(&self, key: &Q, buffer: &mut [u8]) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fetch(key, &mut { buffer }, Access::Peek)
    }

    /// Peeks at what is stored under `key`, in a new vector; see [`peek`](Self::peek).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for key in 0..100 {
    ///     store.store(key, format!("value {key}"))?;
    /// }
    /// // A scan for a backup does not change what is evicted next.
    /// let mut bytes = 0;
    /// for key in store.keys() {
    ///     bytes += store.peek_vec(&key)?.map_or(0, |value| value.len());
    /// }
    /// assert_eq!(bytes, 790);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_vec`](Self::load_vec).
    pub fn peek_vec<Q>(&self, key: &Q) -> Result<Option<Vec<u8>>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fetch_vec(key, Access::Peek)
    }

    /// Loads what is stored under `key`, and removes it once its bytes are in `buffer`. If several
    /// threads take the same value, one of them gets it.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(store.take(&7, &mut buffer)?, Some(7));
    /// assert_eq!(&buffer[..7], b"a value");
    /// assert_eq!(store.take(&7, &mut buffer)?, None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load): what is stored stays.
    ///
    /// # Concurrency
    ///
    /// As for [`load`](Self::load). If the block is replaced while it is decompressed, the newer
    /// one is taken.
    #[doc(alias = "remove")]
    pub fn take<Q>(&self, key: &Q, buffer: &mut [u8]) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fetch(key, &mut { buffer }, Access::Take)
    }

    /// Takes what is stored under `key`, into a new vector; see [`take`](Self::take).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// assert_eq!(store.take_vec(&7)?.as_deref(), Some(b"a value".as_slice()));
    /// assert!(store.is_empty());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_vec`](Self::load_vec): what is stored stays.
    #[doc(alias = "remove")]
    pub fn take_vec<Q>(&self, key: &Q) -> Result<Option<Vec<u8>>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fetch_vec(key, Access::Take)
    }

    fn fetch_vec<Q>(&self, key: &Q, access: Access) -> Result<Option<Vec<u8>>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut block = Vec::new();
        let found = self.fetch(key, &mut block, access)?;
        Ok(found.map(|len| {
            // An earlier attempt may have found a longer value.
            block.truncate(len);
            block
        }))
    }

    #[inline]
    fn fetch<Q>(
        &self,
        key: &Q,
        to: &mut impl Destination,
        access: Access,
    ) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.latencies() {
            None => self.fetch_untimed(key, to, access),
            Some(latencies) => self.fetch_timed(latencies, key, to, access),
        }
    }

    /// Fetches with a timer. Out of line, because a timer that is dropped at the end makes the
    /// compiler copy the result once more, even in stores without a histogram.
    #[inline(never)]
    fn fetch_timed<Q>(
        &self,
        latencies: &Latencies,
        key: &Q,
        to: &mut impl Destination,
        access: Access,
    ) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let _timer = latencies.load.timer();
        self.fetch_untimed(key, to, access)
    }

    #[inline]
    fn fetch_untimed<Q>(
        &self,
        key: &Q,
        to: &mut impl Destination,
        access: Access,
    ) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let mut backoff = Backoff::default();
        loop {
            let loaded = self.with_pinned(hash, key, access, &mut backoff, |value, id, backoff| {
                let len = value.len();
                self.decode_value(&value, to.room(len)?, backoff)?;
                Ok(match id {
                    None => LoadOutcome::Loaded(len),
                    Some(id) => self.remove_taken(hash, key, value, id),
                })
            });
            match loaded {
                Ok(Some(LoadOutcome::Loaded(len))) => return Ok(Some(len)),
                Ok(Some(LoadOutcome::Replaced)) => {}
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.counters().load_failed(&error);
                    return Err(error);
                }
            }
        }
    }

    /// Loads what is in memory.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), or [`Error::WouldBlock`] if it is in the tier.
    pub(crate) fn load_resident(
        &self,
        key: &K,
        mut buffer: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        self.fetch(key, &mut buffer, Access::LoadResident)
    }

    /// Loads as a part of a batch, which keeps the histogram itself.
    pub(crate) fn load_untimed<Q>(&self, key: &Q, buffer: &mut [u8]) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fetch_untimed(key, &mut { buffer }, Access::Load)
    }

    /// Removes the entry of a value whose bytes are in the buffer, if it is still the one of `id`.
    ///
    /// Until the value is unpinned, no other entry can have its id. A guard holds no lock, so the
    /// shard's lock may be taken while it is held. But the guard is dropped before the object is
    /// freed, so that an allocator whose `free` waits for readers does not wait for this thread
    /// (B20).
    #[inline]
    fn remove_taken<Q>(
        &self,
        hash: u64,
        key: &Q,
        value: PinnedValue<'_, '_>,
        id: ValueId,
    ) -> LoadOutcome
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let len = value.len();
        let taken = self.index().edit(hash, |shard, hash| {
            let taken = shard.remove_if(hash, key, |found| found.id() == id);
            shard.stats.taken += u64::from(taken.is_some());
            taken
        });
        match value {
            PinnedValue::Pooled { object, .. } => self.unpin(object),
            PinnedValue::Large(large) => drop(large),
            PinnedValue::SameFilled { .. } | PinnedValue::Backed(_) => {}
        }
        if self.free_removed(taken) { LoadOutcome::Loaded(len) } else { LoadOutcome::Replaced }
    }
}

enum LoadOutcome {
    /// The buffer holds a value of this length.
    Loaded(usize),
    /// The value was to be taken, but by now the key has another one, or none.
    Replaced,
}

thread_local! {
    /// The buffer of `load_with`. Empty while in use: a call inside another one has its own buffer.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer, borrowed until this is dropped.
pub(crate) struct Scratch(pub(crate) Vec<u8>);

impl Scratch {
    pub(crate) fn take() -> Scratch {
        // While the thread ends, the buffer may have been destroyed.
        Scratch(SCRATCH.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // While the thread ends, there is no place to put it.
        let _ = SCRATCH.try_with(|scratch| scratch.set(std::mem::take(&mut self.0)));
    }
}
