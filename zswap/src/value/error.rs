//! Errors of stores and loads, classified by what the caller can do about them.

use std::error::Error as StdError;
use std::fmt;

use zpool_core::PoolError;
use zpool_core::compress::CodecError;

/// Error of a store, load or take. After an error of `store` no block is stored under that key.
/// After an error of a load or take, nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// `store`: the value is longer than [`max_value_len`](crate::StoreBuilder::max_value_len).
    /// `import`: the value is, or a block is longer than the block size.
    BlockTooLong {
        /// Bytes of the value or block.
        len: usize,
        /// The most bytes allowed.
        max: usize,
    },
    /// `load`, `take`: the block does not fit the buffer. Nothing was decompressed.
    BufferTooSmall {
        /// Bytes of the block.
        needed: usize,
        /// Bytes of the buffer.
        given: usize,
    },
    /// No memory for a buffer: that of `load_vec`, `load_with` and their like, that of a record in
    /// the tier (any call that reads), or that in which `import` decodes.
    BufferOutOfMemory {
        /// Bytes of the block.
        needed: usize,
    },
    /// `store`: the store is at its limit, or was at it and is not yet below its low watermark. It
    /// has released what it could without evicting. Remove something and try again, or raise the
    /// limit.
    Full {
        /// Bytes held; for a value that could not be kept even if it were alone, the bytes that it
        /// would need.
        held: usize,
        /// The limit in bytes.
        limit: usize,
        /// Below this many bytes the store takes blocks again:
        /// [`accept_percent`](crate::StoreBuilder::accept_percent) of the limit, or the limit
        /// itself in a store that evicts.
        threshold: usize,
        /// Entries that this call could not evict, because the listener of
        /// [`on_evict_with`](crate::StoreBuilder::on_evict_with) kept them, or they could not be
        /// shown to it. 0 in a store without one.
        kept: usize,
    },
    /// `store`: there is no current pool.
    NoPool,
    /// `store_many`, `load_many`: no memory for the list of results. The call ends with this item:
    /// it failed, and so did those after it, which have no results of their own.
    ResultsOutOfMemory,
    /// `store`: no memory for the index to grow, or for the list of the blocks of a value.
    IndexOutOfMemory,
    /// `import`: no pool of the store has this codec. Decode the block and store it, or switch to
    /// the codec first.
    UnknownCodec {
        /// The codec's identity.
        codec: String,
    },
    /// `import`: a block of a longer value does not have the store's block size, or is empty.
    UnevenBlocks {
        /// Its bytes.
        len: usize,
        /// The store's block size.
        block_size: usize,
    },
    /// The allocator refused.
    Pool(PoolError),
    /// The allocator panicked, with this message. The panic was contained.
    AllocatorPanicked(String),
    /// `load` and other calls that read: the block is in the tier, and this thread is in a
    /// [`NoBlock`](crate::plugin::NoBlock) section. Nothing has changed.
    WouldBlock,
    /// `load` and other calls that read: the backing store of the tier failed, with this message.
    /// The block is still stored.
    TierFailed(String),
    /// The compressor failed; a load reports a corrupt object by [`CodecError::Corrupt`].
    Codec(CodecError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::BlockTooLong { len, max } => {
                write!(
                    f,
                    "a value or block of {len} bytes is over the {max} allowed: store less under \
                     a key, or raise `max_value_len` or `block_size`"
                )
            }
            Error::BufferTooSmall { needed, given } => {
                write!(f, "the block has {needed} bytes, the buffer {given}: pass a longer one")
            }
            Error::BufferOutOfMemory { needed } => {
                write!(
                    f,
                    "no memory for a buffer of {needed} bytes: free memory, or load into a buffer \
                     of your own"
                )
            }
            Error::Full { held, limit, kept, .. } if *kept > 0 => write!(
                f,
                "the store is full: it holds {held} bytes of a limit of {limit}, and the listener \
                 of `on_evict_with` kept all {kept} entries that were to be evicted; let it \
                 answer `Evict`, remove something, or raise the limit by `set_limit`"
            ),
            // Only a store that refuses has a threshold below its limit.
            Error::Full { held, limit, threshold, .. } if threshold < limit => write!(
                f,
                "the store is full: it holds {held} bytes of a limit of {limit}, and takes blocks \
                 again below {threshold}; remove something, raise the limit by `set_limit`, or \
                 build the store with `at_limit(AtLimit::Evict)`"
            ),
            Error::Full { held, limit, .. } => write!(
                f,
                "the store is full: it holds or needs {held} bytes of a limit of {limit}; remove \
                 something, or raise the limit by `set_limit`"
            ),
            Error::NoPool => f.write_str("there is no current pool: switch to one"),
            Error::ResultsOutOfMemory => f.write_str(
                "no memory for the results of this item and those after it: try smaller batches",
            ),
            Error::IndexOutOfMemory => {
                f.write_str("no memory for the index: free memory and store again")
            }
            Error::UnknownCodec { codec } => write!(
                f,
                "no pool of the store has the codec `{codec}`: switch to it, or decode the block \
                 and store it"
            ),
            Error::UnevenBlocks { len, block_size } => write!(
                f,
                "a block of {len} bytes in a value whose blocks have {block_size}: decode the \
                 value and store it"
            ),
            Error::Pool(error) => error.fmt(f),
            Error::AllocatorPanicked(message) => {
                write!(f, "the allocator panicked: {message}; switch to another one")
            }
            Error::WouldBlock => f.write_str(
                "the block is in the tier, and reading it would block: load it outside of the \
                 no-block section, or by a ticket",
            ),
            Error::TierFailed(message) => {
                write!(f, "the tier could not be read: {message}; the block is still stored, retry")
            }
            Error::Codec(error) => error.fmt(f),
        }
    }
}

/// The text contains its cause, so there is no source (`docs/decisions/0039`).
impl StdError for Error {}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// The error of a full store advises it to evict only if it refuses.
    #[test]
    fn full_error_advises_by_policy() {
        let text =
            |threshold| Error::Full { held: 105, limit: 100, threshold, kept: 0 }.to_string();
        assert!(text(91).contains("below 91") && text(91).contains("AtLimit::Evict"));
        assert!(text(100).contains("set_limit") && !text(100).contains("AtLimit::Evict"));
    }
}
