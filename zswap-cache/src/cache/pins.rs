//! Pins: entries that are never evicted.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use crate::cache::Cache;
use crate::cache::write::PinReservation;
use crate::entry::stamp::{EntryStamp, Stamp};
use crate::entry::stamped::Probe;
use crate::error::CacheError;

impl<K: Hash + Eq, S: BuildHasher> Cache<K, S, Stamp> {
    /// Pins the entry of `key`, so that it is not evicted. Returns whether there is one.
    ///
    /// A pinned entry still expires, and can be replaced and removed. An insert makes an entry
    /// without a pin. [`update`](Self::update) and [`replace_if`](Self::replace_if) keep the pin.
    ///
    /// # Errors
    ///
    /// [`CacheError::PinnedFull`]: pinned values together would have more than their
    /// [share](crate::CacheBuilder::pinned_percent) of the limit.
    pub fn pin<Q>(&self, key: &Q) -> Result<bool, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (fresh, share, callbacks) =
            (self.freshness(), self.pinned_share(), &*self.shared.callbacks);
        let found = self.store().with_key(&Probe(key), |stored, len| {
            if !fresh.peek(stored) {
                return Ok(false);
            }
            if !stored.stamp.is_pinned() {
                PinReservation::reserve(callbacks, len, share)?.commit();
                stored.stamp.set_pinned(true);
            }
            Ok(true)
        });
        found.unwrap_or(Ok(false))
    }

    /// Unpins the entry of `key`. Returns whether there is one that was pinned.
    pub fn unpin<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.store().with_key(&Probe(key), |stored, len| {
            let pinned = stored.stamp.is_pinned();
            if pinned {
                stored.stamp.set_pinned(false);
                self.shared.callbacks.unpin_bytes(len);
            }
            pinned
        });
        found.unwrap_or(false)
    }

    /// Returns whether the entry of `key` is pinned.
    pub fn is_pinned<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.store().with_key(&Probe(key), |stored, _| stored.stamp.is_pinned()).unwrap_or(false)
    }
}
