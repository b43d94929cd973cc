//! The compressed form is a zstd frame without its magic number: an implementation that shares no
//! code with ours reads it, and we read its frames.

use proptest::prelude::*;
use ruzstd::decoding::{BlockDecodingStrategy, Dictionary, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use zpool_conformance::compressor::seeded_block;
use zpool_core::compress::{Compressed, Compressor};
use zpool_zstd::{ZstdCompressor, train};

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Returns the compressed form of `block`, with the magic number in front.
fn ordinary_frame(ours: &ZstdCompressor, block: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ours.compress_bound(block.len())];
    let outcome = ours.compression_context(block.len()).unwrap().compress(block, &mut out);
    let Ok(Compressed::Len(len)) = outcome else { panic!("fits the bound") };
    [&MAGIC[..], &out[..len]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Another implementation decodes our output.
    #[test]
    fn output_decodes_with_other_decoder(seeded in seeded_block(), level in -7..=12) {
        let block = seeded.block();
        let frame = ordinary_frame(&ZstdCompressor::new(level).unwrap(), &block);
        let mut back = vec![0xA5; block.len()];
        prop_assert_eq!(FrameDecoder::new().decode_all(&frame, &mut back).unwrap(), block.len());
        prop_assert!(back == block);
    }

    /// We decode the output of another implementation.
    #[test]
    fn output_of_other_encoder_decodes(seeded in seeded_block(), compress in any::<bool>()) {
        let block = seeded.block();
        use CompressionLevel::{Fastest, Uncompressed};
        let level = if compress { Fastest } else { Uncompressed };
        let theirs = compress_to_vec(&block[..], level);
        let mut context = ZstdCompressor::new(1).unwrap().decompression_context().unwrap();
        let mut back = vec![0xA5; block.len()];
        let stripped = theirs.strip_prefix(&MAGIC).unwrap();
        prop_assert_eq!(context.decompress(stripped, &mut back), Ok(()));
        prop_assert!(back == block);
    }
}

/// The frame does not name its dictionary. A reader that has the right one can decode it.
#[test]
fn dictionary_output_decodes_with_other_decoder() {
    let record = |i: u32| {
        format!(
            "{{\"page\": {}, \"kind\": \"anonymous\", \"dirty\": {}}}\n",
            i * i,
            i.is_multiple_of(3)
        )
    };
    let blocks: Vec<Vec<u8>> =
        (0..800).map(|i| (0..8).flat_map(|j| record(8 * i + j).into_bytes()).collect()).collect();
    let bytes = train(&blocks[..700], 2048).unwrap();
    for level in [-5, 1, 9] {
        let ours = ZstdCompressor::with_dictionary(level, &bytes).unwrap();
        for block in &blocks[700..] {
            let frame = ordinary_frame(&ours, block);
            let (mut decoder, mut source) = (FrameDecoder::new(), &frame[..]);
            let dictionary = Dictionary::decode_dict(&bytes).unwrap();
            let id = dictionary.id;
            decoder.add_dict(dictionary).unwrap();
            decoder.init(&mut source).unwrap();
            decoder.force_dict(id).unwrap();
            decoder.decode_blocks(&mut source, BlockDecodingStrategy::All).unwrap();
            assert!(decoder.collect().unwrap() == *block, "level {level}");
        }
    }
}
