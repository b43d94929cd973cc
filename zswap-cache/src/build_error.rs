//! Why a builder makes no cache.

use std::error::Error as StdError;
use std::fmt;

/// The reason why there is no cache.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheBuildError {
    /// The store below cannot be built.
    Store(zswap::BuildError),
    /// The share of pinned values is over 100 percent.
    PinnedPercent(u8),
    /// This setting needs stamps, and the cache is [`Unstamped`](crate::Unstamped).
    Unstamped {
        /// The setting, as it is called on the builder.
        setting: &'static str,
    },
}

impl fmt::Display for CacheBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheBuildError::Store(error) => error.fmt(f),
            CacheBuildError::PinnedPercent(percent) => {
                write!(f, "`pinned_percent({percent})`: set 0 to 100 percent")
            }
            CacheBuildError::Unstamped { setting } => write!(
                f,
                "`{setting}` in a cache without stamps: use `Cache<K, S, Stamp>`, or leave \
                 `{setting}` out"
            ),
        }
    }
}

impl StdError for CacheBuildError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            CacheBuildError::Store(error) => error.source(),
            _ => None,
        }
    }
}

impl From<zswap::BuildError> for CacheBuildError {
    fn from(error: zswap::BuildError) -> CacheBuildError {
        CacheBuildError::Store(error)
    }
}
