//! A source that reports every call.

use core::fmt;
use core::ops::Range;
use std::sync::Arc;

use super::{FramesRetained, OutOfFrames, PageSource, Run};

/// A call of a page source, as an [`ObservedSource`] reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceCall {
    /// `reserve` of this many frames.
    Reserve(usize),
    /// `charge` of this many frames.
    Charge(usize),
    /// `populate` of this many frames.
    Populate(usize),
    /// `uncharge` of this many frames.
    Uncharge(usize),
    /// `discard` of this many frames.
    Discard(usize),
    /// `release` of this many bytes.
    Release(usize),
    /// `release_all` of at least this many runs (the lower bound of the iterator's size hint).
    ReleaseAll(usize),
}

/// Calls a closure before each call of the source behind it, for tests that inspect a pool, wait,
/// or panic at such a moment.
pub struct ObservedSource {
    inner: Arc<dyn PageSource>,
    observe: Box<dyn Fn(SourceCall) + Send + Sync>,
}

impl ObservedSource {
    /// Makes a source that calls `observe` before every call of `inner`.
    pub fn new(
        inner: Arc<dyn PageSource>,
        observe: impl Fn(SourceCall) + Send + Sync + 'static,
    ) -> ObservedSource {
        ObservedSource { inner, observe: Box::new(observe) }
    }
}

impl fmt::Debug for ObservedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedSource").field("inner", &self.inner).finish_non_exhaustive()
    }
}

// SAFETY: runs are those of `inner`, which makes the same promises; only calls of a closure are
// added.
#[expect(unsafe_code, reason = "passes the promises of the inner source on")]
unsafe impl PageSource for ObservedSource {
    fn frame_size(&self) -> usize {
        self.inner.frame_size()
    }

    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        (self.observe)(SourceCall::Reserve(frames));
        self.inner.reserve(frames)
    }

    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        (self.observe)(SourceCall::Charge(frames));
        self.inner.charge(frames)
    }

    fn uncharge(&self, frames: usize) {
        (self.observe)(SourceCall::Uncharge(frames));
        self.inner.uncharge(frames);
    }

    fn populate(&self, run: &Run, frames: Range<usize>) {
        (self.observe)(SourceCall::Populate(frames.len()));
        self.inner.populate(run, frames);
    }

    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), FramesRetained> {
        (self.observe)(SourceCall::Discard(frames.len()));
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.discard(run, frames) }
    }

    unsafe fn release(&self, run: Run) {
        (self.observe)(SourceCall::Release(run.len()));
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.release(run) };
    }

    unsafe fn release_all(&self, runs: &mut dyn Iterator<Item = Run>) {
        (self.observe)(SourceCall::ReleaseAll(runs.size_hint().0));
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
