//! Deflate, by miniz_oxide: an example of a codec from a library.
//!
//! # Step 1: the driver and its parameters
//!
//! A [`CompressorDriver`](zpool_core::compress::CompressorDriver) turns parameters into a
//! [`Compressor`](zpool_core::compress::Compressor). Unknown parameters are errors. The identity is
//! canonical, without defaults, so that two specs with the same meaning are the same pool.
//!
//! # Step 2: contexts
//!
//! A library's stream is a context here. It is made once for a thread and used for many blocks. So
//! it resets *before* each block, because a block that did not fit leaves half a stream behind (K3,
//! K6, K7).
//!
//! # Step 3: what does not fit
//!
//! Buffers may be too short for the compressed form. That is a result and no error (K5). So the
//! library's report of a full buffer must be told apart from its errors.
//!
//! # Step 4: bytes that are not ours
//!
//! A decoder will see corrupt bytes one day. It may return an error, or wrong bytes of the full
//! length that depend on this input alone (K9). So this one decodes straight into the block, and
//! not through a window with another block's bytes, and an output shorter than the block is
//! corrupt.
//!
//! # Step 5: what it holds
//!
//! `bytes_held` is part of what a store reports. If the library does not report its memory, measure
//! it. The test program of this listing counts the heap and compares.
//!
#![doc = concat!("```\n", include_str!("../../tests/tutorial/deflate.rs"), "# fn main() {}\n```")]
//!
//! # Step 6: the suite
//!
//! ```text
//! compressor_suite!(deflate, [no_heap], DeflateDriver, "", heap_calls = counting::calls);
//! compressor_suite!(
//!     deflate_at_level_1,
//!     [no_heap],
//!     DeflateDriver,
//!     "level=1",
//!     heap_calls = counting::calls,
//! );
//! ```
//!
//! `no_heap` is a claim, which a counting global allocator checks. Without `heap_calls` that case
//! is ignored. `stateless` is not listed, because decoding needs a table of 10 KiB in a context.
//!
//! The smallest codecs of this crate, for comparison, are [`NullDriver`](crate::NullDriver) and
//! [`RleDriver`](crate::RleDriver).
