//! Frames from the operating system: large reserved arenas, cut into runs.
//!
//! ```text
//!   arena (64 MiB of address space, one mapping)
//!   | run of 5 | run of 16     | run of 1 | run of 5 (free) | ... never used yet ...           |
//!                                                           ^ bump
//!   free lists by length:  5 ─► that one
//! ```
//!
//! Runs are cut off at the bump offset, and reused by exact length: address space is plentiful (a run of each length that pools use
//! is the most that a request can miss), so nothing is split or merged. Frames of free runs are given back to the system, so a free run costs
//! nothing but its place. Few mappings are made (a process may have 65 530), and up to [`IDLE_ARENAS`] empty arenas are
//! kept, so that pools come and go without mapping and unmapping.

use core::ops::Range;
use core::ptr::{self, NonNull};
use std::collections::BTreeMap;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::advise::{dont_need, dont_need_at_once, no_dump, no_huge_pages, populate};
use super::{Discard, NotGivenBack, OutOfFrames, PageSource, Run, os_frame_size};
use crate::noblock::might_block;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of address space in an arena; a longer run gets an arena of its own length.
const ARENA_LEN: usize = 64 << 20;

/// Empty arenas that are kept.
const IDLE_ARENAS: usize = 4;

/// Takes frames from the operating system with mmap. Linux is tested; other Unix systems are meant to compile.
#[derive(Debug)]
pub struct MmapSource {
    frame_size: usize,
    charged: AtomicUsize,
    arenas: Mutex<Arenas>,
}

/// Addresses are `usize` here and become pointers only when a run is made or a call into the system needs one; each arena keeps the
/// pointer that mmap gave, from which those are derived.
#[derive(Debug, Default)]
struct Arenas {
    /// By base address.
    mapped: BTreeMap<usize, Arena>,
    /// The arena that runs are cut from.
    current: Option<usize>,
    /// Base addresses of free runs, by length in bytes.
    free: BTreeMap<usize, Vec<usize>>,
    /// Bases of arenas without a run, other than the current one.
    idle: Vec<usize>,
    /// New arenas are kept out of core dumps.
    excluded_from_dumps: bool,
}

#[derive(Debug)]
struct Arena {
    base: NonNull<u8>,
    len: usize,
    /// Bytes cut off so far.
    bump: usize,
    /// Runs handed out and not released.
    runs: usize,
}

// SAFETY: `base` is a mapping that any thread may use; access to the struct is the mutex's business.
unsafe impl Send for Arena {}

impl MmapSource {
    /// A source with no arena yet.
    pub fn new() -> MmapSource {
        MmapSource {
            frame_size: os_frame_size(),
            charged: AtomicUsize::new(0),
            arenas: Mutex::new(Arenas::default()),
        }
    }

    /// A source whose memory the system leaves out of core dumps, where it can (Linux; elsewhere this is [`new`](Self::new)).
    pub fn excluded_from_dumps() -> MmapSource {
        let source = MmapSource::new();
        source.arenas.lock().excluded_from_dumps = true;
        source
    }

    /// Arenas mapped now, idle ones included: each is one mapping of the process, or less where the kernel merges neighbours.
    pub fn arenas(&self) -> usize {
        self.arenas.lock().mapped.len()
    }

    /// Gives ranges of free memory back to the system, neighbours together. Calls `kept` for each
    /// range that the system did not take.
    fn discard_ranges(ranges: &mut [(NonNull<u8>, usize)], mut kept: impl FnMut(NonNull<u8>, usize)) {
        ranges.sort_unstable_by_key(|(base, _)| base.as_ptr().addr());
        // The caller's list stays whole: it says which runs these were.
        let mut merged = Vec::with_capacity(ranges.len());
        let mut i = 0;
        while i < ranges.len() {
            let (base, mut len) = ranges[i];
            i += 1;
            while i < ranges.len() && ranges[i].0.as_ptr().addr() == base.as_ptr().addr() + len {
                len += ranges[i].1;
                i += 1;
            }
            merged.push((base, len));
        }
        // SAFETY: (1), (2): the ranges are runs, or frames of runs, that their owners gave up.
        let done = unsafe { dont_need_at_once(&merged) };
        for &(base, len) in &merged[done..] {
            // SAFETY: as above.
            if !unsafe { dont_need(base, len) } {
                kept(base, len);
            }
        }
    }
}

impl Default for MmapSource {
    fn default() -> Self {
        MmapSource::new()
    }
}

