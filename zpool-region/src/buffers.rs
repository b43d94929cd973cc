//! Buffers in which units are decompressed before they are copied to their pages.
//!
//! They are mapped when the region is made, so that a fault makes no heap call, and are not on the
//! stack, because in signal mode that is the stack of the faulting thread.

use std::io;

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};
use zpool_core::internal::sync::thread;

use crate::mapping::Mapping;
use crate::readahead::MAX_WINDOW;

/// The number of buffers, each with a bit in one word. Pages that were never used cost nothing.
const BUFFERS: usize = 64;

/// A fixed set of buffers, each of a window's length.
#[derive(Debug)]
pub(crate) struct BufferPool {
    memory: Mapping,
    /// A bit per buffer that is free.
    free: AtomicU64,
    unit: usize,
}

/// A buffer, used by one thread until it is dropped.
#[derive(Debug)]
pub(crate) struct WindowBuffer<'a> {
    pool: &'a BufferPool,
    index: usize,
}

impl BufferPool {
    /// Maps the buffers for units of `unit` bytes.
    pub(crate) fn new(unit: usize) -> io::Result<BufferPool> {
        let memory = Mapping::new(BUFFERS * MAX_WINDOW * unit)?;
        Ok(BufferPool { memory, free: AtomicU64::new(u64::MAX), unit })
    }

    /// Sets whether a forked child has the buffers.
    pub(crate) fn set_inherited(&self, inherited: bool) -> io::Result<()> {
        self.memory.set_inherited(0, self.memory.len(), inherited)
    }

    /// Takes a buffer. If all are taken, waits for a thread that has one. Such a thread waits for
    /// locks, but never for a buffer or a fault.
    pub(crate) fn take(&self) -> WindowBuffer<'_> {
        loop {
            let free = self.free.load(Ordering::Relaxed);
            let index = free.trailing_zeros() as usize;
            if index == BUFFERS {
                thread::yield_now();
                continue;
            }
            // Acquire: pairs with the Release of the drop, after which the owner before does not
            // touch the buffer any more.
            let taken = self.free.compare_exchange_weak(
                free,
                free & !(1 << index),
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if taken.is_ok() {
                return WindowBuffer { pool: self, index };
            }
        }
    }
}

impl WindowBuffer<'_> {
    /// Returns the place of one unit of the window.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`MAX_WINDOW`].
    pub(crate) fn unit_mut(&mut self, index: usize) -> &mut [u8] {
        assert!(index < MAX_WINDOW);
        let unit = self.pool.unit;
        let at = (self.index * MAX_WINDOW + index) * unit;
        // SAFETY: (1) ordinary memory, which the kernel fills; (2) this buffer is the thread's
        // until the drop, and `self` is borrowed.
        unsafe { self.pool.memory.bytes_mut(at, unit) }
    }

    /// Returns the first `units` units of the window.
    pub(crate) fn units(&self, units: usize) -> &[u8] {
        assert!(units <= MAX_WINDOW);
        let unit = self.pool.unit;
        // SAFETY: (1) ordinary memory, which the kernel fills; (2) this buffer is the thread's
        // until the drop, and `self` is borrowed.
        unsafe { self.pool.memory.bytes(self.index * MAX_WINDOW * unit, units * unit) }
    }
}

impl Drop for WindowBuffer<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of `take`.
        self.pool.free.fetch_or(1 << self.index, Ordering::Release);
    }
}
