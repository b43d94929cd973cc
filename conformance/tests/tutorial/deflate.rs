//! Deflate as a compressor, by the library miniz_oxide.

use std::sync::Arc;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use zpool_core::CreateError;
use zpool_core::compress::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
    DecompressionContext,
};
use zpool_core::spec::{Component, Params};

const DEFAULT_LEVEL: u8 = 6;

/// Makes deflate compressors, under the name `deflate`: `deflate(level=1)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeflateDriver;

#[derive(Debug)]
struct Deflate {
    identity: Component,
    level: u8,
}

struct Writer(CompressorOxide);

struct Reader(Box<DecompressorOxide>);

impl CompressorDriver for DeflateDriver {
    fn name(&self) -> &str {
        "deflate"
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        let (mut level, mut identity) = (DEFAULT_LEVEL, Component::named("deflate"));
        for (name, value) in params.iter() {
            if name != "level" {
                return Err(CreateError::UnknownParameter {
                    name: name.to_owned(),
                    known: "level (1 to 9)",
                });
            }
            level =
                value.parse().ok().filter(|level| (1..=9).contains(level)).ok_or_else(|| {
                    CreateError::BadValue {
                        name: name.to_owned(),
                        value: value.to_owned(),
                        expected: "1 to 9".to_owned(),
                    }
                })?;
        }
        // The canonical form leaves defaults out: `deflate` and `deflate(level=6)` are one pool.
        if level != DEFAULT_LEVEL {
            identity.params.set("level", level.to_string());
        }
        Ok(Arc::new(Deflate { identity, level }))
    }
}

impl Compressor for Deflate {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT OR Zlib OR Apache-2.0").with_no_heap_once_warm()
    }

    /// Incompressible data is stored in pieces of at most 31 KiB with five bytes before each. The
    /// rest is for tables that did not pay off.
    fn compress_bound(&self, block_len: usize) -> usize {
        block_len + (block_len / (31 << 10) + 1) * 5 + 128
    }

    fn compression_context(
        &self,
        _max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        // No header and no checksum (window bits below 0), because the store knows lengths, and K9
        // asks for no more.
        let flags = create_comp_flags_from_zip_params(self.level.into(), -15, 0);
        Ok(Box::new(Writer(CompressorOxide::new(flags))))
    }

    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        Ok(Box::new(Reader(Box::default())))
    }
}

impl CompressionContext for Writer {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        if out.is_empty() {
            return Ok(Compressed::DoesNotFit);
        }
        // Reset first, not last. The block before may not have fitted and left its rest behind (K3,
        // K6, K7).
        self.0.reset();
        match compress(&mut self.0, block, out, TDEFLFlush::Finish) {
            (TDEFLStatus::Done, _, len) => Ok(Compressed::Len(len)),
            (TDEFLStatus::Okay, _, _) => Ok(Compressed::DoesNotFit),
            (status, _, _) => Err(CodecError::Failed(format!("deflate: {status:?}"))),
        }
    }

    fn bytes_held(&self) -> usize {
        size_of::<Writer>() + WRITER_HEAP
    }
}

/// The boxed memory of the library's compressor. A test measures it, because the library does not
/// report it.
const WRITER_HEAP: usize = 253_614;

impl DecompressionContext for Reader {
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        self.0.init();
        // Decode straight into the block, which is also the window. A distance that reaches before
        // it is an error, and finds no other block's bytes (K9).
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        match decompress(&mut self.0, compressed, block, 0, flags) {
            (TINFLStatus::Done, _, len) if len == block.len() => Ok(()),
            _ => Err(CodecError::Corrupt),
        }
    }

    fn bytes_held(&self) -> usize {
        size_of::<DecompressorOxide>()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deflate::Writer")
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deflate::Reader")
    }
}
