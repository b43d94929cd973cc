//! The contexts of a codec: made where none is at hand, counted, put back, and dropped.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Codec;
use crate::compress::contained::{drop_contained, panicked};
use crate::compress::line::{RETIRED, SURPLUS};
use crate::compress::{CodecError, CompressionContext, DecompressionContext};
use crate::internal::sync::atomic::Ordering;
use crate::internal::{self, try_box};
use crate::noblock::{NoBlock, might_block};

/// A context and what belongs to it.
pub(super) struct Slot<C: ?Sized> {
    /// Where blocks are compressed to: the bound for the largest block. Empty for decompression.
    pub(super) scratch: Box<[u8]>,
    /// What this slot was last counted with in [`Codec::bytes`].
    pub(super) counted: usize,
    pub(super) context: Box<C>,
}

thread_local! {
    /// Compression contexts that this thread has out of their slots, of any codec: it waits for no
    /// other then.
    pub(super) static HELD: Cell<usize> = const { Cell::new(0) };
}

impl Codec {
    /// A compression slot where none is at hand: one that another thread gives up, or a new one.
    #[cold]
    pub(super) fn another_compression_slot(
        &self,
    ) -> Result<Box<Slot<dyn CompressionContext>>, CodecError> {
        // A thread that holds one could be waiting for itself.
        let may_wait = HELD.get() == 0 && !NoBlock::is_active();
        // Relaxed: an estimate. Reserved where it was allowed to make one: 0 for the first, of
        // which nothing is known.
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
    pub(super) fn make_decompression_slot(
        &self,
    ) -> Result<Box<Slot<dyn DecompressionContext>>, CodecError> {
        might_block("making a decompression context");
        let make = || self.compressor.decompression_context();
        self.count_attempt(false, make, |context| Ok((Box::default(), context.bytes_held())))
    }

    /// Makes a context and, with its scratch and what it counts, a slot, and puts that on the
    /// books, or counts a failure. A panic is one.
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
            (Ok((scratch, counted)), Some(context)) => try_box(Slot { scratch, counted, context })
                .map_err(|slot| {
                    drop_contained(slot);
                    CodecError::OutOfMemory
                }),
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
    pub(super) fn keep_compression(&self, mut slot: Box<Slot<dyn CompressionContext>>) {
        HELD.set(HELD.get().wrapping_sub(1));
        let Slot { scratch, counted, context } = &mut *slot;
        self.recount(counted, true, || scratch.len() + context.bytes_held());
        self.put_compression(slot);
    }

    #[inline]
    pub(super) fn put_compression(&self, slot: Box<Slot<dyn CompressionContext>>) {
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
    pub(super) fn drop_surplus(&self) -> usize {
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
    pub(super) fn keep_decompression(&self, mut slot: Box<Slot<dyn DecompressionContext>>) {
        let Slot { counted, context, .. } = &mut *slot;
        self.recount(counted, false, || context.bytes_held());
        if let Err(surplus) = self.decompression.put(slot) {
            self.discard(surplus);
        }
    }

    /// Returns the bytes freed.
    #[cold]
    pub(super) fn drop_compression_contexts(&self) -> usize {
        let mut freed = 0;
        while let Some(slot) = self.compression.take() {
            freed += slot.counted;
            self.discard_compression(slot);
        }
        freed
    }

    /// A codec may allocate tables late, so its slots are counted again when they come back. Its
    /// panic changes nothing: this runs while others unwind.
    #[inline]
    fn recount(&self, counted: &mut usize, compression: bool, now: impl FnOnce() -> usize) {
        let Some(now) = internal::contained(now) else { return };
        if *counted != now {
            self.book(now.wrapping_sub(*counted), compression);
            *counted = now;
        }
    }

    /// Adds to the bytes of the contexts; wrapping, so that shrinking is adding the difference,
    /// too.
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
    pub(super) fn discard_held(&self, slot: Box<Slot<dyn CompressionContext>>) {
        HELD.set(HELD.get().wrapping_sub(1));
        self.discard_compression(slot);
    }

    #[cold]
    fn discard_compression(&self, slot: Box<Slot<dyn CompressionContext>>) {
        might_block("dropping a codec context");
        self.drop_slot(slot, true);
        self.line.gone();
    }

    /// Drops a slot and takes it off the books. A context that panics then is gone all the same,
    /// and the slots after it are not left out.
    ///
    /// May block, as the drop of a context may. A load that comes here has used a context that
    /// panicked, or one that there is no slot for: then twice as many were in use as there are
    /// processors, so one was made, which may block as well.
    #[cold]
    pub(super) fn discard(&self, slot: Box<Slot<dyn DecompressionContext>>) {
        might_block("dropping a codec context");
        self.drop_slot(slot, false);
    }

    /// False if that panicked.
    pub(super) fn drop_slot<C: ?Sized>(&self, slot: Box<Slot<C>>, compression: bool) -> bool {
        self.book(slot.counted.wrapping_neg(), compression);
        drop_contained(slot)
    }
}
