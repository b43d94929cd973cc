//! Heap calls of lz4. This is a program of its own, because it replaces the allocator.

use std::sync::Arc;

use zpool_core::compress::{Codec, Compressor};
use zpool_lz4::Lz4Compressor;
use zpool_testing::codecs::{check_refusals, round_trip_heap_calls, sample_blocks};
use zpool_testing::heap::{CountingAllocator, Heap};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn warm_contexts_make_no_heap_call() {
    let codec = Codec::new(Arc::new(Lz4Compressor::new()), 4096);
    let blocks = sample_blocks();
    assert!(
        round_trip_heap_calls(&codec, &blocks).allocations > 0,
        "the first pass makes a context, or nothing is counted"
    );
    assert_eq!(round_trip_heap_calls(&codec, &blocks), Heap { allocations: 0, frees: 0, bytes: 0 });
}

#[test]
fn a_context_says_exactly_what_it_holds() {
    let compressor = Lz4Compressor::new();
    for max_block_size in [1, 4096, 65_534, 65_535, 1 << 20] {
        let before = Heap::now();
        let mut context = compressor.compression_context(max_block_size).unwrap();
        assert_eq!(context.bytes_held() as isize, Heap::since(before).bytes);
        // For a buffer under the bound, the context allocates one of its own, once.
        for _ in 0..2 {
            context.compress(&[7; 600], &mut [0; 100]).unwrap();
            assert_eq!(context.bytes_held() as isize, Heap::since(before).bytes);
        }
    }
}

/// A refused allocation is an error, for a context as for the buffer that a block needs later.
#[test]
fn refused_allocation_is_error() {
    check_refusals(&Lz4Compressor::new());
}
