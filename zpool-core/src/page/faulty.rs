//! A source that fails on purpose.

use core::ops::Range;
use std::sync::Arc;

use super::{Discard, NotGivenBack, OutOfFrames, PageSource, Run};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Which calls of a [`FaultySource`] fail. Calls of `reserve` and `charge` are counted together, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPlan {
    /// None.
    Never,
    /// Only call number `n` from now on.
    Nth(u64),
    /// Call number `n` from now on and every later one.
    From(u64),
}

/// Fails chosen calls of the source behind it: for tests that exhaust memory at every point where a pool asks for it.
#[derive(Debug)]
pub struct FaultySource {
    inner: Arc<dyn PageSource>,
    calls: AtomicU64,
    /// First call that fails.
    from: AtomicU64,
    /// First call after it that works again.
    until: AtomicU64,
    failures: AtomicU64,
}

impl FaultySource {
    /// Fails as `plan` says.
    pub fn new(inner: Arc<dyn PageSource>, plan: FaultPlan) -> FaultySource {
        let word = AtomicU64::new;
        let source = FaultySource { inner, calls: word(0), from: word(0), until: word(0), failures: word(0) };
        source.plan(plan);
        source
    }

    /// Changes the plan; calls are counted anew.
    pub fn plan(&self, plan: FaultPlan) {
        let (from, until) = match plan {
            FaultPlan::Never => (u64::MAX, u64::MAX),
            FaultPlan::Nth(n) => (n, n.saturating_add(1)),
            FaultPlan::From(n) => (n, u64::MAX),
        };
        // Relaxed: tests set the plan while nobody calls. So below.
        self.from.store(from, Ordering::Relaxed);
        self.until.store(until, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
    }

    /// Calls that could have failed since the plan was set.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls that did fail, ever.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn call(&self) -> Result<(), OutOfFrames> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if (self.from.load(Ordering::Relaxed)..self.until.load(Ordering::Relaxed)).contains(&call) {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(OutOfFrames);
        }
        Ok(())
    }
}

// SAFETY: runs are those of `inner`, which makes the same promises; only errors are added.
#[expect(unsafe_code, reason = "passes the promises of the inner source on")]
unsafe impl PageSource for FaultySource {
    fn frame_size(&self) -> usize {
        self.inner.frame_size()
    }

    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        self.call()?;
        self.inner.reserve(frames)
    }

    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        self.call()?;
        self.inner.charge(frames)
    }

    fn uncharge(&self, frames: usize) {
        self.inner.uncharge(frames);
    }

    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), NotGivenBack> {
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
        self.inner.charged_frames()
    }

    fn retained_frames(&self) -> usize {
        self.inner.retained_frames()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::page::HeapSource;

    #[test]
    fn fails_the_calls_of_the_plan_and_no_other() {
        let source = FaultySource::new(Arc::new(HeapSource::new(4096)), FaultPlan::Nth(1));
        assert_eq!(
            [source.charge(1), source.charge(1), source.charge(1)],
            [Ok(()), Err(OutOfFrames), Ok(())]
        );
        source.plan(FaultPlan::From(1));
        assert!(source.charge(1).is_ok() && source.reserve(1).is_err() && source.charge(1).is_err());
        source.plan(FaultPlan::Never);
        assert!(source.charge(1).is_ok());
        assert_eq!((source.failures(), source.charged_frames()), (3, 4));
    }
}
