//! Objects are plain LZ4 blocks: lz4's own C library reads ours, and we read its own.

use lz4::block::{CompressionMode, compress_to_buffer, decompress_to_buffer};
use proptest::prelude::*;
use zpool_conformance::compressor::seeded_block;
use zpool_core::compress::{Compressed, Compressor};
use zpool_lz4::Lz4Compressor;

proptest! {
    #[test]
    fn the_c_library_reads_what_we_write(seeded in seeded_block()) {
        let (block, ours) = (seeded.block(), Lz4Compressor::new());
        let mut out = vec![0; ours.compress_bound(block.len())];
        let outcome = ours.compression_context(block.len()).unwrap().compress(&block, &mut out);
        let Ok(Compressed::Len(len)) = outcome else { panic!("fits the bound") };
        let mut back = vec![0xA5; block.len()];
        let read = decompress_to_buffer(&out[..len], Some(block.len() as i32), &mut back).unwrap();
        prop_assert!(read == block.len() && back == block);
    }

    #[test]
    fn we_read_what_c_library_writes(seeded in seeded_block(), mode in 0..3u8, effort in 1..13) {
        let mode = match mode {
            0 => CompressionMode::FAST(effort),
            1 => CompressionMode::HIGHCOMPRESSION(effort),
            _ => CompressionMode::DEFAULT,
        };
        let (block, ours) = (seeded.block(), Lz4Compressor::new());
        let mut out = vec![0; lz4::block::compress_bound(block.len()).unwrap()];
        let len = compress_to_buffer(&block, Some(mode), false, &mut out).unwrap();
        let mut back = vec![0xA5; block.len()];
        prop_assert_eq!(ours.decompress(&out[..len], &mut back), Ok(()));
        prop_assert!(back == block);
    }
}
