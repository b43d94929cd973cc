//! Deflate, by miniz_oxide: what a codec from a library takes.
//!
//! # Step 1: the driver and its parameters
//!
//! A [`CompressorDriver`](zpool_core::compress::CompressorDriver) turns parameters into a [`Compressor`](zpool_core::compress::Compressor). Unknown ones are errors, and
//! the identity is canonical: without defaults, so that two specs which mean the same are the same pool.
//!
//! # Step 2: contexts
//!
//! What a library calls a stream is a context here: made once for a thread, used for block after block. So it begins anew with each block, *before* it: a block
//! that did not fit leaves half a stream behind (K3, K6, K7).
//!
//! # Step 3: what does not fit
//!
//! Blocks are compressed into buffers that may be too short. That is an answer and not an error (K5); and what the library says when the buffer is full has to be told apart from what
//! it says when something is wrong.
//!
//! # Step 4: bytes that are not ours
//!
//! A decoder sees corrupt bytes one day. It may give an error or wrong bytes, over the full length and made of this input alone (K9); so this one decodes straight into the block, not
//! through a window that still has another block's bytes in it, and what is shorter than the block is corrupt.
//!
//! # Step 5: what it holds
//!
//! `bytes_held` is part of what a store says it uses. If the library does not tell, measure: the test program of this listing counts the heap, and compares.
//!
#![doc = concat!("```\n", include_str!("../../tests/tutorial/deflate.rs"), "# fn main() {}\n```")]
//!
//! # Step 6: the suite
//!
//! ```text
//! compressor_suite!(deflate, [no_heap], DeflateDriver, "", heap_calls = counting::calls);
//! compressor_suite!(deflate_at_level_1, [no_heap], DeflateDriver, "level=1", heap_calls = counting::calls);
//! ```
//!
//! `no_heap` is a claim, and a global allocator that counts backs it; without `heap_calls` the case that checks it is ignored. `stateless` is not listed, because decoding
//! needs a table of 10 KiB that is kept in a context.
//!
//! The smallest codecs to compare with are in this crate: [`NullDriver`](crate::NullDriver) and [`RleDriver`](crate::RleDriver).
