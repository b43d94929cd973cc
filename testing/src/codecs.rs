//! Compressors that copy, for tests about pools, and what tests of real codecs share.

use std::fmt;
use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::compress::{
    Codec, CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor,
    CompressorDriver, DecompressionContext,
};
use zpool_core::spec::{Component, Params};

use crate::heap::{Heap, Refusal, refusing_some};

/// Opens copying compressors under a name of the test's choice, with any parameters. Name and
/// parameters are the identity, so a test can have many specs of one codec.
#[derive(Debug, Clone, Copy)]
pub struct CopyDriver(pub &'static str);

#[derive(Debug)]
struct CopyCompressor(Component);

#[derive(Debug)]
struct CopyContext;

impl CompressorDriver for CopyDriver {
    fn name(&self) -> &str {
        self.0
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        Ok(Arc::new(CopyCompressor(Component::named(self.0).with_params(params.clone()))))
    }
}

impl Compressor for CopyCompressor {
    fn identity(&self) -> &Component {
        &self.0
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT").with_stateless_decompression()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        block_len
    }

    fn compression_context(&self, _: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Box::new(CopyContext))
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        copy_back(compressed, block)
    }
}

impl CompressionContext for CopyContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        copy(block, out)
    }

    fn bytes_held(&self) -> usize {
        0
    }
}

fn copy(block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
    match out.get_mut(..block.len()) {
        Some(out) => {
            out.copy_from_slice(block);
            Ok(Compressed::Len(block.len()))
        }
        None => Ok(Compressed::DoesNotFit),
    }
}

fn copy_back(compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
    if compressed.len() != block.len() {
        return Err(CodecError::Corrupt);
    }
    block.copy_from_slice(compressed);
    Ok(())
}

/// Hooks of the compressor of a [`HookedDriver`], which itself only copies blocks. Each may panic.
pub trait CodecHooks: fmt::Debug + Send + Sync + 'static {
    /// Whether decompression needs contexts, too.
    const DECOMPRESSION_CONTEXTS: bool = false;

    /// Bytes that a context says it holds.
    const CONTEXT_BYTES: usize = 1;

    /// Called before a context is made.
    ///
    /// # Errors
    ///
    /// Those of making it.
    fn on_make(&self) -> Result<(), CodecError> {
        Ok(())
    }

    /// Called before `block` is compressed.
    ///
    /// # Errors
    ///
    /// Those of compressing it.
    fn on_compress(&self, block: &[u8]) -> Result<(), CodecError> {
        let _ = block;
        Ok(())
    }

    /// Called when a context is dropped.
    fn on_drop_context(&self) {}

    /// Called when the compressor is dropped.
    fn on_drop_compressor(&self) {}
}

/// Opens copying compressors under a name, with hooks and any parameters.
#[derive(Debug)]
pub struct HookedDriver<H>(pub &'static str, pub Arc<H>);

/// The compressor of a [`HookedDriver`].
#[derive(Debug)]
pub struct HookedCompressor<H: CodecHooks>(Component, Arc<H>);

#[derive(Debug)]
struct HookedContext<H: CodecHooks>(Arc<H>);

impl<H: CodecHooks> HookedCompressor<H> {
    /// Creates a compressor of this identity.
    pub fn new(identity: Component, hooks: Arc<H>) -> HookedCompressor<H> {
        HookedCompressor(identity, hooks)
    }

    fn context(&self) -> Result<Box<HookedContext<H>>, CodecError> {
        self.1.on_make()?;
        Ok(Box::new(HookedContext(self.1.clone())))
    }
}

impl<H: CodecHooks> CompressorDriver for HookedDriver<H> {
    fn name(&self) -> &str {
        self.0
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        let identity = Component::named(self.0).with_params(params.clone());
        Ok(Arc::new(HookedCompressor::new(identity, self.1.clone())))
    }
}

impl<H: CodecHooks> Compressor for HookedCompressor<H> {
    fn identity(&self) -> &Component {
        &self.0
    }

    fn capabilities(&self) -> CodecCapabilities {
        let capabilities = CodecCapabilities::new("MIT");
        if H::DECOMPRESSION_CONTEXTS {
            capabilities
        } else {
            capabilities.with_stateless_decompression()
        }
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        block_len
    }

    fn compression_context(&self, _: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(self.context()?)
    }

    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        Ok(self.context()?)
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        copy_back(compressed, block)
    }
}

impl<H: CodecHooks> Drop for HookedCompressor<H> {
    fn drop(&mut self) {
        self.1.on_drop_compressor();
    }
}

impl<H: CodecHooks> CompressionContext for HookedContext<H> {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        self.0.on_compress(block)?;
        copy(block, out)
    }

    fn bytes_held(&self) -> usize {
        H::CONTEXT_BYTES
    }
}

impl<H: CodecHooks> DecompressionContext for HookedContext<H> {
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        copy_back(compressed, block)
    }

    fn bytes_held(&self) -> usize {
        H::CONTEXT_BYTES
    }
}

impl<H: CodecHooks> Drop for HookedContext<H> {
    fn drop(&mut self) {
        self.0.on_drop_context();
    }
}

/// Returns blocks of 97 to 4000 bytes, some that shrink and some that do not.
pub fn sample_blocks() -> Vec<Vec<u8>> {
    let text = b"a page of memory, compressed and kept; ".repeat(200);
    let noise: Vec<u8> =
        (0..9000u32).flat_map(|i| i.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    (1..40).flat_map(|i| [text[i * 3..i * 100].to_vec(), noise[i..i + 4000].to_vec()]).collect()
}

/// Compresses and decompresses every block through `codec`, and returns the heap calls of that.
///
/// # Panics
///
/// If a block fails or comes back changed.
pub fn round_trip_heap_calls(codec: &Codec, blocks: &[Vec<u8>]) -> Heap {
    let (mut kept, mut back) = (vec![0; 8192], vec![0; 4096]);
    let before = Heap::now();
    for block in blocks {
        let len = codec.compress(block, kept.len(), |bytes| {
            let bytes = bytes.expect("8192 is over any bound here");
            kept[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
        let len = len.expect("the block is compressed");
        codec.decompress(&kept[..len], &mut back[..block.len()]).expect("it is decompressed");
        assert!(back[..block.len()] == block[..], "a block of {} bytes changed", block.len());
    }
    Heap::since(before)
}

/// Checks that each refused allocation is an error: those for a context, and those for the buffer
/// that a block needs later.
///
/// # Panics
///
/// If a refused allocation is not an error, or if fewer than 8 were refused.
pub fn check_refusals(compressor: &dyn Compressor) {
    let mut refusals = 0;
    for max_block_size in [4096, 1 << 20] {
        for others in 0.. {
            let (compressed, refused) = refusing_some(Refusal::Nth(others), || {
                let mut context = compressor.compression_context(max_block_size)?;
                context.compress(&[7; 600], &mut [0; 100])?;
                context.compress(&[7; 4000], &mut [0; 100])
            });
            if !refused {
                assert!(compressed.is_ok(), "{compressed:?} with all its memory");
                break;
            }
            assert_eq!(compressed, Err(CodecError::OutOfMemory), "request {others}");
            refusals += 1;
        }
    }
    assert!(refusals >= 8, "only {refusals} allocations were refused");
}
