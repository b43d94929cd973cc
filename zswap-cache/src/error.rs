//! Errors of a cache.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Error of a cache's operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// The store below failed.
    Store(zswap::Error),
    /// Pinned values have no room for this one: unpin others, or raise the share or the limit.
    PinnedFull {
        /// Bytes of the value.
        len: usize,
        /// Bytes of all pinned values.
        pinned: usize,
        /// Bytes that pinned values may have together.
        share: usize,
    },
    /// A loader needs the value it is computing, directly or through other loaders; waiting would
    /// never end.
    Recursive,
    /// Another thread computes the value, and has not finished within
    /// [`max_wait`](crate::CacheBuilder::max_wait).
    WaitedTooLong(Duration),
    /// No memory to wait for another thread, or for a copy of a value.
    OutOfMemory,
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheError::Store(error) => error.fmt(f),
            CacheError::PinnedFull { len, pinned, share } => write!(
                f,
                "a pinned value of {len} bytes does not fit: {pinned} of {share} bytes are pinned; \
                 unpin others, or raise `pinned_percent` or `limit_bytes`"
            ),
            CacheError::Recursive => f.write_str(
                "a loader depends on its own value: inside a loader, do not load its key, directly \
                 or through other loaders",
            ),
            CacheError::WaitedTooLong(wait) => write!(
                f,
                "another thread has not computed the value within {wait:?}: try again, or raise \
                 `max_wait`"
            ),
            CacheError::OutOfMemory => {
                f.write_str("no memory to wait for a value, or to copy it: free some and try again")
            }
        }
    }
}

impl StdError for CacheError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // Its text is that of the store's error, so the next one is the store's source.
            CacheError::Store(error) => error.source(),
            _ => None,
        }
    }
}

impl From<zswap::Error> for CacheError {
    fn from(error: zswap::Error) -> CacheError {
        CacheError::Store(error)
    }
}

/// The reason why a value was neither found nor computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError<E> {
    /// The cache failed.
    Cache(CacheError),
    /// The loader of this call returned an error.
    Loader(E),
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Cache(error) => error.fmt(f),
            LoadError::Loader(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for LoadError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            LoadError::Cache(error) => error.source(),
            LoadError::Loader(error) => error.source(),
        }
    }
}

impl<E> From<CacheError> for LoadError<E> {
    fn from(error: CacheError) -> LoadError<E> {
        LoadError::Cache(error)
    }
}

impl From<LoadError<Infallible>> for CacheError {
    fn from(error: LoadError<Infallible>) -> CacheError {
        match error {
            LoadError::Cache(error) => error,
            LoadError::Loader(never) => match never {},
        }
    }
}
