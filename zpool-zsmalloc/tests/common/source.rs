//! A page source that refuses to discard on request, and whose own heap calls are never refused.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use zpool_core::page::{FramesRetained, HeapSource, OutOfFrames, PageSource, Run};

/// The page source of this module.
#[derive(Debug)]
pub(crate) struct Source {
    inner: HeapSource,
    around: fn(&mut dyn FnMut()),
    /// Discards fail, as with locked memory.
    pub(crate) keeps: AtomicBool,
    /// Frames charged so far.
    pub(crate) charges: AtomicUsize,
    /// The most frames charged at a time.
    pub(crate) peak: AtomicUsize,
}

impl Source {
    /// Returns a source of frames of `frame_size` bytes that does its work inside `around`.
    pub(crate) fn new(frame_size: usize, around: fn(&mut dyn FnMut())) -> Source {
        Source {
            inner: HeapSource::new(frame_size),
            around,
            keeps: AtomicBool::new(false),
            charges: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    fn inside<R>(&self, work: impl FnOnce(&HeapSource) -> R) -> R {
        let (mut work, mut result) = (Some(work), None);
        (self.around)(&mut || result = work.take().map(|work| work(&self.inner)));
        result.expect("`around` calls what it is given")
    }
}

// SAFETY: forwards; a discard that fails changes nothing.
unsafe impl PageSource for Source {
    fn frame_size(&self) -> usize {
        self.inner.frame_size()
    }
    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        self.inside(|inner| inner.reserve(frames))
    }
    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        self.inside(|inner| inner.charge(frames))?;
        self.charges.fetch_add(frames, Ordering::Relaxed);
        self.peak.fetch_max(self.inner.charged_frames(), Ordering::Relaxed);
        Ok(())
    }
    fn uncharge(&self, frames: usize) {
        self.inner.uncharge(frames);
    }
    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), FramesRetained> {
        if self.keeps.load(Ordering::Relaxed) {
            return Err(FramesRetained);
        }
        // SAFETY: our caller's promise.
        self.inside(|inner| unsafe { inner.discard(run, frames) })
    }
    unsafe fn release(&self, run: Run) {
        // SAFETY: our caller's promise.
        self.inside(|inner| unsafe { inner.release(run) });
    }
    fn charged_frames(&self) -> usize {
        self.inner.charged_frames()
    }
}