// SAFETY: (1) runs are cut from private anonymous mappings (zero-filled) without overlap: see `Arenas`; arenas are unmapped only when no run of
// theirs is out, or with the source. (2) MADV_DONTNEED replaces exactly these pages by zero pages. (3) The system's page size.
unsafe impl PageSource for MmapSource {
    fn frame_size(&self) -> usize {
        self.frame_size
    }

    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        might_block("MmapSource::reserve");
        assert!(frames > 0, "a run has at least one frame");
        let len = frames.checked_mul(self.frame_size).ok_or(OutOfFrames)?;
        let base = self.arenas.lock().take(len)?;
        // SAFETY: (1) `take` hands out each range once until it is put back.
        Ok(unsafe { Run::new(base, len) })
    }

    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        // Relaxed: an account; nothing is published through it. So below.
        self.charged.fetch_add(frames, Ordering::Relaxed);
        Ok(())
    }

    fn uncharge(&self, frames: usize) {
        self.charged.fetch_sub(frames, Ordering::Relaxed);
    }

    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), NotGivenBack> {
        might_block("MmapSource::discard");
        let (from, to) = (frames.start * self.frame_size, frames.end * self.frame_size);
        assert!(from <= to && to <= run.len(), "frames {frames:?} of a run of {} bytes", run.len());
        // SAFETY: `from` is inside the run.
        let base = unsafe { run.base().add(from) };
        // SAFETY: frames of a run, which by (2) nobody looks at.
        if unsafe { dont_need(base, to - from) } { Ok(()) } else { Err(NotGivenBack) }
    }

    fn populate(&self, run: &Run, frames: Range<usize>) {
        might_block("MmapSource::populate");
        let (from, to) = (frames.start * self.frame_size, frames.end * self.frame_size);
        assert!(from <= to && to <= run.len(), "frames {frames:?} of a run of {} bytes", run.len());
        // SAFETY: `from` is inside the run.
        let base = unsafe { run.base().add(from) };
        // SAFETY: `populate` (1): a run is memory that is mapped, and so is this part of it.
        unsafe { populate(base, to - from) };
    }

    unsafe fn discard_all(&self, entries: &mut [Discard]) {
        might_block("MmapSource::discard");
        let range = |entry: &Discard| {
            let (from, to) = (entry.frames.start * self.frame_size, entry.frames.end * self.frame_size);
            assert!(from <= to && to <= entry.run.len(), "frames of a run: {entry:?}");
            // SAFETY: `from` is inside the run.
            (unsafe { entry.run.base().add(from) }, to - from)
        };
        let mut ranges: Vec<_> = entries.iter().map(range).collect();
        entries.iter_mut().for_each(|entry| entry.given_back = true);
        MmapSource::discard_ranges(&mut ranges, |base, len| {
            let kept = base.as_ptr().addr()..base.as_ptr().addr() + len;
            for entry in entries.iter_mut() {
                let from = entry.run.base().as_ptr().addr() + entry.frames.start * self.frame_size;
                entry.given_back &= !kept.contains(&from);
            }
        });
    }

    unsafe fn release(&self, run: Run) {
        // SAFETY: (1) as promised by our caller.
        unsafe { self.release_all(&mut core::iter::once(run)) };
    }

    unsafe fn release_all(&self, runs: &mut dyn Iterator<Item = Run>) {
        might_block("MmapSource::release");
        let mut ranges: Vec<_> = runs.map(|run| (run.base(), run.len())).collect();
        // First the frames, outside the lock; only then may others take the runs.
        MmapSource::discard_ranges(&mut ranges, |_, _| {});
        let mut surplus = Vec::new();
        let mut arenas = self.arenas.lock();
        for (base, len) in ranges {
            arenas.put_back(base.as_ptr().addr(), len, &mut surplus);
        }
        drop(arenas);
        for arena in surplus {
            arena.unmap();
        }
    }

    fn charged_frames(&self) -> usize {
        self.charged.load(Ordering::Relaxed)
    }
}

impl Arenas {
    /// A free range of `len` bytes, which is not handed out again before `put_back`.
    fn take(&mut self, len: usize) -> Result<NonNull<u8>, OutOfFrames> {
        if let Some(addr) = self.free.get_mut(&len).and_then(Vec::pop) {
            let arena = self.arena_of(addr);
            arena.runs += 1;
            return Ok(arena.at(addr));
        }
        let current = self.current.filter(|base| self.mapped[base].left() >= len);
        let base = match current {
            Some(base) => base,
            None => self.next_arena(len)?,
        };
        let arena = self.mapped.get_mut(&base).expect("the current arena is mapped");
        let addr = base + arena.bump;
        arena.bump += len;
        arena.runs += 1;
        Ok(arena.at(addr))
    }

