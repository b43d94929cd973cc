//! zstd for compressed memory pools: the dense codec, with levels and trained dictionaries.
//!
//! ```text
//!   ZstdDriver ── open("zstd(level=-1,dict=FILE)") ──► ZstdCompressor       shared: level, digested dictionary
//!                                                        │                        ▲            ▲
//!                              compression_context() ────┤                        │ refers to  │
//!                                                        ├──► CompressionContext ─┘            │
//!                              decompression_context() ──┴──► DecompressionContext ────────────┘
//! ```
//!
//! # The nouns
//!
//! - [`ZstdDriver`] makes the codec under the name `zstd`. Parameters: `level` from -7 to 19, [`ZstdCompressor::DEFAULT_LEVEL`] if not
//!   given; `dict`, a file.
//! - [`ZstdCompressor`] is the codec, a [`Compressor`](zpool_core::compress::Compressor). Both its kinds of contexts have state, reused from block to block.
//! - A *dictionary* is bytes that blocks are likely to share, known to both sides beforehand. [`train`] makes one from samples.
//!
//! # What it is good for
//!
//! Fitting the most into memory: the densest codec here at any level from -1 up. Negative levels are its fast ones; levels over 3 cost much more time for
//! little on blocks as short as a page. Larger blocks and a dictionary both help where blocks resemble each other.
//!
//! # Format
//!
//! A standard zstd frame without what the caller knows already: no magic number, no content size, no checksum, no dictionary id. Decoders call that format
//! *magicless*; with the four bytes `28 B5 2F FD` in front it is an ordinary frame. A corrupt frame is found only where it breaks the format; otherwise
//! wrong bytes come back, over the full length.
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
//! let compressed = codec.compress(&block, block.len(), |bytes| bytes.map(<[u8]>::to_vec))?.expect("it shrinks");
//! let mut back = vec![0; block.len()];
//! codec.decompress(&compressed, &mut back)?;
//! assert_eq!(back, block);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! None. This crate compiles C (the library is zstd itself, under BSD-3-Clause). Its tests route the library's allocations through Rust's allocator.
//!
//! # Where to read next
//!
//! [`zpool_core::compress`] for the contract, `compressor.rs` for the codec, `context.rs` for the halves with state, `dictionary.rs` and `train.rs` for
//! dictionaries. `attached.rs` has the one piece of `unsafe`.

#[allow(unsafe_code, reason = "a C context that refers to a dictionary it shares")]
mod attached;
mod compressor;
mod context;
mod dictionary;
mod train;
mod xxh64;

pub use compressor::{ZstdCompressor, ZstdDriver};
pub use train::{TrainError, train};
