//! The shared part of the cases: a compressor with its contexts, buffers with margins, and property
//! tests.

use std::sync::Arc;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use zpool_core::compress::{
    CodecError, Compressed, CompressionContext, Compressor, DecompressionContext,
};

use super::CompressorMaker;
use crate::generator::{Generator, Kind};
use crate::rng::SplitMix;

/// The longest block tried: one byte more than 2^16, which codecs with 16-bit positions cannot
/// address.
pub(crate) const MAX_BLOCK: usize = (1 << 16) + 1;
/// Bytes around a buffer that a codec must not touch.
const MARGIN: usize = 64;
const CANARY: u8 = 0xC7;

/// A compressor under test, with a decompression context if it needs one.
pub(crate) struct CompressorHarness {
    pub(crate) compressor: Arc<dyn Compressor>,
    decompression: Option<Box<dyn DecompressionContext>>,
}

impl CompressorHarness {
    pub(crate) fn new(maker: &CompressorMaker) -> CompressorHarness {
        CompressorHarness::of(maker.open())
    }

    pub(crate) fn of(compressor: Arc<dyn Compressor>) -> CompressorHarness {
        let stateless = compressor.capabilities().stateless_decompression;
        let context = || {
            compressor
                .decompression_context()
                .unwrap_or_else(|e| panic!("K1: no decompression context: {e}"))
        };
        let decompression = (!stateless).then(context);
        CompressorHarness { compressor, decompression }
    }

    pub(crate) fn context(&self) -> Box<dyn CompressionContext> {
        context(&*self.compressor, MAX_BLOCK)
    }

    /// Compresses with a new context.
    pub(crate) fn compressed(&self, block: &[u8]) -> Vec<u8> {
        self.compressed_by(&mut *self.context(), block)
    }

    /// Compresses into a destination as long as the bound.
    #[track_caller]
    pub(crate) fn compressed_by(
        &self,
        context: &mut dyn CompressionContext,
        block: &[u8],
    ) -> Vec<u8> {
        let bound = self.compressor.compress_bound(block.len());
        compress(context, block, bound).unwrap_or_else(|| {
            panic!("K5: {} bytes do not fit their bound of {bound}", block.len())
        })
    }

    /// Decompresses into a buffer of `len` bytes that holds `poison`, between two margins that must
    /// not change.
    pub(crate) fn decompress(
        &mut self,
        compressed: &[u8],
        len: usize,
        poison: u8,
    ) -> Result<Vec<u8>, CodecError> {
        let mut buffer = vec![CANARY; len + 2 * MARGIN];
        let block = &mut buffer[MARGIN..MARGIN + len];
        block.fill(poison);
        let result = match &mut self.decompression {
            Some(context) => context.decompress(compressed, block),
            None => self.compressor.decompress(compressed, block),
        };
        let block = block.to_vec();
        buffer.drain(MARGIN..MARGIN + len);
        assert!(buffer.iter().all(|b| *b == CANARY), "K9: wrote outside the block");
        result.map(|()| block)
    }

    /// K8: compresses with a new context and restores the block.
    #[track_caller]
    pub(crate) fn check_round_trip(&mut self, block: &[u8]) {
        let compressed = self.compressed(block);
        self.check_comes_back(&compressed, block);
    }

    #[track_caller]
    pub(crate) fn check_comes_back(&mut self, compressed: &[u8], block: &[u8]) {
        let back = self
            .decompress(compressed, block.len(), 0xA5)
            .unwrap_or_else(|e| panic!("K8: a block of {} bytes is not read: {e}", block.len()));
        if let Some(at) = block.iter().zip(&back).position(|(a, b)| a != b) {
            panic!("K8: a block of {} bytes differs at {at}", block.len());
        }
    }

    /// K9, K10: the outcome does not depend on what the buffer held before, and the only error is
    /// `Corrupt`. Returns the outcome.
    #[track_caller]
    pub(crate) fn check_hostile(
        &mut self,
        compressed: &[u8],
        len: usize,
    ) -> Result<Vec<u8>, CodecError> {
        let first = self.decompress(compressed, len, 0xA5);
        let second = self.decompress(compressed, len, 0x5A);
        assert!(first == second, "K9: the outcome depends on what the buffer held before");
        if let Err(error) = &first {
            assert_eq!(
                *error,
                CodecError::Corrupt,
                "K10: the error of bytes that are not the codec's"
            );
        }
        first
    }
}

pub(crate) fn context(
    compressor: &dyn Compressor,
    max_block_size: usize,
) -> Box<dyn CompressionContext> {
    compressor
        .compression_context(max_block_size)
        .unwrap_or_else(|e| panic!("K1: no context for blocks of {max_block_size} bytes: {e}"))
}

/// Compresses to the front of a buffer of `out_len` bytes, and checks that nothing beyond it was
/// written. Returns `None` if it does not fit.
#[track_caller]
pub(crate) fn compress(
    context: &mut dyn CompressionContext,
    block: &[u8],
    out_len: usize,
) -> Option<Vec<u8>> {
    let mut buffer = vec![CANARY; out_len + MARGIN];
    let outcome = context.compress(block, &mut buffer[..out_len]).unwrap_or_else(|e| {
        panic!("K5, K7: {} bytes into {out_len}: {e}", block.len());
    });
    assert!(
        buffer[out_len..].iter().all(|b| *b == CANARY),
        "K4: wrote past a destination of {out_len} bytes"
    );
    match outcome {
        Compressed::DoesNotFit => None,
        Compressed::Len(len) => {
            assert!(
                (1..=out_len).contains(&len),
                "K5: claims {len} bytes in a destination of {out_len}"
            );
            buffer.truncate(len);
            Some(buffer)
        }
    }
}

/// Makes random bytes.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut block = vec![0; len];
    SplitMix::new(seed).fill(&mut block);
    block
}

pub(crate) fn block_of(kind: Kind, seed: u64, len: usize) -> Vec<u8> {
    let mut block = vec![0; len];
    Generator::new(seed).block_of(kind, &mut block);
    block
}

impl CompressorMaker {
    /// Scales `n` by the setting `rounds`, and down under miri, to at least 1.
    pub(crate) fn scaled(&self, n: usize) -> usize {
        crate::iterations::scaled(n * self.rounds / CompressorMaker::ROUNDS).max(1)
    }

    /// Checks a property of random values. A value that fails is shrunk and printed.
    #[track_caller]
    pub(crate) fn for_all<S: Strategy>(&self, n: usize, strategy: S, check: impl Fn(S::Value)) {
        let config = Config {
            cases: self.scaled(n) as u32,
            failure_persistence: None,
            max_shrink_iters: 500,
            ..Config::default()
        };
        // The same values in every run, so that a red test stays red.
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, b"zpool-conformance: seed of codec");
        let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
            check(value);
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, value)) => {
                panic!("{why}\nThe smallest input that fails:\n{value:?}")
            }
            Err(TestError::Abort(why)) => panic!("no input could be made: {why}"),
        }
    }
}