    /// Makes an idle or a new arena with room for `len` bytes the current one.
    fn next_arena(&mut self, len: usize) -> Result<usize, OutOfFrames> {
        let base = match self.idle.iter().position(|base| self.mapped[base].left() >= len) {
            Some(i) => self.idle.swap_remove(i),
            None => {
                let arena = Arena::map(len, self.excluded_from_dumps)?;
                let base = arena.base.as_ptr().addr();
                self.mapped.insert(base, arena);
                base
            }
        };
        if let Some(old) = self.current.replace(base)
            && self.mapped[&old].runs == 0
        {
            self.idle.push(old);
        }
        Ok(base)
    }

    /// Takes a range back; arenas that became superfluous go to `surplus`, to be unmapped outside the lock.
    fn put_back(&mut self, addr: usize, len: usize, surplus: &mut Vec<Arena>) {
        self.free.entry(len).or_default().push(addr);
        let arena = self.arena_of(addr);
        arena.runs -= 1;
        if arena.runs > 0 {
            return;
        }
        // No run is out: the arena is whole again, and its free runs are no more.
        arena.bump = 0;
        let range = arena.base.as_ptr().addr()..arena.base.as_ptr().addr() + arena.len;
        for list in self.free.values_mut() {
            list.retain(|addr| !range.contains(addr));
        }
        if self.current == Some(range.start) {
            return;
        }
        self.idle.push(range.start);
        if self.idle.len() > IDLE_ARENAS {
            let base = self.idle.swap_remove(0);
            surplus.extend(self.mapped.remove(&base));
        }
    }

    fn arena_of(&mut self, addr: usize) -> &mut Arena {
        let (_, arena) = self.mapped.range_mut(..=addr).next_back().expect("a run lies in an arena");
        debug_assert!(addr < arena.base.as_ptr().addr() + arena.len, "a run lies in an arena");
        arena
    }
}

impl Drop for Arenas {
    fn drop(&mut self) {
        while let Some((_, arena)) = self.mapped.pop_first() {
            // An arena whose runs are still out stays mapped: somebody may look at them. That is a leak, not a fault.
            if arena.runs == 0 {
                arena.unmap();
            }
        }
    }
}

impl Arena {
    /// Reserves address space for an arena with room for `len` bytes: the usual size, or as much as the system allows.
    fn map(len: usize, excluded_from_dumps: bool) -> Result<Arena, OutOfFrames> {
        let mut want = len.max(ARENA_LEN);
        loop {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nobody's memory.
            let base =
                unsafe { mmap_anonymous(ptr::null_mut(), want, ProtFlags::READ | ProtFlags::WRITE, flags) };
            match base.map(|base| NonNull::new(base.cast::<u8>())) {
                Ok(Some(base)) => {
                    no_huge_pages(base, want);
                    if excluded_from_dumps {
                        no_dump(base, want);
                    }
                    return Ok(Arena { base, len: want, bump: 0, runs: 0 });
                }
                // Under a limit on address space, or with overcommit off, a smaller arena may do.
                _ if want / 2 >= len => want /= 2,
                _ => return Err(OutOfFrames),
            }
        }
    }

    fn unmap(self) {
        assert_eq!(self.runs, 0, "nobody may hold a run of an arena that goes");
        // SAFETY: our own mapping, whole, without a run handed out.
        let result = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(
            result.is_ok(),
            "munmap of a whole mapping fails only when the process is out of mappings"
        );
    }

    /// Bytes not cut off yet.
    fn left(&self) -> usize {
        self.len - self.bump
    }

