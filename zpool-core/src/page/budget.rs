//! A source with a limit.

use core::ops::Range;
use std::sync::Arc;

use super::{Discard, FramesRetained, OutOfFrames, PageSource, Run};
use crate::internal::sync::atomic::{AtomicUsize, Ordering};

/// Limits the frames that may be charged through it at one time.
///
/// Frames that the source behind it [retains](PageSource::retained_frames) do not count towards the
/// limit.
#[derive(Debug)]
pub struct BudgetedSource {
    inner: Arc<dyn PageSource>,
    budget: AtomicUsize,
    used: AtomicUsize,
}

impl BudgetedSource {
    /// Makes a source that charges at most `frames` frames of `inner`.
    pub fn new(inner: Arc<dyn PageSource>, frames: usize) -> BudgetedSource {
        BudgetedSource { inner, budget: AtomicUsize::new(frames), used: AtomicUsize::new(0) }
    }

    /// Sets the limit. Frames that were charged before stay charged, even over the limit.
    pub fn set_budget(&self, frames: usize) {
        // Relaxed: a concurrent charge may use either limit.
        self.budget.store(frames, Ordering::Relaxed);
    }
}

// SAFETY: runs are those of `inner`, which makes the same promises; only accounts are added.
#[expect(unsafe_code, reason = "passes the promises of the inner source on")]
unsafe impl PageSource for BudgetedSource {
    fn frame_size(&self) -> usize {
        self.inner.frame_size()
    }

    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        self.inner.reserve(frames)
    }

    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        let budget = self.budget.load(Ordering::Relaxed);
        let within = |used: usize| used.checked_add(frames).filter(|&sum| sum <= budget);
        // Relaxed, here and below: an account, which publishes nothing.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .map_err(|_| OutOfFrames)?;
        self.inner.charge(frames).inspect_err(|_| {
            self.used.fetch_sub(frames, Ordering::Relaxed);
        })
    }

    fn uncharge(&self, frames: usize) {
        self.used.fetch_sub(frames, Ordering::Relaxed);
        self.inner.uncharge(frames);
    }

    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), FramesRetained> {
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.discard(run, frames) }
    }

    fn populate(&self, run: &Run, frames: Range<usize>) {
        self.inner.populate(run, frames);
    }

    unsafe fn discard_all(&self, entries: &mut [Discard]) {
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.discard_all(entries) };
    }

    unsafe fn release(&self, run: Run) {
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.release(run) };
    }

    unsafe fn release_all(&self, runs: &mut dyn Iterator<Item = Run>) {
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.release_all(runs) };
    }

    fn charged_frames(&self) -> usize {
        self.used.load(Ordering::Relaxed) + self.inner.retained_frames()
    }

    fn retained_frames(&self) -> usize {
        self.inner.retained_frames()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::page::HeapSource;

    /// Charging fails over the budget and works again below it.
    #[test]
    fn charge_fails_only_over_budget() {
        let inner = Arc::new(HeapSource::new(4096));
        let source = BudgetedSource::new(inner.clone(), 3);
        source.charge(2).unwrap();
        assert_eq!(source.charge(2), Err(OutOfFrames));
        source.uncharge(1);
        source.charge(2).unwrap();
        assert_eq!((source.charged_frames(), inner.charged_frames()), (3, 3));
        source.set_budget(4);
        source.charge(1).unwrap();
        assert_eq!(source.charge(usize::MAX), Err(OutOfFrames));
    }
}
