//! A compressor that copies, which is the baseline and the smallest compressor.

use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::compress::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
};
use zpool_core::spec::{Component, Params};

/// Makes compressors that copy, under the name `null`. No parameters.
///
/// A store with `null` costs what a store costs without compression. It is the baseline of
/// measurements, and the compressor of tests about pools. A block "compresses" to itself, so a
/// store that refuses blocks which do not shrink refuses all of them.
///
/// ```
/// use zpool_conformance::NullDriver;
/// use zpool_core::compress::{Codec, CompressorDriver};
///
/// let codec = Codec::new(NullDriver.open(&Default::default())?, 4096);
/// let copy = codec.compress(b"a block", 4096, |bytes| bytes.map(<[u8]>::to_vec))?;
/// assert_eq!(copy.as_deref(), Some(&b"a block"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct NullDriver;

impl NullDriver {
    /// The compressor's name in a spec.
    pub const NAME: &'static str = "null";
}

/// The algorithm object. It has no settings and holds only its name.
#[derive(Debug)]
struct Null {
    identity: Component,
}

/// The context, which needs no tables.
#[derive(Debug)]
struct NullContext;

impl CompressorDriver for NullDriver {
    fn name(&self) -> &str {
        NullDriver::NAME
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        refuse_all(params)?;
        Ok(Arc::new(Null { identity: Component::named(NullDriver::NAME) }))
    }
}

impl Compressor for Null {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT OR Apache-2.0")
            .with_stateless_decompression()
            .with_no_heap_once_warm()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        block_len
    }

    fn compression_context(
        &self,
        _max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Box::new(NullContext))
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        if compressed.len() != block.len() {
            return Err(CodecError::Corrupt);
        }
        block.copy_from_slice(compressed);
        Ok(())
    }
}

impl CompressionContext for NullContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        let Some(out) = out.get_mut(..block.len()) else { return Ok(Compressed::DoesNotFit) };
        out.copy_from_slice(block);
        Ok(Compressed::Len(block.len()))
    }

    fn bytes_held(&self) -> usize {
        0
    }
}

/// Refuses every parameter, for drivers that have none.
pub(crate) fn refuse_all(params: &Params) -> Result<(), CreateError> {
    match params.iter().next() {
        None => Ok(()),
        Some((name, _)) => Err(CreateError::UnknownParameter { name: name.to_owned(), known: "" }),
    }
}
