//! The compressed form is a plain LZO1X stream: another implementation reads it, and we read its
//! streams.

use proptest::prelude::*;
use zpool_conformance::compressor::seeded_block;
use zpool_core::compress::{Compressed, Compressor};
use zpool_lzo::LzoCompressor;

proptest! {
    /// Another implementation decodes our output.
    #[test]
    fn output_decodes_with_other_decoder(seeded in seeded_block()) {
        let (block, ours) = (seeded.block(), LzoCompressor::new());
        let mut out = vec![0; ours.compress_bound(block.len())];
        let outcome = ours.compression_context(block.len()).unwrap().compress(&block, &mut out);
        let Ok(Compressed::Len(len)) = outcome else { panic!("fits the bound") };
        let mut back = vec![0xA5; block.len()];
        let read = lzokay::decompress::decompress(&out[..len], &mut back).unwrap();
        prop_assert!(read == block.len() && back == block);
    }

    /// The other encoder searches longer, so it uses forms of matches that ours does not make.
    #[test]
    fn output_of_other_encoder_decodes(seeded in seeded_block()) {
        let (block, ours) = (seeded.block(), LzoCompressor::new());
        let theirs = lzokay::compress::compress(&block).unwrap();
        let mut back = vec![0xA5; block.len()];
        prop_assert_eq!(ours.decompress(&theirs, &mut back), Ok(()));
        prop_assert!(back == block);
    }
}
