//! The guide: chapters to read in order, or one at a time. They contain nothing to call.
//!
//! 1. [`codecs_and_blocks`]: which codec, which level, how large a block.
//! 2. [`limits_and_eviction`]: what a limit counts, and what a full store does.
//! 3. [`switching`]: other allocators and codecs while data is stored.
//! 4. [`threads_and_async`]: what may block, runtimes, `fork`.
//! 5. [`accounting`]: where each byte is, and how to compare that with the system's figures.
//! 6. [`performance`]: what costs time, and how to find out on your own data.
//! 7. [`plug_ins`]: an allocator, a codec or an executor of your own.
//! 8. [`from_a_map`]: from a map of compressed vectors to a store.
//!
//! The crate `zswap-cache` has the chapter on moving from moka or another cache.

pub mod accounting;
pub mod codecs_and_blocks;
pub mod from_a_map;
pub mod limits_and_eviction;
pub mod performance;
pub mod plug_ins;
pub mod switching;
pub mod threads_and_async;
