//! The reasons why a builder makes no store.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use zpool_manager::{RegistryError, SwitchError};

use crate::backing::{MAX_SEGMENTS, MIN_SEGMENTS, NoTier, TierPolicy};

/// The reason why there is no store.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The block size is 0 or over [`MAX_BLOCK_SIZE`](crate::MAX_BLOCK_SIZE).
    BlockSize(usize),
    /// The accept threshold is not a percentage from 1 to 100.
    AcceptPercent(u8),
    /// The minimum gain is not a percentage from 0 to 99.
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
    /// A limit was set, and nothing says what to do when the store reaches it.
    NoPolicy {
        /// The limit in bytes.
        limit: usize,
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
    /// The share of a CPU for drains is not a percentage from 1 to 100.
    DrainShare(u8),
    /// The policy of drains was set before the hasher, for whose type it does not work.
    DrainBeforeHasher,
    /// The cold pool was set before the hasher, for whose type its clock does not work.
    ColdBeforeHasher,
    /// A turn of the clock for cold blocks takes no time.
    ColdTurn,
    /// The policy of a tier was set, and there is no tier.
    NoTier,
    /// The tier was set before the hasher, for whose type its job does not work.
    TierBeforeHasher,
    /// A tier and a listener that decides what is evicted are set, and segments of a tier are
    /// dropped as a whole.
    TierWithListener,
    /// This policy of a full tier does not go with what the store does at its limit.
    TierPolicy(TierPolicy),
    /// The backing store has too few segments, or too many.
    TierSegments(u32),
    /// A segment of the backing store has no room for a block.
    TierSegmentTooShort {
        /// Bytes of a segment.
        bytes: usize,
        /// Bytes that a block takes, with its headers.
        needed: usize,
    },
    /// There is no memory for the buffers of a tier.
    TierOutOfMemory,
    /// A plug-in panicked, with this message. The panic was contained.
    Panicked(String),
    /// No spec was given, and the features that the default one needs are off.
    NoSpec,
    /// Two drivers of one name were given.
    Registry(RegistryError),
    /// The operating system refused a thread for the work queue.
    Thread(io::Error),
    /// The first pool could not be made.
    Switch(SwitchError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::BlockSize(size) => {
                write!(f, "`block_size({size})`: set 1 to {} bytes", crate::value::MAX_BLOCK_SIZE)
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
                    "`max_value_len({bytes})` is shorter than `block_size({block_size})`: set it \
                     to that or more, or leave it out"
                )
            }
            BuildError::MaxPending => f.write_str("`max_pending(0)`: set it to 1 or more"),
            BuildError::NoLimit { setting } => write!(
                f,
                "`{setting}` without a limit: set `limit_bytes` (to `usize::MAX` if `set_limit` \
                 sets one later), or leave `{setting}` out"
            ),
            BuildError::NoPolicy { limit } => write!(
                f,
                "`limit_bytes({limit})` without a policy: add `at_limit(AtLimit::Evict)`, which \
                 makes the store a cache, or `at_limit(AtLimit::Refuse)`"
            ),
            BuildError::NoEviction { setting } => write!(
                f,
                "`{setting}` in a store that refuses at its limit: add `at_limit(AtLimit::Evict)`, \
                 or leave `{setting}` out"
            ),
            BuildError::LimitTooLow { limit, held } => write!(
                f,
                "`limit_bytes({limit})`: an empty store already holds {held} bytes; set a higher \
                 limit, or leave `limit_bytes` out for none"
            ),
            BuildError::DumpsOfOwnSource => f.write_str(
                "`exclude_from_dumps` with a `page_source` does nothing: leave one of them out, or \
                 set a source that is excluded itself",
            ),
            BuildError::DrainShare(percent) => {
                write!(f, "`drain` with a share of {percent} percent: set 1 to 100 percent")
            }
            BuildError::DrainBeforeHasher => {
                f.write_str("`drain` was set before `hasher`: set it after `hasher`")
            }
            BuildError::ColdBeforeHasher => {
                f.write_str("`cold` was set before `hasher`: set it after `hasher`")
            }
            BuildError::ColdTurn => f.write_str("`cold_turn` of 0: set a time above 0"),
            BuildError::Panicked(message) => write!(
                f,
                "a plug-in panicked: {message}; replace the `allocator`, `compressor` or \
                 `executor` that did"
            ),
            BuildError::NoSpec => f.write_str(
                "no spec was given, and this build has no default one: set `spec`, or turn the \
                 features `zsmalloc` and `lz4` on",
            ),
            BuildError::Registry(error) => error.fmt(f),
            BuildError::Thread(error) => write!(
                f,
                "no thread for the work queue: {error}; allow more threads, or set `executor`"
            ),
            BuildError::Switch(error) => error.fmt(f),
            about_tier => about_tier.fmt_tier(f),
        }
    }
}

impl BuildError {
    /// Writes the text of an error about a tier.
    fn fmt_tier(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoTier => {
                f.write_str("`tier_policy` was set and there is no tier: add one by `tier`")
            }
            BuildError::TierBeforeHasher => f.write_str(
                "the tier was set before the hasher, for whose type its job does not work: call \
                 `hasher` first",
            ),
            BuildError::TierWithListener => f.write_str(
                "`on_evict_with` with a `tier`, whose segments are dropped as a whole, without a \
                 question: leave one of them out, or use `on_evict`",
            ),
            BuildError::TierPolicy(policy) => write!(
                f,
                "the tier policy {policy:?} contradicts what the store does at its limit: use \
                 `DropOldest` with `AtLimit::Evict`, `Refuse` with `AtLimit::Refuse`"
            ),
            BuildError::TierSegments(segments) => write!(
                f,
                "a backing store of {segments} segments: give it {MIN_SEGMENTS} to {MAX_SEGMENTS}"
            ),
            BuildError::TierSegmentTooShort { bytes, needed } => write!(
                f,
                "a segment of {bytes} bytes has no room for a block, which takes {needed}: use \
                 longer segments"
            ),
            BuildError::TierOutOfMemory => f.write_str(
                "no memory for the buffers of the tier: use smaller segments, or free memory",
            ),
            _ => unreachable!("the caller has looked"),
        }
    }
}

/// The text contains its cause, so there is no source (`docs/decisions/0039`).
impl StdError for BuildError {}

impl From<NoTier> for BuildError {
    fn from(error: NoTier) -> BuildError {
        match error {
            NoTier::Segments(segments) => BuildError::TierSegments(segments),
            NoTier::SegmentTooShort { bytes, needed } => {
                BuildError::TierSegmentTooShort { bytes, needed }
            }
            NoTier::OutOfMemory => BuildError::TierOutOfMemory,
        }
    }
}
