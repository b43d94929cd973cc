//! A compressor with its contexts: what a pool compresses and decompresses through.

use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{CodecError, Compressed, CompressionContext, Compressor, DecompressionContext};
use crate::cpu::PerCpu;
use crate::exec::panic_message;
use crate::noblock::might_block;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// A compressor and the contexts that threads run it with.
///
/// Contexts are made on first use, live as long as the codec, and are used by one thread at a time (see [`PerCpu`]). Whatever the
/// compressor does (fail, panic, lie about lengths, block, call back into the store), the codec stays usable: a context that panicked is thrown away.
pub struct Codec {
    compressor: Arc<dyn Compressor>,
    max_block_len: usize,
    stateless: bool,
    compression: PerCpu<Slot<dyn CompressionContext>>,
    decompression: PerCpu<Slot<dyn DecompressionContext>>,
    /// Compression contexts are not kept: the pool is retired.
    retired: AtomicBool,
    bytes: AtomicUsize,
    made: AtomicU64,
    failed: AtomicU64,
}

/// A context and what belongs to it.
struct Slot<C: ?Sized> {
    /// Where blocks are compressed to: the bound for the largest block. Empty for decompression.
    scratch: Box<[u8]>,
    /// What this slot was last counted with in [`Codec::bytes`].
    counted: usize,
    context: Box<C>,
}

/// What a codec's contexts cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecStats {
    /// Bytes that contexts and their scratch buffers hold.
    pub context_bytes: usize,
    /// Contexts made so far.
    pub contexts_made: u64,
    /// Attempts to make one that failed; each is made again when next needed.
    pub contexts_failed: u64,
}

