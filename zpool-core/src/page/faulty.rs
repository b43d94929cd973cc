//! A source that fails on purpose.

use core::ops::Range;
use std::sync::Arc;

use super::{Discard, FramesRetained, OutOfFrames, PageSource, Run};
use crate::internal::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The calls of a [`FaultySource`] that fail. Calls of `reserve` and `charge` are counted together,
/// from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPlan {
    /// None.
    Never,
    /// Only call number `n`, counted from now.
    Nth(u64),
    /// Call number `n`, counted from now, and every later one.
    From(u64),
}

/// Fails chosen calls of the source behind it. For tests that exhaust memory wherever a pool asks
/// for it, and for tests in which the system [keeps frames](Self::keep_frames).
#[derive(Debug)]
pub struct FaultySource {
    inner: Arc<dyn PageSource>,
    calls: AtomicU64,
    /// First call that fails.
    from: AtomicU64,
    /// First later call that works again.
    until: AtomicU64,
    failures: AtomicU64,
    keeps_frames: AtomicBool,
    /// Frames that may be uncharged while frames are kept: those of charges made meanwhile and of
    /// released runs.
    uncharge_allowance: AtomicUsize,
    /// Frames that were uncharged meanwhile.
    uncharged: AtomicUsize,
    /// Frames whose discard has failed meanwhile.
    kept: AtomicUsize,
}

impl FaultySource {
    /// Makes a source that fails according to `plan`.
    pub fn new(inner: Arc<dyn PageSource>, plan: FaultPlan) -> FaultySource {
        let word = AtomicU64::new;
        let source = FaultySource {
            inner,
            calls: word(0),
            from: word(0),
            until: word(0),
            failures: word(0),
            keeps_frames: AtomicBool::new(false),
            uncharge_allowance: AtomicUsize::new(0),
            uncharged: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
        };
        source.plan(plan);
        source
    }

    /// Changes the plan and counts calls from 0 again.
    pub fn plan(&self, plan: FaultPlan) {
        let (from, until) = match plan {
            FaultPlan::Never => (u64::MAX, u64::MAX),
            FaultPlan::Nth(n) => (n, n.saturating_add(1)),
            FaultPlan::From(n) => (n, u64::MAX),
        };
        // Relaxed, here and below: tests set the plan while no other thread is in a call.
        self.from.store(from, Ordering::Relaxed);
        self.until.store(until, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
    }

    /// Sets whether discards fail from now on, as if the system refused advice: the frames and
    /// their contents stay. Runs can be released nevertheless.
    pub fn keep_frames(&self, keep: bool) {
        self.keeps_frames.store(keep, Ordering::Relaxed);
        self.uncharge_allowance.store(0, Ordering::Relaxed);
        self.uncharged.store(0, Ordering::Relaxed);
        self.kept.store(0, Ordering::Relaxed);
    }

    /// Returns how many frames a pool has uncharged although their discard failed, since frames are
    /// [kept](Self::keep_frames): those beyond the frames of released runs and new charges. 0 for a
    /// pool with correct accounts.
    pub fn wrongly_uncharged_frames(&self) -> usize {
        let uncharged = self.uncharged.load(Ordering::Relaxed);
        let beyond = uncharged.saturating_sub(self.uncharge_allowance.load(Ordering::Relaxed));
        beyond.min(self.kept.load(Ordering::Relaxed))
    }

    fn note_released(&self, run: &Run) {
        self.uncharge_allowance.fetch_add(run.len() / self.inner.frame_size(), Ordering::Relaxed);
    }

    /// Returns how many calls could have failed since the plan was set.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Returns how many calls have failed since the source was made.
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
        self.uncharge_allowance.fetch_add(frames, Ordering::Relaxed);
        self.inner.charge(frames)
    }

    fn uncharge(&self, frames: usize) {
        self.uncharged.fetch_add(frames, Ordering::Relaxed);
        self.inner.uncharge(frames);
    }

    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), FramesRetained> {
        if self.keeps_frames.load(Ordering::Relaxed) {
            self.kept.fetch_add(frames.len(), Ordering::Relaxed);
            return Err(FramesRetained);
        }
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.discard(run, frames) }
    }

    fn populate(&self, run: &Run, frames: Range<usize>) {
        self.inner.populate(run, frames);
    }

    unsafe fn discard_all(&self, entries: &mut [Discard]) {
        if self.keeps_frames.load(Ordering::Relaxed) {
            let frames = entries.iter().map(|entry| entry.frames().len()).sum();
            self.kept.fetch_add(frames, Ordering::Relaxed);
            return entries.iter_mut().for_each(|entry| entry.set_discarded(false));
        }
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.discard_all(entries) };
    }

    unsafe fn release(&self, run: Run) {
        self.note_released(&run);
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.release(run) };
    }

    unsafe fn release_all(&self, runs: &mut dyn Iterator<Item = Run>) {
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.release_all(&mut runs.inspect(|run| self.note_released(run))) };
    }

    fn charged_frames(&self) -> usize {
        self.inner.charged_frames()
    }

    fn retained_frames(&self) -> usize {
        self.inner.retained_frames()
    }
}

#[cfg(all(test, not(zpool_loom)))]
#[allow(unsafe_code, reason = "the tests call the source as a pool does")]
mod tests {
    use super::*;
    use crate::page::HeapSource;

    /// The planned calls fail, and no others.
    #[test]
    fn only_planned_calls_fail() {
        let source = FaultySource::new(Arc::new(HeapSource::new(4096)), FaultPlan::Nth(1));
        assert_eq!(
            [source.charge(1), source.charge(1), source.charge(1)],
            [Ok(()), Err(OutOfFrames), Ok(())]
        );
        source.plan(FaultPlan::From(1));
        assert!(
            source.charge(1).is_ok() && source.reserve(1).is_err() && source.charge(1).is_err()
        );
        source.plan(FaultPlan::Never);
        assert!(source.charge(1).is_ok());
        assert_eq!((source.failures(), source.charged_frames()), (3, 4));
    }

    /// A discard fails while frames are kept, and uncharging its frames is noticed. Released frames
    /// and unused charges may be uncharged.
    #[test]
    fn uncharged_kept_frames_are_counted() {
        let source = FaultySource::new(Arc::new(HeapSource::new(4096)), FaultPlan::Never);
        let (first, second) = (source.reserve(2).unwrap(), source.reserve(3).unwrap());
        source.charge(5).unwrap();
        source.keep_frames(true);
        // SAFETY: a run of this source, without a reference into it.
        let kept = unsafe { source.discard(&first, 0..2) };
        assert_eq!((kept, source.wrongly_uncharged_frames()), (Err(FramesRetained), 0));
        // SAFETY: as above.
        unsafe { source.release_all(&mut [second].into_iter()) };
        source.charge(1).unwrap();
        source.uncharge(4);
        assert_eq!(source.wrongly_uncharged_frames(), 0);
        source.uncharge(2);
        assert_eq!(source.wrongly_uncharged_frames(), 2);
        source.keep_frames(false);
        // SAFETY: as above.
        let gone = unsafe { source.discard(&first, 0..2) };
        assert_eq!((gone, source.wrongly_uncharged_frames()), (Ok(()), 0));
        // SAFETY: as above.
        unsafe { source.release(first) };
    }
}
