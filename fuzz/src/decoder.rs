//! A decoder given any bytes (docs/decisions/0016), and its compressor given the same.

use std::sync::Arc;

use zpool_core::compress::{
    CodecError, Compressed, Compressor, CompressorDriver, DecompressionContext,
};
use zpool_core::spec::Params;

/// A codec with its contexts, which are used for all inputs: no input sees bytes of another.
#[derive(Debug)]
pub struct Decoder {
    compressor: Arc<dyn Compressor>,
    context: Option<Box<dyn DecompressionContext>>,
}

const MAX_BLOCK_LEN: usize = 1 << 16;

impl Decoder {
    /// Opens the codec with its defaults.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn new(driver: &dyn CompressorDriver) -> Decoder {
        Decoder::with(driver, &Params::default())
    }

    /// Opens the codec with these parameters.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn with(driver: &dyn CompressorDriver, params: &Params) -> Decoder {
        let compressor = driver.open(params).expect("parameters that it has");
        let stateless = compressor.capabilities().stateless_decompression;
        let context = (!stateless).then(|| compressor.decompression_context().expect("a context"));
        Decoder { compressor, context }
    }

    /// Decodes `bytes`, whose first two are the length of the block, then compresses them, and a
    /// block of that length made from them, and decodes the results.
    ///
    /// # Panics
    ///
    /// If K8, K9 or K10 is broken.
    pub fn check(&mut self, bytes: &[u8]) {
        let [low, high, bytes @ ..] = bytes else { return };
        let len = usize::from(u16::from_le_bytes([*low, *high])) + 1;
        self.decode_anything(bytes, len);
        if (1..=MAX_BLOCK_LEN).contains(&bytes.len()) {
            self.round_trip(bytes);
            self.round_trip(&stretched(bytes, len));
        }
    }

    /// Decodes twice, over different contents of the block. Both have to fail, or to return the
    /// same bytes.
    fn decode_anything(&mut self, bytes: &[u8], len: usize) {
        let (mut one, mut other) = (vec![0x5A; len], vec![0xA5; len]);
        let outcomes = (self.decompress(bytes, &mut one), self.decompress(bytes, &mut other));
        match outcomes {
            (Ok(()), Ok(())) => assert_eq!(one, other, "K9: bytes that were there before"),
            (Err(CodecError::Corrupt), Err(CodecError::Corrupt)) => {}
            outcomes => panic!("K9, K10: {outcomes:?}"),
        }
    }

    fn round_trip(&mut self, block: &[u8]) {
        let mut out = vec![0; self.compressor.compress_bound(block.len())];
        let mut context = self.compressor.compression_context(block.len()).expect("a context");
        let Ok(Compressed::Len(len)) = context.compress(block, &mut out) else {
            panic!("K5: a block of {} bytes does not fit the bound", block.len());
        };
        let mut back = vec![0xA5; block.len()];
        self.decompress(&out[..len], &mut back).expect("K8: what the compressor made");
        assert_eq!(back, block, "K8: another block");
    }

    fn decompress(&mut self, bytes: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        match &mut self.context {
            Some(context) => context.decompress(bytes, block),
            None => self.compressor.decompress(bytes, block),
        }
    }
}

/// Returns a block that repeats the bytes, and differs a little in each repetition. So inputs,
/// which are short, also make blocks that are searched as long ones are.
fn stretched(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut block: Vec<u8> = bytes.iter().copied().cycle().take(len).collect();
    for (repetition, part) in block.chunks_mut(bytes.len()).enumerate().skip(1) {
        let changed = repetition * 31 % part.len();
        part[changed] ^= repetition as u8;
    }
    block
}
