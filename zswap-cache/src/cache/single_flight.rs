//! Values that are computed when they are missing.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};

use zpool_core::might_block;

use crate::cache::Cache;
use crate::entry::stamp::EntryStamp;
use crate::entry::stamped::{Probe, Stamped};
use crate::error::{CacheError, LoadError};
use crate::flight::{Joined, LeaderGuard, Outcome, wait_for};

impl<K: Hash + Eq, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Returns the value under `key`. If there is none, computes it with `load` and stores it.
    /// Threads that miss the same key meanwhile wait, and get the same value.
    ///
    /// A key is made from `key` only on a miss.
    ///
    /// # Errors
    ///
    /// - [`CacheError::Store`]: the stored value cannot be read. If a computed value cannot be
    ///   stored, that is [counted](crate::CacheStats::loads_not_stored), and the value is returned.
    /// - [`CacheError::Recursive`]: `load`, by whatever chain of loaders on whatever threads, waits
    ///   for the value that it computes.
    /// - [`CacheError::WaitedTooLong`]: another thread computes the value for longer than
    ///   [`max_wait`](crate::CacheBuilder::max_wait).
    /// - [`CacheError::OutOfMemory`]: there is no memory to wait for another thread, or to copy its
    ///   value.
    ///
    /// # Panics
    ///
    /// If `load` does. Threads that wait for it continue, and the first of them computes the value
    /// with its own loader.
    ///
    /// # Concurrency
    ///
    /// May block. `load` runs with no lock held and may use the cache, for other keys. If
    /// [`remove`](Self::remove) or [`clear`](Self::clear) is called for the key while `load` runs,
    /// or a value is stored under it, the computed value is returned and not stored. That holds
    /// even if the stored value is gone by then.
    pub fn get_or_insert_with<Q, V>(
        &self,
        key: &Q,
        load: impl FnOnce() -> V,
    ) -> Result<Vec<u8>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Into<Vec<u8>>,
    {
        Ok(self.try_get_or_insert_with(key, || Ok::<V, Infallible>(load()))?)
    }

    /// Returns the value under `key`, or computes it with a loader that may fail: see
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Errors
    ///
    /// [`LoadError::Loader`] if `load` fails. Nothing is stored then. Threads that wait for it do
    /// not get the error: the first of them computes the value with its own loader.
    /// [`LoadError::Cache`] as for `get_or_insert_with`.
    ///
    /// # Panics
    ///
    /// If `load` does, as above.
    pub fn try_get_or_insert_with<Q, V, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<Vec<u8>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Into<Vec<u8>>,
    {
        if let Some(value) = self.get(key)? {
            return Ok(value);
        }
        might_block("Cache::get_or_insert_with");
        loop {
            match self.shared.flights.join(key) {
                Joined::Leader(flight) => return self.lead(key, flight, load),
                Joined::Alone => {
                    let value = self.run_loader(load)?;
                    self.shared.loads.not_stored();
                    return Ok(value);
                }
                Joined::Follower(flight) => {
                    match wait_for(&flight, self.shared.max_wait)? {
                        Outcome::Landed(value) => {
                            self.shared.loads.shared();
                            return Ok(copy_value(&value)?);
                        }
                        // It failed, or has just stored its value.
                        Outcome::NoValue => {
                            if let Some(value) = self.get(key)? {
                                return Ok(value);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Computes the value of a flight.
    fn lead<Q, V, E>(
        &self,
        key: &Q,
        flight: LeaderGuard<'_, K>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<Vec<u8>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Into<Vec<u8>>,
    {
        // Another flight may have landed between the look-up and this one.
        let fresh = self.freshness();
        let stored = self.store().peek_vec_if(&Probe(key), |stored| fresh.admit(stored));
        if let Some(value) = stored.map_err(CacheError::Store)? {
            flight.land(&value);
            return Ok(value);
        }
        let value = self.run_loader(load)?;
        let now = self.freshness().now;
        let decide = |old: Option<&Stamped<K, M>>, _: &Stamped<K, M>| {
            !flight.is_stale() && old.is_none_or(|old| old.stamp.is_expired(now))
        };
        let stored = self.put_computed(key.to_owned(), &value, self.shared.lifetime, decide);
        if !matches!(stored, Ok(true)) {
            self.shared.loads.not_stored();
        }
        flight.land(&value);
        Ok(value)
    }

    fn run_loader<V, E>(&self, load: impl FnOnce() -> Result<V, E>) -> Result<Vec<u8>, LoadError<E>>
    where
        V: Into<Vec<u8>>,
    {
        let run = self.shared.loads.begin();
        let value = load().map_err(LoadError::Loader)?;
        run.succeeded();
        Ok(value.into())
    }
}

/// Copies a value that another thread computed.
fn copy_value(value: &[u8]) -> Result<Vec<u8>, CacheError> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(value.len()).map_err(|_| CacheError::OutOfMemory)?;
    copy.extend_from_slice(value);
    Ok(copy)
}
