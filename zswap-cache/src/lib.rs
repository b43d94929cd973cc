//! A compressed cache in memory: a [`zswap::Store`] with expiry, single flight, versions, pins and
//! causes of removal.
//!
//! ```text
//!   get_or_insert_with(key, load) ─► get ─► hit: decompress
//!                                     └ miss ─► a flight of this key? ─► wait for it
//!                                                 └ none: load() ─► insert ─► wake the others
//!
//!   a stored key     | key | version 8 | expires 8 | idle limit and deadline 8 |
//!                            └─ Stamp: 24 bytes; Unstamped: none
//!
//!   removed: evicted, replaced, expired, invalidated, cleared ─► listener(key, length, cause)
//! ```
//!
//! # The nouns
//!
//! - A [`Cache`] maps keys to values of bytes, which it holds compressed. It is cheap to clone and
//!   used by any number of threads at once, without a lock of the caller's. At its *limit*, in
//!   bytes as the operating system counts them, it evicts what its eviction clock found cold.
//! - A *value* is any number of bytes up to 64 MiB unless [chosen
//!   otherwise](CacheBuilder::max_value_len). Values longer than a block are split, and a
//!   [range](Cache::get_range) of one is read without decompressing the rest.
//! - A *flight* is one computation of a missing value. Threads that miss the same key meanwhile
//!   wait for it, and each gets the value: [`get_or_insert_with`](Cache::get_or_insert_with).
//! - An entry *expires* at its time to live after it was stored, or at its time to idle after it
//!   was last used: [`time_to_live`](CacheBuilder::time_to_live),
//!   [`time_to_idle`](CacheBuilder::time_to_idle), [`EntryOptions`].
//! - A [`Version`] names what was stored at one moment. [`replace_if`](Cache::replace_if) stores
//!   only if it is still there, and [`update`](Cache::update) repeats that until it succeeds.
//! - A *pinned* entry is never evicted. Pinned values together have at most a
//!   [share](CacheBuilder::pinned_percent) of the limit.
//! - A [`RemovalCause`] says why an entry is gone; a [listener](CacheBuilder::on_removal) receives
//!   it.
//! - A *stamp* is what the cache attaches to a stored key: [`Stamp`], 24 bytes, or [`Unstamped`],
//!   none. A cache without stamps has no expiry, versions or pins, and entries cost what they cost
//!   in a store.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use zswap_cache::Cache;
//!
//! let cache: Cache<String> = Cache::builder()
//!     .limit_bytes(64 << 20)
//!     .time_to_live(Duration::from_secs(600))
//!     .build()?;
//! // Computed once, however many threads ask; no key is allocated for a hit.
//! let page = cache.get_or_insert_with("/index.html", || "<h1>hello</h1>".repeat(100))?;
//! assert_eq!(cache.get("/index.html")?, Some(page));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - A look-up returns the value last stored under its key, or nothing, and nothing that has
//!   expired. An [`insert`](Cache::insert) that fails leaves nothing under its key, and an
//!   [`insert_if_absent`](Cache::insert_if_absent) that fails changes nothing.
//! - A value computed in a flight is not stored if [`remove`](Cache::remove) or
//!   [`clear`](Cache::clear) removed its key meanwhile, or another value was stored under it: what
//!   the loader read may be older than that. That holds even if the other value is gone by then.
//! - No wait without a way out: a flight ends when its loader returns, fails or panics. A loader
//!   that needs the value it computes, by whatever chain of loaders and caches on other threads, is
//!   an error: [`CacheError::Recursive`]. A loader that waits for a thread of its own which needs
//!   the value cannot be detected: set [`max_wait`](CacheBuilder::max_wait) there.
//! - An entry that has expired costs its memory until a look-up meets it, the eviction clock passes
//!   it in a full cache, or [`remove_expired`](Cache::remove_expired) is called.
//! - Each removal is reported at most once, with its cause, after the memory is freed.
//!   [`on_removal`](CacheBuilder::on_removal) lists the exceptions.
//!
//! # Features
//!
//! - `zsmalloc`, `lz4` (default), `zbud`, `pagelz`, `zstd`: the back ends of `zswap`.
//! - `bytes`: values as `bytes::Bytes`. `serde`: [`CacheSettings`] and [`CacheStats`] as serde
//!   types. `metrics`: `CacheStats::record`.
//!
//! # Where to read next
//!
//! [`Cache`] and [`CacheBuilder`]; the examples `http_cache`, `buffer_pool` and `log_search`. In
//! the source, `cache/read.rs` and `cache/write.rs` are the two ways through a cache, `flight/` is
//! single flight, and `entry/` shows what an entry costs. `zswap/src/ops/conditional.rs` has the
//! hooks that all of it rests on.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod build_error;
mod builder;
mod cache;
pub mod docs;
mod entry;
mod error;
mod flight;
mod removal;
mod settings;
mod stats;
mod time;

pub use build_error::CacheBuildError;
pub use builder::{CacheBuilder, DEFAULT_PINNED_PERCENT};
pub use cache::Cache;
pub use entry::options::EntryOptions;
pub use entry::stamp::{EntryStamp, Stamp, Unstamped, Version};
pub use entry::stamped::Stamped;
pub use error::{CacheError, LoadError};
pub use removal::RemovalCause;
pub use settings::{ByteSize, CacheSettings, ParseSettingsError, TimeSpan};
pub use stats::CacheStats;
pub use time::ManualTime;

/// The programs in README.md are doctests.
#[cfg(all(doctest, feature = "zsmalloc", feature = "lz4"))]
#[doc = include_str!("../README.md")]
mod readme {}
