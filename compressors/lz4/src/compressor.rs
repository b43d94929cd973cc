//! The compressor and its driver.

use std::sync::Arc;

use lz4_flex::block::get_maximum_output_size;
use zpool_core::CreateError;
use zpool_core::compress::{
    CodecCapabilities, CodecError, CompressionContext, Compressor, CompressorDriver,
};
use zpool_core::internal::try_box;
use zpool_core::spec::{Component, Params};

use crate::context::Lz4Context;
use crate::decode::decode;

/// The lz4 compressor. It has no settings, so all instances are equal.
#[derive(Debug)]
pub struct Lz4Compressor {
    identity: Component,
}

impl Lz4Compressor {
    /// Makes the compressor.
    pub fn new() -> Lz4Compressor {
        Lz4Compressor { identity: Component::named(Lz4Driver::NAME) }
    }
}

impl Default for Lz4Compressor {
    fn default() -> Self {
        Lz4Compressor::new()
    }
}

impl Compressor for Lz4Compressor {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT").with_stateless_decompression().with_no_heap_once_warm()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        get_maximum_output_size(block_len)
    }

    fn compression_context(
        &self,
        max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(try_box(Lz4Context::new(max_block_size)?).map_err(|_| CodecError::OutOfMemory)?)
    }

    /// Decompresses without a context. The decoder checks each length and offset, copies only what
    /// it wrote before, and refuses input that does not fill the block. So K9 holds.
    #[inline]
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        decode(compressed, block)
    }
}

/// Makes [`Lz4Compressor`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lz4Driver;

impl Lz4Driver {
    /// The compressor's name in a spec.
    pub const NAME: &'static str = "lz4";
}

impl CompressorDriver for Lz4Driver {
    fn name(&self) -> &str {
        Lz4Driver::NAME
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        match params.iter().next() {
            None => Ok(Arc::new(Lz4Compressor::new())),
            Some((name, _)) => {
                Err(CreateError::UnknownParameter { name: name.to_owned(), known: "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_parameters() {
        assert_eq!(Lz4Driver.open(&Params::default()).unwrap().identity().to_string(), "lz4");
        let mut params = Params::default();
        params.set("level", "1");
        let refused = Lz4Driver.open(&params).unwrap_err();
        assert_eq!(refused, CreateError::UnknownParameter { name: "level".to_owned(), known: "" });
    }
}
