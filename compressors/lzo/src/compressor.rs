//! The compressor, its context, which is empty, and its driver.

use std::sync::Arc;

use lzo1x::CompressLevel;
use zpool_core::CreateError;
use zpool_core::compress::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
};
use zpool_core::spec::{Component, Params};

/// The fastest level. The library's default is 3, whose table is eight times as large and cleared
/// for every block.
const LEVEL: CompressLevel = CompressLevel::new(1);

/// lzo, which has no settings.
#[derive(Debug)]
pub struct LzoCompressor {
    identity: Component,
}

impl LzoCompressor {
    /// Makes the compressor.
    pub fn new() -> LzoCompressor {
        LzoCompressor { identity: Component::named(LzoDriver::NAME) }
    }
}

impl Default for LzoCompressor {
    fn default() -> Self {
        LzoCompressor::new()
    }
}

impl Compressor for LzoCompressor {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("GPL-2.0-only").with_stateless_decompression()
    }

    /// Returns the longest output that the authors of LZO state for LZO1X, with the end marker.
    fn compress_bound(&self, block_len: usize) -> usize {
        block_len + block_len / 16 + 64 + 3
    }

    fn compression_context(
        &self,
        _max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        // A box of a zero-sized type makes no heap call.
        Ok(Box::new(LzoContext))
    }

    /// Decompresses without a context.
    ///
    /// K9 holds because the library is safe Rust, so it writes nowhere else. It checks every length
    /// and distance before it slices, copies only bytes that it has written, and requires both
    /// buffers to end with the stream. Each of its steps consumes input, so it terminates. Its
    /// tests and ours feed it hostile bytes. If it panicked nevertheless,
    /// [`Codec`](zpool_core::compress::Codec) would catch that.
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        lzo1x::decompress(compressed, block).map_err(|_| CodecError::Corrupt)
    }
}

/// Empty: the library accepts no tables. It allocates them, and its output, for each block, in a
/// way that ends the process if the heap refuses.
#[derive(Debug)]
struct LzoContext;

impl CompressionContext for LzoContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        let compressed = lzo1x::compress(block, LEVEL);
        let Some(place) = out.get_mut(..compressed.len()) else {
            return Ok(Compressed::DoesNotFit);
        };
        place.copy_from_slice(&compressed);
        Ok(Compressed::Len(compressed.len()))
    }

    fn bytes_held(&self) -> usize {
        0
    }
}

/// Makes [`LzoCompressor`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct LzoDriver;

impl LzoDriver {
    /// The compressor's name in a spec.
    pub const NAME: &'static str = "lzo";
}

impl CompressorDriver for LzoDriver {
    fn name(&self) -> &str {
        LzoDriver::NAME
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        match params.iter().next() {
            None => Ok(Arc::new(LzoCompressor::new())),
            Some((name, _)) => {
                Err(CreateError::UnknownParameter { name: name.to_owned(), known: "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The driver takes no parameters.
    #[test]
    fn driver_with_parameter_is_error() {
        assert_eq!(LzoDriver.open(&Params::default()).unwrap().identity().to_string(), "lzo");
        let mut params = Params::default();
        params.set("level", "3");
        let refused = LzoDriver.open(&params).unwrap_err();
        assert_eq!(refused, CreateError::UnknownParameter { name: "level".to_owned(), known: "" });
    }
}
