//! zstd for compressed memory pools: the dense compressor, with levels and trained dictionaries.
//!
//! ```text
//!   ZstdDriver ── open("zstd(level=-1,dict=FILE)") ──► ZstdCompressor: level, dictionary
//!                                                        │                        ▲            ▲
//!                              compression_context() ────┤                        │ refers to  │
//!                                                        ├──► CompressionContext ─┘            │
//!                              decompression_context() ──┴──► DecompressionContext ────────────┘
//! ```
//!
//! # The nouns
//!
//! - [`ZstdDriver`] makes the compressor under the name `zstd`. Parameters: `level` from -7 to 19
//!   (default [`ZstdCompressor::DEFAULT_LEVEL`]), and `dict`, a file or a name from [`remember`].
//! - [`ZstdCompressor`] is the compressor, a [`Compressor`](zpool_core::compress::Compressor). Both
//!   its kinds of contexts have state, reused from block to block.
//! - A *dictionary* is bytes that blocks are likely to share, known to both sides beforehand.
//!   [`train`] makes one from samples. [`train_and_judge`] returns one only if it pays on other
//!   blocks.
//!
//! # Purpose
//!
//! The highest density: it is the densest compressor here at any level from 1 up. Negative levels
//! are its fast ones. Levels over 3 take much more time and gain little on blocks as short as a
//! page.
//!
//! A dictionary helps if blocks resemble each other, and harms if they do not. [`train_and_judge`]
//! measures which. docs/measurements/codecs.md has figures and the commands that measure them.
//!
//! # Format
//!
//! A standard zstd frame without facts that the caller knows: no magic number, content size,
//! checksum or dictionary id. Decoders call that format *magicless*; with the four bytes `28 B5 2F
//! FD` in front it is an ordinary frame. A corrupt frame is detected only if it violates the
//! format. Otherwise it decompresses to wrong bytes of the full length.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use zpool_core::compress::{Codec, CompressorDriver};
//! use zpool_core::spec::Component;
//! use zpool_zstd::ZstdDriver;
//!
//! let asked: Component = "zstd(level=-1)".parse()?;
//! let codec = Codec::new(ZstdDriver.open(&asked.params)?, 4096);
//! assert_eq!(codec.compressor().identity(), &asked);
//!
//! let block = b"one page of memory ".repeat(200);
//! let compressed = codec.compress(&block, block.len(), |bytes| bytes.map(<[u8]>::to_vec))?;
//! let compressed = compressed.expect("it shrinks");
//! let mut back = vec![0; block.len()];
//! codec.decompress(&compressed, &mut back)?;
//! assert_eq!(back, block);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! None. This crate compiles C (the library is zstd itself, under BSD-3-Clause). Its tests route
//! the library's allocations through Rust's allocator.
//!
//! # Where to read next
//!
//! [`zpool_core::compress`] for the contract, `compressor.rs` for the compressor, `context.rs` for
//! the contexts, `dictionary.rs`, `train.rs` and `judge.rs` for dictionaries. `attached.rs` has the
//! only `unsafe`.

#[allow(unsafe_code, reason = "a C context that refers to a dictionary it shares")]
mod attached;
mod compressor;
mod context;
mod dictionary;
mod judge;
mod remembered;
mod train;
mod xxh64;

pub use compressor::{ZstdCompressor, ZstdDriver};
pub use judge::{Cost, Trained, Verdict, judge, train_and_judge};
pub use remembered::{forget, remember};
pub use train::{TrainError, train};
