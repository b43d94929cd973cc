//! A compressed store in memory: give it blocks of bytes, get them back exactly; change how they
//! are packed and compressed while they are in it.
//!
//! ```text
//!   store(key, block) ─► same-filled? ─► current pool ─► limit ─► compress ─► insert ─► index
//!                                                          └► evict the coldest, if configured
//!   load(key, buffer) ◄─ decompress ◄─ pin ◄─ index: key ─► {pool, handle, length}
//!
//!   switch(spec)          current pool         retired pools, until their blocks are drained
//!   "zsmalloc+zstd" ─►  [ zsmalloc+zstd ]      zsmalloc+lz4   zbud+lz4
//! ```
//!
//! # The nouns
//!
//! - A *block* is 0 bytes to the block size (4 KiB unless chosen otherwise), stored under a *key*
//!   and loaded whole. A block that repeats eight bytes, or has none, is *same-filled* and costs no
//!   pool memory; one that does not shrink is *incompressible* and kept raw.
//! - A *value* longer than a block is split and joined again inside, up to [a
//!   length](StoreBuilder::max_value_len) of 64 MiB by default.
//! - A *limit* is in bytes as the operating system counts them (`usize::MAX`: none, as `None` in
//!   [`set_limit`](Store::set_limit)). A store that reaches it releases memory that no block needs,
//!   as [`trim`](Store::trim) and [`compact`](Store::compact) do. Only then does it refuse, or
//!   evict the coldest blocks (CLOCK, approximately least recently used): [`AtLimit`].
//! - A *pool* is an allocator and a compressor, made from a *spec*: `zsmalloc(chain=8)+lz4`. New
//!   blocks go to the *current* pool.
//! - A *switch* makes another pool current. The old one is *retired*: its blocks load as before. A
//!   [drain](Store::drain) moves them to the current pool. An *executor* destroys the pool once no
//!   block is left in it. The default executor is a thread that all stores of the process share.
//! - A [`Store`] is all of this: cheap to clone, used by any number of threads at once.
//!
//! # Example
//!
//! ```
#![cfg_attr(all(feature = "zsmalloc", feature = "lz4"), doc = include_str!("../examples/first.rs"))]
#![cfg_attr(
    not(all(feature = "zsmalloc", feature = "lz4")),
    doc = "use zswap::Store; // as in examples/first.rs, with the features `zsmalloc` and `lz4`"
)]
//! ```
//!
//! # What is promised
//!
//! - A load returns the block last stored under its key, or nothing: never an older one, never
//!   another's. A `store` that fails removes the older block.
//! - No store or load fails, waits or sees a difference because of a switch, however many retired
//!   pools have blocks.
//! - No store fails because of the order of keys or of what their hashes are, and any number of
//!   readers may hold a block of zsmalloc's. See [`load`](Store::load) for allocators that count
//!   fewer.
//! - `invalidate` and every drop of a reference neither block nor allocate; pools are destroyed
//!   elsewhere. Eviction and the store's drop need no memory of their own, nor does `clear` below
//!   65 536 entries.
//! - Bad input, exhausted memory, and panics of allocators and compressors are errors. If an
//!   allocator panics after a call has succeeded (while it frees or unpins an object), that is
//!   [counted](StoreStats::unpins_panicked) instead. Nothing is lost, and no safe code can cause
//!   undefined behaviour. In a program built with `panic = "abort"` nothing is contained: a
//!   plug-in's panic ends the process.
//! - Once warm, loads and stores over existing keys make no heap call, with a compressor that makes
//!   none (lz4), except where a table of the allocator has to grow.
//! - The limit is exceeded by no more than the stores in flight add: see [`AtLimit`]. Memory that
//!   the system does not take back still counts. Contexts that compress hold at most 1/4 of the
//!   limit, or one in each pool; a store that needs another one waits for it.
//! - Not promised, without [checksums](StoreBuilder::checksums): that a bit flipped in memory is
//!   noticed. It is an error or wrong bytes of the full length.
//!
//! # Panics of plug-ins, and `panic = "abort"`
//!
//! Allocators, compressors, executors, observers and page sources are foreign code. A panic in any
//! call of theirs is caught: it becomes an error that names the plug-in, or, in a destructor and
//! wherever there is nothing to return, a counter. All of that rests on unwinding. In a program
//! built with `panic = "abort"` the first panic of a plug-in ends the process, inside a job of the
//! worker as well. Then nothing is promised about panics here, and everything else holds. The same
//! is true of two panics at once, the second in a destructor that runs because of the first: Rust
//! aborts there.
//!
//! # Keys
//!
//! A key needs `Hash` and `Eq`; listing keys, and lending them to
//! [`on_evict_with`](StoreBuilder::on_evict_with), also needs `Clone`. Look-ups take any borrowed
//! form of it, such as `&str` for a `String`. Std's keyed hasher is the default, so keys may come
//! from untrusted input. For trusted integer keys such as page numbers, use [`SequentialKeys`]:
//! hashing is almost free, and eight consecutive keys share neighbouring buckets of the index, so a
//! sequential scan misses the cache once for several keys.
//!
//! The index takes keys in any order, and any number of keys of one hash. Those are compared one by
//! one, so the store becomes slow for them. The bytes of a key itself count towards the limit, what
//! it owns on the heap does not. Keys that are not equal to themselves are found by
//! [`retain`](Store::retain) only.
//!
//! # Lock order
//!
//! A shard of the index, below it the allocator's own (in `read` and `exchange`, which never
//! block), each held for a bounded time. Under a shard's lock the index may also get frames of its
//! own from the system, for one part of its table. Compressors, `insert`, `free` and drops of keys,
//! eviction listeners and the closures of `retain` and `load_with` run under no lock of the
//! store's.
//!
//! # Features
//!
//! - `zsmalloc`, `lz4` (default): these are known by name, and are what a store is made of unless
//!   you choose others. Pure Rust, no C.
//! - `zbud`, `pagelz`: known by name, pure Rust. `zstd`: known by name; compiles C.
//! - Everything else is registered by hand: see [`StoreBuilder::allocator`] and
//!   [`StoreBuilder::compressor`].
//!
//! # Where to read next
//!
//! [`docs`] is the guide, in chapters. [`Store`] and [`StoreBuilder`] are the reference, and
//! [`manager::PoolManager`] for the pools. The examples are `slow_file`, `json_cache`,
//! `dirty_pages`, `tokio_server`, `tier_tokio` and `metrics_export`. In the source, `ops/store.rs`
//! and `ops/load.rs` are the two ways through the store; `index/table/` and `index/clock.rs` show
//! what an entry costs and when it is evicted; `moving/relocate.rs` is the way of an entry from one
//! pool to another, and `pressure/writeback/` that to the tier.
//! `ops/conditional.rs` has the operations that look at stored keys, on which the crate zswap-cache
//! rests: a cache with expiry, single flight and versions. The folders are layers, lowest first:
//! `value`, `stats`, `backing`, `index`, `limit`, `store`, `pressure`, `ops`, `moving`, `batches`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backing;
mod build_error;
pub mod docs;
mod hasher;
mod index;
mod limit;
mod media;
pub mod stats;
mod value;

