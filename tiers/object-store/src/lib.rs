//! A tier below a compressed store whose segments are objects: in S3, Google Cloud Storage, Azure,
//! a directory, or in memory.
//!
//! ```text
//!   a store's tier ──► ObjectStoreTier ──► task on a tokio runtime ──► object_store
//!     write(7, ..)        PUT  prefix/<random>/00000007-<write>           of your choice
//!     read(7, at, ..)     GET  ..., Range: bytes=at-end
//!     discard(7)          DELETE
//! ```
//!
//! - A segment is one object. It is written by one request, so it is there whole or not at all, and
//!   read in ranges.
//! - An object that is not there any more is [`Gone`](zpool_core::backing::BackingError::Gone): for
//!   a cache, a miss.
//! - The requests run on a runtime of the tier's own, with one thread, or on
//!   [yours](ObjectStoreTierBuilder::runtime). The calling thread waits for the answer, at most for
//!   [a time](ObjectStoreTierBuilder::timeout).
//! - **Memory leaves this machine unencrypted.** To encrypt it, put `zswap::tier::SealedStore` in
//!   front.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use zpool_core::backing::{BackingStore, SegmentNumber};
//! use zswap_tier_object_store::ObjectStoreTier;
//! use zswap_tier_object_store::object_store::memory::InMemory;
//!
//! let tier = ObjectStoreTier::builder(Arc::new(InMemory::new()), 1 << 30)
//!     .segment_bytes(4 << 20)
//!     .build()?;
//! tier.write(SegmentNumber::new(7), b"a segment, or a part of one")?;
//! let mut part = [0; 7];
//! tier.read(SegmentNumber::new(7), 2, &mut part)?;
//! assert_eq!(&part, b"segment");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Clouds
//!
//! The clients of clouds are features of `object_store`, so your program chooses them:
//!
//! ```toml
//! object_store = { version = "0.14", default-features = false, features = ["aws"] }
//! ```
//!
//! This crate has no features that pass them on, because they compile C and bring a TLS library,
//! which `cargo --all-features` would then build here.
//!
//! # What is left behind
//!
//! The objects of a tier are under a prefix of its own, which no other tier uses. Its drop deletes
//! them, and waits for that at most for the [timeout](ObjectStoreTierBuilder::timeout). A process
//! that is killed leaves them. Give the prefix a lifecycle rule that deletes objects after some
//! days; one that is deleted too early is a miss.
//!
//! # Where to read next
//!
//! [`ObjectStoreTier`], [`ObjectStoreTierBuilder`]. The contract is that of
//! [`BackingStore`](zpool_core::backing::BackingStore).

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod requests;
mod tier;

pub use object_store;

pub use builder::{
    DEFAULT_PREFIX, DEFAULT_SEGMENT_BYTES, DEFAULT_TIMEOUT, ObjectStoreTierBuilder,
    ObjectStoreTierError,
};
pub use tier::ObjectStoreTier;

/// The program in README.md is a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
