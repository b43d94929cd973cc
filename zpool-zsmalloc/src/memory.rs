//! The bytes of zspages: the only file that knows a zspage's entry is a pointer.
//!
//! # Invariants
//!
//! 1. The base of a zspage's entry, from `install` to `take_out`, is that of a run of the pool's source that this zspage owns alone, of as many frames as its
//!    class says.
//! 2. A slot's bytes are written only by whoever has claimed it (its bit is set, under the class lock, and no handle names it yet) or has taken it over as a
//!    spare, which stays claimed and has one owner at a time; and not at all while a handle names it.
//! 3. A slot's bit is cleared only after nobody can read it any more: no pin is left, and no handle names it.
//! 4. Frames are discarded only while no claimed slot reaches into them and their zspage is isolated, so that none is claimed.

use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};
use std::sync::Arc;

use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::page::{Discard, OutOfFrames, PageSource, Run};

use crate::shape::runs;
use crate::zspages::Zspage;

/// A run of frames that nobody has a reference into. Gives itself back when dropped.
pub(crate) struct OwnedRun {
    /// `None` only inside `drop` and `into_run`.
    run: Option<Run>,
    source: Arc<dyn PageSource>,
}

impl OwnedRun {
    /// Reserves a run of `frames` frames.
    pub(crate) fn reserve(
        source: &Arc<dyn PageSource>,
        frames: usize,
    ) -> Result<OwnedRun, OutOfFrames> {
        let run = source.reserve(frames)?;
        Ok(OwnedRun { run: Some(run), source: source.clone() })
    }

    /// The run itself, which has no drop: the caller releases it, or loses it.
    pub(crate) fn into_run(mut self) -> Option<Run> {
        self.run.take()
    }
}

impl Drop for OwnedRun {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            // SAFETY: `release` (1): reserved from this source; (2): an owned run was never shared, or is so no more (`take_out`).
            unsafe { self.source.release(run) };
        }
    }
}

impl fmt::Debug for OwnedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedRun").field(&self.run).finish()
    }
}

/// Frames on the source's books that no class counts: taken off when dropped, also when the source panics meanwhile.
#[derive(Debug)]
pub(crate) struct Charged<'a> {
    source: &'a dyn PageSource,
    frames: usize,
}

impl<'a> Charged<'a> {
    /// No frames.
    pub(crate) fn none(source: &'a dyn PageSource) -> Charged<'a> {
        Charged { source, frames: 0 }
    }

    /// Frames that a class counted until now.
    pub(crate) fn taken_out(source: &'a dyn PageSource, frames: usize) -> Charged<'a> {
        Charged { source, frames }
    }

    /// Charges what is missing to `frames`.
    pub(crate) fn fill_up(&mut self, frames: usize) -> Result<(), OutOfFrames> {
        if frames > self.frames {
            self.source.charge(frames - self.frames)?;
            self.frames = frames;
        }
        Ok(())
    }

    /// How many there are: what is taken from here, a class counts from then on.
    pub(crate) fn credit(&mut self) -> &mut usize {
        &mut self.frames
    }
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        if self.frames > 0 {
            self.source.uncharge(self.frames);
        }
    }
}

/// Returns many runs at once, without a list of them. They are [owned runs](OwnedRun::into_run)
/// of `source`. Those that it has not asked for when it panics are lost.
pub(crate) fn release_all(source: &Arc<dyn PageSource>, mut runs: impl Iterator<Item = Run>) {
    // SAFETY: `release_all` (1): as in the drop of an owned run, for each.
    unsafe { source.release_all(&mut runs) };
}

/// Ranges of frames that one call of the source gives back.
const RANGES: usize = 32;

/// Returns frames of zspages to the operating system: of each the zspage, its length in bytes,
/// and the frames as bits. `kept` is told the frames that the system did not take, with the number
/// of their zspage in the order given: they are resident and charged as before. No heap call.
///
/// # Safety
///
/// 1. Each zspage is isolated by the caller, lives, and no claimed slot reaches into these frames.
///    None comes twice.
/// 2. The lengths are those of zspages of their classes, and `source` is the pool's.
pub(crate) unsafe fn discard_all<'z>(
    source: &Arc<dyn PageSource>,
    zspages: impl Iterator<Item = (&'z Zspage, usize, u64)>,
    mut kept: impl FnMut(usize, Range<usize>),
) {
    // SAFETY: `Run::new` (1): a run of no bytes.
    let none = || Discard::new(unsafe { Run::new(NonNull::dangling(), 0) }, 0..0);
    let mut entries: [Discard; RANGES] = core::array::from_fn(|_| none());
    let mut owners = [0; RANGES];
    let mut len = 0;
    let mut give_back = |entries: &mut [Discard], owners: &[usize]| {
        // SAFETY: `discard_all` (1): runs of this source, by invariant 1, and by (1) and invariants
        // 2 and 3 no thread looks at these frames.
        unsafe { source.discard_all(entries) };
        for (entry, &owner) in
            entries.iter().zip(owners).filter(|(entry, _)| !entry.is_given_back())
        {
            kept(owner, entry.frames());
        }
    };
    for (owner, (zspage, bytes, frames)) in zspages.enumerate() {
        for range in runs(frames) {
            if len == RANGES {
                give_back(&mut entries, &owners);
                len = 0;
            }
            // SAFETY: `run` (1): (1); (2).
            let run = unsafe { zspage.run(bytes) };
            entries[len] = Discard::new(run, range.start as usize..range.end as usize);
            owners[len] = owner;
            len += 1;
        }
    }
    if len > 0 {
        give_back(&mut entries[..len], &owners[..len]);
    }
}

impl Zspage {
    /// Gives the zspage its frames. Establishes invariant 1.
    pub(crate) fn install(&self, run: OwnedRun) {
        if let Some(run) = run.into_run() {
            // Relaxed: see `zspages`.
            self.base.store(run.base().as_ptr(), Ordering::Relaxed);
        }
    }

