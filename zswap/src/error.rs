//! What goes wrong with a block, told by what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use zpool_core::PoolError;
use zpool_core::compress::CodecError;
use zpool_manager::{RegistryError, SwitchError};

/// What went wrong with the block of which key. After an error of `store` no block is stored under that key; after one of a load or take
/// everything is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error<K> {
    /// The key that was given.
    pub key: K,
    /// What went wrong.
    pub kind: ErrorKind,
}

/// What went wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `store`: the block is over the block size, or the value over the longest one.
    BlockTooLong {
        /// Its bytes.
        len: usize,
        /// The store's longest value: its block size, unless told otherwise.
        max: usize,
    },
    /// `load`, `take`: the block does not fit the buffer. Nothing was decompressed.
    BufferTooSmall {
        /// Bytes of the block.
        needed: usize,
        /// Bytes of the buffer.
        given: usize,
    },
    /// `load_vec`, `peek_vec`, `take_vec`, `load_with`: no memory for a buffer. Nothing was decompressed.
    BufferOutOfMemory {
        /// Bytes of the block.
        needed: usize,
    },
    /// `store`: the store is at its limit, or was and is not back below its accept threshold, and
    /// has given back what it could without evicting: remove something and try again, or raise the
    /// limit.
    Full {
        /// Bytes held; of a value that could not be kept even if it were alone, what it would need.
        held: usize,
        /// The limit in bytes.
        limit: usize,
        /// Below this many bytes the store takes blocks again:
        /// [`accept_percent`](crate::StoreBuilder::accept_percent) of the limit, or the limit
        /// itself in a store that evicts.
        threshold: usize,
    },
    /// `store`: there is no current pool.
    NoPool,
    /// `store_many`, `load_many`: no memory for the list of results. The call ends with this item:
    /// it failed, and so did those after it, which have no results of their own.
    ResultsOutOfMemory,
    /// `store`: no memory for the index to grow, or for the list of the blocks of a value.
    IndexOutOfMemory,
    /// The allocator refused.
    Pool(PoolError),
    /// The allocator panicked, with this message. The panic was contained.
    AllocatorPanicked(String),
    /// The compressor failed; a load reports a corrupt object by [`CodecError::Corrupt`].
    Codec(CodecError),
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::BlockTooLong { len, max } => {
                write!(f, "a block of {len} bytes is over the {max} allowed")
            }
            ErrorKind::BufferTooSmall { needed, given } => {
                write!(f, "the block has {needed} bytes, the buffer {given}")
            }
            ErrorKind::BufferOutOfMemory { needed } => {
                write!(f, "no memory for a buffer of {needed} bytes")
            }
            ErrorKind::Full { held, limit, threshold } => write!(
                f,
                "the store is full: it holds {held} bytes of a limit of {limit}, and takes blocks again below \
                 {threshold}; remove something and try again, or raise the limit"
            ),
            ErrorKind::NoPool => f.write_str("there is no current pool"),
            ErrorKind::ResultsOutOfMemory => f.write_str(
                "no memory for the results of this item and those after it: try smaller batches",
            ),
            ErrorKind::IndexOutOfMemory => f.write_str("no memory for the index"),
            ErrorKind::Pool(error) => error.fmt(f),
            ErrorKind::AllocatorPanicked(message) => write!(f, "the allocator panicked: {message}"),
            ErrorKind::Codec(error) => error.fmt(f),
        }
    }
}

impl<K: fmt::Debug> fmt::Display for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {:?}: {}", self.key, self.kind)
    }
}

impl<K: fmt::Debug> StdError for Error<K> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.kind {
            ErrorKind::Pool(error) => Some(error),
            ErrorKind::Codec(error) => Some(error),
            _ => None,
        }
    }
}

/// Why there is no store.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The block size is 0 or over [`MAX_BLOCK_SIZE`](crate::MAX_BLOCK_SIZE).
    BlockSize(usize),
    /// The accept threshold is no percentage from 1 to 100.
    AcceptPercent(u8),
    /// The minimum gain is no percentage from 0 to 99.
    MinGainPercent(u8),
    /// The longest value is shorter than a block.
    MaxValueLen {
        /// Its bytes.
        bytes: usize,
        /// The block size.
        block_size: usize,
    },
    /// `max_pending` is 0: no switch could ever retire a pool.
    MaxPending,
    /// This setting says what to do at a limit, and there is none.
    NoLimit {
        /// The setting, as it is called on the builder.
        setting: &'static str,
    },
    /// This setting says how to evict, and the store refuses instead.
    NoEviction {
        /// The setting, as it is called on the builder.
        setting: &'static str,
    },
    /// An empty store already holds as much as the limit, so nothing could ever be stored.
    LimitTooLow {
        /// The limit in bytes.
        limit: usize,
        /// Bytes that the empty store holds.
        held: usize,
    },
    /// Both `exclude_from_dumps` and `page_source` are set, and only memory of the store's own
    /// source is excluded.
    DumpsOfOwnSource,
    /// A plug-in panicked, with this message. The panic was contained.
    Panicked(String),
    /// No spec was given, and the features that the default one needs are off.
    NoSpec,
    /// Two drivers of one name were given.
    Registry(RegistryError),
    /// The operating system gave no thread for the work queue.
    Thread(io::Error),
    /// The first pool could not be made.
    Switch(SwitchError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::BlockSize(size) => {
                write!(f, "`block_size({size})`: set 1 to {} bytes", crate::MAX_BLOCK_SIZE)
            }
            BuildError::AcceptPercent(percent) => {
                write!(f, "`accept_percent({percent})`: set 1 to 100 percent")
            }
            BuildError::MinGainPercent(percent) => {
                write!(f, "`min_gain_percent({percent})`: set 0 to 99 percent")
            }
            BuildError::MaxValueLen { bytes, block_size } => {
                write!(
                    f,
                    "`max_value_len({bytes})` is shorter than `block_size({block_size})`: set it to that or more, \
                     or leave it out"
                )
            }
            BuildError::MaxPending => f.write_str("`max_pending(0)`: set it to 1 or more"),
            BuildError::NoLimit { setting } => write!(
                f,
                "`{setting}` without a limit: set `limit_bytes` (to `usize::MAX` if `set_limit` sets one later), \
                 or leave `{setting}` out"
            ),
            BuildError::NoEviction { setting } => write!(
                f,
                "`{setting}` in a store that refuses at its limit: add `at_limit(AtLimit::Evict)`, or leave \
                 `{setting}` out"
            ),
            BuildError::LimitTooLow { limit, held } => write!(
                f,
                "`limit_bytes({limit})`: an empty store already holds {held} bytes; set a higher limit, or \
                 leave `limit_bytes` out for none"
            ),
            BuildError::DumpsOfOwnSource => f.write_str(
                "`exclude_from_dumps` with a `page_source` does nothing: leave one of them out, or give a \
                 source that is excluded itself",
            ),
            BuildError::Panicked(message) => write!(f, "a plug-in panicked: {message}"),
            BuildError::NoSpec => f.write_str("no spec was given, and this build has no default one"),
            BuildError::Registry(error) => error.fmt(f),
            BuildError::Thread(error) => write!(f, "no thread for the work queue: {error}"),
            BuildError::Switch(error) => error.fmt(f),
        }
    }
}

impl StdError for BuildError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            BuildError::Registry(error) => Some(error),
            BuildError::Thread(error) => Some(error),
            BuildError::Switch(error) => Some(error),
            _ => None,
        }
    }
}
