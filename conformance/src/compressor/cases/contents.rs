//! Blocks come back unchanged.

use crate::compressor::CompressorMaker;
use crate::compressor::harness::{CompressorHarness, MAX_BLOCK, block_of, noise};
use crate::compressor::seeded_block::seeded_block;
use crate::generator::{Generator, Kind, MIX};

/// K8: pages and longer blocks like those of a process come back through one context, whatever the
/// order of their kinds.
pub fn k8_generated_blocks_come_back(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    let mut context = harness.context();
    for (len, blocks) in [(4096, 200), (1000, 50), (16 << 10, 20), (64 << 10, 10)] {
        for block in Generator::new(len as u64).blocks(len).take(maker.scaled(blocks)) {
            let compressed = harness.compressed_by(&mut *context, &block);
            harness.check_comes_back(&compressed, &block);
        }
    }
}

/// K8: blocks of every short length, and of lengths around a page, come back, whether they shrink
/// or not.
pub fn k8_every_length_comes_back(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    let mut context = harness.context();
    let shortest = maker.scaled(300).max(40);
    for len in (1..=shortest).chain([511, 512, 513, 2047, 2049, 4095, 4096, 4097, 8191, 8193]) {
        for block in [vec![0; len], noise(len as u64, len), block_of(Kind::Text, len as u64, len)] {
            let compressed = harness.compressed_by(&mut *context, &block);
            harness.check_comes_back(&compressed, &block);
        }
    }
}

/// K8: lengths around 2^16 come back, where 16-bit counters overflow.
pub fn k8_the_longest_blocks_come_back(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    for len in MAX_BLOCK - 2..=MAX_BLOCK {
        for (kind, _) in MIX {
            harness.check_round_trip(&block_of(kind, 3, len));
        }
    }
}

/// K8: random blocks come back. A block that fails is shrunk.
pub fn k8_random_blocks_come_back(maker: &CompressorMaker) {
    maker.for_all(100, seeded_block(), |seeded| {
        CompressorHarness::new(maker).check_round_trip(&seeded.block())
    });
}

/// K8, `identity`: a compressor reads what another of equal identity wrote, and both write the same
/// bytes (K3).
pub fn k8_equal_identities_read_each_other(maker: &CompressorMaker) {
    let (mut one, mut other) = (CompressorHarness::new(maker), CompressorHarness::new(maker));
    for block in Generator::new(1).blocks(4096).take(maker.scaled(30)) {
        let compressed = one.compressed(&block);
        assert!(
            compressed == other.compressed(&block),
            "K3: two compressors of one identity write different bytes"
        );
        other.check_comes_back(&compressed, &block);
        one.check_comes_back(&compressed, &block);
    }
}
