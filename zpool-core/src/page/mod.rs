//! The source of the pools' memory: address space in *runs* of frames, and the account of the
//! frames in use.
//!
//! ```text
//!   reserve(5)        |  frame 0  |  frame 1  |  frame 2  |  frame 3  |  frame 4  |   0 resident
//!   charge(2), write  |###########|#####      |           |           |           |   2 resident
//!   discard(0..1)     |           |#####      |           |           |           |   1 resident
//!   uncharge(1)                                                                       1 charged
//!   release(run)      address space returned
//! ```
//!
//! Reserving costs address space only. A frame becomes resident when it is first written, and a
//! pool charges it just before, so the charged frames are those that the operating system counts.
//! Budgets and fault injection act on charges and reservations.
//!
//! A *frame* is a page of the operating system, whose size is queried at run time. Sources for
//! tests report other sizes.

#[cfg(unix)]
#[allow(unsafe_code, reason = "advises the system about mapped memory")]
mod advise;
#[cfg(unix)]
#[allow(unsafe_code, reason = "maps and unmaps memory")]
mod arena;
#[cfg(unix)]
mod arenas;
mod budget;
#[cfg(feature = "testing")]
mod faulty;
#[allow(unsafe_code, reason = "keeps values in frames")]
pub(crate) mod frame_table;
#[allow(unsafe_code, reason = "hands out memory of the global allocator as frames")]
mod heap;
#[cfg(unix)]
#[allow(unsafe_code, reason = "cuts runs from mapped memory and discards their frames")]
mod mmap;
#[cfg(feature = "testing")]
mod observed;
#[allow(unsafe_code, reason = "reads and writes memory behind a raw pointer, bounds checked")]
mod run;

use core::fmt::{self, Debug};
use core::ops::Range;
use std::sync::Arc;

pub use budget::BudgetedSource;
#[cfg(feature = "testing")]
pub use faulty::{FaultPlan, FaultySource};
pub use heap::HeapSource;
#[cfg(unix)]
pub use mmap::MmapSource;
#[cfg(feature = "testing")]
pub use observed::{ObservedSource, SourceCall};
pub use run::Run;

/// Hands out address space in runs of frames, and keeps the account of frames in use.
///
/// # Safety
///
/// An implementation promises:
///
/// 1. A [`Run`] that `reserve` returns is `frames * frame_size` bytes of memory, aligned to the
///    frame size, readable and writable from any thread, and used by no other code until it is
///    given to `release` of the same source. Its bytes are initialized (to anything).
/// 2. `discard` changes no byte outside the frames named; those hold any initialized bytes
///    afterwards.
/// 3. The frame size is a power of two, at least 4096, and never changes.
#[expect(unsafe_code, reason = "the promise above is what pools build references on")]
pub unsafe trait PageSource: Send + Sync + Debug {
    /// Returns the bytes of a frame.
    fn frame_size(&self) -> usize;

    /// Reserves a run of `frames` frames. Charges nothing.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    ///
    /// # Panics
    ///
    /// If `frames` is 0.
    ///
    /// # Concurrency
    ///
    /// May block.
    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames>;

    /// Charges `frames` more frames. Call it before they are first written.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]. Then write none of them.
    ///
    /// # Concurrency
    ///
    /// May block. Called with no lock held.
    fn charge(&self, frames: usize) -> Result<(), OutOfFrames>;

    /// Makes frames of `run` resident at once, for a caller that is about to write all of them: one
    /// system call instead of one page fault per frame.
    ///
    /// A hint, which changes no contents and may do nothing.
    ///
    /// # Panics
    ///
    /// May panic if `frames` does not lie inside `run`.
    ///
    /// # Concurrency
    ///
    /// May block.
    fn populate(&self, run: &Run, frames: Range<usize>) {
        let _ = (run, frames);
    }

    /// Uncharges `frames` frames, after they were discarded or released, or if a charge was not
    /// used. Frames that [`discard`](Self::discard) could not return to the system stay charged.
    ///
    /// # Concurrency
    ///
    /// Never blocks.
    fn uncharge(&self, frames: usize);

