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
//! **This crate is GPL-2.0-only**, because [`lzo1x`], which does the work, is. Nothing that is published under MIT OR Apache-2.0 may depend on it, and
//! a program that links it is under the GPL as a whole. No other library of this workspace depends on it: programs register [`LzoDriver`] by hand.
//!
//! # The nouns
//!
//! - [`LzoDriver`] makes the codec under the name `lzo`. It takes no parameters: the library's other levels are for data that is compressed once.
//! - [`LzoCompressor`] is the codec, a [`Compressor`](zpool_core::compress::Compressor).
//!
//! # What it is good for
//!
//! Comparing with kernels: it was long the default compressor of zswap and of zram. It lies between lz4 and zstd in density.
//!
//! | pages of 4 KiB of | ratio | compress | decompress | through a pool's `Codec`, over the library alone |
//! |---|---|---|---|---|
//! | a Python process | 3.20 | 5.3 us | 2.7 us | 1.00, 1.00 |
//! | a Node.js process | 2.51 | 5.6 us | 2.8 us | 1.00, 1.00 |
//!
//! From `cargo run --release -p benches --bin overhead -- FILE --codec lzo`, on a shared virtual machine with two processors: compare rows, and with the
//! other codecs, rather than read the times. What is measured as the library alone copies its vector to a buffer, too.
//!
//! # What it costs besides
//!
//! The library keeps no state: every block compressed makes two vectors, a table of 4 KiB and the output, and the output is copied once more. So
//! this codec does not promise to be warm without heap calls. Decompression makes none.
//!
//! # Format
//!
//! A plain LZO1X stream with its end marker, as any other LZO1X decoder reads it: no length, no checksum.
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
//! let compressed = codec.compress(&block, block.len(), |bytes| bytes.map(<[u8]>::to_vec))?.expect("it shrinks");
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
//! [`zpool_core::compress`] for the contract; `compressor.rs` is all there is here.

#![forbid(unsafe_code)]

mod compressor;

pub use compressor::{LzoCompressor, LzoDriver};
