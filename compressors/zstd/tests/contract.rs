//! zstd keeps the contract of a compressor, at levels of each of its strategies, with and without a dictionary.

use std::sync::Arc;

use proptest::prelude::*;
use zpool_core::compress::Compressor;
use zpool_zstd::ZstdCompressor;

#[path = "../../contract.rs"]
mod contract;

fn fastest() -> Arc<dyn Compressor> {
    Arc::new(ZstdCompressor::new(-7).unwrap())
}

fn default() -> Arc<dyn Compressor> {
    Arc::new(ZstdCompressor::new(ZstdCompressor::DEFAULT_LEVEL).unwrap())
}

/// A level at which zstd salts its hashes with earlier blocks, if they are over 16 KiB.
fn salted() -> Arc<dyn Compressor> {
    Arc::new(ZstdCompressor::new(7).unwrap())
}

fn densest() -> Arc<dyn Compressor> {
    Arc::new(ZstdCompressor::new(19).unwrap())
}

/// Content only, as any file may serve.
fn with_dictionary() -> Arc<dyn Compressor> {
    let dictionary = b"the page of a pool is\nkey: compressed, \x00\x5c\x3a\x7f\0\0".repeat(40);
    Arc::new(ZstdCompressor::with_dictionary(1, &dictionary).unwrap())
}

fn salted_with_dictionary() -> Arc<dyn Compressor> {
    let dictionary: Vec<u8> = (0..30_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
    Arc::new(ZstdCompressor::with_dictionary(7, &dictionary).unwrap())
}

contract::contract!(at_level_minus_7, 60, fastest);
contract::contract!(at_the_default_level, 100, default);
contract::contract!(at_level_7, 40, salted);
contract::contract!(at_level_19, 16, densest);
contract::contract!(at_level_1_with_a_dictionary, 60, with_dictionary);
contract::contract!(at_level_7_with_a_dictionary, 24, salted_with_dictionary);
