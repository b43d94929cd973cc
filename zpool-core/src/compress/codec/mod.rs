//! A compressor with its contexts, through which a pool compresses and decompresses.
//!
//! [`contexts`] makes, counts and drops contexts. [`session`] uses one for a block or for several.

mod contexts;
mod session;

use core::fmt;
use std::sync::Arc;

pub use session::Session;

use self::contexts::{LEASED, PooledContext};
use self::session::{DOES_NOT_FIT, FAILED, Lease, MISBEHAVED, attempt};
use super::panic::{catch_result, codec_panic};
use super::wait_queue::{RETIRED, SURPLUS, WaitQueue};
use super::{CodecError, CompressionContext, Compressor, ContextBudget, DecompressionContext};
use crate::internal::PerCpu;
use crate::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::noblock::might_block;

/// A compressor with the contexts in which threads run it.
///
/// Contexts are made on first use, kept for later blocks until they are freed or the codec is
/// dropped, and used by one thread at a time (see [`PerCpu`]). The codec stays usable whatever the
/// compressor does: fail, panic, return wrong lengths, block, or call back into the store. A
/// context that panicked is dropped.
pub struct Codec {
    compressor: Arc<dyn Compressor>,
    max_block_size: usize,
    stateless: bool,
    compression: PerCpu<PooledContext<dyn CompressionContext>>,
    decompression: PerCpu<PooledContext<dyn DecompressionContext>>,
    /// Threads that wait for a compression context.
    waiters: WaitQueue<PooledContext<dyn CompressionContext>>,
    /// Bytes of the largest compression context so far; 0 before the first.
    largest_context_bytes: AtomicUsize,
    /// Bytes that all contexts share. Constant.
    shared_bytes: usize,
    compression_bytes: AtomicUsize,
    decompression_bytes: AtomicUsize,
    /// An account shared with other codecs, with its bound.
    budget: Option<Arc<ContextBudget>>,
    made: AtomicU64,
    failed: AtomicU64,
}

/// The cost of a codec's contexts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecStats {
    /// Bytes that contexts, their scratch buffers and what they share (a dictionary) hold.
    pub context_bytes: usize,
    /// Contexts made so far.
    pub contexts_made: u64,
    /// Failed attempts to make a context. Each is repeated when a context is next needed.
    pub contexts_failed: u64,
}