    /// Returns the memory of some frames of `run` to the operating system. Their contents are lost,
    /// and the address space stays. Frames that are not resident may be among them.
    ///
    /// # Errors
    ///
    /// [`FramesRetained`] if the system still holds memory for some of these frames, because it is
    /// locked or the system call was refused. The frames stay usable, and their contents may be
    /// lost. The caller keeps them charged, and should write to them before it charges others.
    ///
    /// # Safety
    ///
    /// 1. `run` is a run of this source and `frames` lies inside it.
    /// 2. There is no reference into these frames, and no thread reads or writes them during the
    ///    call.
    ///
    /// # Concurrency
    ///
    /// May block.
    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), FramesRetained>;

    /// Discards frames of many runs, and notes in each entry whether the system took its frames
    /// back.
    ///
    /// Keeps the order of the entries, and allocates nothing. Makes one system call for many ranges
    /// if the system has one.
    ///
    /// # Safety
    ///
    /// 1. As for [`discard`](Self::discard), for each. No two entries overlap.
    ///
    /// # Concurrency
    ///
    /// May block.
    unsafe fn discard_all(&self, entries: &mut [Discard]) {
        for entry in entries {
            // SAFETY: (1) is the promise of both.
            let result = unsafe { self.discard(&entry.run, entry.frames.clone()) };
            entry.discarded = result.is_ok();
        }
    }

    /// Releases `run` with all its frames. They must be [uncharged](Self::uncharge) separately.
    ///
    /// Frames that the system does not take back then are the source's own. It charges them to
    /// itself until it hands them out again ([`retained_frames`](Self::retained_frames)).
    ///
    /// # Safety
    ///
    /// 1. `run` is a run of this source.
    /// 2. There is no reference into it, and no thread will read or write it again.
    ///
    /// # Concurrency
    ///
    /// May block. Never fails for want of memory.
    unsafe fn release(&self, run: Run);

    /// Releases many runs. Neighbours in memory cost one system call.
    ///
    /// Takes an iterator, so that a pool that has no memory for a list can release its runs one by
    /// one. It may be polled while earlier runs are released.
    ///
    /// # Safety
    ///
    /// 1. As for [`release`](Self::release), for each.
    ///
    /// # Concurrency
    ///
    /// May block. Never fails for want of memory.
    unsafe fn release_all(&self, runs: &mut dyn Iterator<Item = Run>) {
        for run in runs {
            // SAFETY: (1) of both is the same promise.
            unsafe { self.release(run) };
        }
    }

    /// Returns the charged frames, including [retained](Self::retained_frames) ones.
    fn charged_frames(&self) -> usize;

    /// Returns the number of frames of released runs for which the system still holds memory,
    /// because it refused to take it back. The source hands these out before others.
    fn retained_frames(&self) -> usize {
        0
    }

    /// Returns the charged bytes.
    fn charged_bytes(&self) -> usize {
        self.charged_frames() * self.frame_size()
    }
}

/// Returns the default source of pools: mapped memory, shared by the whole process.
#[cfg(unix)]
pub fn default_source() -> Arc<dyn PageSource> {
    use std::sync::OnceLock;
    static SHARED: OnceLock<Arc<MmapSource>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(MmapSource::new())).clone()
}

/// Returns the default source of pools: on this system, the heap.
#[cfg(not(unix))]
pub fn default_source() -> Arc<dyn PageSource> {
    Arc::new(HeapSource::new(4096))
}

/// Returns the operating system's page size in bytes.
pub fn os_frame_size() -> usize {
    #[cfg(unix)]
    return rustix::param::page_size();
    #[cfg(not(unix))]
    return 4096;
}

/// Frames of one run, for [`PageSource::discard_all`], with the outcome.
#[derive(Debug)]
pub struct Discard {
    pub(super) run: Run,
    pub(super) frames: Range<usize>,
    pub(super) discarded: bool,
}

impl Discard {
    /// Makes an entry for `frames` of `run`, which counts as not taken back yet.
    pub fn new(run: Run, frames: Range<usize>) -> Discard {
        Discard { run, frames, discarded: false }
    }

    /// Returns the run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Returns the frames, counted from the front of the run.
    pub fn frames(&self) -> Range<usize> {
        self.frames.clone()
    }

    /// Returns whether the system has taken all of the frames back.
    pub fn is_discarded(&self) -> bool {
        self.discarded
    }

    /// Notes whether the system has taken all of the frames back. For implementers of
    /// [`PageSource`].
    pub fn set_discarded(&mut self, discarded: bool) {
        self.discarded = discarded;
    }
}

/// The error of a system that did not take memory back, which stays resident and charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramesRetained;

impl fmt::Display for FramesRetained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the operating system did not take the memory of some frames back: they stay charged, \
             and can be used",
        )
    }
}

impl core::error::Error for FramesRetained {}

/// The error of a source that has no frames left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfFrames;

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the page source has no frames left: free objects and try again")
    }
}

impl core::error::Error for OutOfFrames {}

impl From<OutOfFrames> for crate::PoolError {
    fn from(_: OutOfFrames) -> Self {
        crate::PoolError::OutOfMemory
    }
}
