//! lzo keeps the contract of a compressor.

use std::sync::Arc;

use proptest::prelude::*;
use zpool_core::compress::Compressor;
use zpool_lzo::LzoCompressor;

#[path = "../../contract.rs"]
mod contract;

fn lzo() -> Arc<dyn Compressor> {
    Arc::new(LzoCompressor::new())
}

contract::contract!(plain, 200, lzo);
