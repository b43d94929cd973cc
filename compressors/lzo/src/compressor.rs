//! The codec, its context, which is empty, and its driver.

use std::sync::Arc;

use lzo1x::CompressLevel;
use zpool_core::CreateError;
use zpool_core::compress::{
    CodecError, CodecProperties, Compressed, CompressionContext, Compressor, CompressorDriver,
};
use zpool_core::spec::{Component, Params};

/// The fastest level. The library's default is 3, with a table eight times as large to clear for every block.
const LEVEL: CompressLevel = CompressLevel::new(1);

/// lzo. Has no settings; every one is as good as any other.
#[derive(Debug)]
pub struct LzoCompressor {
    identity: Component,
}

impl LzoCompressor {
    /// The codec.
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

    fn properties(&self) -> CodecProperties {
        CodecProperties::new("GPL-2.0-only").with_stateless_decompression()
    }

    /// The expansion that LZO's authors give for LZO1X, and the end marker.
    fn compress_bound(&self, block_len: usize) -> usize {
        block_len + block_len / 16 + 64 + 3
    }

    fn compression_context(
        &self,
        _max_block_len: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        // A box of nothing: no heap call.
        Ok(Box::new(LzoContext))
    }

    /// As in the trait.
    ///
    /// Why K9 holds: the library is safe Rust, so it writes nowhere else; it compares every length and distance with what is left before it slices, it
    /// copies only what it has written, and it wants both buffers to end with the stream; each of its steps consumes input, so it ends. Its tests and the
    /// ones here throw hostile bytes at it. Should a panic be found all the same, [`Codec`](zpool_core::compress::Codec) contains it.
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        lzo1x::decompress(compressed, block).map_err(|_| CodecError::Corrupt)
    }
}

/// Nothing: the library takes no tables. It makes them for each block, and its output, in a way
/// that ends the process where the heap refuses.
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
    /// The codec's name in a spec.
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

    #[test]
    fn takes_no_parameters() {
        assert_eq!(LzoDriver.open(&Params::default()).unwrap().identity().to_string(), "lzo");
        let mut params = Params::default();
        params.set("level", "3");
        let refused = LzoDriver.open(&params).unwrap_err();
        assert_eq!(refused, CreateError::UnknownParameter { name: "level".to_owned(), known: "" });
    }
}
