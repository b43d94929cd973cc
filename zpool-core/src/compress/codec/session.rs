//! Compression with one context: one attempt and its outcome, sessions, and leases.

use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Codec;
use super::contexts::{LEASED, PooledContext};
use crate::compress::panic::codec_panic;
use crate::compress::{CodecError, Compressed, CompressionContext};

// The outcome of a compression in one word: a length, or one of these values, which no buffer has.
// A `Result` with an error would be returned through memory, written in parts and read as a whole.
// Such a read cannot use store forwarding and waits for all earlier stores, including those of the
// compressed block.
pub(super) const FAILED: usize = usize::MAX;
pub(super) const DOES_NOT_FIT: usize = usize::MAX - 1;
pub(super) const MISBEHAVED: usize = usize::MAX - 2;

/// Compresses `block` into the scratch of a context. Returns a length, or one of the values above
/// with the error in `failed`.
#[inline(always)]
pub(super) fn attempt(
    pooled: &mut PooledContext<dyn CompressionContext>,
    block: &[u8],
    failed: &mut Option<CodecError>,
) -> Result<usize, Box<dyn Any + Send>> {
    let PooledContext { scratch, context, .. } = pooled;
    let max = scratch.len();
    catch_unwind(AssertUnwindSafe(|| match context.compress(block, scratch) {
        Ok(Compressed::Len(len)) if (1..=max).contains(&len) => len,
        Ok(Compressed::Len(len)) => {
            let how = format!("claims {len} bytes in a buffer of {max}");
            *failed = Some(CodecError::Misbehaved(how));
            MISBEHAVED
        }
        Ok(Compressed::DoesNotFit) => DOES_NOT_FIT,
        Err(error) => {
            *failed = Some(error);
            FAILED
        }
    }))
}

/// A context leased for several blocks. Made by [`Codec::session`]; dropping it returns the
/// context.
pub struct Session<'c> {
    codec: &'c Codec,
    /// Leased for the first block.
    pooled: Option<Box<PooledContext<dyn CompressionContext>>>,
    /// Not `Send`: each thread counts its own leases.
    not_send: PhantomData<*const ()>,
}

impl<'c> Session<'c> {
    pub(super) fn new(codec: &'c Codec) -> Session<'c> {
        Session { codec, pooled: None, not_send: PhantomData }
    }

    /// Returns the context if another thread waits for one. The next block leases a context again.
    ///
    /// Call it before anything that may take long, such as a caller's iterator.
    #[inline]
    pub fn yield_to_waiter(&mut self) {
        if self.codec.waiters.attention() != 0
            && let Some(pooled) = self.pooled.take()
        {
            self.codec.return_compression(pooled);
        }
    }

    /// Compresses `block` as [`Codec::compress`] does. Lends the result until the next block:
    /// `None` if it would be longer than `max_len`.
    ///
    /// # Errors
    ///
    /// [`CodecError`], also for a panic of the compressor. The session stays usable.
    ///
    /// # Panics
    ///
    /// If `block` is longer than [`max_block_size`](Codec::max_block_size).
    #[inline]
    pub fn compress(&mut self, block: &[u8], max_len: usize) -> Result<Option<&[u8]>, CodecError> {
        let codec = self.codec;
        assert!(
            block.len() <= codec.max_block_size,
            "a block of {} bytes is over the codec's maximum",
            block.len()
        );
        let mut pooled = match self.pooled.take() {
            Some(pooled) => pooled,
            None => {
                let taken = codec.compression.take();
                let pooled = taken.map_or_else(|| codec.acquire_compression(), Ok)?;
                LEASED.set(LEASED.get() + 1);
                pooled
            }
        };
        let mut failed = None;
        let outcome = match attempt(&mut pooled, block, &mut failed) {
            Ok(outcome) => outcome,
            Err(panic) => {
                let error = codec_panic(panic);
                codec.discard_leased(pooled);
                return Err(error);
            }
        };
        match outcome {
            MISBEHAVED => codec.discard_leased(pooled),
            _ => self.pooled = Some(pooled),
        }
        match (outcome, failed, &self.pooled) {
            (_, Some(error), _) => Err(error),
            (len, None, Some(pooled)) if len <= max_len && len != DOES_NOT_FIT => {
                Ok(Some(&pooled.scratch[..len]))
            }
            _ => Ok(None),
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.codec.return_compression(pooled);
        }
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("codec", self.codec)
            .field("begun", &self.pooled.is_some())
            .finish()
    }
}

/// A leased compression context. Its drop returns the context, even if the caller's closure
/// unwinds.
pub(super) struct Lease<'a> {
    pub(super) codec: &'a Codec,
    pub(super) pooled: Option<Box<PooledContext<dyn CompressionContext>>>,
}

impl Drop for Lease<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.codec.return_compression(pooled);
        }
    }
}
