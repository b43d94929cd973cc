//! Results of [`Store::store_if`].

use std::fmt;

#[cfg(doc)]
use crate::store::Store;
use crate::value::error::Error;

/// Result of [`Store::store_if`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredIf<K> {
    /// The block is stored.
    Stored {
        /// The key that was stored before, and the length in bytes of its value, if there was one.
        replaced: Option<(K, usize)>,
    },
    /// The condition does not hold. Nothing has changed.
    Declined {
        /// The key that was to be stored.
        key: K,
    },
}

/// A conditional store that failed. What was stored under the key before is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStored<K> {
    /// The key that was to be stored.
    pub key: K,
    /// The reason why it was not stored.
    pub error: Error,
}

impl<K> fmt::Display for NotStored<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<K: fmt::Debug> std::error::Error for NotStored<K> {}