impl Codec {
    /// Makes a codec for blocks of up to `max_block_size` bytes, without a context.
    pub fn new(compressor: Arc<dyn Compressor>, max_block_size: usize) -> Codec {
        Codec {
            stateless: compressor.capabilities().stateless_decompression,
            shared_bytes: compressor.shared_bytes(),
            compressor,
            max_block_size,
            compression: PerCpu::new(),
            decompression: PerCpu::new(),
            waiters: WaitQueue::new(),
            largest_context_bytes: AtomicUsize::new(0),
            compression_bytes: AtomicUsize::new(0),
            decompression_bytes: AtomicUsize::new(0),
            budget: None,
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Counts the bytes of contexts, and what they share, in `budget` as well, and keeps to its
    /// bound.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<ContextBudget>) -> Codec {
        debug_assert!(self.budget.is_none(), "a codec has one budget");
        debug_assert_eq!(self.context_bytes(), 0, "no context has been made yet");
        budget.add(self.shared_bytes, false);
        self.budget = Some(budget);
        self
    }

    /// Returns the compressor.
    pub fn compressor(&self) -> &Arc<dyn Compressor> {
        &self.compressor
    }

    /// Returns the largest block in bytes.
    pub fn max_block_size(&self) -> usize {
        self.max_block_size
    }

    /// Returns the bytes of the largest compression context so far, including its scratch; 0 before
    /// the first.
    pub fn largest_context_bytes(&self) -> usize {
        // Relaxed: an estimate.
        self.largest_context_bytes.load(Ordering::Relaxed)
    }

    /// Compresses `block` into scratch memory and calls `with` with the compressed bytes, or with
    /// `None` if they would be longer than `max_len`.
    ///
    /// The context is leased during `with`, which may call anything, even this codec. May block to
    /// make a context, to drop one, or to wait for one that the [budget](Self::with_budget) does
    /// not allow to be made.
    ///
    /// # Errors
    ///
    /// [`CodecError`], also for a panic of the compressor. Then `with` was not called.
    ///
    /// # Panics
    ///
    /// If `block` is longer than [`max_block_size`](Self::max_block_size).
    #[inline]
    pub fn compress<R>(
        &self,
        block: &[u8],
        max_len: usize,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, CodecError> {
        assert!(
            block.len() <= self.max_block_size,
            "a block of {} bytes is over the codec's maximum",
            block.len()
        );
        let mut pooled = match self.compression.take() {
            Some(pooled) => pooled,
            None => self.acquire_compression()?,
        };
        LEASED.set(LEASED.get() + 1);
        let mut failed = None;
        let outcome = attempt(&mut pooled, block, &mut failed);
        match outcome {
            Ok(FAILED) => {
                self.return_compression(pooled);
                Err(failed.expect("set together with the outcome"))
            }
            Ok(DOES_NOT_FIT) => {
                self.return_compression(pooled);
                Ok(with(None))
            }
            Ok(MISBEHAVED) => {
                self.discard_leased(pooled);
                Err(failed.expect("set together with the outcome"))
            }
            Ok(len) => {
                let mut lease = Lease { codec: self, pooled: Some(pooled) };
                let pooled = lease.pooled.as_mut().expect("just leased");
                Ok(with((len <= max_len).then(|| &pooled.scratch[..len])))
            }
            Err(panic) => {
                let error = codec_panic(panic);
                self.discard_leased(pooled);
                Err(error)
            }
        }
    }

    /// Begins a session, which compresses several blocks with one context.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Decompresses `compressed` into `block`, whose length is exactly that of the original.
    ///
    /// Never blocks if decompression is stateless. Otherwise it may block to make a context, or to
    /// drop one that panicked or for which there is no cell.
    ///
    /// # Errors
    ///
    /// [`CodecError`], also for a panic of the compressor. Then the bytes of `block` are
    /// unspecified.
    #[inline]
    pub fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        if self.stateless {
            return catch_result(|| self.compressor.decompress(compressed, block))
                .unwrap_or_else(|panic| Err(codec_panic(panic)));
        }
        let mut pooled = match self.decompression.take() {
            Some(pooled) => pooled,
            None => self.make_decompression()?,
        };
        match catch_result(|| pooled.context.decompress(compressed, block)) {
            Ok(result) => {
                self.return_decompression(pooled);
                result
            }
            Err(panic) => {
                let error = codec_panic(panic);
                self.discard(pooled);
                Err(error)
            }
        }
    }

    /// Frees the compression contexts and keeps none from now on, for a retired pool that will only
    /// be read. May block.
    pub fn retire_compression(&self) {
        might_block("freeing compression contexts");
        // Ordered by the exchanges of the cells. This function sets the flag and then empties each
        // cell; `return_compression` fills a cell and then reads the flag. Both exchanges of a cell
        // are Acquire and Release. If the filling comes second, it sees the flag; otherwise the
        // emptying takes the context. So no context stays in a cell.
        self.waiters.set(RETIRED, true);
        self.drop_compression_contexts();
    }

    /// Keeps compression contexts again, because the pool was revived. They are made when needed.
    pub fn revive_compression(&self) {
        // A thread that still sees the flag drops one context more than needed.
        self.waiters.set(RETIRED, false);
    }

    /// Frees the idle contexts and returns their bytes. With `keep_one`, one of each kind stays for
    /// the next block.
    ///
    /// Allocates nothing. May block, as the drop of a context may.
    pub fn free_idle_contexts(&self, keep_one: bool) -> usize {
        might_block("freeing idle contexts");
        let mut freed = 0;
        let kept = if keep_one { self.compression.take() } else { None };
        freed += self.drop_compression_contexts();
        if let Some(pooled) = kept {
            self.put_compression(pooled);
        }
        let kept = if keep_one { self.decompression.take() } else { None };
        while let Some(pooled) = self.decompression.take() {
            freed += pooled.counted;
            self.discard(pooled);
        }
        if let Some(pooled) = kept
            && let Err(surplus) = self.decompression.put(pooled)
        {
            self.discard(surplus);
        }
        freed
    }

    /// Frees compression contexts until the [budget](Self::with_budget) is kept, after its bound
    /// was lowered: idle ones now, the others when they are returned. At least one stays. Returns
    /// the bytes freed now. May block.
    pub fn free_surplus_contexts(&self) -> usize {
        might_block("freeing surplus contexts");
        self.waiters.set(SURPLUS, true);
        self.drop_surplus()
    }

    /// Frees all idle contexts of a codec that is about to be dropped. Returns how many panicked,
    /// which is caught. May block.
    pub fn free_contexts(&self) -> usize {
        let mut panicked = 0;
        // One by one: if two panicked in one drop, the second would abort the process.
        while let Some(pooled) = self.compression.take() {
            panicked += usize::from(!self.drop_context(pooled, true));
            self.waiters.context_freed();
        }
        while let Some(pooled) = self.decompression.take() {
            panicked += usize::from(!self.drop_context(pooled, false));
        }
        panicked
    }

    /// Returns the bytes of the contexts, without what they share.
    fn context_bytes(&self) -> usize {
        // Relaxed: statistics only.
        self.compression_bytes.load(Ordering::Relaxed)
            + self.decompression_bytes.load(Ordering::Relaxed)
    }

    /// Returns the cost of the contexts.
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
            // All contexts are freed, except for leaked ones. Relaxed: statistics only.
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
            .field("max_block_size", &self.max_block_size)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