impl Codec {
    /// A codec for blocks of up to `max_block_len` bytes. Makes no context yet.
    pub fn new(compressor: Arc<dyn Compressor>, max_block_len: usize) -> Codec {
        Codec {
            stateless: compressor.properties().stateless_decompression,
            compressor,
            max_block_len,
            compression: PerCpu::new(),
            decompression: PerCpu::new(),
            retired: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// The algorithm.
    pub fn compressor(&self) -> &Arc<dyn Compressor> {
        &self.compressor
    }

    /// The largest block in bytes.
    pub fn max_block_len(&self) -> usize {
        self.max_block_len
    }

    /// Compresses `block` into the context's scratch and lets `with` look at the result: the compressed bytes, or `None` when
    /// they would be longer than `max_len`.
    ///
    /// `with` runs while the context is out of its slot: it may call anything, this codec included.
    ///
    /// # Errors
    ///
    /// [`CodecError`], a panic of the codec included. `with` was not called then.
    ///
    /// # Panics
    ///
    /// If `block` is longer than [`max_block_len`](Self::max_block_len).
    #[inline]
    pub fn compress<R>(
        &self,
        block: &[u8],
        max_len: usize,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, CodecError> {
        assert!(
            block.len() <= self.max_block_len,
            "a block of {} bytes is over the codec's maximum",
            block.len()
        );
        let mut slot = match self.compression.take() {
            Some(slot) => slot,
            None => self.make_compression_slot()?,
        };
        let Slot { scratch, context, .. } = &mut *slot;
        let outcome = catch_unwind(AssertUnwindSafe(|| context.compress(block, scratch)));
        match outcome {
            Ok(Ok(Compressed::Len(len))) if (1..=slot.scratch.len()).contains(&len) => {
                let mut lease = Lease { codec: self, slot: Some(slot) };
                let slot = lease.slot.as_mut().expect("just put there");
                Ok(with((len <= max_len).then(|| &slot.scratch[..len])))
            }
            Ok(Ok(Compressed::DoesNotFit)) => {
                self.keep_compression(slot);
                Ok(with(None))
            }
            Ok(Ok(Compressed::Len(len))) => {
                let max = slot.scratch.len();
                self.discard(&*slot);
                Err(CodecError::Misbehaved(format!("claims {len} bytes in a buffer of {max}")))
            }
            Ok(Err(error)) => {
                self.keep_compression(slot);
                Err(error)
            }
            Err(panic) => {
                self.discard(&*slot);
                Err(CodecError::Panicked(panic_message(&*panic)))
            }
        }
    }

    /// Decompresses `compressed` into `block`, whose length is exactly that of the original.
    ///
    /// # Errors
    ///
    /// [`CodecError`], a panic of the codec included; `block` is then unspecified.
    #[inline]
    pub fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        if self.stateless {
            return catch_unwind(AssertUnwindSafe(|| self.compressor.decompress(compressed, block)))
                .unwrap_or_else(|panic| Err(CodecError::Panicked(panic_message(&*panic))));
        }
        let mut slot = match self.decompression.take() {
            Some(slot) => slot,
            None => self.make_decompression_slot()?,
        };
        match catch_unwind(AssertUnwindSafe(|| slot.context.decompress(compressed, block))) {
            Ok(result) => {
                self.keep_decompression(slot);
                result
            }
            Err(panic) => {
                self.discard(&*slot);
                Err(CodecError::Panicked(panic_message(&*panic)))
            }
        }
    }

    /// Frees the compression contexts and keeps none from now on: for a pool that is retired and will only be read. May block.
    pub fn retire_compression(&self) {
        might_block("freeing compression contexts");
        // Relaxed: the fence orders it.
        self.retired.store(true, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `keep_compression`. Of "flag set, then slots emptied" here and "slot filled, then flag read" there
        // at least one sees the other, so no context is left in a slot for good.
        fence(Ordering::SeqCst);
        self.drop_compression_contexts();
    }

    /// Keeps compression contexts again: the pool was revived. They are made anew when needed.
    pub fn revive_compression(&self) {
        // Relaxed: a thread that still sees the old value only drops a context too many.
        self.retired.store(false, Ordering::Relaxed);
    }

    /// What the contexts cost.
    pub fn stats(&self) -> CodecStats {
        // Relaxed: statistics only.
        CodecStats {
            context_bytes: self.bytes.load(Ordering::Relaxed),
            contexts_made: self.made.load(Ordering::Relaxed),
            contexts_failed: self.failed.load(Ordering::Relaxed),
        }
    }

    #[cold]
    fn make_compression_slot(&self) -> Result<Box<Slot<dyn CompressionContext>>, CodecError> {
        might_block("making a compression context");
        let make = || self.compressor.compression_context(self.max_block_len);
        let context = self.count_attempt(catch_unwind(AssertUnwindSafe(make)))?;
        let bound = catch_unwind(AssertUnwindSafe(|| self.compressor.compress_bound(self.max_block_len)))
            .map_err(|panic| CodecError::Panicked(panic_message(&*panic)))?;
        let scratch = vec![0; bound].into_boxed_slice();
        let counted = context.bytes_held() + scratch.len();
        self.bytes.fetch_add(counted, Ordering::Relaxed);
        Ok(Box::new(Slot { scratch, counted, context }))
    }

    #[cold]
    fn make_decompression_slot(&self) -> Result<Box<Slot<dyn DecompressionContext>>, CodecError> {
        might_block("making a decompression context");
        let make = || self.compressor.decompression_context();
        let context = self.count_attempt(catch_unwind(AssertUnwindSafe(make)))?;
        let counted = context.bytes_held();
        self.bytes.fetch_add(counted, Ordering::Relaxed);
        Ok(Box::new(Slot { scratch: Box::default(), counted, context }))
    }

    fn count_attempt<C>(&self, outcome: std::thread::Result<Result<C, CodecError>>) -> Result<C, CodecError> {
        let result = outcome.unwrap_or_else(|panic| Err(CodecError::Panicked(panic_message(&*panic))));
        // Relaxed: statistics only.
        let counter = if result.is_ok() { &self.made } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    #[inline]
    fn keep_compression(&self, mut slot: Box<Slot<dyn CompressionContext>>) {
        self.recount(&mut slot.counted, slot.scratch.len() + slot.context.bytes_held());
        if let Err(surplus) = self.compression.put(slot) {
            self.discard(&*surplus);
        }
        // SeqCst: see `retire_compression`.
        fence(Ordering::SeqCst);
        if self.retired.load(Ordering::Relaxed) {
            self.drop_compression_contexts();
        }
    }

    #[inline]
    fn keep_decompression(&self, mut slot: Box<Slot<dyn DecompressionContext>>) {
        self.recount(&mut slot.counted, slot.context.bytes_held());
        if let Err(surplus) = self.decompression.put(slot) {
            self.discard(&*surplus);
        }
    }

    #[cold]
    fn drop_compression_contexts(&self) {
        for slot in self.compression.drain() {
            self.discard(&*slot);
        }
    }

    /// A codec may allocate tables late, so its slots are counted again when they come back.
    #[inline]
    fn recount(&self, counted: &mut usize, now: usize) {
        if *counted != now {
            // Relaxed: statistics only. Wrapping, so that shrinking is adding the difference, too.
            self.bytes.fetch_add(now.wrapping_sub(*counted), Ordering::Relaxed);
            *counted = now;
        }
    }

    /// Takes a slot that is about to be dropped off the books.
    fn discard<C: ?Sized>(&self, slot: &Slot<C>) {
        // Relaxed: statistics only.
        self.bytes.fetch_sub(slot.counted, Ordering::Relaxed);
    }
}

/// A compression slot that goes back when this is dropped: also when the caller's closure unwinds.
struct Lease<'a> {
    codec: &'a Codec,
    slot: Option<Box<Slot<dyn CompressionContext>>>,
}

impl Drop for Lease<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.codec.keep_compression(slot);
        }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec")
            .field("compressor", &self.compressor)
            .field("max_block_len", &self.max_block_len)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
