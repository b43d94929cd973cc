//! Scans over all entries.

use std::hash::{BuildHasher, Hash};

use crate::cache::Cache;
use crate::entry::stamp::EntryStamp;
use crate::entry::stamped::{Probe, Stamped};
use crate::error::CacheError;
use crate::removal::RemovalCause;

impl<K: Hash + Eq, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Removes every entry for which `keep(key)` returns false, and returns their number.
    ///
    /// `keep` runs under a lock of the store, so it must be short and must not use the cache.
    pub fn retain_keys(&self, mut keep: impl FnMut(&K) -> bool) -> usize {
        self.store().remove_where(
            |stored| !keep(&stored.key),
            |stored, len| {
                self.shared.callbacks.note_removed(&stored, len, RemovalCause::Invalidated)
            },
        )
    }

    /// Removes everything that was there when the call began. Values that are being computed
    /// meanwhile are not stored; others that are inserted may stay.
    pub fn clear(&self) {
        self.shared.flights.invalidate_all();
        // Bytes of pins have to be released, and the listener receives each key.
        self.store().clear_with(|stored, len| {
            self.shared.callbacks.note_removed(&stored, len, RemovalCause::Cleared);
        });
        self.store().trim();
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Returns copies of all keys, in no order. An entry that comes or goes meanwhile may or may
    /// not be listed. See [`zswap::Store::keys`].
    pub fn keys(&self) -> impl Iterator<Item = K> {
        let fresh = self.freshness();
        self.store().keys().filter(move |stored| fresh.peek(stored)).map(|stored| stored.key)
    }

    /// Returns copies of all keys with their values, in no order. Does not count as a use.
    ///
    /// Each value is copied when the iterator comes to it. An entry that comes or goes meanwhile
    /// may or may not be there.
    ///
    /// # Errors
    ///
    /// An item is an error if its value cannot be read. The next one may still be readable.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, Vec<u8>), CacheError>> {
        self.keys().filter_map(move |key| {
            let fresh = self.freshness();
            let peeked = self.store().peek_vec_if(&Probe(&key), |stored| fresh.peek(stored));
            match peeked {
                Ok(value) => value.map(|value| Ok((key, value))),
                Err(error) => Some(Err(error.into())),
            }
        })
    }

    /// Lends every key and value to `visit`, in a buffer that the thread keeps for that. Counts as
    /// no use. `visit` runs with no lock held and may use the cache.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), at the first value that cannot be read.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &[u8])) -> Result<(), CacheError> {
        for key in self.keys() {
            let fresh = self.freshness();
            let admit = |stored: &Stamped<K, M>| fresh.peek(stored);
            self.store().peek_with_if(&Probe(&key), admit, |value| visit(&key, value))?;
        }
        Ok(())
    }

    /// Removes every entry for which `keep(key, value)` returns false, and returns their number.
    ///
    /// `keep` runs with no lock held and may use the cache. A value that replaces the one that
    /// `keep` has seen stays. So does one that cannot be read.
    pub fn retain(&self, mut keep: impl FnMut(&K, &[u8]) -> bool) -> usize {
        let mut removed = 0;
        for key in self.keys() {
            let fresh = self.freshness();
            let admit = |stored: &Stamped<K, M>| fresh.peek(stored);
            let gone =
                self.store().remove_value_if(&Probe(&key), admit, |value| !keep(&key, value));
            if let Ok(Some((stored, len))) = gone {
                self.shared.callbacks.note_removed(&stored, len, RemovalCause::Invalidated);
                removed += 1;
            }
        }
        removed
    }
}
