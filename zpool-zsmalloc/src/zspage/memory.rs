//! The bytes of zspages: the only file that knows that a zspage's entry is a pointer.
//!
//! # Invariants
//!
//! 1. From `install` to `take_out`, the base of a zspage's entry is that of a run of the pool's
//!    source. This zspage owns the run alone, and it has as many frames as the class says.
//! 2. A slot's bytes are written only by its one owner, and not while a handle names it. The owner
//!    is the thread that claimed the slot, popped it from a magazine, finished the free of its
//!    object, or moved the object away. A claim sets the slot's bit under the class lock.
//!    A cached slot stays claimed and has one owner at a time.
//! 3. A slot's bit is cleared only when it cannot be read any more: no pin is left, and no handle
//!    names it.
//! 4. Frames are discarded only while no claimed slot reaches into them and their zspage is
//!    isolated, so that none is claimed.

use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};
use std::sync::Arc;

use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::page::{Discard, OutOfFrames, PageSource, Run};

use super::table::Zspage;
use crate::geometry::bits::runs;

/// A run of frames without references into it. Returned to the source when dropped.
pub(crate) struct OwnedRun {
    /// `None` only inside `drop` and `into_run`.
    run: Option<Run>,
    source: Arc<dyn PageSource>,
}

impl OwnedRun {
    /// Reserves a run of `frames` frames.
    pub(super) fn reserve(
        source: &Arc<dyn PageSource>,
        frames: usize,
    ) -> Result<OwnedRun, OutOfFrames> {
        let run = source.reserve(frames)?;
        Ok(OwnedRun { run: Some(run), source: source.clone() })
    }

    /// Returns the run itself, which has no drop: the caller releases it, or loses it.
    pub(crate) fn into_run(mut self) -> Option<Run> {
        self.run.take()
    }
}

impl Drop for OwnedRun {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            // SAFETY: `release` (1): reserved from this source; (2): an owned run was never shared,
            // or is not any more (`take_out`).
            unsafe { self.source.release(run) };
        }
    }
}

impl fmt::Debug for OwnedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedRun").field(&self.run).finish()
    }
}

/// Frames that the source has charged and no class counts. Uncharged when dropped, even if the
/// source panics meanwhile.
#[derive(Debug)]
pub(crate) struct ChargedFrames<'a> {
    source: &'a dyn PageSource,
    frames: usize,
}

impl<'a> ChargedFrames<'a> {
    /// Takes over frames that a class counted until now, or none.
    pub(super) fn new(source: &'a dyn PageSource, frames: usize) -> ChargedFrames<'a> {
        ChargedFrames { source, frames }
    }

    /// Charges what is missing to `frames`.
    pub(crate) fn fill_up(&mut self, frames: usize) -> Result<(), OutOfFrames> {
        if frames > self.frames {
            self.source.charge(frames - self.frames)?;
            self.frames = frames;
        }
        Ok(())
    }

    /// Returns the number of frames as a credit: a class counts what it takes from here.
    pub(crate) fn credit(&mut self) -> &mut usize {
        &mut self.frames
    }
}

impl Drop for ChargedFrames<'_> {
    fn drop(&mut self) {
        if self.frames > 0 {
            self.source.uncharge(self.frames);
        }
    }
}

/// Releases many runs with one call, without a list of them. They are [owned
/// runs](OwnedRun::into_run) of `source`. If the source panics, those that it has not asked for are
/// lost.
pub(super) fn release_all(source: &Arc<dyn PageSource>, mut runs: impl Iterator<Item = Run>) {
    // SAFETY: `release_all` (1): as in the drop of an owned run, for each.
    unsafe { source.release_all(&mut runs) };
}

/// Ranges of frames that one call of the source discards.
const RANGES: usize = 32;

