//! Look-ups.

use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{BuildHasher, Hash};

use crate::cache::Cache;
use crate::entry::stamp::EntryStamp;
use crate::entry::stamped::{Probe, Stamped};
use crate::error::CacheError;
use crate::time::Millis;

/// Checks that an entry has not expired, and counts its use.
pub(super) struct Freshness {
    pub(super) now: Millis,
    /// An entry was met that has expired.
    expired: Cell<bool>,
}

impl Freshness {
    /// Accepts an entry that has not expired. Runs under the lock of its shard.
    #[inline]
    pub(super) fn admit<K, M: EntryStamp>(&self, stored: &Stamped<K, M>) -> bool {
        let fresh = !stored.stamp.is_expired(self.now);
        if fresh {
            stored.stamp.touch(self.now);
        } else {
            self.expired.set(true);
        }
        fresh
    }

    /// Accepts an entry that has not expired, without counting a use.
    pub(super) fn peek<K, M: EntryStamp>(&self, stored: &Stamped<K, M>) -> bool {
        !stored.stamp.is_expired(self.now)
    }
}

impl<K: Hash + Eq, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Returns the value under `key`, or `None` if there is nothing. Counts as a use.
    ///
    /// # Errors
    ///
    /// [`CacheError::Store`]: the value cannot be read, or there is no memory for it. It stays. See
    /// [`zswap::Store::load_vec`].
    ///
    /// # Concurrency
    ///
    /// Holds no lock while it decompresses. Removes the entry if it has expired, and then calls the
    /// listener.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<Vec<u8>>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let found = self.store().load_vec_if(&Probe(key), |stored| fresh.admit(stored));
        self.after_look_up(key, &fresh);
        Ok(found?)
    }

    /// Copies the value under `key` to the front of `buffer` and returns its length, or `None` if
    /// there is nothing. Counts as a use. Once warm, with lz4 and no tier, a hit makes no heap
    /// call.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), and [`zswap::Error::BufferTooSmall`] with the length needed.
    pub fn get_into<Q>(&self, key: &Q, buffer: &mut [u8]) -> Result<Option<usize>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let found = self.store().load_if(&Probe(key), buffer, |stored| fresh.admit(stored));
        self.after_look_up(key, &fresh);
        Ok(found?)
    }

    /// Lends the value under `key` to `look`, in a buffer that the thread keeps for that. Returns
    /// `None` if there is nothing. Counts as a use.
    ///
    /// `look` runs with no lock held and may use the cache.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn get_with<Q, R>(
        &self,
        key: &Q,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let found = self.store().load_with_if(&Probe(key), |stored| fresh.admit(stored), look);
        self.after_look_up(key, &fresh);
        Ok(found?)
    }

    /// Copies the bytes of a value from `offset` on into `buffer`, as many as there are and fit.
    /// Returns their number, or `None` if there is nothing under `key`. Counts as a use.
    ///
    /// Decompresses only the blocks that the range touches: see [`zswap::Store::load_range`].
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn get_range<Q>(
        &self,
        key: &Q,
        offset: usize,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let admit = |stored: &Stamped<K, M>| fresh.admit(stored);
        let found = self.store().load_range_if(&Probe(key), offset, buffer, admit);
        self.after_look_up(key, &fresh);
        Ok(found?)
    }

    /// Returns the length of the value under `key` in bytes. Not counted as a use.
    pub fn len_of<Q>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let found =
            self.store().with_key(&Probe(key), |stored, len| fresh.peek(stored).then_some(len));
        found.flatten()
    }

    /// Returns whether there is a value under `key`. Not counted as a use.
    #[doc(alias = "contains_key")]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.len_of(key).is_some()
    }

    #[inline]
    pub(super) fn freshness(&self) -> Freshness {
        // Without stamps nothing expires, and the clock is not read.
        let now = if M::STAMPED { self.shared.callbacks.clock.now() } else { 0 };
        Freshness { now, expired: Cell::new(false) }
    }

    /// Removes the entry of `key`, if the look-up has met one that has expired.
    #[inline]
    pub(super) fn after_look_up<Q>(&self, key: &Q, fresh: &Freshness)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if fresh.expired.get() {
            self.remove_if_expired(key, fresh.now);
        }
    }
}
