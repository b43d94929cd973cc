//! A compressor with its contexts: what a pool compresses and decompresses through.
//!
//! Contexts come, go and are counted in [`slots`]; using one for a block or several is in
//! [`session`].

mod session;
mod slots;

use core::fmt;
use std::sync::Arc;

pub use session::Session;

use self::session::{DOES_NOT_FIT, FAILED, Lease, MISBEHAVED, attempt};
use self::slots::{HELD, Slot};
use super::contained::{contained, panicked};
use super::line::{Line, RETIRED, SURPLUS};
use super::{CodecError, CompressionContext, Compressor, ContextBudget, DecompressionContext};
use crate::internal::PerCpu;
use crate::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::noblock::might_block;

/// A compressor and the contexts that threads run it with.
///
/// Contexts are made on first use, live as long as the codec, and are used by one thread at a time
/// (see [`PerCpu`]). Whatever the compressor does (fail, panic, lie about lengths, block, call back
/// into the store), the codec stays usable: a context that panicked is thrown away.
pub struct Codec {
    compressor: Arc<dyn Compressor>,
    max_block_len: usize,
    stateless: bool,
    compression: PerCpu<Slot<dyn CompressionContext>>,
    decompression: PerCpu<Slot<dyn DecompressionContext>>,
    /// Threads that wait for a compression context.
    line: Line<Slot<dyn CompressionContext>>,
    /// Bytes of the largest compression slot so far; 0 before there was one.
    slot_bytes: AtomicUsize,
    /// Bytes of the compressor itself; fixed.
    shared_bytes: usize,
    compression_bytes: AtomicUsize,
    decompression_bytes: AtomicUsize,
    /// Where the same bytes are counted together with those of other codecs, and bounded.
    budget: Option<Arc<ContextBudget>>,
    made: AtomicU64,
    failed: AtomicU64,
}

