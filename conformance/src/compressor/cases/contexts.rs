//! Contexts: their creation, their threads, and their memory of earlier blocks.

use std::collections::HashSet;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy};
use proptest::prop_oneof;

use crate::compressor::CompressorMaker;
use crate::compressor::harness::{
    CompressorHarness, MAX_BLOCK, block_of, compress, context, noise,
};
use crate::compressor::seeded_block::{SeededBlock, seeded_block};
use crate::generator::{Generator, Kind};

/// K1: a context is made for blocks of any length, takes blocks up to it, and reports the bytes
/// that it holds.
pub fn k1_contexts_for_blocks_of_any_length(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    for max_len in [1, 2, 100, 4095, 4096, 16 << 10, MAX_BLOCK] {
        let mut context = context(&*harness.compressor, max_len);
        for len in [1, max_len.div_ceil(2), max_len] {
            let block = block_of(Kind::Json, 1, len);
            let compressed = harness.compressed_by(&mut *context, &block);
            harness.check_comes_back(&compressed, &block);
        }
        let held = context.bytes_held();
        assert!(held < 1 << 30, "bytes_held: {held} bytes for blocks of {max_len}");
    }
}

/// K2: a context made by one thread is used by a second and a third, and dropped by a fourth.
pub fn k2_compression_contexts_go_to_any_thread(maker: &CompressorMaker) {
    let harness = CompressorHarness::new(maker);
    let blocks: Vec<_> = Generator::new(2).blocks(4096).take(maker.scaled(20)).collect();
    let expected: Vec<_> = blocks.iter().map(|block| harness.compressed(block)).collect();
    let mut context = harness.context();
    for _ in 0..2 {
        let use_it = || {
            for (block, expected) in blocks.iter().zip(&expected) {
                let bound = harness.compressor.compress_bound(block.len());
                let bytes = compress(&mut *context, block, bound);
                assert!(
                    bytes.as_ref() == Some(expected),
                    "K2: the block compresses to other bytes on another thread"
                );
            }
        };
        // The harness stays on this thread, because its decompression context is not shared.
        scoped(use_it);
    }
    scoped(move || drop(context));
}

/// K2: a decompression context moves between threads in the same way.
pub fn k2_decompression_contexts_go_to_any_thread(maker: &CompressorMaker) {
    let harness = CompressorHarness::new(maker);
    let block = block_of(Kind::Records, 4, 4096);
    let compressed = harness.compressed(&block);
    let mut context = harness
        .compressor
        .decompression_context()
        .unwrap_or_else(|e| panic!("K1: no decompression context: {e}"));
    for _ in 0..2 {
        scoped(|| {
            let mut back = vec![0; block.len()];
            context
                .decompress(&compressed, &mut back)
                .unwrap_or_else(|e| panic!("K2: decompression fails on another thread: {e}"));
            assert!(back == block, "K2: the block differs after decompression on another thread");
        });
    }
    scoped(move || drop(context));
}

/// K2, K8: many threads decompress each other's blocks through one compressor.
pub fn k2_many_threads_decompress_at_once(maker: &CompressorMaker) {
    let harness = CompressorHarness::new(maker);
    let blocks: Vec<_> = Generator::new(6).blocks(4096).take(maker.scaled(40)).collect();
    let compressed: Vec<_> = blocks.iter().map(|block| harness.compressed(block)).collect();
    let compressor = &*harness.compressor;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut back = vec![0; 4096];
                for (block, compressed) in blocks.iter().zip(&compressed) {
                    compressor.decompress(compressed, &mut back).unwrap_or_else(|e| {
                        panic!("K8: decompression fails while other threads work: {e}")
                    });
                    assert!(
                        back == *block,
                        "K8: the block differs after decompression while other threads work"
                    );
                }
            });
        }
    });
}

/// K3, K5, K7: a used context makes the same bytes as a new one, whatever it has compressed, and
/// into however long a buffer.
pub fn k3_k7_used_context_makes_the_same_bytes(maker: &CompressorMaker) {
    maker.for_all(60, steps(), |steps| {
        let harness = CompressorHarness::new(maker);
        let mut context = harness.context();
        for (seeded, less) in steps {
            let block = seeded.block();
            let out_len = harness.compressor.compress_bound(block.len()).saturating_sub(less);
            let fresh = harness.compressed(&block);
            match compress(&mut *context, &block, out_len) {
                Some(bytes) => assert!(bytes == fresh, "K3: a used context compresses differently"),
                None => {
                    assert!(out_len < fresh.len(), "K5: {} bytes should fit {out_len}", fresh.len())
                }
            }
        }
    });
}

/// Makes blocks to compress in a row. Each destination is shorter than its bound by the second
/// number.
pub(super) fn steps() -> impl Strategy<Value = Vec<(SeededBlock, usize)>> {
    vec((seeded_block(), prop_oneof![Just(0), 1..5000usize]), 1..8)
}

/// K6: no 8 consecutive bytes of an earlier random block appear in the output of a later block,
/// whether it fits or not.
pub fn k6_nothing_of_earlier_blocks_in_later_output(maker: &CompressorMaker) {
    const RUN: usize = 8;
    let harness = CompressorHarness::new(maker);
    let mut context = harness.context();
    for round in 0..maker.scaled(30) as u64 {
        let secret = noise(0x5EC2E7 + round, 4096);
        let runs: HashSet<&[u8]> = secret.windows(RUN).collect();
        harness.compressed_by(&mut *context, &secret);
        for (kind, len) in
            [(Kind::Zero, 4096), (Kind::Text, 300), (Kind::Records, 4096), (Kind::Json, 5)]
        {
            let block = block_of(kind, round, len);
            let bound = harness.compressor.compress_bound(len);
            for out_len in [bound, bound / 2] {
                let mut out = vec![0; out_len];
                context.compress(&block, &mut out).unwrap_or_else(|e| panic!("K5, K7: {e}"));
                let leak = out.windows(RUN).position(|run| runs.contains(run));
                assert_eq!(
                    leak, None,
                    "K6: bytes of an earlier block in the output, at the offset given"
                );
            }
        }
    }
}

/// Runs `work` on another thread and waits. Its panic propagates.
fn scoped(work: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
