//! lzo for compressed memory pools: LZO1X level 1, in pure and safe Rust.
//!
//! ```text
//!   LzoDriver ── open("lzo") ──► LzoCompressor          shared, without settings
//!                                  │ compression_context()      │ decompress()
//!                                  ▼                            ▼
//!                                LzoContext                   nothing: stateless
//!                                holds nothing
//! ```
//!
//! # Licence
//!
//! **This crate is GPL-2.0-only**, because [`lzo1x`], which it wraps, is. Nothing published under
//! MIT OR Apache-2.0 may depend on it, and a program that links it is under the GPL as a whole. No
//! other library of this workspace depends on it: programs register [`LzoDriver`] themselves.
//!
//! # The nouns
//!
//! - [`LzoDriver`] makes the compressor under the name `lzo`. It takes no parameters: the library's
//!   other levels are for data that is compressed once.
//! - [`LzoCompressor`] is the compressor, a [`Compressor`](zpool_core::compress::Compressor).
//!
//! # Purpose
//!
//! Comparisons with kernels: LZO was the default compressor of zswap and zram for a long time. Its
//! density lies between lz4 and zstd.
//!
//! docs/measurements/codecs.md has figures and the command that measures them.
//!
//! # Further costs
//!
//! The library keeps no state. Each compressed block makes two vectors, a table of 4 KiB and the
//! output, and the output is copied once more. So this compressor does not promise that a warm one
//! makes no heap call. Decompression makes none.
//!
//! # Format
//!
//! A plain LZO1X stream with its end marker, as any other LZO1X decoder reads it: no length, no
//! checksum.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use zpool_core::compress::Codec;
//! use zpool_lzo::LzoCompressor;
//!
//! let codec = Codec::new(Arc::new(LzoCompressor::new()), 4096);
//! let block = b"one page of memory ".repeat(200);
//! let compressed = codec.compress(&block, block.len(), |bytes| bytes.map(<[u8]>::to_vec))?;
//! let compressed = compressed.expect("it shrinks");
//!
//! let mut back = vec![0; block.len()];
//! codec.decompress(&compressed, &mut back)?;
//! assert_eq!(back, block);
//! # Ok::<(), zpool_core::compress::CodecError>(())
//! ```
//!
//! # Features
//!
//! None.
//!
//! # Where to read next
//!
//! [`zpool_core::compress`] for the contract. `compressor.rs` is the whole implementation.

#![forbid(unsafe_code)]

mod compressor;

pub use compressor::{LzoCompressor, LzoDriver};

/// The program in README.md is a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