/// Returns frames of zspages to the operating system: of each the zspage, its length in bytes, and
/// the frames as bits. Calls `kept` with the frames that the system did not take, and the position
/// of their zspage in the given order: they stay resident and charged. Makes no heap call.
///
/// # Safety
///
/// 1. The caller has isolated each zspage, it lives, and no claimed slot reaches into these frames.
///    None comes twice.
/// 2. The lengths are those of zspages of their classes, and `source` is the pool's.
pub(super) unsafe fn discard_all<'z>(
    source: &Arc<dyn PageSource>,
    zspages: impl Iterator<Item = (&'z Zspage, usize, u64)>,
    mut kept: impl FnMut(usize, Range<usize>),
) {
    // SAFETY: `Run::new` (1): a run of no bytes.
    let none = || Discard::new(unsafe { Run::new(NonNull::dangling(), 0) }, 0..0);
    let mut entries: [Discard; RANGES] = core::array::from_fn(|_| none());
    let mut owners = [0; RANGES];
    let mut len = 0;
    let mut flush = |entries: &mut [Discard], owners: &[usize]| {
        // SAFETY: `discard_all` (1): runs of this source, by invariant 1; by (1) and invariants 2
        // and 3 no thread looks at these frames.
        unsafe { source.discard_all(entries) };
        for (entry, &owner) in entries.iter().zip(owners).filter(|(entry, _)| !entry.is_discarded())
        {
            kept(owner, entry.frames());
        }
    };
    for (owner, (zspage, bytes, frames)) in zspages.enumerate() {
        for range in runs(frames) {
            if len == RANGES {
                flush(&mut entries, &owners);
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
        flush(&mut entries[..len], &owners[..len]);
    }
}

impl Zspage {
    /// Sets the frames of the zspage. Establishes invariant 1.
    pub(super) fn install(&self, run: OwnedRun) {
        if let Some(run) = run.into_run() {
            // Relaxed: see `table`.
            self.base.store(run.base().as_ptr(), Ordering::Relaxed);
        }
    }

    /// Takes the frames of a zspage out.
    ///
    /// # Safety
    ///
    /// 1. The zspage was removed from its class (under the class lock) while none of its slots was
    ///    claimed, and this happens once.
    /// 2. `len` is the length of a zspage of its class in bytes, and `source` the pool's.
    pub(super) unsafe fn take_out(&self, len: usize, source: &Arc<dyn PageSource>) -> OwnedRun {
        // SAFETY: `run` (1): invariant 1, (2).
        let run = unsafe { self.run(len) };
        self.base.store(ptr::null_mut(), Ordering::Relaxed);
        OwnedRun { run: Some(run), source: source.clone() }
    }

    /// Returns the run once more: it has no drop, and only `take_out` gives it away.
    ///
    /// # Safety
    ///
    /// 1. The zspage lives: it has its frames, and keeps them while the result is used.
    /// 2. `len` is the length of a zspage of its class in bytes.
    #[inline]
    unsafe fn run(&self, len: usize) -> Run {
        // Relaxed: see `table`.
        let base = NonNull::new(self.base.load(Ordering::Relaxed))
            .expect("a zspage that lives has frames");
        // SAFETY: `new` (1): invariant 1, and (2) for the length; invariants 2 to 4 say who reads
        // and writes.
        unsafe { Run::new(base, len) }
    }
}

/// One slot of a zspage, and where its bytes are. Plain numbers: it neither claims nor pins.
///
/// Methods take it by value, so that it stays in registers on the hot paths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotRef<'a> {
    zspage: &'a Zspage,
    /// Length of the zspage in bytes, as its class says.
    zspage_bytes: usize,
    /// Start of the slot, in bytes from the front.
    offset: usize,
    slot_bytes: u32,
}

impl<'a> SlotRef<'a> {
    /// Returns a slot. `zspage_bytes` and `slot_bytes` are those of the zspage's class.
    #[inline]
    pub(super) fn new(
        zspage: &'a Zspage,
        zspage_bytes: usize,
        slot: u16,
        slot_bytes: u32,
    ) -> SlotRef<'a> {
        let offset = usize::from(slot) * slot_bytes as usize;
        SlotRef { zspage, zspage_bytes, offset, slot_bytes }
    }

    pub(crate) fn slot_bytes(self) -> u32 {
        self.slot_bytes
    }

    pub(crate) fn zspage(self) -> &'a Zspage {
        self.zspage
    }

    /// Prefetches the first `len` bytes for a write.
    #[inline]
    pub(crate) fn prefetch(self, len: usize) {
        self.zspage.prefetch(self.offset, len);
    }

    /// Copies `bytes` to the front of the slot.
    ///
    /// # Safety
    ///
    /// 1. The caller has claimed the slot, and not yet made a handle name it.
    #[inline]
    pub(crate) unsafe fn write(self, bytes: &[u8]) {
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (2): the field's.
        let run = unsafe { self.zspage.run(self.zspage_bytes) };
        // SAFETY: `write` (1): by (1) and invariant 2 no other thread looks at these bytes.
        unsafe { run.write(self.offset, bytes) };
    }

    /// Makes the frames of the first `len` bytes resident with one call of the source.
    ///
    /// # Safety
    ///
    /// 1. The caller has claimed the slot.
    pub(crate) unsafe fn populate(self, len: usize, source: &dyn PageSource) {
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (2): the field's.
        let run = unsafe { self.zspage.run(self.zspage_bytes) };
        let frame = source.frame_size();
        source.populate(&run, self.offset / frame..(self.offset + len).div_ceil(frame));
    }

    /// Overwrites the first `len` bytes with zeros.
    ///
    /// # Safety
    ///
    /// 1. The slot is claimed and the caller's: no handle names it, and no pin holds the object
    ///    that was in it.
    pub(crate) unsafe fn wipe(self, len: usize) {
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (2): the field's.
        let run = unsafe { self.zspage.run(self.zspage_bytes) };
        // SAFETY: `wipe` (1): by (1) and invariant 2 no other thread looks at these bytes.
        unsafe { run.wipe(self.offset, len) };
    }

    /// Copies the first `len` bytes of another slot to the front of this one.
    ///
    /// # Safety
    ///
    /// 1. As (1) of `write`, for this slot.
    /// 2. The caller has pinned the object of `len` bytes in the other slot.
    pub(crate) unsafe fn copy_from(self, source: SlotRef<'_>, len: usize) {
        // SAFETY: `run` (1): a claimed slot is in a zspage that lives; (2): the field's.
        let to = unsafe { self.zspage.run(self.zspage_bytes) };
        // SAFETY: `run` (1): a pinned object is in a zspage that lives; (2): the field's.
        let from = unsafe { source.zspage.run(source.zspage_bytes) };
        // SAFETY: `copy_from` (1): by (1) and invariant 2 for the target; (2): a named object is
        // not written, and the pin keeps it.
        unsafe { to.copy_from(self.offset, &from, source.offset, len) };
    }

    /// Returns the first `len` bytes.
    ///
    /// # Safety
    ///
    /// 1. An object of `len` bytes lies there, and stays pinned for all of `'b`.
    #[inline]
    pub(crate) unsafe fn slice<'b>(self, len: usize) -> &'b [u8] {
        // SAFETY: `run` (1): a pinned object is in a zspage that lives; (2): the field's.
        let run = unsafe { self.zspage.run(self.zspage_bytes) };
        // SAFETY: `slice` (1): by (1) and invariants 2 to 4.
        unsafe { run.slice(self.offset, len) }
    }
}