    /// The pointer to `addr`, which lies inside.
    fn at(&self, addr: usize) -> NonNull<u8> {
        let offset = addr - self.base.as_ptr().addr();
        assert!(offset < self.len, "inside the arena");
        // SAFETY: inside the mapping, just checked.
        unsafe { self.base.add(offset) }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    fn release(source: &MmapSource, runs: Vec<Run>) {
        // SAFETY: (1) and (2): runs of this source, which the tests have no reference into.
        unsafe { source.release_all(&mut runs.into_iter()) };
    }

    #[test]
    fn runs_do_not_overlap_and_are_reused_zeroed() {
        let source = MmapSource::new();
        let runs: Vec<_> = (1..=40).map(|frames| source.reserve(frames).unwrap()).collect();
        let mut spans: Vec<_> = runs.iter().map(|r| (r.base().as_ptr().addr(), r.len())).collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
        for run in &runs {
            // SAFETY: (1) nobody else has this run.
            unsafe { run.write(run.len() - 4, b"mark") };
        }
        release(&source, runs);
        let again = source.reserve(7).unwrap();
        // SAFETY: (1) nobody else has this run.
        assert!(unsafe { again.slice(0, again.len()) }.iter().all(|&b| b == 0));
        release(&source, vec![again]);
        assert_eq!(source.arenas(), 1);
    }

    #[test]
    fn frames_of_many_runs_are_discarded_and_neighbours_released_together_are_runs_again() {
        let source = MmapSource::new();
        let runs: Vec<_> = (0..40).map(|_| source.reserve(4).unwrap()).collect();
        for run in &runs {
            // SAFETY: (1) nobody else has this run.
            unsafe { run.write(0, &vec![7; run.len()]) };
        }
        let frame = source.frame_size();
        // SAFETY: (1) nobody reads or writes meanwhile.
        let mut middle: Vec<_> =
            runs.iter().map(|run| Discard::new(unsafe { Run::new(run.base(), run.len()) }, 1..3)).collect();
        // SAFETY: (1) runs of this source, which nobody else has a reference into.
        unsafe { source.discard_all(&mut middle) };
        for run in &runs {
            // SAFETY: (1) nobody writes meanwhile.
            let bytes = unsafe { run.slice(0, run.len()) };
            assert!(bytes[..frame].iter().chain(&bytes[3 * frame..]).all(|&byte| byte == 7));
            assert!(bytes[frame..3 * frame].iter().all(|&byte| byte == 0));
        }
        let keep = source.reserve(1).unwrap();
        release(&source, runs);
        let again: Vec<_> = (0..40).map(|_| source.reserve(4).unwrap()).collect();
        let mut bases: Vec<_> = again.iter().map(|run| run.base().as_ptr().addr()).collect();
        bases.sort_unstable();
        assert!(bases.windows(2).all(|pair| pair[0] + 4 * frame <= pair[1]));
        release(&source, again);
        release(&source, vec![keep]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn populated_frames_are_resident_and_keep_what_is_in_them() {
        let source = MmapSource::new();
        let (run, frame) = (source.reserve(8).unwrap(), source.frame_size());
        // SAFETY: (1) nobody else looks.
        unsafe { run.write(2 * frame, &vec![7; frame]) };
        source.populate(&run, 2..6);
        source.populate(&run, 3..3);
        let mut resident = [0u8; 8];
        // SAFETY: eight frames of ours, and a byte for each.
        let asked = unsafe { libc::mincore(run.base().as_ptr().cast(), run.len(), resident.as_mut_ptr()) };
        assert_eq!((asked, resident.map(|byte| byte & 1)), (0, [0, 0, 1, 1, 1, 1, 0, 0]));
        // SAFETY: (1) nobody writes meanwhile.
        let bytes = unsafe { run.slice(2 * frame, 4 * frame) };
        assert!(bytes[..frame].iter().all(|&byte| byte == 7) && bytes[frame..].iter().all(|&byte| byte == 0));
        release(&source, vec![run]);
    }

    #[test]
    fn idle_arenas_are_few_and_reused() {
        let source = MmapSource::new();
        let frames = ARENA_LEN / source.frame_size();
        for _ in 0..3 {
            let runs: Vec<_> = (0..9).map(|_| source.reserve(frames).unwrap()).collect();
            assert_eq!(source.arenas(), 9);
            release(&source, runs);
            assert!(source.arenas() <= IDLE_ARENAS + 1, "{} arenas kept", source.arenas());
        }
        let long = source.reserve(2 * frames).unwrap();
        assert_eq!(long.len(), 2 * ARENA_LEN);
        release(&source, vec![long]);
    }

    #[test]
    fn an_absurd_run_is_an_error() {
        let source = MmapSource::new();
        assert!(matches!(source.reserve(usize::MAX / 4096), Err(OutOfFrames)));
        assert!(matches!(source.reserve(usize::MAX), Err(OutOfFrames)));
    }
}
