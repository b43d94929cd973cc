//! Destinations of compressed bytes.

use crate::compressor::CompressorMaker;
use crate::compressor::harness::{CompressorHarness, MAX_BLOCK, block_of, compress, noise};
use crate::generator::{Kind, MIX};

/// B37, K4, K5: a destination of any length up to the bound gets the whole compressed form or none,
/// whether the block shrinks or not. Nothing is written past its end, no length is an error, and a
/// form that fits has the same bytes (K3).
pub fn b37_k4_k5_a_destination_of_any_length(maker: &CompressorMaker) {
    let harness = CompressorHarness::new(maker);
    let mut context = harness.context();
    let random = [1, 12, 13, 100, 1100, 4096].map(|len| (true, noise(7, len)));
    let others = [(Kind::Text, 700), (Kind::Records, 4096), (Kind::Zero, 4096)];
    let others = others.map(|(kind, len)| (false, block_of(kind, 7, len)));
    for (incompressible, block) in random.into_iter().chain(others) {
        let bound = harness.compressor.compress_bound(block.len());
        let full = harness.compressed_by(&mut *context, &block);
        // Every length for incompressible blocks. For others, and for slow codecs, the lengths near
        // an edge, and some in between, in steps of a prime.
        let near = |out_len: usize| {
            out_len.abs_diff(full.len()) <= 40 || out_len + 80 >= bound || out_len < 80
        };
        let quick = maker.scaled(100) >= 100;
        let every = incompressible && (quick || block.len() < 1000 && !cfg!(miri));
        let step = if quick { 7 } else { 97 };
        for out_len in (0..=bound + 1).filter(|&l| every || near(l) || l % step == 0) {
            match compress(&mut *context, &block, out_len) {
                Some(bytes) => {
                    assert!(bytes == full, "K3: other bytes into a destination of {out_len}")
                }
                None => {
                    assert!(out_len < full.len(), "K5: {} bytes should fit {out_len}", full.len())
                }
            }
        }
    }
}

/// K5, `compress_bound`: the bound holds for every short length and for long ones, above all for
/// blocks that do not shrink.
pub fn k5_the_bound_holds_for_every_length(maker: &CompressorMaker) {
    let harness = CompressorHarness::new(maker);
    let mut context = harness.context();
    let long = [1 << 10, 4095, 4096, 4097, 1 << 14, (1 << 15) + 1, MAX_BLOCK];
    for len in (1..=maker.scaled(600).max(40)).chain(long) {
        harness.compressed_by(&mut *context, &noise(len as u64, len));
    }
    for (kind, _) in MIX {
        for len in long {
            harness.compressed_by(&mut *context, &block_of(kind, 5, len));
        }
    }
}
