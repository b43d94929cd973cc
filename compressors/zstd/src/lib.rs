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
//!   given; `dict`, a file, or the name that [`remember`] gives.
//! - [`ZstdCompressor`] is the codec, a [`Compressor`](zpool_core::compress::Compressor). Both its kinds of contexts have state, reused from block to block.
//! - A *dictionary* is bytes that blocks are likely to share, known to both sides beforehand. [`train`] makes one from samples;
//!   [`train_and_judge`] does and gives it only if it pays on other blocks.
//!
//! # What it is good for
//!
//! Fitting the most into memory: the densest codec here at any level from -1 up. Negative levels are its fast ones; levels over 3 cost much more time for
//! little on blocks as short as a page.
//!
//! | pages of 4 KiB of | level | ratio | compress | decompress | through a pool's `Codec`, over the library alone |
//! |---|---|---|---|---|---|
//! | a Python process | 1 | 4.55 | 12.2 us | 4.7 us | 1.00, 1.01 |
//! | | -1 | 4.18 | 7.6 us | 3.1 us | 1.01, 1.01 |
//! | a Node.js process | 1 | 3.81 | 12.3 us | 4.9 us | 1.01-1.02, 1.00-1.01 |
//! | | -1 | 3.32 | 7.8 us | 2.9 us | 1.00-1.02, 1.00 |
//!
//! A dictionary helps where blocks resemble each other, and harms where they do not; [`train_and_judge`] finds out. On blocks that it was not trained
//! on, at level 1, one of 4 KiB makes compression of the Python pages 1.34 times and decompression 1.41 times as fast, with 4 % fewer bytes. On the
//! Node.js pages it adds 6 % to the bytes, and is refused. At level -1 it takes 4 % off the bytes of the Python pages and saves no time.
//!
//! From `cargo run --release -p benches --bin overhead -- FILE` and `zlab train FILE -o DICT --level LEVEL`, on a shared virtual machine with two
//! processors: compare rows, and with the other codecs, rather than read the times.
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
//! [`zpool_core::compress`] for the contract, `compressor.rs` for the codec, `context.rs` for the halves with state, `dictionary.rs`, `train.rs`
//! and `judge.rs` for dictionaries. `attached.rs` has the one piece of `unsafe`.

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
