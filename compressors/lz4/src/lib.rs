//! lz4 for compressed memory pools: the fast codec, in pure Rust.
//!
//! ```text
//!   Lz4Driver ── open("lz4") ──► Lz4Compressor          shared, without settings
//!                                  │ compression_context()      │ decompress()
//!                                  ▼                            ▼
//!                                Lz4Context                   nothing: stateless
//!                                hash tables, kept warm
//! ```
//!
//! # The nouns
//!
//! - [`Lz4Driver`] makes the codec under the name `lz4`. It takes no parameters: the library offers no acceleration.
//! - [`Lz4Compressor`] is the codec, a [`Compressor`](zpool_core::compress::Compressor). Its
//!   contexts own the hash tables, 16 KiB, and as much again for blocks of 65 535 bytes and more.
//!
//! # What it is good for
//!
//! Loads that must cost as little as possible: it decodes faster than any other codec here, needs no state to do so, and makes no heap call once
//! its contexts exist. It compresses least.
//!
//! | pages of 4 KiB of | ratio | compress | decompress | through a pool's `Codec`, over the library alone |
//! |---|---|---|---|---|
//! | a Python process | 2.89 | 4.1 us | 1.26 us | 1.00-1.01, 0.98-0.99 |
//! | a Node.js process | 2.29 | 4.3 us | 1.29 us | 1.00-1.01, 0.98-0.99 |
//!
//! From `cargo run --release -p benches --bin overhead -- FILE --codec lz4`, on a shared virtual machine with two processors: compare rows, and with the
//! other codecs, rather than read the times.
//!
//! # Format
//!
//! A plain LZ4 block, as any other LZ4 decoder reads it: no frame, no length, no checksum. The bytes are exactly those of
//! [`lz4_flex::block::compress_into`]. A corrupt block is found only where it breaks the format; otherwise wrong bytes come back, over the full length.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use zpool_core::compress::Codec;
//! use zpool_lz4::Lz4Compressor;
//!
//! let codec = Codec::new(Arc::new(Lz4Compressor::new()), 4096);
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
//! [`zpool_core::compress`] for the contract, `compressor.rs` for the codec, `context.rs` for the half with state.

#![forbid(unsafe_code)]

mod compressor;
mod context;

pub use compressor::{Lz4Compressor, Lz4Driver};
