//! lz4 keeps the contract of a compressor.

use lz4_flex::block::{compress_into, get_maximum_output_size};
use proptest::prelude::*;
use zpool_conformance::compressor::seeded_block;
use zpool_conformance::compressor_suite;
use zpool_core::compress::{Compressed, Compressor};
use zpool_lz4::{Lz4Compressor, Lz4Driver};
use zpool_testing::heap::{self, CountingAllocator};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

compressor_suite!(lz4, [stateless, no_heap], Lz4Driver, "", heap_calls = heap::calls);

proptest! {
    /// The compressed bytes are the library's, so any LZ4 decoder reads them. The context's size
    /// makes no difference.
    #[test]
    fn bytes_are_those_of_library(seeded in seeded_block(), max_block_size in 1..70_000usize) {
        let block = seeded.block();
        let mut expected = vec![0; get_maximum_output_size(block.len())];
        let len = compress_into(&block, &mut expected).unwrap();

        let largest = max_block_size.max(block.len());
        let mut context = Lz4Compressor::new().compression_context(largest).unwrap();
        let mut out = vec![0; expected.len()];
        prop_assert_eq!(context.compress(&block, &mut out), Ok(Compressed::Len(len)));
        prop_assert!(out[..len] == expected[..len]);
    }
}
