//! Compressing with one context: an attempt, what it came to, and how the context goes back.

use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Codec;
use super::slots::{HELD, Slot};
use crate::compress::contained::panicked;
use crate::compress::{CodecError, Compressed, CompressionContext};

// What a compression came to, in one word: a length, or one of these, which no buffer has. A
// `Result` with an error's fields goes through memory, where it is written in pieces and read as a
// whole; such a read waits until everything that was written before, the compressed block included,
// is in the cache.
pub(super) const FAILED: usize = usize::MAX;
pub(super) const DOES_NOT_FIT: usize = usize::MAX - 1;
pub(super) const MISBEHAVED: usize = usize::MAX - 2;

/// Has a context compress `block` into its scratch: a length, or one of the words above, with what
/// went wrong in `failed`.
#[inline(always)]
pub(super) fn attempt(
    slot: &mut Slot<dyn CompressionContext>,
    block: &[u8],
    failed: &mut Option<CodecError>,
) -> Result<usize, Box<dyn Any + Send>> {
    let Slot { scratch, context, .. } = slot;
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

/// A context that is out of its slot for several blocks. Made by [`Codec::session`]; the context
/// goes back when this is dropped.
pub struct Session<'c> {
    codec: &'c Codec,
    /// Taken for the first block.
    slot: Option<Box<Slot<dyn CompressionContext>>>,
    /// That a thread has a context out is known by thread.
    not_send: PhantomData<*const ()>,
}

impl<'c> Session<'c> {
    pub(super) fn new(codec: &'c Codec) -> Session<'c> {
        Session { codec, slot: None, not_send: PhantomData }
    }

    /// Returns the context if another thread waits for one. To be called before whatever may take
    /// long, such as a caller's iterator; the next block takes a context again, or waits for one.
    #[inline]
    pub fn rest(&mut self) {
        if self.codec.line.attention() != 0
            && let Some(slot) = self.slot.take()
        {
            self.codec.keep_compression(slot);
        }
    }

    /// Compresses `block`, as [`Codec::compress`] does, and lends the result until the next one:
    /// `None` when it would be longer than `max_len`.
    ///
    /// # Errors
    ///
    /// [`CodecError`], a panic of the codec included. The session is good for further blocks.
    ///
    /// # Panics
    ///
    /// If `block` is longer than [`max_block_len`](Codec::max_block_len).
    #[inline]
    pub fn compress(&mut self, block: &[u8], max_len: usize) -> Result<Option<&[u8]>, CodecError> {
        let codec = self.codec;
        assert!(
            block.len() <= codec.max_block_len,
            "a block of {} bytes is over the codec's maximum",
            block.len()
        );
        let mut slot = match self.slot.take() {
            Some(slot) => slot,
            None => {
                let taken = codec.compression.take();
                let slot = taken.map_or_else(|| codec.another_compression_slot(), Ok)?;
                HELD.set(HELD.get() + 1);
                slot
            }
        };
        let mut failed = None;
        let outcome = match attempt(&mut slot, block, &mut failed) {
            Ok(outcome) => outcome,
            Err(panic) => {
                let error = panicked(panic);
                codec.discard_held(slot);
                return Err(error);
            }
        };
        match outcome {
            MISBEHAVED => codec.discard_held(slot),
            _ => self.slot = Some(slot),
        }
        match (outcome, failed, &self.slot) {
            (_, Some(error), _) => Err(error),
            (len, None, Some(slot)) if len <= max_len && len != DOES_NOT_FIT => {
                Ok(Some(&slot.scratch[..len]))
            }
            _ => Ok(None),
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.codec.keep_compression(slot);
        }
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("codec", self.codec)
            .field("begun", &self.slot.is_some())
            .finish()
    }
}

/// A compression slot that goes back when this is dropped: also when the caller's closure unwinds.
pub(super) struct Lease<'a> {
    pub(super) codec: &'a Codec,
    pub(super) slot: Option<Box<Slot<dyn CompressionContext>>>,
}

impl Drop for Lease<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.codec.keep_compression(slot);
        }
    }
}
