//! A compressor with its contexts: what a pool compresses and decompresses through.

use core::any::Any;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::contained::{contained, drop_contained, panicked};
use super::line::{Line, RETIRED, SURPLUS};
use super::{CodecError, Compressed, CompressionContext, Compressor, ContextBudget, DecompressionContext};
use crate::cpu::PerCpu;
use crate::exec;
use crate::noblock::{NoBlock, might_block};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
    /// Who waits for a compression context.
    line: Line<Slot<dyn CompressionContext>>,
    /// Of the largest compression slot so far; 0 before there was one.
    slot_bytes: AtomicUsize,
    /// Of the compressor itself; fixed.
    shared_bytes: usize,
    compression_bytes: AtomicUsize,
    decompression_bytes: AtomicUsize,
    /// Where the same bytes are counted together with those of other codecs, and bounded.
    budget: Option<Arc<ContextBudget>>,
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

thread_local! {
    /// Compression contexts that this thread has out of their slots, of any codec: it waits for no other then.
    static HELD: Cell<usize> = const { Cell::new(0) };
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
            line: Line::new(),
            slot_bytes: AtomicUsize::new(0),
            compression_bytes: AtomicUsize::new(0),
            decompression_bytes: AtomicUsize::new(0),
            budget: None,
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Counts what its contexts cost, and what they share, in `budget` as well, as long as the codec
    /// lives, and keeps to its bound.
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
        Session { codec: self, slot: None, not_send: PhantomData }
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
        // The exchanges of the slots order it. Here the flag is set, then each slot is emptied; in `keep_compression` a slot is filled, then the flag
        // read. Of the two exchanges of one slot, both Acquire and Release, either the filling comes second, and then sees the flag; or the emptying does, and
        // then takes what was put there. So no context is left in a slot for good.
        self.line.set(RETIRED, true);
        self.drop_compression_contexts();
    }

    /// Keeps compression contexts again: the pool was revived. They are made anew when needed.
    pub fn revive_compression(&self) {
        // A thread that still sees the old value only drops a context too many.
        self.line.set(RETIRED, false);
    }

    /// Frees the contexts that are not in use. With `keep_one`, one of each kind stays, for the next
    /// block. Returns the bytes freed. Makes no heap call; may block, as the drop of a context may.
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

    /// Frees the contexts that are in no use, for a codec that is about to go. Gives how many panicked then, which is contained. May block.
    pub fn free_contexts(&self) -> usize {
        let mut panicked = 0;
        // One by one: of two that panic in one drop, the second would abort the process, as the first unwinds.
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
        self.compression_bytes.load(Ordering::Relaxed) + self.decompression_bytes.load(Ordering::Relaxed)
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

    /// A compression slot where none is at hand: one that another thread gives up, or a new one.
    #[cold]
    fn another_compression_slot(&self) -> Result<Box<Slot<dyn CompressionContext>>, CodecError> {
        // Whoever holds one could be waiting for itself.
        let may_wait = HELD.get() == 0 && !NoBlock::is_active();
        // Relaxed: an estimate. Reserved where it was allowed to make one: 0 for the first, of which nothing is known.
        let (unit, reserved) = (self.slot_bytes.load(Ordering::Relaxed), Cell::new(0));
        let may_make = |alive: usize| {
            let Some(budget) = &self.budget else { return true };
            let unit = if unit > 0 { unit } else { self.slot_bytes.load(Ordering::Relaxed) };
            if budget.max_compression_bytes().is_none() || alive == 0 {
                return true;
            }
            let fits = unit > 0 && budget.try_reserve(unit);
            reserved.set(if fits { unit } else { 0 });
            fits
        };
        let found = self.line.wait(may_wait, || self.compression.take(), may_make);
        if let Some(slot) = found {
            return Ok(slot);
        }
        let made = self.make_compression_slot();
        if let Some(budget) = &self.budget {
            budget.unreserve(reserved.get());
        }
        if made.is_err() {
            self.line.gone();
        }
        made
    }

    fn make_compression_slot(&self) -> Result<Box<Slot<dyn CompressionContext>>, CodecError> {
        might_block("making a compression context");
        let make = || self.compressor.compression_context(self.max_block_len);
        let made = self.count_attempt(true, make, |context| {
            let bound = self.compressor.compress_bound(self.max_block_len);
            let mut scratch = Vec::new();
            // A codec may ask for more than there is: an error, as for the context itself.
            scratch.try_reserve_exact(bound).map_err(|_| CodecError::OutOfMemory)?;
            scratch.resize(bound, 0);
            let counted = context.bytes_held() + scratch.len();
            Ok((scratch.into_boxed_slice(), counted))
        })?;
        // Relaxed: an estimate.
        self.slot_bytes.fetch_max(made.counted.max(1), Ordering::Relaxed);
        Ok(made)
    }

    #[cold]
    fn make_decompression_slot(&self) -> Result<Box<Slot<dyn DecompressionContext>>, CodecError> {
        might_block("making a decompression context");
        let make = || self.compressor.decompression_context();
        self.count_attempt(false, make, |context| Ok((Box::default(), context.bytes_held())))
    }

    /// Makes a context and, with its scratch and what it counts, a slot, and puts that on the books, or counts a failure. A panic is one.
    fn count_attempt<C: ?Sized>(
        &self,
        compression: bool,
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
                self.book(slot.counted, compression);
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
        HELD.set(HELD.get().wrapping_sub(1));
        let Slot { scratch, counted, context } = &mut *slot;
        self.recount(counted, true, || scratch.len() + context.bytes_held());
        self.put_compression(slot);
    }

    #[inline]
    fn put_compression(&self, slot: Box<Slot<dyn CompressionContext>>) {
        if let Err(surplus) = self.compression.put(slot) {
            self.discard_compression(surplus);
        }
        let attention = self.line.attention();
        if attention != 0 {
            self.attend(attention);
        }
    }

    /// A context came back, and it is not enough to leave it in its slot.
    #[cold]
    fn attend(&self, attention: usize) {
        if attention & RETIRED != 0 {
            self.drop_compression_contexts();
        }
        if attention & SURPLUS != 0 {
            self.drop_surplus();
        }
        if attention > RETIRED | SURPLUS {
            self.line.hand_on(|| self.compression.take());
        }
    }

    /// See [`free_surplus_contexts`](Self::free_surplus_contexts).
    fn drop_surplus(&self) -> usize {
        let mut freed = 0;
        loop {
            let exceeded = self.budget.as_ref().is_some_and(|budget| budget.is_exceeded());
            if !exceeded || self.line.alive() <= 1 {
                self.line.set(SURPLUS, false);
                return freed;
            }
            let Some(slot) = self.compression.take() else { return freed };
            freed += slot.counted;
            self.discard_compression(slot);
        }
    }

    #[inline]
    fn keep_decompression(&self, mut slot: Box<Slot<dyn DecompressionContext>>) {
        let Slot { counted, context, .. } = &mut *slot;
        self.recount(counted, false, || context.bytes_held());
        if let Err(surplus) = self.decompression.put(slot) {
            self.discard(surplus);
        }
    }

    /// Returns the bytes freed.
    #[cold]
    fn drop_compression_contexts(&self) -> usize {
        let mut freed = 0;
        while let Some(slot) = self.compression.take() {
            freed += slot.counted;
            self.discard_compression(slot);
        }
        freed
    }

    /// A codec may allocate tables late, so its slots are counted again when they come back. Its panic changes nothing: this runs while others unwind.
    #[inline]
    fn recount(&self, counted: &mut usize, compression: bool, now: impl FnOnce() -> usize) {
        let Some(now) = exec::contained(now) else { return };
        if *counted != now {
            self.book(now.wrapping_sub(*counted), compression);
            *counted = now;
        }
    }

    /// Adds to the bytes of the contexts; wrapping, so that shrinking is adding the difference, too.
    fn book(&self, more: usize, compression: bool) {
        let kind = if compression { &self.compression_bytes } else { &self.decompression_bytes };
        // Relaxed: statistics only.
        kind.fetch_add(more, Ordering::Relaxed);
        if let Some(budget) = &self.budget {
            budget.add(more, compression);
        }
    }

    /// Drops a compression slot that this thread had out.
    #[cold]
    fn discard_held(&self, slot: Box<Slot<dyn CompressionContext>>) {
        HELD.set(HELD.get().wrapping_sub(1));
        self.discard_compression(slot);
    }

    #[cold]
    fn discard_compression(&self, slot: Box<Slot<dyn CompressionContext>>) {
        might_block("dropping a codec context");
        self.drop_slot(slot, true);
        self.line.gone();
    }

    /// Drops a slot and takes it off the books. A context that panics then is gone all the same, and the slots after it are not left out.
    ///
    /// May block, as the drop of a context may. A load that comes here has used a context that panicked, or one that there is no slot for: then twice
    /// as many were in use as there are processors, so one was made, which may block as well.
    #[cold]
    fn discard(&self, slot: Box<Slot<dyn DecompressionContext>>) {
        might_block("dropping a codec context");
        self.drop_slot(slot, false);
    }

    /// False if that panicked.
    fn drop_slot<C: ?Sized>(&self, slot: Box<Slot<C>>, compression: bool) -> bool {
        self.book(slot.counted.wrapping_neg(), compression);
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
    /// That a thread has a context out is known by thread.
    not_send: PhantomData<*const ()>,
}

impl Session<'_> {
    /// Gives the context up if another thread waits for one. To be called before whatever may take
    /// long, such as a caller's iterator; the next block takes a context again, or waits for one.
    #[inline]
    pub fn rest(&mut self) {
        if self.codec.line.attention() != 0
            && let Some(slot) = self.slot.take()
        {
            self.codec.keep_compression(slot);
        }
    }

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