// Methods of `Store`, in the order in which rustdoc shows them: build; store, load, remove; limits;
// switching; batches; statistics. Blank lines keep rustfmt from sorting these by name.
mod builder;

mod ops;

mod pressure;

mod store;

mod batches;

mod moving;

mod inspect;

#[cfg(all(feature = "testing", debug_assertions, not(test)))]
#[doc(hidden)]
pub mod instances;

pub use batches::batch_results::{BatchResults, BatchResultsIntoIter};
pub use build_error::BuildError;
pub use builder::{DEFAULT_ACCEPT_PERCENT, StoreBuilder};
pub use hasher::{SequentialHasher, SequentialKeys};
pub use limit::decision::EvictionDecision;
pub use limit::policy::AtLimit;
pub use stats::StoreStats;
pub use store::Store;
pub use store::settings::{DEFAULT_BLOCK_SIZE, DEFAULT_MAX_VALUE_LEN};
pub use value::MAX_BLOCK_SIZE;
pub use value::encoded_block::EncodedBlock;
pub use value::error::Error;
pub use value::eviction_candidate::EvictionCandidate;
pub use zpool_core::CompactionBudget;
pub use zpool_core::spec::{Component, PoolSpec, SpecError};
pub use zpool_manager::{SwitchError, Switched};

/// Arguments and results of the operations that look at stored keys, such as
/// [`store_if`](Store::store_if).
pub mod conditional {
    pub use crate::index::clock::EvictionAdvice;
    pub use crate::index::equivalent::Equivalent;
    pub use crate::ops::stored_if::{NotStored, StoredIf};
}

/// Moving blocks from one pool to another: [`Store::drain`] for retired pools, and
/// [`StoreBuilder::cold`] for a cold pool.
pub mod drain {
    pub use crate::stats::cold_report::ColdReport;
    pub use crate::stats::drain_report::{DrainBudget, DrainEnd, DrainProgress, DrainReport};
    pub use crate::store::cold_state::DEFAULT_COLD_TURN;
    pub use crate::store::drain_state::DrainPolicy;
}

/// The tier below memory, for blocks that a store at its limit has no room for (see
/// [`StoreBuilder::tier`]), and media for it: a temporary file, and encryption above any
/// [`BackingStore`](zpool_core::backing::BackingStore).
pub mod tier {
    pub use crate::backing::TierPolicy;
    #[cfg(unix)]
    pub use crate::media::file::{
        DEFAULT_SEGMENT_BYTES, FileTier, FileTierBuilder, FileTierError, PageCache,
    };
    pub use crate::media::seal::{Seal, SealError, SealNonce};
    pub use crate::media::sealed::{SealedStore, SealedStoreError};
    pub use crate::ops::ticket::{LoadOrTicket, LoadTicket, Residence};
    pub use crate::stats::{LostBlocks, TierStats};
}

/// Traits and types for allocators, compressors, executors, page sources and backing stores of your
/// own.
pub mod plugin {
    pub use zpool_core;
    pub use zpool_core::backing::{
        AlignedBytes, AllocationRefused, BackingCapabilities, BackingError, BackingStore,
        CapabilitiesError, SegmentNumber,
    };
    pub use zpool_core::compress::{
        CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor,
        CompressorDriver, DecompressionContext,
    };
    pub use zpool_core::exec::{
        DrainError, DrainExecutor, Executor, ExecutorCapabilities, Inline, Job, Manual, Refused,
        RefusedReason,
    };
    pub use zpool_core::page::{BudgetedSource, HeapSource, PageSource};
    pub use zpool_core::spec::Params;
    pub use zpool_core::{
        Capabilities, CreateError, FreeError, Handle, HandleId, HandleMint, NoBlock, PoolConfig,
        PoolError, PoolId, PoolStats, ReadGuard, Violation, ZPool, ZPoolDriver,
    };
    pub use zpool_manager::WorkQueue;
}

/// The pool manager behind a store: its pools, references to them, and the registry of drivers.
pub mod manager {
    pub use zpool_manager::{
        ManagerStats, Pool, PoolInfo, PoolLabel, PoolManager, PoolRef, PoolState, Registry,
        RegistryError,
    };
}
