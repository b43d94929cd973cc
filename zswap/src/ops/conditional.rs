//! Operations that look at the stored key: hooks for a layer that attaches something to its keys,
//! such as a version or a deadline.
//!
//! ```text
//!   load_if, peek_with_if   find ─► admit(stored key)? ─► pin ─► decompress
//!   store_if                encode ─► find ─► decide(stored key, new key)? ─► replace both
//!   remove_if               find ─► decide(stored key)? ─► take out ─► free
//!   remove_value_if         pin ─► decompress ─► decide(bytes)? ─► same value still? ─► take out
//! ```
//!
//! Closures that see a stored key run under the shard's lock: they must be short and must not call
//! the store. If one panics, so does the call, and nothing has changed. All other operations of a
//! store are compiled without a trace of these.

use std::hash::{BuildHasher, Hash};

use zpool_core::might_block;

use crate::index::equivalent::Equivalent;
use crate::index::shard::{Inserted, Item};
use crate::ops::load::Scratch;
use crate::ops::pinned::PinnedValue;
use crate::ops::stored_if::{NotStored, StoredIf};
use crate::store::Store;
use crate::value::Value;
use crate::value::access::Access;
use crate::value::backoff::Backoff;
use crate::value::destination::Destination;
use crate::value::error::Error;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Loads as [`load`](Self::load) does, if `admit` accepts the stored key. Otherwise there is
    /// nothing, and a miss is counted.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(store.load_if(&7, &mut buffer, |key| *key < 10)?, Some(7));
    /// assert_eq!(store.load_if(&7, &mut buffer, |key| *key > 10)?, None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    ///
    /// # Concurrency
    ///
    /// `admit` runs under a lock of the index, so it must be short and must not call the store.
    /// If it panics, so does the call, and nothing has changed.
    pub fn load_if<Q>(
        &self,
        key: &Q,
        mut buffer: &mut [u8],
        admit: impl FnMut(&K) -> bool,
    ) -> Result<Option<usize>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.fetch_if(key, &mut buffer, Access::Load, admit)
    }

    /// Loads into a new vector, if `admit` accepts the stored key: see [`load_if`](Self::load_if).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let value = store.load_vec_if(&7, |key| *key < 10)?;
    /// assert_eq!(value.as_deref(), Some(b"a value".as_slice()));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_vec`](Self::load_vec).
    ///
    /// # Concurrency
    ///
    /// As for [`load_if`](Self::load_if).
    pub fn load_vec_if<Q>(
        &self,
        key: &Q,
        admit: impl FnMut(&K) -> bool,
    ) -> Result<Option<Vec<u8>>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.vec_if(key, Access::Load, admit)
    }

    /// Peeks, in a new vector, if `admit` accepts the stored key: see [`peek_vec`](Self::peek_vec).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let value = store.peek_vec_if(&7, |key| *key > 10)?;
    /// assert_eq!(value, None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_vec`](Self::load_vec).
    ///
    /// # Concurrency
    ///
    /// As for [`load_if`](Self::load_if).
    pub fn peek_vec_if<Q>(
        &self,
        key: &Q,
        admit: impl FnMut(&K) -> bool,
    ) -> Result<Option<Vec<u8>>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.vec_if(key, Access::Peek, admit)
    }

    /// Lends the value to `look`, if `admit` accepts the stored key: see
    /// [`load_with`](Self::load_with). `look` runs with no lock held.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let len = store.load_with_if(&7, |key| *key < 10, |value| value.len())?;
    /// assert_eq!(len, Some(7));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_with`](Self::load_with).
    ///
    /// # Concurrency
    ///
    /// As for [`load_if`](Self::load_if).
    pub fn load_with_if<Q, R>(
        &self,
        key: &Q,
        admit: impl FnMut(&K) -> bool,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.lend_if(key, Access::Load, admit, look)
    }

    /// Lends the value to `look` without counting a use, if `admit` accepts the stored key.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let len = store.peek_with_if(&7, |key| *key < 10, |value| value.len())?;
    /// assert_eq!((len, store.stats().loads_hit), (Some(7), 0));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_with`](Self::load_with).
    ///
    /// # Concurrency
    ///
    /// As for [`load_if`](Self::load_if).
    pub fn peek_with_if<Q, R>(
        &self,
        key: &Q,
        admit: impl FnMut(&K) -> bool,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.lend_if(key, Access::Peek, admit, look)
    }

    /// Lends the stored key, and the length of its value in bytes, to `look`. Returns `None` if
    /// there is nothing. Does not count as a look-up.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// assert_eq!(store.with_key(&7, |key, len| (*key, len)), Some((7, 7)));
    /// assert_eq!(store.with_key(&8, |key, len| (*key, len)), None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Concurrency
    ///
    /// `look` runs under a lock of the index, so it must be short and must not call the store.
    /// If it panics, so does the call, and nothing has changed.
    pub fn with_key<Q, R>(&self, key: &Q, look: impl FnOnce(&K, usize) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (shard, hash) = self.index().lock(self.hash(key));
        shard.with_key(hash, key, look)
    }

    /// Stores a copy of `block` under `key`, if `decide` accepts the stored key, if there is one,
    /// and the new one. The new key replaces the stored one, which is returned.
    ///
    /// `decide` runs once, after the block is compressed.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// use zswap::conditional::StoredIf;
    ///
    /// // Stores only if there is nothing yet.
    /// let stored = store.store_if(7, "another value", |old, _new| old.is_none())?;
    /// assert_eq!(stored, StoredIf::Declined { key: 7 });
    /// let stored = store.store_if(8, "another value", |old, _new| old.is_none())?;
    /// assert_eq!(stored, StoredIf::Stored { replaced: None });
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotStored`], with the key. Unlike [`store`](Self::store), this leaves what was stored
    /// before. If that is now stale, remove it.
    ///
    /// # Concurrency
    ///
    /// As for [`store`](Self::store). `decide` runs under a lock of the index, so it must be short
    /// and must not call the store. If it panics, so does the call, and nothing has changed. No
    /// other operation on the key comes between the decision and its effect.
    pub fn store_if(
        &self,
        key: K,
        block: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&K>, &K) -> bool,
    ) -> Result<StoredIf<K>, NotStored<K>> {
        might_block("Store::store_if");
        let _timer = self.latencies().map(|latencies| latencies.store.timer());
        let hash = self.hash(&key);
        let block = block.as_ref();
        let encoded = self.check_len(block).and_then(|()| match block.len() > self.block_size() {
            true => self.large(hash, block),
            false => self.encode_block(hash, block),
        });
        match encoded {
            Ok(value) => self.put_if(hash, key, value, decide),
            Err(error) => Err(self.not_stored(key, error)),
        }
    }

    /// Removes what is stored under `key`, if `decide` accepts the stored key and the length in
    /// bytes. Returns both.
    ///
    /// Never blocks or allocates, as [`invalidate`](Self::invalidate).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// assert_eq!(store.remove_if(&7, |_key, len| len > 100), None);
    /// assert_eq!(store.remove_if(&7, |_key, len| len < 100), Some((7, 7)));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Concurrency
    ///
    /// `decide` runs under a lock of the index, so it must be short and must not call the store.
    /// If it panics, so does the call, and nothing has changed.
    pub fn remove_if<Q>(
        &self,
        key: &Q,
        decide: impl FnOnce(&K, usize) -> bool,
    ) -> Option<(K, usize)>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let removed = self.index().edit(hash, |shard, hash| {
            let removed = shard.remove_key_if(hash, key, decide);
            shard.stats.invalidated += u64::from(removed.is_some());
            removed
        });
        removed.map(|item| self.free_and_keep_key(hash, item))
    }

    /// Removes what is stored under `key`, if `decide` accepts its bytes and it is still there
    /// afterwards. Returns the stored key and the length in bytes.
    ///
    /// `decide` runs with no lock held and may use the store. If the value is replaced meanwhile,
    /// the newer one stays. The exception is a same-filled block that replaces an equal one: the
    /// two cannot be distinguished. Counts as a peek.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let removed = store.remove_value_if(&7, |_key| true, |value| value.ends_with(b"value"))?;
    /// assert_eq!(removed, Some((7, 7)));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_with`](Self::load_with). What is stored stays.
    ///
    /// # Concurrency
    ///
    /// `admit` runs under a lock of the index, as for [`load_if`](Self::load_if).
    pub fn remove_value_if<Q>(
        &self,
        key: &Q,
        mut admit: impl FnMut(&K) -> bool,
        decide: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Option<(K, usize)>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (hash, mut scratch) = (self.hash(key), Scratch::take());
        let removed = self.with_pinned_if(
            hash,
            key,
            Access::Examine,
            &mut Backoff::default(),
            |shard, at| shard.key_at(at).is_some_and(&mut admit),
            |value, id, backoff| {
                let room = scratch.0.room(value.len())?;
                self.decode_value(&value, room, backoff)?;
                if !decide(room) {
                    return Ok(None);
                }
                // Pinned until now, so that no other value can have its id.
                let removed = self.index().edit(hash, |shard, hash| {
                    let removed = shard.remove_if(hash, key, |found| Some(found.id()) == id);
                    shard.stats.invalidated += u64::from(removed.is_some());
                    removed
                });
                // Unpinned before the object is freed: an allocator may wait for readers (B20).
                match value {
                    PinnedValue::Pooled { object, .. } => self.unpin(object),
                    PinnedValue::Large(large) => drop(large),
                    PinnedValue::SameFilled { .. } | PinnedValue::Backed(_) => {}
                }
                Ok(removed.map(|item| self.free_and_keep_key(hash, item)))
            },
        );
        removed.map(Option::flatten).inspect_err(|error| self.counters().load_failed(error))
    }

    fn vec_if<Q>(
        &self,
        key: &Q,
        access: Access,
        admit: impl FnMut(&K) -> bool,
    ) -> Result<Option<Vec<u8>>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut block = Vec::new();
        let found = self.fetch_if(key, &mut block, access, admit)?;
        Ok(found.map(|_| block))
    }

    fn lend_if<Q, R>(
        &self,
        key: &Q,
        access: Access,
        admit: impl FnMut(&K) -> bool,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut scratch = Scratch::take();
        let found = self.fetch_if(key, &mut scratch.0, access, admit)?;
        Ok(found.map(|len| look(&scratch.0[..len])))
    }

    fn fetch_if<Q>(
        &self,
        key: &Q,
        to: &mut impl Destination,
        access: Access,
        admit: impl FnMut(&K) -> bool,
    ) -> Result<Option<usize>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.look_up_if(key, access, admit, |value, backoff| {
            let len = value.len();
            self.decode_value(value, to.room(len)?, backoff)?;
            Ok(len)
        })
    }

    /// Lends a value, if `admit` accepts the stored key. Times and counts it as a look-up.
    pub(crate) fn look_up_if<Q, R>(
        &self,
        key: &Q,
        access: Access,
        mut admit: impl FnMut(&K) -> bool,
        use_value: impl FnOnce(&PinnedValue<'_, '_>, &mut Backoff) -> Result<R, Error>,
    ) -> Result<Option<R>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let _timer = self.latencies().map(|latencies| latencies.load.timer());
        let found = self.with_pinned_if(
            self.hash(key),
            key,
            access,
            &mut Backoff::default(),
            |shard, at| shard.key_at(at).is_some_and(&mut admit),
            |value, _, backoff| use_value(&value, backoff),
        );
        found.inspect_err(|error| self.counters().load_failed(error))
    }

    fn put_if(
        &self,
        hash: u64,
        key: K,
        value: Value,
        decide: impl FnOnce(Option<&K>, &K) -> bool,
    ) -> Result<StoredIf<K>, NotStored<K>> {
        let added = self.cost(&value);
        // Here, so that the value is freed without the shard's lock if `decide` panics.
        let mut new = Some((key, value));
        let put = self.index().put_if(hash, &mut new, |key| self.hash(key), decide);
        if let Ok(Some(Inserted { replaced, unused_ref })) = put {
            drop(unused_ref);
            self.forget_in_thrash_meter(hash);
            let replaced_cost = replaced.as_ref().map_or(0, |(_, value)| self.cost(value));
            let replaced = replaced.map(|(key, value)| {
                let len = value.len();
                self.free(value);
                (key, len)
            });
            self.charge_eviction_debt(added, replaced_cost);
            return Ok(StoredIf::Stored { replaced });
        }
        let Some((key, value)) = new else {
            unreachable!("an entry that was not put in is still here")
        };
        self.free(value);
        match put {
            Ok(_) => Ok(StoredIf::Declined { key }),
            Err(_) => Err(self.not_stored(key, Error::IndexOutOfMemory)),
        }
    }

    #[cold]
    fn not_stored(&self, key: K, error: Error) -> NotStored<K> {
        self.counters().store_failed(&error);
        NotStored { key, error }
    }

    /// Frees the value of an item that was removed. Returns its key and length.
    fn free_and_keep_key(&self, hash: u64, (key, value): Item<K>) -> (K, usize) {
        self.forget_in_thrash_meter(hash);
        let len = value.len();
        self.free_removed_value(value);
        (key, len)
    }
}
