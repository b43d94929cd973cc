//! Frames from the global allocator, for systems without mmap and for tests with other frame sizes.

use core::ops::Range;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed};

use super::{FramesRetained, OutOfFrames, PageSource, Run};
use crate::internal::sync::atomic::{AtomicUsize, Ordering};
use crate::noblock::might_block;

/// Takes each run from the global allocator.
///
/// A heap cannot free a part of an allocation, so [`discard`](PageSource::discard) does nothing,
/// and the memory of a run is freed with the run. The charged frames are those that the pool uses,
/// not what the process holds.
#[derive(Debug)]
pub struct HeapSource {
    frame_size: usize,
    charged: AtomicUsize,
}

impl HeapSource {
    /// Makes a source of frames of `frame_size` bytes.
    ///
    /// # Panics
    ///
    /// If `frame_size` is not a power of two, or less than 4096.
    pub fn new(frame_size: usize) -> HeapSource {
        assert!(
            frame_size.is_power_of_two() && frame_size >= 4096,
            "a frame of {frame_size} bytes: use a power of two of at least 4096"
        );
        HeapSource { frame_size, charged: AtomicUsize::new(0) }
    }

    fn layout(&self, bytes: usize) -> Layout {
        Layout::from_size_align(bytes, self.frame_size)
            .expect("the layout was valid when the run was reserved")
    }
}

// SAFETY: (1) each run is an allocation of its own with that size and alignment, zeroed, freed in
// `release`; (2) `discard` does nothing; (3) see `new`.
unsafe impl PageSource for HeapSource {
    fn frame_size(&self) -> usize {
        self.frame_size
    }

    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        might_block("HeapSource::reserve");
        assert!(frames > 0, "a run has at least one frame");
        let bytes = frames.checked_mul(self.frame_size).ok_or(OutOfFrames)?;
        let layout = Layout::from_size_align(bytes, self.frame_size).map_err(|_| OutOfFrames)?;
        // SAFETY: the layout has more than 0 bytes.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(OutOfFrames)?;
        // SAFETY: (1) zeroed memory of that length, ours alone.
        Ok(unsafe { Run::new(base, bytes) })
    }

    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        // Relaxed, here and below: an account, which publishes nothing.
        self.charged.fetch_add(frames, Ordering::Relaxed);
        Ok(())
    }

    fn uncharge(&self, frames: usize) {
        self.charged.fetch_sub(frames, Ordering::Relaxed);
    }

    unsafe fn discard(&self, _run: &Run, _frames: Range<usize>) -> Result<(), FramesRetained> {
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the page source")]
    unsafe fn release(&self, run: Run) {
        might_block("HeapSource::release");
        let layout = self.layout(run.len());
        // SAFETY: allocated in `reserve` with the layout of the same length (caller's 1), and no
        // longer used (caller's 2).
        unsafe { std::alloc::dealloc(run.base().as_ptr(), layout) };
    }

    fn charged_frames(&self) -> usize {
        self.charged.load(Ordering::Relaxed)
    }
}
