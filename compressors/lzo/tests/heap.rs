//! Heap calls of lzo. A test program of its own, because it replaces the allocator.

use std::sync::Arc;

use zpool_core::compress::Codec;
use zpool_lzo::LzoCompressor;
use zpool_testing::codecs::{round_trip_heap_calls, sample_blocks};
use zpool_testing::heap::{CountingAllocator, Heap};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// As the crate's documentation says: a table and the output for each block compressed, nothing for
/// decompression.
#[test]
fn makes_two_vectors_per_block() {
    let codec = Codec::new(Arc::new(LzoCompressor::new()), 4096);
    let blocks = sample_blocks();
    round_trip_heap_calls(&codec, &blocks);
    let vectors = 2 * blocks.len() as u64;
    assert_eq!(
        round_trip_heap_calls(&codec, &blocks),
        Heap { allocations: vectors, frees: vectors, bytes: 0 }
    );
}
