//! Values as [`Bytes`], which servers pass on without a copy.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use bytes::Bytes;

use crate::cache::Cache;
use crate::entry::stamp::EntryStamp;
use crate::error::{CacheError, LoadError};

impl<K: Hash + Eq, S: BuildHasher, M: EntryStamp> Cache<K, S, M> {
    /// Returns the value under `key` as [`Bytes`]: see [`get`](Self::get). It is decompressed once,
    /// and not copied again.
    ///
    /// Inserts take `Bytes` as they take any bytes.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn get_bytes<Q>(&self, key: &Q) -> Result<Option<Bytes>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.get(key)?.map(Bytes::from))
    }

    /// Returns the value under `key` as [`Bytes`], or computes it with a loader that may fail: see
    /// [`try_get_or_insert_with`](Self::try_get_or_insert_with).
    ///
    /// # Errors
    ///
    /// As for `try_get_or_insert_with`.
    ///
    /// # Panics
    ///
    /// If `load` does.
    pub fn try_get_or_insert_bytes_with<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.try_get_or_insert_with(key, load).map(Bytes::from)
    }
}