    /// Takes the frames of a zspage out.
    ///
    /// # Safety
    ///
    /// 1. The zspage was removed from its class (under the class lock) while none of its slots was claimed, and this happens once.
    /// 2. `len` is the length of a zspage of its class in bytes, and `source` the pool's.
    pub(crate) unsafe fn take_out(&self, len: usize, source: &Arc<dyn PageSource>) -> OwnedRun {
        // SAFETY: `run` (1): invariant 1, (2).
        let run = unsafe { self.run(len) };
        self.base.store(ptr::null_mut(), Ordering::Relaxed);
        OwnedRun { run: Some(run), source: source.clone() }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    ///
    /// 1. The caller has claimed the slot that these bytes lie in, and not yet published a handle for it.
    /// 2. `len` is the length of a zspage of its class in bytes.
    #[inline]
    pub(crate) unsafe fn write(&self, len: usize, offset: usize, bytes: &[u8]) {
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (2).
        let run = unsafe { self.run(len) };
        // SAFETY: `write` (1): by (1) and invariant 2 nobody else looks at these bytes.
        unsafe { run.write(offset, bytes) };
    }

    /// Makes frames resident at once.
    ///
    /// # Safety
    ///
    /// 1. The caller has claimed a slot of the zspage.
    /// 2. `len` is the length of a zspage of its class in bytes.
    pub(crate) unsafe fn populate(
        &self,
        len: usize,
        frames: Range<usize>,
        source: &Arc<dyn PageSource>,
    ) {
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (2).
        let run = unsafe { self.run(len) };
        source.populate(&run, frames);
    }

    /// Overwrites `object` bytes at `offset` with zeros.
    ///
    /// # Safety
    ///
    /// 1. The caller has the slot that these bytes lie in: it is claimed, no handle names it, and nothing pins what was there.
    /// 2. `len` is the length of a zspage of its class in bytes.
    pub(crate) unsafe fn wipe(&self, len: usize, offset: usize, object: usize) {
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (2).
        let run = unsafe { self.run(len) };
        // SAFETY: `wipe` (1): by (1) and invariant 2 nobody else looks at these bytes.
        unsafe { run.wipe(offset, object) };
    }

    /// Copies `object` bytes at `from` of `source` to `offset`.
    ///
    /// # Safety
    ///
    /// 1. As (1) of `write`, for the target.
    /// 2. The caller has pinned the object that the source bytes are.
    /// 3. `len` and `source_len` are the lengths of zspages of the two classes in bytes.
    pub(crate) unsafe fn copy_from(
        &self,
        len: usize,
        offset: usize,
        source: (&Zspage, usize, usize),
        object: usize,
    ) {
        let (zspage, source_len, source_offset) = source;
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (3).
        let to = unsafe { self.run(len) };
        // SAFETY: `run` (1): a pinned object is in a zspage that lives; (3).
        let from = unsafe { zspage.run(source_len) };
        // SAFETY: `copy_from` (1): by (1) and invariant 2; (2): a published object is not written, and the pin keeps it.
        unsafe { to.copy_from(offset, &from, source_offset, object) };
    }

    /// The bytes of an object.
    ///
    /// # Safety
    ///
    /// 1. The object lies there, and stays pinned for all of `'a`.
    /// 2. `len` is the length of a zspage of its class in bytes.
    #[inline]
    pub(crate) unsafe fn slice<'a>(&self, len: usize, offset: usize, object: usize) -> &'a [u8] {
        // SAFETY: `run` (1): a pinned object is in a zspage that lives; (2).
        let run = unsafe { self.run(len) };
        // SAFETY: `slice` (1): by (1) and invariants 2 to 4.
        unsafe { run.slice(offset, object) }
    }

    /// The run, once more: it has no drop, and only `take_out` gives it away.
    ///
    /// # Safety
    ///
    /// 1. The zspage lives: it has its frames, and keeps them while the result is used.
    /// 2. `len` is the length of a zspage of its class in bytes.
    #[inline]
    unsafe fn run(&self, len: usize) -> Run {
        // Relaxed: see `zspages`.
        let base = NonNull::new(self.base.load(Ordering::Relaxed))
            .expect("a zspage that lives has frames");
        // SAFETY: `new` (1): invariant 1, and (2) for the length; who reads and writes is what invariants 2 to 4 say.
        unsafe { Run::new(base, len) }
    }
}
