//! The format of frames, and that other implementations read them.

use proptest::prelude::*;
use zpool_conformance::compressor::seeded_block;
use zpool_core::compress::{Compressed, Compressor};
use zpool_zstd::ZstdCompressor;

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

fn frame(compressor: &ZstdCompressor, max_block_size: usize, block: &[u8]) -> Vec<u8> {
    let mut context = compressor.compression_context(max_block_size).unwrap();
    let mut out = vec![0; compressor.compress_bound(block.len())];
    match context.compress(block, &mut out).unwrap() {
        Compressed::Len(len) => out.truncate(len),
        Compressed::DoesNotFit => panic!("does not fit the bound"),
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With the magic number in front, a block is an ordinary zstd frame.
    #[test]
    fn block_with_magic_number_is_ordinary_frame(seeded in seeded_block(), level in -7..=9) {
        let block = seeded.block();
        let frame = frame(&ZstdCompressor::new(level).unwrap(), block.len(), &block);
        let ordinary = [&MAGIC[..], &frame].concat();
        prop_assert!(zstd::bulk::decompress(&ordinary, block.len()).unwrap() == block);
    }

    /// An ordinary frame without its magic number decodes.
    #[test]
    fn frame_without_magic_number_decodes(seeded in seeded_block(), level in -7..=9) {
        let block = seeded.block();
        let ordinary = zstd::bulk::compress(&block, level).unwrap();
        let mut context = ZstdCompressor::new(1).unwrap().decompression_context().unwrap();
        let mut back = vec![0xA5; block.len()];
        let stripped = ordinary.strip_prefix(&MAGIC).unwrap();
        prop_assert_eq!(context.decompress(stripped, &mut back), Ok(()));
        prop_assert!(back == block);
    }

    /// The descriptor's flags are all clear, so there is no size, checksum or dictionary id; and
    /// the window is that of the block and the dictionary, however large the blocks that the
    /// context is for.
    #[test]
    fn header_is_two_bytes_and_window_bounded(seeded in seeded_block(), level in -7..=9) {
        let block = seeded.block();
        let dictionary = b"the page of a pool is\nkey: compressed".repeat(600);
        let plain = ZstdCompressor::new(level).unwrap();
        let with = ZstdCompressor::with_dictionary(level, &dictionary).unwrap();
        for (compressor, reach) in [(plain, block.len()), (with, block.len() + dictionary.len())] {
            let frame = frame(&compressor, 1 << 18, &block);
            prop_assert_eq!(frame[0], 0);
            // A power of two, as the exponent over 1 KiB.
            prop_assert_eq!(frame[1] & 7, 0);
            let window = 1024usize << (frame[1] >> 3);
            let most = reach.next_power_of_two().max(1024);
            prop_assert!(window <= most, "{reach} bytes have a window of {window}");
        }
    }
}

/// An incompressible page grows by 5 bytes.
#[test]
fn incompressible_page_grows_by_five_bytes() {
    let page: Vec<u8> = (0..1024u32)
        .flat_map(|i| (i + 1).wrapping_mul(0x9E37_79B9).rotate_left(i).to_le_bytes())
        .collect();
    for level in [-7, 1, 19] {
        assert_eq!(frame(&ZstdCompressor::new(level).unwrap(), 4096, &page).len(), 4096 + 5);
    }
}
