//! A compressor with its contexts: what a pool compresses and decompresses through.

use core::any::Any;
use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::contained::{contained, drop_contained, panicked};
use super::{CodecError, Compressed, CompressionContext, Compressor, DecompressionContext};
use crate::cpu::PerCpu;
use crate::exec;
use crate::noblock::might_block;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

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
    /// Of the compressor itself; fixed.
    shared_bytes: usize,
    bytes: AtomicUsize,
    /// Where the same bytes are counted together with those of others.
    account: Option<Arc<AtomicUsize>>,
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

// What a compression came to, in one word: a length, or one of these, which no buffer has. A `Result` with an error's fields goes through memory, where it is
// written in pieces and read as a whole; such a read waits until everything that was written before, the compressed block included, is in the cache.
const FAILED: usize = usize::MAX;
const DOES_NOT_FIT: usize = usize::MAX - 1;
const MISBEHAVED: usize = usize::MAX - 2;

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
            retired: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
            account: None,
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Counts what its contexts cost, and what they share, in `account` as well, as long as the codec lives.
    #[must_use]
    pub fn with_account(mut self, account: Arc<AtomicUsize>) -> Codec {
        debug_assert!(self.account.is_none(), "counted in one place");
        // Relaxed: statistics only.
        account.fetch_add(self.shared_bytes + self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.account = Some(account);
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
                self.discard(slot);
                Err(failed.expect("set where the outcome was"))
            }
            Ok(len) => {
                let mut lease = Lease { codec: self, slot: Some(slot) };
                let slot = lease.slot.as_mut().expect("just put there");
                Ok(with((len <= max_len).then(|| &slot.scratch[..len])))
            }
            Err(panic) => {
                let error = panicked(panic);
                self.discard(slot);
                Err(error)
            }
        }
    }

    /// For compressing several blocks, one after the other, with one context.
    pub fn session(&self) -> Session<'_> {
        Session { codec: self, slot: None }
    }

    /// Decompresses `compressed` into `block`, whose length is exactly that of the original.
    ///
    /// May block where a codec that needs contexts has to make one, or to drop one that panicked or that there is no slot for; never where decompression is
    /// stateless.
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

    /// Frees the compression contexts and keeps none from now on: for a pool that is retired and will only be read. May block.
    pub fn retire_compression(&self) {
        might_block("freeing compression contexts");
        // Relaxed: the exchanges of the slots order it. Here the flag is set, then each slot is emptied; in `keep_compression` a slot is filled, then the flag
        // read. Of the two exchanges of one slot, both Acquire and Release, either the filling comes second, and then sees the flag; or the emptying does, and
        // then takes what was put there. So no context is left in a slot for good.
        self.retired.store(true, Ordering::Relaxed);
        self.drop_compression_contexts();
    }

    /// Keeps compression contexts again: the pool was revived. They are made anew when needed.
    pub fn revive_compression(&self) {
        // Relaxed: a thread that still sees the old value only drops a context too many.
        self.retired.store(false, Ordering::Relaxed);
    }

    /// Frees the contexts that are in no use, for a codec that is about to go. Gives how many panicked then, which is contained. May block.
    pub fn free_contexts(&self) -> usize {
        // One by one: of two that panic in one drop, the second would abort the process, as the first unwinds.
        let compression = self.compression.drain().into_iter().map(|slot| self.drop_slot(slot));
        let decompression = self.decompression.drain().into_iter().map(|slot| self.drop_slot(slot));
        compression.chain(decompression).filter(|fine| !fine).count()
    }

    /// What the contexts cost.
    pub fn stats(&self) -> CodecStats {
        // Relaxed: statistics only.
        CodecStats {
            context_bytes: self.bytes.load(Ordering::Relaxed) + self.shared_bytes,
            contexts_made: self.made.load(Ordering::Relaxed),
            contexts_failed: self.failed.load(Ordering::Relaxed),
        }
    }

    #[cold]
    fn make_compression_slot(&self) -> Result<Box<Slot<dyn CompressionContext>>, CodecError> {
        might_block("making a compression context");
        let make = || self.compressor.compression_context(self.max_block_len);
        self.count_attempt(make, |context| {
            let bound = self.compressor.compress_bound(self.max_block_len);
            let mut scratch = Vec::new();
            // A codec may ask for more than there is: an error, as for the context itself.
            scratch.try_reserve_exact(bound).map_err(|_| CodecError::OutOfMemory)?;
            scratch.resize(bound, 0);
            let counted = context.bytes_held() + scratch.len();
            Ok((scratch.into_boxed_slice(), counted))
        })
    }

    #[cold]
    fn make_decompression_slot(&self) -> Result<Box<Slot<dyn DecompressionContext>>, CodecError> {
        might_block("making a decompression context");
        let make = || self.compressor.decompression_context();
        self.count_attempt(make, |context| Ok((Box::default(), context.bytes_held())))
    }

    /// Makes a context and, with its scratch and what it counts, a slot, and puts that on the books, or counts a failure. A panic is one.
    fn count_attempt<C: ?Sized>(
        &self,
        make: impl FnOnce() -> Result<Box<C>, CodecError>,
        equip: impl FnOnce(&C) -> Result<(Box<[u8]>, usize), CodecError>,
    ) -> Result<Box<Slot<C>>, CodecError> {
        // Out here, so that an unwinding does not drop it, which may panic, too.
        let mut made = None;
        let equipped = catch_unwind(AssertUnwindSafe(|| equip(&**made.insert(make()?))))
            .unwrap_or_else(|panic| Err(panicked(panic)));
        let result = match (equipped, made) {
            (Ok((scratch, counted)), Some(context)) => Ok(Box::new(Slot { scratch, counted, context })),
            (equipped, made) => {
                drop_contained(made);
                Err(equipped.expect_err("nothing is equipped that was not made"))
            }
        };
        // Relaxed: statistics only.
        match &result {
            Ok(slot) => {
                self.book(slot.counted);
                self.made.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    #[inline]
    fn keep_compression(&self, mut slot: Box<Slot<dyn CompressionContext>>) {
        let Slot { scratch, counted, context } = &mut *slot;
        self.recount(counted, || scratch.len() + context.bytes_held());
        if let Err(surplus) = self.compression.put(slot) {
            self.discard(surplus);
        }
        // Relaxed: ordered by the exchange of the slot, see `retire_compression`. (A fence here would wait for all writes before it, the object in the pool included.)
        if self.retired.load(Ordering::Relaxed) {
            self.drop_compression_contexts();
        }
    }

    #[inline]
    fn keep_decompression(&self, mut slot: Box<Slot<dyn DecompressionContext>>) {
        let Slot { counted, context, .. } = &mut *slot;
        self.recount(counted, || context.bytes_held());
        if let Err(surplus) = self.decompression.put(slot) {
            self.discard(surplus);
        }
    }

    #[cold]
    fn drop_compression_contexts(&self) {
        for slot in self.compression.drain() {
            self.discard(slot);
        }
    }

    /// A codec may allocate tables late, so its slots are counted again when they come back. Its panic changes nothing: this runs while others unwind.
    #[inline]
    fn recount(&self, counted: &mut usize, now: impl FnOnce() -> usize) {
        let Some(now) = exec::contained(now) else { return };
        if *counted != now {
            self.book(now.wrapping_sub(*counted));
            *counted = now;
        }
    }

    /// Adds to the bytes of the contexts; wrapping, so that shrinking is adding the difference, too.
    fn book(&self, more: usize) {
        // Relaxed: statistics only.
        self.bytes.fetch_add(more, Ordering::Relaxed);
        if let Some(account) = &self.account {
            account.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Drops a slot and takes it off the books. A context that panics then is gone all the same, and the slots after it are not left out.
    ///
    /// May block, as the drop of a context may. Whoever comes here from a load has used a context that panicked, or one that there is no slot for: then twice
    /// as many were in use as there are processors, so one was made, which may block as well.
    #[cold]
    fn discard<C: ?Sized>(&self, slot: Box<Slot<C>>) {
        might_block("dropping a codec context");
        self.drop_slot(slot);
    }

    /// False if that panicked.
    fn drop_slot<C: ?Sized>(&self, slot: Box<Slot<C>>) -> bool {
        self.book(slot.counted.wrapping_neg());
        drop_contained(slot)
    }
}

/// Has a context compress `block` into its scratch: a length, or one of the words above, with what went wrong in `failed`.
#[inline(always)]
fn attempt(
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

/// A context that is out of its slot for several blocks. Made by [`Codec::session`]; the context goes back when this is dropped.
pub struct Session<'c> {
    codec: &'c Codec,
    /// Taken for the first block.
    slot: Option<Box<Slot<dyn CompressionContext>>>,
}

impl Session<'_> {
    /// Compresses `block`, as [`Codec::compress`] does, and lends the result until the next one: `None` when it would be longer than `max_len`.
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
        let mut slot = match self.slot.take().or_else(|| codec.compression.take()) {
            Some(slot) => slot,
            None => codec.make_compression_slot()?,
        };
        let mut failed = None;
        let outcome = match attempt(&mut slot, block, &mut failed) {
            Ok(outcome) => outcome,
            Err(panic) => {
                let error = panicked(panic);
                codec.discard(slot);
                return Err(error);
            }
        };
        match outcome {
            MISBEHAVED => codec.discard(slot),
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
        f.debug_struct("Session").field("codec", self.codec).field("begun", &self.slot.is_some()).finish()
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

impl Drop for Codec {
    fn drop(&mut self) {
        self.free_contexts();
        if let Some(account) = &self.account {
            // Relaxed: statistics only.
            account.fetch_sub(self.shared_bytes + self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
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
