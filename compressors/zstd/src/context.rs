//! The halves with state: what one thread at a time compresses and decompresses with.

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
    /// As many zeros as the largest block has bytes.
    largest: Box<[u8]>,
    /// The block before was shorter than half of the largest.
    after_short: bool,
    /// Where a block is compressed to when the caller's buffer is under the bound. Empty until that happens; then for the largest block seen so.
    staging: Vec<u8>,
}

impl ZstdCompression {
    /// A context that has allocated what blocks of `max_block_len` bytes need.
    pub(crate) fn new(
        level: i32,
        dictionary: Option<&Dictionary>,
        max_block_len: usize,
    ) -> Result<ZstdCompression, CodecError> {
        let parameters = [
            // Bounds window and tables by the length of each block, too.
            CParameter::CompressionLevel(level),
            // What the caller knows already stays out of the frame.
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        let dictionary = dictionary.map(|dictionary| Arc::clone(&dictionary.compression));
        let context = AttachedContext::new(&parameters, dictionary)
            .map_err(|code| code.map_or(CodecError::OutOfMemory, failure))?;
        let mut largest = Vec::new();
        lengthen(&mut largest, max_block_len)?;
        let largest = largest.into_boxed_slice();
        let mut new = ZstdCompression { context, largest, after_short: false, staging: Vec::new() };
        // zstd allocates its tables with the first block: let that be now, where it may block and fail.
        new.claim_memory()?;
        Ok(new)
    }

    #[inline]
    fn compress_to_bound(
        &mut self,
        block: &[u8],
        out: &mut [u8],
    ) -> Result<Compressed, CodecError> {
        // After its first 128 frames zstd frees a context's memory whenever the frame before left three times what the next one needs, and takes
        // as much as that one needs: two short blocks in a row, and the next long one pays. A warm context must not make heap calls.
        let short = block.len() < self.largest.len() / 2;
        if short && self.after_short {
            self.claim_memory()?;
        }
        self.after_short = short;
        outcome(self.context.compress(block, out))
    }

    /// zstd wants some bytes more than the compressed form has, so a buffer under the bound might be refused although it suffices, or give another form.
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

    /// Has zstd lay its memory out for the largest block. It does so before it finds that there is no room even for a frame's header, which is why this costs
    /// little.
    #[cold]
    fn claim_memory(&mut self) -> Result<(), CodecError> {
        match outcome(self.context.compress(&self.largest, &mut [])) {
            Ok(Compressed::DoesNotFit) => Ok(()),
            Ok(Compressed::Len(len)) => {
                Err(CodecError::Misbehaved(format!("wrote {len} bytes into none")))
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
        size_of::<Self>() + self.context.bytes_held() + self.largest.len() + self.staging.capacity()
    }
}

/// Makes a buffer of zeros as long as `len`, if it is shorter.
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

/// Decompresses what any level made with the same dictionary.
///
/// Why K9 holds: every frame starts with empty history and without tables of the frame before; zstd checks lengths and distances against
/// what it has written of this frame and the dictionary; and a result that is not exactly as long as the block is refused.
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