/// What a codec's contexts cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecStats {
    /// Bytes that contexts, their scratch buffers and what they share (a dictionary) hold.
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
            shared_bytes: compressor.shared_bytes(),
            compressor,
            max_block_len,
            compression: PerCpu::new(),
            decompression: PerCpu::new(),
            line: Line::new(),
            slot_bytes: AtomicUsize::new(0),
            compression_bytes: AtomicUsize::new(0),
            decompression_bytes: AtomicUsize::new(0),
            budget: None,
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Counts what its contexts cost, and what they share, in `budget` as well, as long as the
    /// codec lives, and keeps to its bound.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<ContextBudget>) -> Codec {
        debug_assert!(self.budget.is_none(), "counted in one place");
        debug_assert_eq!(self.context_bytes(), 0, "no context has been made yet");
        budget.add(self.shared_bytes, false);
        self.budget = Some(budget);
        self
    }

    /// The algorithm.
    pub fn compressor(&self) -> &Arc<dyn Compressor> {
        &self.compressor
    }

    /// The largest block in bytes.
    pub fn max_block_len(&self) -> usize {
        self.max_block_len
    }

    /// Returns the bytes of the largest compression context so far, its scratch included; 0 before
    /// there was one.
    pub fn slot_bytes(&self) -> usize {
        // Relaxed: an estimate.
        self.slot_bytes.load(Ordering::Relaxed)
    }

    /// Compresses `block` into the context's scratch and lets `with` look at the result: the
    /// compressed bytes, or `None` when they would be longer than `max_len`.
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
            None => self.another_compression_slot()?,
        };
        HELD.set(HELD.get() + 1);
        let mut failed = None;
        let outcome = attempt(&mut slot, block, &mut failed);
        match outcome {
            Ok(FAILED) => {
                self.keep_compression(slot);
                Err(failed.expect("set where the outcome was"))
            }
            Ok(DOES_NOT_FIT) => {
                self.keep_compression(slot);
                Ok(with(None))
            }
            Ok(MISBEHAVED) => {
                self.discard_held(slot);
                Err(failed.expect("set where the outcome was"))
            }
            Ok(len) => {
                let mut lease = Lease { codec: self, slot: Some(slot) };
                let slot = lease.slot.as_mut().expect("just put there");
                Ok(with((len <= max_len).then(|| &slot.scratch[..len])))
            }
            Err(panic) => {
                let error = panicked(panic);
                self.discard_held(slot);
                Err(error)
            }
        }
    }

    /// For compressing several blocks, one after the other, with one context.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Decompresses `compressed` into `block`, whose length is exactly that of the original.
    ///
    /// May block where a codec that needs contexts has to make one, or to drop one that panicked or
    /// that there is no slot for; never where decompression is stateless.
    ///
    /// # Errors
    ///
    /// [`CodecError`], a panic of the codec included; `block` is then unspecified.
    #[inline]
    pub fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        if self.stateless {
            return contained(|| self.compressor.decompress(compressed, block))
                .unwrap_or_else(|panic| Err(panicked(panic)));
        }
        let mut slot = match self.decompression.take() {
            Some(slot) => slot,
            None => self.make_decompression_slot()?,
        };
        match contained(|| slot.context.decompress(compressed, block)) {
            Ok(result) => {
                self.keep_decompression(slot);
                result
            }
            Err(panic) => {
                let error = panicked(panic);
                self.discard(slot);
                Err(error)
            }
        }
    }

    /// Frees the compression contexts and keeps none from now on: for a pool that is retired and
    /// will only be read. May block.
    pub fn retire_compression(&self) {
        might_block("freeing compression contexts");
        // The exchanges of the slots order it. Here the flag is set, then each slot is emptied; in
        // `keep_compression` a slot is filled, then the flag read. Of the two exchanges of one
        // slot, both Acquire and Release, either the filling comes second, and then sees the flag;
        // or the emptying does, and then takes what was put there. So no context is left in a slot
        // for good.
        self.line.set(RETIRED, true);
        self.drop_compression_contexts();
    }

    /// Keeps compression contexts again: the pool was revived. They are made anew when needed.
    pub fn revive_compression(&self) {
        // A thread that still sees the old value only drops a context too many.
        self.line.set(RETIRED, false);
    }

    /// Frees the contexts that are not in use. With `keep_one`, one of each kind stays, for the
    /// next block. Returns the bytes freed. Makes no heap call; may block, as the drop of a context
    /// may.
    pub fn free_idle_contexts(&self, keep_one: bool) -> usize {
        might_block("freeing idle contexts");
        let mut freed = 0;
        let kept = if keep_one { self.compression.take() } else { None };
        freed += self.drop_compression_contexts();
        if let Some(slot) = kept {
            self.put_compression(slot);
        }
        let kept = if keep_one { self.decompression.take() } else { None };
        while let Some(slot) = self.decompression.take() {
            freed += slot.counted;
            self.discard(slot);
        }
        if let Some(slot) = kept
            && let Err(surplus) = self.decompression.put(slot)
        {
            self.discard(surplus);
        }
        freed
    }

    /// Frees compression contexts until the [budget](Self::with_budget) is kept to again, after its
    /// bound was lowered: those that are not in use now, the others when they come back. At least
    /// one stays. Returns the bytes freed now. May block.
    pub fn free_surplus_contexts(&self) -> usize {
        might_block("freeing surplus contexts");
        self.line.set(SURPLUS, true);
        self.drop_surplus()
    }

    /// Frees the contexts that are in no use, for a codec that is about to go. Gives how many
    /// panicked then, which is contained. May block.
    pub fn free_contexts(&self) -> usize {
        let mut panicked = 0;
        // One by one: of two that panic in one drop, the second would abort the process, as the
        // first unwinds.
        while let Some(slot) = self.compression.take() {
            panicked += usize::from(!self.drop_slot(slot, true));
            self.line.gone();
        }
        while let Some(slot) = self.decompression.take() {
            panicked += usize::from(!self.drop_slot(slot, false));
        }
        panicked
    }

    /// Bytes of the contexts, without what they share.
    fn context_bytes(&self) -> usize {
        // Relaxed: statistics only.
        self.compression_bytes.load(Ordering::Relaxed)
            + self.decompression_bytes.load(Ordering::Relaxed)
    }

    /// What the contexts cost.
    pub fn stats(&self) -> CodecStats {
        // Relaxed: statistics only.
        CodecStats {
            context_bytes: self.context_bytes() + self.shared_bytes,
            contexts_made: self.made.load(Ordering::Relaxed),
            contexts_failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        self.free_contexts();
        if let Some(budget) = &self.budget {
            // All contexts are gone, but for those that leaked. Relaxed: statistics only.
            budget.add(self.compression_bytes.load(Ordering::Relaxed).wrapping_neg(), true);
            let rest = self.shared_bytes + self.decompression_bytes.load(Ordering::Relaxed);
            budget.add(rest.wrapping_neg(), false);
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
