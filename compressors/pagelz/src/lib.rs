//! A compressor made for memory pages, for compressed memory pools, in pure Rust.
//!
//! ```text
//!   block ─► matcher ─► literals   ─┐
//!                       tokens      │  plain, or coded with     ┌─► header │ plain │ lanes
//!                       offsets     │  one of the model's       │
//!                       extensions ─┘  tables (levels 2, 3) ────┘
//!
//!   PagelzDriver ── open("pagelz(level=3)") ──► PagelzCompressor    level, model and its tables
//!                                                 │ compression_context()   │ decompress(), or a
//!                                                 ▼                         ▼ context at 2 and 3
//!                                               matcher, streams, lanes   decoded streams
//! ```
//!
//! In memory pages most matches repeat the last offset or go back a small multiple of 8 bytes. So
//! most offsets take one byte or none, and one token byte stands for a sequence in the codebook.
//!
//! # The nouns
//!
//! - A *sequence* is some literals and a match; a *token* stands for a sequence.
//! - A *model* is a codebook of sequences and the tables that streams are coded with. A generic one
//!   comes with the crate; [`train`] makes one from blocks like those that will be stored, and
//!   [`train_and_judge`] says whether it pays on other blocks.
//! - [`PagelzDriver`] makes the compressor under the name `pagelz`, with the parameters `level` and
//!   `model`; [`PagelzCompressor`] is the compressor.
//!
//! # Levels
//!
//! | level | codes | search in blocks over 4 KiB | decompression |
//! |---|---|---|---|
//! | 1 | nothing | greedy | without state |
//! | 2 | streams that shrink by more than 1/4 | lazy | with a context |
//! | 3 | streams that shrink by more than 1/8, or 1/7 over 4 KiB | lazy | with a context |
//!
//! Blocks of up to 4 KiB are always searched greedily. For the cost of each level next to lz4 and
//! zstd: `cargo run --release -p benches --bin codecs -- FILE`.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use zpool_core::compress::Codec;
//! use zpool_pagelz::PagelzCompressor;
//!
//! let codec = Codec::new(Arc::new(PagelzCompressor::new(3)?), 4096);
//! let page: Vec<u8> = (0..512u64).flat_map(|i| (0x7F00_0000 + i * 48).to_le_bytes()).collect();
//! let compressed = codec
//!     .compress(&page, page.len(), |bytes| bytes.map(<[u8]>::to_vec))?
//!     .expect("it shrinks");
//!
//! let mut back = vec![0; page.len()];
//! codec.decompress(&compressed, &mut back)?;
//! assert_eq!(back, page);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `safe`: no unsafe code at all. Loads take longer, and the compressed bytes are the same.
//!
//! # Where to read next
//!
//! `FORMAT.md` for what the bytes mean. Files, bottom-up: `heap`, `format`, `huffman`, `lengths`,
//! `model`, `remembered`, `tables`, `search`, `greedy`, `lazy`, `matcher`, `streams`, `entropy`,
//! `choice`, `encode`, `sequence`, `copy` (or `copy_checked`), `decode`, `compressor`, `clusters`,
//! `train`, `judge`.

#![cfg_attr(feature = "safe", forbid(unsafe_code))]

mod choice;
mod clusters;
mod compressor;
#[cfg(not(feature = "safe"))]
#[allow(unsafe_code, reason = "loads and stores of fixed widths without a bounds check")]
mod copy;
#[cfg(feature = "safe")]
#[path = "copy_checked.rs"]
mod copy;
mod decode;
mod encode;
mod entropy;
mod format;
mod greedy;
mod heap;
mod huffman;
mod judge;
mod lazy;
mod lengths;
mod matcher;
mod model;
mod remembered;
mod search;
mod sequence;
mod streams;
mod tables;
mod train;

pub use compressor::{PagelzCompressor, PagelzDriver};
pub use judge::{Cost, TrainError, Trained, Verdict, judge, train_and_judge};
pub use remembered::{forget, remember};
pub use train::{MIN_SAMPLES, train};
