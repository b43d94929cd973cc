//! Contracts of a compressed memory pool (zswap's zpool): traits for its allocators, compressors
//! and executors, with the types they share.
//!
//! ```text
//!            zswap, zpool-manager                      users of a pool
//!   ───────────┬───────────────┬──────────────┬─────────────────────────────────────────
//!          ZPool           Compressor      Executor    this crate: contracts,
//!        insert read       compress        submit(Job)
//!        free  ...         decompress
//!   ───────────┼───────────────┼──────────────┼─────────────────────────────────────────
//!      zbud, zsmalloc     lz4, lzo, zstd    queues     implementations
//!              │
//!         PageSource                                   and the source of frames
//! ```
//!
//! # The nouns
//!
//! - An *object* is a run of bytes that is stored once, read any number of times and freed. A
//!   [`ZPool`] packs objects into pages.
//! - A [`Handle`] is the token for one object: move-only, consumed by `free`. A [`ReadGuard`]
//!   borrows the object's bytes and pins them.
//! - A *frame* is a page of the operating system. A [`PageSource`](page::PageSource) hands out runs
//!   of frames.
//! - A [`BackingStore`](backing::BackingStore) keeps segments of bytes outside of memory, for
//!   blocks that were not used for long.
//! - A *driver* makes plug-ins by name and parameters: [`ZPoolDriver`],
//!   [`CompressorDriver`](compress::CompressorDriver).
//!
//! # Example
//!
//! An allocator of your own needs no `unsafe`: a [`HandleMint`] makes its handles, and
//! [`ReadGuard::shared`] its guards.
//!
//! ```
//! use std::sync::Arc;
//! use zpool_core::{HandleMint, PoolError, ReadGuard};
//!
//! let (mint, other) = (HandleMint::new(), HandleMint::new());
//! let object: Arc<[u8]> = Arc::from(&b"a compressed block"[..]);
//! let handle = mint.mint(7, 0); // entry 7 of the pool's table, never used before
//!
//! assert_eq!(mint.open(&handle)?.index, 7);
//! assert_eq!(&*ReadGuard::shared(object), b"a compressed block");
//! assert_eq!(other.open(&handle), Err(PoolError::ForeignHandle));
//! # Ok::<(), PoolError>(())
//! ```
//!
//! # Rules that span crates
//!
//! - *May block* means: may wait without bound. A thread that must not block opens a [`NoBlock`]
//!   section. An operation that may block calls [`might_block`].
//! - A [`Job`](exec::Job) is work that may block, in a node that is allocated beforehand, so
//!   handing it over cannot fail for want of memory.
//! - Every lock of this crate is a leaf: no other lock is taken and no foreign code runs under it.
//!
//! # Safety model
//!
//! No safe caller, plug-in or decoder can cause undefined behaviour. Handles are opened as
//! untrusted numbers, and guards own their pins. The one unsafe trait is
//! [`PageSource`](page::PageSource), because references are made of its memory. UNSAFE.md lists the
//! files that contain `unsafe`.
//!
//! # Features
//!
//! - `testing`: for test suites. Page sources that inject faults or report their calls, and
//!   [`HandleId::forge`](handle::HandleId) for stale handles. Off by default.
//!
//! # Where to read next
//!
//! [`ZPool`] for the contract of an allocator, [`compress`] of a compressor, [`exec`] of an
//! executor, [`backing`] of a backing store. zpool-conformance has test suites for all four, and a
//! tutorial.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backing;
mod capabilities;
mod compaction;
pub mod compress;
mod error;
pub mod exec;
#[allow(unsafe_code, reason = "a guard that must not hold a reference while it unpins")]
mod guard;
pub mod handle;
#[doc(hidden)]
pub mod internal;
mod noblock;
pub mod page;
mod pool;
pub mod spec;
mod stats;

pub use capabilities::Capabilities;
pub use compaction::{
    CompactionBudget, CompactionReport, Evict, NotEvicted, ReclaimError, ReclaimReport,
};
pub use error::{CreateError, FreeError, PoolError, Violation};
pub use guard::{Pins, ReadGuard};
pub use handle::{Handle, HandleId, HandleMint, PoolId};
pub use noblock::{
    BlockViolation, CheckPolicy, NoBlock, first_violation, might_block, set_check_policy,
    violations,
};
pub use pool::{PoolConfig, ZPool, ZPoolDriver};
pub use stats::{GroupStats, PoolStats};
