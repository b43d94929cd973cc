//! lz4 for compressed memory pools: the fast compressor, in pure Rust.
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
//! - [`Lz4Driver`] makes the compressor under the name `lz4`. It takes no parameters, because
//!   `lz4_flex` offers no acceleration.
//! - [`Lz4Compressor`] is the compressor, a [`Compressor`](zpool_core::compress::Compressor). Its
//!   contexts own the hash tables, 16 KiB, and as much again for blocks of 65 535 bytes and more.
//!
//! # What it is good for
//!
//! Use it if loads must cost as little as possible. It decodes faster than any other compressor
//! here, needs no state to decode, and makes no heap call once its contexts are warm. It compresses
//! least. `cargo run --release -p benches --bin codecs -- FILE` compares the compressors on your
//! pages, and `docs/measurements` in the repository has the figures of ours.
//!
//! # Format
//!
//! A plain LZ4 block that any LZ4 decoder reads, without frame, length or checksum. The bytes are
//! those of [`lz4_flex::block::compress_into`]. The decoder is our own, because it knows the length
//! of the block and what is frequent in memory pages. It accepts and refuses the same input as the
//! decoder of `lz4_flex`. A corrupt block is an error if it breaks the format; otherwise a load
//! returns wrong bytes, over the full length.
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
//! let copy = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
//! let compressed = codec.compress(&block, block.len(), copy)?.expect("it shrinks");
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
//! [`zpool_core::compress`] for the contract, `compressor.rs` for the compressor, `context.rs` for
//! its mutable half, and `decode.rs` and `fast.rs` for the decoder.

mod compressor;
mod context;
mod decode;
#[allow(unsafe_code, reason = "loads and stores of fixed widths without a bounds check")]
mod fast;

pub use compressor::{Lz4Compressor, Lz4Driver};
