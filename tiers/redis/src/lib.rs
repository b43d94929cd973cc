//! A tier below a compressed store whose segments are values of a Redis or Valkey server.
//!
//! ```text
//!   a store's tier ──► RedisTier ──► one of a few connections ──► server
//!     write(7, ..)       SET prefix:<random>:7:<write> bytes [PX time]
//!     read(7, at, ..)    GETRANGE ... at end
//!     discard(7)         UNLINK ...
//! ```
//!
//! - A segment is one value, which is there whole or not at all.
//! - A value that is not there any more, because the server evicted it, restarted or was flushed,
//!   is [`Gone`](zpool_core::backing::BackingError::Gone): for a cache, a miss. A server that
//!   refuses a value for want of memory is [`Full`](zpool_core::backing::BackingError::Full).
//! - If another client cut a value off, a read behind its end is a miss, and a read across its end
//!   fails.
//! - Idle connections are kept for later calls. The [timeout](RedisTierBuilder::timeout) bounds
//!   each connect, send and receive; a call may need several. If a call fails, its connection is
//!   closed.
//! - **Memory leaves this machine unencrypted.** To encrypt it, put `zswap::tier::SealedStore` in
//!   front. TLS to the server is a feature of the crate `redis`, which your program chooses.
//!
//! # Example
//!
//! ```no_run
//! use zpool_core::backing::{BackingStore, SegmentNumber};
//! use zswap_tier_redis::{RedisTier, redis};
//!
//! let client = redis::Client::open("redis://127.0.0.1:6379")?;
//! let tier = RedisTier::builder(client, 1 << 30).build()?;
//! tier.write(SegmentNumber::new(7), b"a segment, or a part of one")?;
//! let mut part = [0; 7];
//! tier.read(SegmentNumber::new(7), 2, &mut part)?;
//! assert_eq!(&part, b"segment");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is left behind
//!
//! The keys of a tier have a prefix of its own, which no other tier uses. Its drop unlinks them. A
//! process that is killed leaves them, so [let them expire](RedisTierBuilder::expire_after) or
//! choose an eviction policy such as `allkeys-lru` for the server. A value that goes too early is a
//! miss.
//!
//! # Where to read next
//!
//! [`RedisTier`], [`RedisTierBuilder`]. The contract is that of
//! [`BackingStore`](zpool_core::backing::BackingStore).

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod connections;
mod tier;

pub use redis;

pub use builder::{
    DEFAULT_IDLE_CONNECTIONS, DEFAULT_PREFIX, DEFAULT_SEGMENT_BYTES, DEFAULT_TIMEOUT,
    RedisTierBuilder, RedisTierError,
};
pub use tier::RedisTier;

/// The program in README.md is a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
