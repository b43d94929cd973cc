//! The contexts, in which one thread at a time compresses or decompresses.

use core::fmt;
use std::sync::Arc;

use zpool_core::compress::{CodecError, Compressed, CompressionContext, DecompressionContext};
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{
    CParameter, DCtx, DParameter, FrameFormat, SafeResult, compress_bound, get_error_name,
    is_error_kind,
};

use crate::attached::AttachedContext;
use crate::dictionary::Dictionary;

/// Compresses at one level.
pub(crate) struct ZstdCompression {
    context: AttachedContext,
    /// Zeros, as many as the largest block has bytes.
    zero_block: Box<[u8]>,
    /// Whether the previous block was shorter than half of the largest block.
    after_short: bool,
    /// Output buffer for a caller whose buffer is under the bound. Empty until that happens; then
    /// as long as the bound of the largest such block so far.
    staging: Vec<u8>,
}

impl ZstdCompression {
    /// Makes a context that has allocated the memory for blocks of `max_block_size` bytes.
    pub(crate) fn new(
        level: i32,
        dictionary: Option<&Dictionary>,
        max_block_size: usize,
    ) -> Result<ZstdCompression, CodecError> {
        let parameters = [
            // This also bounds window and tables by the length of each block.
            CParameter::CompressionLevel(level),
            // Facts that the caller knows stay out of the frame.
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        let dictionary = dictionary.map(|dictionary| Arc::clone(&dictionary.compression));
        let context = AttachedContext::new(&parameters, dictionary)
            .map_err(|code| code.map_or(CodecError::OutOfMemory, failure))?;
        let mut zero_block = Vec::new();
        lengthen(&mut zero_block, max_block_size)?;
        let zero_block = zero_block.into_boxed_slice();
        let mut new =
            ZstdCompression { context, zero_block, after_short: false, staging: Vec::new() };
        // zstd allocates its tables with the first block. We do that now, while it may block and
        // fail.
        new.claim_memory()?;
        Ok(new)
    }

    #[inline]
    fn compress_to_bound(
        &mut self,
        block: &[u8],
        out: &mut [u8],
    ) -> Result<Compressed, CodecError> {
        // After its first 128 frames, zstd frees a context's memory whenever the previous frame
        // left three times what the next one needs, and allocates only what that one needs. After
        // two short blocks, the next long one would allocate. A warm context must not make heap
        // calls.
        let short = block.len() < self.zero_block.len() / 2;
        if short && self.after_short {
            self.claim_memory()?;
        }
        self.after_short = short;
        outcome(self.context.compress(block, out))
    }

    /// Compresses into a buffer under the bound by way of `staging`. zstd needs a few bytes more
    /// than the compressed form has, so it could refuse a buffer that suffices, or choose another
    /// form.
    #[cold]
    fn compress_to_short(
        &mut self,
        block: &[u8],
        out: &mut [u8],
    ) -> Result<Compressed, CodecError> {
        lengthen(&mut self.staging, compress_bound(block.len()))?;
        let mut staging = core::mem::take(&mut self.staging);
        let outcome = self.compress_to_bound(block, &mut staging);
        self.staging = staging;
        let Compressed::Len(len) = outcome? else { return Ok(Compressed::DoesNotFit) };
        let Some(place) = out.get_mut(..len) else { return Ok(Compressed::DoesNotFit) };
        place.copy_from_slice(&self.staging[..len]);
        Ok(Compressed::Len(len))
    }

    /// Makes zstd allocate its memory for the largest block. It does so before it notices that
    /// there is no room even for a frame's header, so this costs little.
    #[cold]
    fn claim_memory(&mut self) -> Result<(), CodecError> {
        match outcome(self.context.compress(&self.zero_block, &mut [])) {
            Ok(Compressed::DoesNotFit) => Ok(()),
            Ok(Compressed::Len(len)) => {
                Err(CodecError::Misbehaved(format!("wrote {len} bytes into an empty buffer")))
            }
            Err(error) => Err(error),
        }
    }
}

impl CompressionContext for ZstdCompression {
    #[inline]
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        if out.len() < compress_bound(block.len()) {
            return self.compress_to_short(block, out);
        }
        self.compress_to_bound(block, out)
    }

    #[inline]
    fn bytes_held(&self) -> usize {
        size_of::<Self>()
            + self.context.bytes_held()
            + self.zero_block.len()
            + self.staging.capacity()
    }
}

/// Grows a buffer of zeros to `len`.
fn lengthen(buffer: &mut Vec<u8>, len: usize) -> Result<(), CodecError> {
    let missing = len.saturating_sub(buffer.len());
    buffer.try_reserve_exact(missing).map_err(|_| CodecError::OutOfMemory)?;
    buffer.resize(buffer.len() + missing, 0);
    Ok(())
}

#[inline]
fn outcome(result: SafeResult) -> Result<Compressed, CodecError> {
    match result {
        Ok(len) => Ok(Compressed::Len(len)),
        Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
            Ok(Compressed::DoesNotFit)
        }
        Err(code) => Err(failure(code)),
    }
}

#[cold]
fn failure(code: usize) -> CodecError {
    if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_memory_allocation) {
        return CodecError::OutOfMemory;
    }
    CodecError::Failed(get_error_name(code).to_owned())
}

/// Decompresses frames of any level with the same dictionary.
///
/// K9 holds because every frame starts with empty history and without tables of an earlier frame.
/// zstd checks lengths and distances against the bytes written of this frame and the dictionary. A
/// result that is not exactly as long as the block is refused.
pub(crate) struct ZstdDecompression {
    context: DCtx<'static>,
    dictionary: Option<Arc<Dictionary>>,
}

impl ZstdDecompression {
    pub(crate) fn new(
        dictionary: Option<Arc<Dictionary>>,
    ) -> Result<ZstdDecompression, CodecError> {
        let mut context = DCtx::try_create().ok_or(CodecError::OutOfMemory)?;
        context.set_parameter(DParameter::Format(FrameFormat::Magicless)).map_err(failure)?;
        Ok(ZstdDecompression { context, dictionary })
    }
}

impl DecompressionContext for ZstdDecompression {
    #[inline]
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        let result = match &self.dictionary {
            None => self.context.decompress(block, compressed),
            Some(dictionary) => {
                self.context.decompress_using_ddict(block, compressed, &dictionary.decompression)
            }
        };
        match result {
            Ok(len) if len == block.len() => Ok(()),
            Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_memory_allocation) => {
                Err(CodecError::OutOfMemory)
            }
            Ok(_) | Err(_) => Err(CodecError::Corrupt),
        }
    }

    #[inline]
    fn bytes_held(&self) -> usize {
        size_of::<Self>() + self.context.sizeof()
    }
}

impl fmt::Debug for ZstdCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdCompression")
            .field("bytes_held", &self.bytes_held())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ZstdDecompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdDecompression")
            .field("bytes_held", &self.bytes_held())
            .finish_non_exhaustive()
    }
}
