//! Where pools get their memory: address space in *runs* of frames, and the account of the frames that are really used.
//!
//! ```text
//!   reserve(5)          run  |  frame 0  |  frame 1  |  frame 2  |  frame 3  |  frame 4  |    address space, nothing resident
//!   charge(2), write         |###########|#####      |           |           |           |    two frames resident, two charged
//!   discard(0..1)            |           |#####      |           |           |           |    frame 0 is the OS's again...
//!   uncharge(1)                                                                               ...and off the books
//!   release(run)                                                                              address space given back
//! ```
//!
//! Reserving costs address space only. A frame becomes resident when it is first written, and a pool charges it just before, so that what
//! is charged is what the operating system counts. Budgets and fault injection act where frames are charged and runs are reserved.
//!
//! A *frame* is the operating system's page, asked at run time; sources for tests report other sizes.

#[cfg(unix)]
#[allow(unsafe_code, reason = "advises the system about mapped memory")]
mod advise;
mod budget;
mod faulty;
#[allow(unsafe_code, reason = "hands out memory of the global allocator as frames")]
mod heap;
#[cfg(unix)]
#[allow(unsafe_code, reason = "maps and unmaps memory")]
mod mmap;
mod observed;
#[allow(unsafe_code, reason = "reads and writes memory behind a raw pointer, bounds checked")]
mod run;
#[allow(unsafe_code, reason = "keeps values in frames")]
mod table;

use core::fmt::{self, Debug};
use core::ops::Range;
use std::sync::Arc;

pub use budget::BudgetedSource;
pub use faulty::{FaultPlan, FaultySource};
pub use heap::HeapSource;
#[cfg(unix)]
pub use mmap::MmapSource;
pub use observed::{ObservedSource, SourceCall};
pub use run::Run;
pub use table::FrameTable;

/// Hands out address space in runs of frames and keeps the account of frames in use.
///
/// # Safety
///
/// An implementation promises:
///
/// 1. A [`Run`] that `reserve` returns is `frames * frame_size` bytes of memory, aligned to the frame size, readable and writable from any thread, shared with nobody,
///    until it is given to `release` of the same source. Its bytes are initialized (to anything).
/// 2. `discard` changes no byte outside the frames named; those hold any initialized bytes afterwards.
/// 3. The frame size is a power of two, at least 4096, and never changes.
#[expect(unsafe_code, reason = "the promise above is what pools build references on")]
pub unsafe trait PageSource: Send + Sync + Debug {
    /// Bytes of a frame.
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

    /// Takes `frames` more frames on the books: call it before they are first written.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]: then write none of them.
    ///
    /// # Concurrency
    ///
    /// May block; called with no lock held.
    fn charge(&self, frames: usize) -> Result<(), OutOfFrames>;

    /// Makes frames of `run` resident at once, for somebody who is about to write all of them: one call into the operating system instead of a page fault a frame. A
    /// hint, which changes no contents and may do nothing.
    ///
    /// # Panics
    ///
    /// May, if `frames` does not lie inside of `run`.
    ///
    /// # Concurrency
    ///
    /// May block.
    fn populate(&self, run: &Run, frames: Range<usize>) {
        let _ = (run, frames);
    }

    /// Takes `frames` frames off the books: after they were discarded or released, or when a charge was not used.
    ///
    /// # Concurrency
    ///
    /// Never blocks.
    fn uncharge(&self, frames: usize);

    /// Gives the memory of some frames of `run` back to the operating system; their contents are lost, the address space stays.
    /// Frames that are not resident may be among them.
    ///
    /// # Safety
    ///
    /// 1. `run` is a run of this source and `frames` lies inside it.
    /// 2. Nobody has a reference into these frames, or reads or writes them during the call.
    ///
    /// # Concurrency
    ///
    /// May block.
    unsafe fn discard(&self, run: &Run, frames: Range<usize>);

    /// The same for frames of many runs: one call into the operating system, where it has one for that.
    ///
    /// # Safety
    ///
    /// 1. As for `discard`, for each.
    ///
    /// # Concurrency
    ///
    /// May block.
    unsafe fn discard_all(&self, frames: &[(Run, Range<usize>)]) {
        for (run, frames) in frames {
            // SAFETY: (1) is the promise of both.
            unsafe { self.discard(run, frames.clone()) };
        }
    }

    /// Gives `run` back with all its frames. They must be [uncharged](Self::uncharge) besides.
    ///
    /// # Safety
    ///
    /// 1. `run` is a run of this source.
    /// 2. Nobody has a reference into it, or will read or write it again.
    ///
    /// # Concurrency
    ///
    /// May block.
    unsafe fn release(&self, run: Run);

    /// Gives many runs back at once: neighbours in memory cost one call into the operating system.
    ///
    /// # Safety
    ///
    /// 1. As for `release`, for each.
    ///
    /// # Concurrency
    ///
    /// May block.
    unsafe fn release_all(&self, runs: Vec<Run>) {
        for run in runs {
            // SAFETY: (1) of both is the same promise.
            unsafe { self.release(run) };
        }
    }

    /// Frames on the books now.
    fn charged_frames(&self) -> usize;

    /// Bytes on the books now.
    fn charged_bytes(&self) -> usize {
        self.charged_frames() * self.frame_size()
    }
}

/// The source that pools use unless told otherwise: mapped memory, shared by the whole process.
#[cfg(unix)]
pub fn default_source() -> Arc<dyn PageSource> {
    use std::sync::OnceLock;
    static SHARED: OnceLock<Arc<MmapSource>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(MmapSource::new())).clone()
}

/// The source that pools use unless told otherwise: here, the heap.
#[cfg(not(unix))]
pub fn default_source() -> Arc<dyn PageSource> {
    Arc::new(HeapSource::new(4096))
}

/// The operating system's page size in bytes.
pub fn os_frame_size() -> usize {
    #[cfg(unix)]
    return rustix::param::page_size();
    #[cfg(not(unix))]
    return 4096;
}

/// A source has no frames left to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfFrames;

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the page source has no frames left")
    }
}

impl core::error::Error for OutOfFrames {}

impl From<OutOfFrames> for crate::PoolError {
    fn from(_: OutOfFrames) -> Self {
        crate::PoolError::OutOfMemory
    }
}
