//! Expiry: what is removed for it, and how it is changed.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::cache::Cache;
use crate::entry::stamp::{EntryStamp, Stamp};
use crate::entry::stamped::Probe;
use crate::removal::RemovalCause;
use crate::time::{Millis, millis};

impl<K: Hash + Eq, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Removes all entries that have expired, and returns their number. Visits all entries, a
    /// bounded number at a time under a lock.
    ///
    /// Look-ups find no expired entry anyway, and in a full cache the eviction clock takes those
    /// that it passes, however warm they are. This releases the memory of all; call it from time to
    /// time if that matters.
    pub fn remove_expired(&self) -> usize {
        let now = self.freshness().now;
        self.store().remove_where(
            |stored| stored.stamp.is_expired(now),
            |stored, len| self.shared.callbacks.note_removed(&stored, len, RemovalCause::Expired),
        )
    }

    /// Removes the entry of `key`, if it has expired.
    #[cold]
    pub(super) fn remove_if_expired<Q>(&self, key: &Q, now: Millis)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let removed = self.store().remove_if(&Probe(key), |stored, _| stored.stamp.is_expired(now));
        if let Some((stored, len)) = removed {
            self.shared.callbacks.note_removed(&stored, len, RemovalCause::Expired);
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Cache<K, S, Stamp> {
    /// Sets the time to live of the entry of `key`, counted from now; `None` is for ever. Returns
    /// whether there is one.
    ///
    /// Insert the entry [with its own time](crate::EntryOptions::time_to_live) where possible: this
    /// is one more look-up.
    pub fn set_time_to_live<Q>(&self, key: &Q, after: Option<Duration>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.change_stamp(key, |stamp, now| stamp.set_time_to_live(after.map(millis), now))
    }

    /// Sets the time to idle of the entry of `key`, counted from now; `None` is for ever. Returns
    /// whether there is one.
    pub fn set_time_to_idle<Q>(&self, key: &Q, after: Option<Duration>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.change_stamp(key, |stamp, now| stamp.set_time_to_idle(after.map(millis), now))
    }

    /// Returns how long the entry of `key` has to live, unless it is used before: `None` if there
    /// is no entry, `Some(None)` if it does not expire.
    pub fn expires_in<Q>(&self, key: &Q) -> Option<Option<Duration>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let found = self.store().with_key(&Probe(key), |stored, _| {
            let expires_in = || stored.stamp.expires_in(fresh.now).map(Duration::from_millis);
            fresh.peek(stored).then(expires_in)
        });
        found.flatten()
    }

    fn change_stamp<Q>(&self, key: &Q, change: impl FnOnce(&Stamp, Millis)) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let now = self.shared.callbacks.clock.now_for_deadline();
        let found = self.store().with_key(&Probe(key), |stored, _| {
            let fresh = !stored.stamp.is_expired(now);
            if fresh {
                change(&stored.stamp, now);
            }
            fresh
        });
        found.unwrap_or(false)
    }
}
