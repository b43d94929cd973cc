//! A compressor that does not compress, for tests and examples of pools.
#![allow(unreachable_pub, reason = "included by tests and examples")]

use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::compress::{
    CodecError, CodecProperties, Compressed, CompressionContext, Compressor, CompressorDriver,
};
use zpool_core::spec::{Component, Params};

/// A compressor that copies; its parameters are its identity.
#[derive(Debug)]
pub struct CopyDriver(pub &'static str);

#[derive(Debug)]
struct Copying(Component);

#[derive(Debug)]
struct CopyContext;

impl CompressorDriver for CopyDriver {
    fn name(&self) -> &str {
        self.0
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        Ok(Arc::new(Copying(Component::named(self.0).with_params(params.clone()))))
    }
}

impl Compressor for Copying {
    fn identity(&self) -> &Component {
        &self.0
    }

    fn properties(&self) -> CodecProperties {
        CodecProperties::new("MIT").with_stateless_decompression()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        block_len
    }

    fn compression_context(&self, _: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Box::new(CopyContext))
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        if compressed.len() != block.len() {
            return Err(CodecError::Corrupt);
        }
        block.copy_from_slice(compressed);
        Ok(())
    }
}

impl CompressionContext for CopyContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        match out.get_mut(..block.len()) {
            Some(out) => {
                out.copy_from_slice(block);
                Ok(Compressed::Len(block.len()))
            }
            None => Ok(Compressed::DoesNotFit),
        }
    }

    fn bytes_held(&self) -> usize {
        0
    }
}
