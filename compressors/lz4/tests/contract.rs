//! lz4 keeps the contract of a compressor.

use std::sync::Arc;

use lz4_flex::block::{compress_into, get_maximum_output_size};
use proptest::prelude::*;
use zpool_core::compress::{Compressed, Compressor};
use zpool_lz4::Lz4Compressor;

#[path = "../../contract.rs"]
mod contract;

fn lz4() -> Arc<dyn Compressor> {
    Arc::new(Lz4Compressor::new())
}

contract::contract!(plain, 200, lz4);

proptest! {
    /// So any LZ4 decoder reads them, and the context's size makes no difference.
    #[test]
    fn the_bytes_are_those_of_the_library(recipe in contract::recipe(), max_block_len in 1..70_000usize) {
        let block = recipe.block();
        let mut expected = vec![0; get_maximum_output_size(block.len())];
        let len = compress_into(&block, &mut expected).unwrap();

        let mut context = Lz4Compressor::new().compression_context(max_block_len.max(block.len())).unwrap();
        let mut out = vec![0; expected.len()];
        prop_assert_eq!(context.compress(&block, &mut out), Ok(Compressed::Len(len)));
        prop_assert!(out[..len] == expected[..len]);
    }
}
