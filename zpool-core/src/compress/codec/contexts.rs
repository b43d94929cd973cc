//! The contexts of a codec: making, counting, returning and dropping them.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Codec;
use crate::compress::panic::{codec_panic, drop_foreign};
use crate::compress::wait_queue::{RETIRED, SURPLUS};
use crate::compress::{CodecError, CompressionContext, DecompressionContext};
use crate::internal::sync::atomic::Ordering;
use crate::internal::{self, try_box};
use crate::noblock::{NoBlock, might_block};

/// A context with its scratch buffer and its account.
pub(super) struct PooledContext<C: ?Sized> {
    /// Output buffer of [`compress_bound`](crate::compress::Compressor::compress_bound) bytes for
    /// the largest block. Empty for decompression.
    pub(super) scratch: Box<[u8]>,
    /// Bytes last counted for this context.
    pub(super) counted: usize,
    pub(super) context: Box<C>,
}

thread_local! {
    /// Compression contexts of any codec that this thread has leased. While it has one, it waits
    /// for no other.
    pub(super) static LEASED: Cell<usize> = const { Cell::new(0) };
}

impl Codec {
    /// Returns a compression context when no cell holds one: waits for another thread to return
    /// one, or makes one.
    #[cold]
    pub(super) fn acquire_compression(
        &self,
    ) -> Result<Box<PooledContext<dyn CompressionContext>>, CodecError> {
        // A thread that has leased one could be waiting for itself.
        let may_wait = LEASED.get() == 0 && !NoBlock::is_active();
        // Relaxed: an estimate. The bytes reserved for the new context are 0 for the first one,
        // whose size is unknown.
        let (unit, reserved) = (self.largest_context_bytes.load(Ordering::Relaxed), Cell::new(0));
        let may_make = |alive: usize| {
            let Some(budget) = &self.budget else { return true };
            let unit =
                if unit > 0 { unit } else { self.largest_context_bytes.load(Ordering::Relaxed) };
            if budget.max_compression_bytes().is_none() || alive == 0 {
                return true;
            }
            let fits = unit > 0 && budget.try_reserve(unit);
            reserved.set(if fits { unit } else { 0 });
            fits
        };
        let found = self.waiters.wait(may_wait, || self.compression.take(), may_make);
        if let Some(pooled) = found {
            return Ok(pooled);
        }
        let made = self.make_compression();
        if let Some(budget) = &self.budget {
            budget.unreserve(reserved.get());
        }
        if made.is_err() {
            self.waiters.context_freed();
        }
        made
    }

    fn make_compression(&self) -> Result<Box<PooledContext<dyn CompressionContext>>, CodecError> {
        might_block("making a compression context");
        let make = || self.compressor.compression_context(self.max_block_size);
        let made = self.count_attempt(true, make, |context| {
            let bound = self.compressor.compress_bound(self.max_block_size);
            let mut scratch = Vec::new();
            // A codec may ask for more scratch memory than there is. That is an error, as it is for
            // the context itself.
            scratch.try_reserve_exact(bound).map_err(|_| CodecError::OutOfMemory)?;
            scratch.resize(bound, 0);
            let counted = context.bytes_held() + scratch.len();
            Ok((scratch.into_boxed_slice(), counted))
        })?;
        // Relaxed: an estimate.
        self.largest_context_bytes.fetch_max(made.counted.max(1), Ordering::Relaxed);
        Ok(made)
    }

    #[cold]
    pub(super) fn make_decompression(
        &self,
    ) -> Result<Box<PooledContext<dyn DecompressionContext>>, CodecError> {
        might_block("making a decompression context");
        let make = || self.compressor.decompression_context();
        self.count_attempt(false, make, |context| Ok((Box::default(), context.bytes_held())))
    }

