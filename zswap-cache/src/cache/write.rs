//! Inserts and removals.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use zpool_core::internal::sync::atomic::Ordering;
use zswap::conditional::{NotStored, StoredIf};

use crate::cache::Cache;
use crate::entry::options::Lifetime;
use crate::entry::stamp::{EntryStamp, NewStamp};
use crate::entry::stamped::{Probe, Stamped};
use crate::error::CacheError;
use crate::removal::{CallbackState, RemovalCause};

/// Bytes reserved in the pinned share; released on drop unless committed.
pub(super) struct PinReservation<'r, K> {
    callbacks: &'r CallbackState<K>,
    bytes: usize,
}

impl<'r, K> PinReservation<'r, K> {
    /// Reserves `len` bytes of a share of `share`.
    ///
    /// # Errors
    ///
    /// [`CacheError::PinnedFull`].
    pub(super) fn reserve(
        callbacks: &'r CallbackState<K>,
        len: usize,
        share: usize,
    ) -> Result<PinReservation<'r, K>, CacheError> {
        if callbacks.pin_bytes(len, share) {
            return Ok(PinReservation { callbacks, bytes: len });
        }
        let pinned = callbacks.pinned.load(Ordering::Relaxed);
        Err(CacheError::PinnedFull { len, pinned, share })
    }

    /// Leaves the bytes to an entry.
    pub(super) fn commit(mut self) {
        self.bytes = 0;
    }
}

impl<K> Drop for PinReservation<'_, K> {
    fn drop(&mut self) {
        self.callbacks.unpin_bytes(self.bytes);
    }
}

impl<K: Hash + Eq, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Stores a copy of `value` under `key`, and replaces what was there.
    ///
    /// # Errors
    ///
    /// [`CacheError::Store`]. Whatever the reason, there is nothing under `key` then: stale data is
    /// worse than none. See [`zswap::Store::store`].
    ///
    /// # Concurrency
    ///
    /// May block: the store may ask the system for memory, or evict to make room. Listeners are
    /// called on this thread.
    #[doc(alias = "store")]
    #[doc(alias = "put")]
    pub fn insert(&self, key: K, value: impl AsRef<[u8]>) -> Result<(), CacheError> {
        self.put_always(key, value.as_ref(), self.shared.lifetime)
    }

    /// Stores a copy of `value` under `key`, if there is nothing. Returns whether it did.
    ///
    /// # Errors
    ///
    /// [`CacheError::Store`]. Unlike [`insert`](Self::insert), this leaves what is stored under
    /// `key`, whether it was there before or came meanwhile.
    pub fn insert_if_absent(&self, key: K, value: impl AsRef<[u8]>) -> Result<bool, CacheError> {
        let now = self.freshness().now;
        let decide = |old: Option<&Stamped<K, M>>, _: &Stamped<K, M>| {
            old.is_none_or(|old| old.stamp.is_expired(now))
        };
        self.put(key, value.as_ref(), self.shared.lifetime, decide).map_err(|failed| failed.1)
    }

    /// Removes the value under `key`. Returns whether there was one that had not expired.
    ///
    /// A value that is being computed for `key` meanwhile is not stored.
    #[doc(alias = "invalidate")]
    #[doc(alias = "delete")]
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shared.flights.invalidate(key);
        let Some((key, len)) = self.store().remove_if(&Probe(key), |_, _| true) else {
            return false;
        };
        let expired = key.stamp.is_expired(self.freshness().now);
        let cause = if expired { RemovalCause::Expired } else { RemovalCause::Invalidated };
        self.shared.callbacks.note_removed(&key, len, cause);
        !expired
    }

    /// Removes the value under `key`, if `decide` accepts its bytes and it is still there
    /// afterwards. Returns whether it did.
    ///
    /// `decide` runs with no lock held and may use the cache. If the value is replaced meanwhile,
    /// the newer one stays.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn remove_if<Q>(
        &self,
        key: &Q,
        decide: impl FnOnce(&[u8]) -> bool,
    ) -> Result<bool, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let admit = |stored: &Stamped<K, M>| fresh.peek(stored);
        let removed = self.store().remove_value_if(&Probe(key), admit, decide)?;
        Ok(removed
            .inspect(|(stored, len)| {
                self.shared.callbacks.note_removed(stored, *len, RemovalCause::Invalidated);
            })
            .is_some())
    }

    /// Stores a value whatever is there, and removes what is there if that fails.
    pub(super) fn put_always(
        &self,
        key: K,
        value: &[u8],
        lifetime: Lifetime,
    ) -> Result<(), CacheError> {
        match self.put(key, value, lifetime, |_, _| true) {
            Ok(_) => Ok(()),
            Err((key, error)) => {
                self.remove(&key);
                Err(error)
            }
        }
    }

    /// Removes the entry that a failed store was meant to replace, if `unchanged` accepts it.
    pub(super) fn remove_failed(
        &self,
        key: &K,
        unchanged: impl FnOnce(&Stamped<K, M>, usize) -> bool,
    ) {
        if let Some((stored, len)) = self.store().remove_if(&Probe(key), unchanged) {
            self.shared.callbacks.note_removed(&stored, len, RemovalCause::Invalidated);
        }
    }

    /// Stores a value if `decide` accepts what is there and what replaces it. A value that is being
    /// computed for the key is not stored then: it may be older, even if this one is gone by then.
    ///
    /// # Errors
    ///
    /// Returns the key too. What was there stays.
    pub(super) fn put(
        &self,
        key: K,
        value: &[u8],
        lifetime: Lifetime,
        decide: impl FnOnce(Option<&Stamped<K, M>>, &Stamped<K, M>) -> bool,
    ) -> Result<bool, (K, CacheError)> {
        self.put_computed(key, value, lifetime, |old, new| {
            let accepted = decide(old, new);
            if accepted {
                self.shared.flights.invalidate(&new.key);
            }
            accepted
        })
    }

    /// Stores a value as [`put`](Self::put) does, and leaves the flight of its key as it is.
    ///
    /// # Errors
    ///
    /// As for `put`.
    pub(super) fn put_computed(
        &self,
        key: K,
        value: &[u8],
        lifetime: Lifetime,
        decide: impl FnOnce(Option<&Stamped<K, M>>, &Stamped<K, M>) -> bool,
    ) -> Result<bool, (K, CacheError)> {
        let (callbacks, version) = (&*self.shared.callbacks, self.next_version());
        let pinned = match lifetime.pinned {
            false => None,
            true => match PinReservation::reserve(callbacks, value.len(), self.pinned_share()) {
                Ok(pinned) => Some(pinned),
                Err(error) => return Err((key, error)),
            },
        };
        let now = match lifetime.expires() {
            true => callbacks.clock.now_for_deadline(),
            false => 0,
        };
        let stamp = M::new(NewStamp { version, now, lifetime });
        match self.store().store_if(Stamped { key, stamp }, value, decide) {
            Ok(StoredIf::Stored { replaced }) => {
                pinned.into_iter().for_each(PinReservation::commit);
                if let Some((old, len)) = replaced {
                    callbacks.note_removed(&old, len, RemovalCause::Replaced);
                }
                Ok(true)
            }
            Ok(StoredIf::Declined { .. }) => Ok(false),
            Err(NotStored { key, error }) => {
                if pinned.is_none() && key.stamp.is_pinned() {
                    // `decide` had pinned it.
                    callbacks.unpin_bytes(value.len());
                }
                Err((key.key, error.into()))
            }
        }
    }
}
