//! A compressor in use, through the [`Codec`] of a pool.

use std::hint::black_box;

use zpool_core::compress::Codec;

use crate::compressor::CompressorMaker;
use crate::compressor::harness::{CompressorHarness, MAX_BLOCK, block_of, noise};
use crate::generator::{Generator, Kind};

use super::contexts::steps;
use super::hostile::{damages, is_allowed};

/// `warm_without_heap`: once each context has handled a block of the largest length, blocks of any
/// length make no heap call in either direction, whether they fit, shrink, or are corrupt.
pub fn no_heap_call_once_warm(maker: &CompressorMaker) {
    let heap_calls = maker.heap_calls.as_ref().expect("the suite's line has a counter");
    let before = heap_calls();
    drop(black_box(vec![0_u8; black_box(100)]));
    assert!(
        heap_calls() >= before + 2,
        "the counter of the suite's line does not see this thread's heap calls"
    );

    for max_len in [4096, 16 << 10] {
        let lens = (1..40).map(|i| i * 100).chain([max_len, 3, max_len, 16, 16, max_len]);
        let blocks: Vec<_> = lens
            .flat_map(|len| {
                [noise(1, len), block_of(Kind::Text, 2, len), block_of(Kind::Records, 3, len)]
            })
            .collect();
        // Compressed by another codec, so that it does not warm the contexts of the codec below.
        let other = Codec::new(maker.open(), max_len);
        let compressed: Vec<_> =
            blocks.iter().map(|block| kept(&other, block, usize::MAX)).collect();
        let codec = Codec::new(maker.open(), max_len);
        let mut back = vec![0; max_len];
        let largest = blocks.iter().position(|block| block.len() == max_len);
        let largest = largest.expect("the lengths above have it");
        pass_one(&codec, &blocks[largest], &compressed[largest], &mut back);
        for (block, compressed) in blocks.iter().zip(&compressed) {
            let before = heap_calls();
            pass_one(&codec, block, compressed, &mut back);
            let calls = heap_calls() - before;
            assert_eq!(
                calls,
                0,
                "heap calls with warm contexts, for a block of {} bytes",
                block.len()
            );
        }
    }
}

/// Passes one block through all calls that must not allocate: compressed, refused for its length,
/// decompressed, cut short.
fn pass_one(codec: &Codec, block: &[u8], compressed: &[u8], back: &mut [u8]) {
    let back = &mut back[..block.len()];
    for max_len in [usize::MAX, block.len() / 2] {
        codec
            .compress(block, max_len, |bytes| black_box(bytes.map_or(0, <[u8]>::len)))
            .expect("it did before");
    }
    codec
        .decompress(compressed, back)
        .unwrap_or_else(|e| panic!("K8: a warm codec fails to decompress: {e}"));
    assert!(*back == *block, "K8: the block differs after decompression");
    let _ = codec.decompress(&compressed[..compressed.len() / 2], back);
}

fn kept(codec: &Codec, block: &[u8], max_len: usize) -> Vec<u8> {
    codec
        .compress(block, max_len, |bytes| bytes.map(<[u8]>::to_vec))
        .unwrap_or_else(|e| panic!("K7: {e}"))
        .expect("there is no limit to its length")
}

/// K3, K5, K8, K9: a pool's use of a codec. Blocks fit a limit or not, bytes are damaged, contexts
/// are dropped and made again, and no more contexts are made than one thread needs.
pub fn through_a_codec(maker: &CompressorMaker) {
    maker.for_all(60, (steps(), damages()), |(steps, damages)| {
        let harness = CompressorHarness::new(maker);
        let codec = Codec::new(harness.compressor.clone(), MAX_BLOCK);
        for (seeded, less) in steps {
            let block = seeded.block();
            let fresh = harness.compressed(&block);
            let max_len = block.len().saturating_sub(less);
            let bytes = codec.compress(&block, max_len, |bytes| bytes.map(<[u8]>::to_vec));
            let bytes = bytes.unwrap_or_else(|e| panic!("K7: {e}"));
            assert_eq!(
                bytes.is_some(),
                fresh.len() <= max_len,
                "K5: {} bytes into {max_len}",
                fresh.len()
            );
            assert!(
                bytes.is_none_or(|bytes| bytes == fresh),
                "K3: other bytes than a new context's"
            );

            let (mut bytes, mut len) = (fresh.clone(), block.len());
            damages.iter().for_each(|damage| damage.inflict(&mut bytes, &mut len));
            let outcome = codec.decompress(&bytes, &mut vec![0xA5; len]);
            assert!(is_allowed(&outcome), "K9, K10: {outcome:?}");
            let mut back = vec![0xA5; block.len()];
            assert_eq!(
                codec.decompress(&fresh, &mut back),
                Ok(()),
                "K8: decompression after damaged bytes"
            );
            assert!(back == block, "K8: the block differs when decompressed after damaged bytes");
        }
        let contexts = 1 + u64::from(!harness.compressor.capabilities().stateless_decompression);
        let stats = codec.stats();
        assert_eq!(
            (stats.contexts_made, stats.contexts_failed),
            (contexts, 0),
            "K1: contexts made and failed"
        );
        codec.retire_compression();
        let shared = harness.compressor.shared_bytes();
        let left = codec.stats().context_bytes;
        assert!(
            left >= shared && left <= stats.context_bytes,
            "bytes_held: {left} once retired, of {stats:?}"
        );
    });
    let codec = Codec::new(maker.open(), 4096);
    for block in Generator::new(8).blocks(4096).take(maker.scaled(20)) {
        assert!(
            !kept(&codec, &block, usize::MAX).is_empty(),
            "K5: a compressed form has at least one byte"
        );
        codec.retire_compression();
        codec.revive_compression();
    }
}