    /// Makes a context, equips it with scratch and account, and counts it. Counts a failure,
    /// including a panic.
    fn count_attempt<C: ?Sized>(
        &self,
        compression: bool,
        make: impl FnOnce() -> Result<Box<C>, CodecError>,
        equip: impl FnOnce(&C) -> Result<(Box<[u8]>, usize), CodecError>,
    ) -> Result<Box<PooledContext<C>>, CodecError> {
        // Declared outside the closure, so that unwinding does not drop the context: its drop may
        // panic, too.
        let mut made = None;
        let equipped = catch_unwind(AssertUnwindSafe(|| equip(&**made.insert(make()?))))
            .unwrap_or_else(|panic| Err(codec_panic(panic)));
        let result = match (equipped, made) {
            (Ok((scratch, counted)), Some(context)) => {
                try_box(PooledContext { scratch, counted, context }).map_err(|pooled| {
                    drop_foreign(pooled);
                    CodecError::OutOfMemory
                })
            }
            (equipped, made) => {
                drop_foreign(made);
                Err(equipped.expect_err("only a context that was made is equipped"))
            }
        };
        // Relaxed: statistics only.
        match &result {
            Ok(pooled) => {
                self.count_bytes(pooled.counted, compression);
                self.made.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    #[inline]
    pub(super) fn return_compression(
        &self,
        mut pooled: Box<PooledContext<dyn CompressionContext>>,
    ) {
        LEASED.set(LEASED.get().wrapping_sub(1));
        let PooledContext { scratch, counted, context } = &mut *pooled;
        self.recount(counted, true, || scratch.len() + context.bytes_held());
        self.put_compression(pooled);
    }

    #[inline]
    pub(super) fn put_compression(&self, pooled: Box<PooledContext<dyn CompressionContext>>) {
        if let Err(surplus) = self.compression.put(pooled) {
            self.discard_compression(surplus);
        }
        let attention = self.waiters.attention();
        if attention != 0 {
            self.handle_attention(attention);
        }
    }

    /// Acts on the flags after a context was returned to its cell.
    #[cold]
    fn handle_attention(&self, attention: usize) {
        if attention & RETIRED != 0 {
            self.drop_compression_contexts();
        }
        if attention & SURPLUS != 0 {
            self.drop_surplus();
        }
        if attention > RETIRED | SURPLUS {
            self.waiters.hand_to_waiter(|| self.compression.take());
        }
    }

    /// Frees idle contexts until the budget is kept. Returns the bytes freed.
    pub(super) fn drop_surplus(&self) -> usize {
        let mut freed = 0;
        loop {
            let exceeded = self.budget.as_ref().is_some_and(|budget| budget.is_exceeded());
            if !exceeded || self.waiters.alive() <= 1 {
                self.waiters.set(SURPLUS, false);
                return freed;
            }
            let Some(pooled) = self.compression.take() else { return freed };
            freed += pooled.counted;
            self.discard_compression(pooled);
        }
    }

    #[inline]
    pub(super) fn return_decompression(
        &self,
        mut pooled: Box<PooledContext<dyn DecompressionContext>>,
    ) {
        let PooledContext { counted, context, .. } = &mut *pooled;
        self.recount(counted, false, || context.bytes_held());
        if let Err(surplus) = self.decompression.put(pooled) {
            self.discard(surplus);
        }
    }

    /// Frees all idle compression contexts. Returns the bytes freed.
    #[cold]
    pub(super) fn drop_compression_contexts(&self) -> usize {
        let mut freed = 0;
        while let Some(pooled) = self.compression.take() {
            freed += pooled.counted;
            self.discard_compression(pooled);
        }
        freed
    }

    /// Counts a returned context again, since a codec may allocate tables late. Ignores a panic,
    /// because this may run while the thread is unwinding.
    #[inline]
    fn recount(&self, counted: &mut usize, compression: bool, now: impl FnOnce() -> usize) {
        let Some(now) = internal::catch(now) else { return };
        if *counted != now {
            self.count_bytes(now.wrapping_sub(*counted), compression);
            *counted = now;
        }
    }

    /// Adds to the bytes of the contexts, wrapping. To subtract, add the negative.
    fn count_bytes(&self, more: usize, compression: bool) {
        let kind = if compression { &self.compression_bytes } else { &self.decompression_bytes };
        // Relaxed: statistics only.
        kind.fetch_add(more, Ordering::Relaxed);
        if let Some(budget) = &self.budget {
            budget.add(more, compression);
        }
    }

    /// Drops a compression context that this thread had leased.
    #[cold]
    pub(super) fn discard_leased(&self, pooled: Box<PooledContext<dyn CompressionContext>>) {
        LEASED.set(LEASED.get().wrapping_sub(1));
        self.discard_compression(pooled);
    }

    #[cold]
    fn discard_compression(&self, pooled: Box<PooledContext<dyn CompressionContext>>) {
        might_block("dropping a codec context");
        self.drop_context(pooled, true);
        self.waiters.context_freed();
    }

    /// Drops a decompression context and its account, even if its drop panics.
    ///
    /// May block, as the drop of a context may. A load gets here only with a context that panicked
    /// or that found no free cell. In the second case more contexts were in use than there are
    /// cells, two per processor, so one was made, which may block as well.
    #[cold]
    pub(super) fn discard(&self, pooled: Box<PooledContext<dyn DecompressionContext>>) {
        might_block("dropping a codec context");
        self.drop_context(pooled, false);
    }

    /// Drops a context and its account. Returns false if the drop panicked.
    pub(super) fn drop_context<C: ?Sized>(
        &self,
        pooled: Box<PooledContext<C>>,
        compression: bool,
    ) -> bool {
        self.count_bytes(pooled.counted.wrapping_neg(), compression);
        drop_foreign(pooled)
    }
}
