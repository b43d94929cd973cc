//! Frames from the operating system: large reserved arenas, cut into runs.
//!
//! ```text
//!   arena (64 MiB of address space, one mapping)
//!   | run of 5 | run of 16     | run of 1 | run of 5 (free) | ... never used yet ...           |
//!                                                           ^ bump
//!   free lists by length:  5 ─► that one
//! ```
//!
//! Frames of free runs are returned to the system, so a free run costs only its address space. If
//! the system does not take them back, they stay charged
//! ([`retained_frames`](PageSource::retained_frames)), their run is handed out before others, and
//! their arena is unmapped as soon as no run of it is out.
//!
//! A process may have only 65 530 mappings, so arenas are large, and a few empty ones are kept, so
//! that pools are made and destroyed without mapping and unmapping.

use core::ops::Range;
use core::ptr::NonNull;

use super::advise::{dont_need, dont_need_at_once, populate, resident};
use super::arenas::Arenas;
use super::{Discard, FramesRetained, OutOfFrames, PageSource, Run, os_frame_size};
use crate::internal::sync::Mutex;
use crate::internal::sync::atomic::{AtomicUsize, Ordering};
use crate::noblock::might_block;

/// Ranges that are returned together, listed on the stack.
const BATCH: usize = 128;

/// Takes frames from the operating system by mmap. Linux is tested; other Unix systems should
/// compile.
#[derive(Debug)]
pub struct MmapSource {
    frame_size: usize,
    charged: AtomicUsize,
    /// Copy of `Arenas::retained`, so that reading it takes no lock.
    retained: AtomicUsize,
    arenas: Mutex<Arenas>,
}

impl MmapSource {
    /// Makes a source without an arena.
    pub fn new() -> MmapSource {
        MmapSource {
            frame_size: os_frame_size(),
            charged: AtomicUsize::new(0),
            retained: AtomicUsize::new(0),
            arenas: Mutex::new(Arenas::default()),
        }
    }

    /// Makes a source whose memory is excluded from core dumps, on Linux. On other systems this is
    /// [`new`](Self::new).
    pub fn excluded_from_dumps() -> MmapSource {
        let source = MmapSource::new();
        source.arenas.lock().excluded_from_dumps = true;
        source
    }

    /// Returns how many arenas are mapped, including idle ones. Each is one or two mappings of the
    /// process, or less if the kernel merges neighbours.
    pub fn arenas(&self) -> usize {
        self.arenas.lock().len()
    }

    /// Calls `work` with the arenas, under their lock.
    fn with_arenas<R>(&self, work: impl FnOnce(&mut Arenas) -> R) -> R {
        let mut arenas = self.arenas.lock();
        let result = work(&mut arenas);
        // Relaxed, here and below: an account.
        self.retained.store(arenas.retained, Ordering::Relaxed);
        result
    }

    /// Returns the address and length in bytes of frames of a run.
    ///
    /// # Panics
    ///
    /// If they do not lie inside the run.
    fn range(&self, run: &Run, frames: &Range<usize>) -> (NonNull<u8>, usize) {
        let (from, to) = (frames.start * self.frame_size, frames.end * self.frame_size);
        assert!(from <= to && to <= run.len(), "frames {frames:?} of a run of {} bytes", run.len());
        // SAFETY: `from` is inside the run.
        (unsafe { run.base().add(from) }, to - from)
    }

    /// Puts released runs back, with the number of their frames that the system still holds.
    fn put_back(&self, pieces: &mut [Piece]) {
        for piece in pieces.iter_mut().filter(|piece| !piece.discarded) {
            // SAFETY: (1) a run of ours.
            piece.retained = unsafe { resident(piece.base, piece.len) };
        }
        self.with_arenas(|arenas| {
            pieces
                .iter()
                .for_each(|piece| arenas.put_back(piece.addr(), piece.len, piece.retained));
        });
        while let Some(arena) = self.with_arenas(Arenas::next_surplus) {
            let retained = arena.retained;
            // If the system does not unmap the arena, it is lost, and its frames stay charged.
            if arena.unmap() {
                self.with_arenas(|arenas| arenas.unmapped(retained));
            }
        }
    }
}

impl Default for MmapSource {
    fn default() -> Self {
        MmapSource::new()
    }
}

// SAFETY: (1) runs are cut from private anonymous mappings (zero-filled) without overlap: see
// `Arenas`; arenas are unmapped only when no run of theirs is out, or with the source. (2) frames
// that are returned read as zero or keep their contents. (3) The system's page size.
unsafe impl PageSource for MmapSource {
    fn frame_size(&self) -> usize {
        self.frame_size
    }

    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        might_block("MmapSource::reserve");
        assert!(frames > 0, "a run has at least one frame");
        let len = frames.checked_mul(self.frame_size).ok_or(OutOfFrames)?;
        let base = self.with_arenas(|arenas| arenas.take(len))?;
        // SAFETY: (1) `take` hands out each range once until it is put back.
        Ok(unsafe { Run::new(base, len) })
    }

    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        self.charged.fetch_add(frames, Ordering::Relaxed);
        Ok(())
    }

    fn uncharge(&self, frames: usize) {
        self.charged.fetch_sub(frames, Ordering::Relaxed);
    }

    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), FramesRetained> {
        might_block("MmapSource::discard");
        let (base, len) = self.range(run, &frames);
        // SAFETY: frames of a run, into which by (2) there is no reference.
        if unsafe { dont_need(base, len) } { Ok(()) } else { Err(FramesRetained) }
    }

    fn populate(&self, run: &Run, frames: Range<usize>) {
        might_block("MmapSource::populate");
        let (base, len) = self.range(run, &frames);
        // SAFETY: `populate` (1): a run is memory that is mapped, and so is this part of it.
        unsafe { populate(base, len) };
    }

    unsafe fn discard_all(&self, entries: &mut [Discard]) {
        might_block("MmapSource::discard");
        for chunk in entries.chunks_mut(BATCH) {
            let mut batch = Batch::new();
            chunk.iter().for_each(|entry| batch.push(self.range(&entry.run, &entry.frames)));
            // SAFETY: frames of runs, into which by (1) there is no reference.
            for piece in unsafe { batch.discard_batch() } {
                chunk[piece.number].discarded = piece.discarded;
            }
        }
    }

    unsafe fn release(&self, run: Run) {
        // SAFETY: (1) as promised by our caller.
        unsafe { self.release_all(&mut core::iter::once(run)) };
    }

    unsafe fn release_all(&self, runs: &mut dyn Iterator<Item = Run>) {
        might_block("MmapSource::release");
        loop {
            let mut batch = Batch::new();
            runs.take(BATCH).for_each(|run| batch.push((run.base(), run.len())));
            if batch.len == 0 {
                return;
            }
            // First the frames, without the lock; only then may other threads take the runs.
            // SAFETY: runs that by (1) their owner gave up.
            self.put_back(unsafe { batch.discard_batch() });
        }
    }

    fn charged_frames(&self) -> usize {
        self.charged.load(Ordering::Relaxed) + self.retained_frames()
    }

    fn retained_frames(&self) -> usize {
        self.retained.load(Ordering::Relaxed)
    }
}

/// Ranges that are returned together.
struct Batch {
    pieces: [Piece; BATCH],
    len: usize,
}

#[derive(Clone, Copy)]
struct Piece {
    base: NonNull<u8>,
    len: usize,
    /// The position in the order of the pushes.
    number: usize,
    discarded: bool,
    /// Frames for which the system holds memory, once they were counted.
    retained: usize,
}

impl Piece {
    fn addr(&self) -> usize {
        self.base.as_ptr().addr()
    }
}

impl Batch {
    fn new() -> Batch {
        let none =
            Piece { base: NonNull::dangling(), len: 0, number: 0, discarded: false, retained: 0 };
        Batch { pieces: [none; BATCH], len: 0 }
    }

    /// Adds a range. There must be fewer than [`BATCH`].
    fn push(&mut self, (base, len): (NonNull<u8>, usize)) {
        self.pieces[self.len] = Piece { base, len, number: self.len, ..self.pieces[self.len] };
        self.len += 1;
    }

    /// Returns the ranges to the system, neighbours together. Leaves them in any order, with the
    /// outcome of each.
    ///
    /// # Safety
    ///
    /// 1. The ranges are frames of runs, and there is no reference into them.
    unsafe fn discard_batch(&mut self) -> &mut [Piece] {
        let pieces = &mut self.pieces[..self.len];
        pieces.sort_unstable_by_key(Piece::addr);
        let mut merged = [(NonNull::dangling(), 0); BATCH];
        let mut count = 0;
        for stretch in pieces.chunk_by(are_neighbours) {
            merged[count] = (stretch[0].base, stretch.iter().map(|piece| piece.len).sum());
            count += 1;
        }
        let merged = &merged[..count];
        // SAFETY: (1), for each.
        let at_once = unsafe { dont_need_at_once(merged) };
        let stretches = pieces.chunk_by_mut(are_neighbours);
        for (number, (stretch, &(base, len))) in stretches.zip(merged).enumerate() {
            // SAFETY: (1).
            let gone = number < at_once || unsafe { dont_need(base, len) };
            stretch.iter_mut().for_each(|piece| piece.discarded = gone);
        }
        pieces
    }
}

/// Returns whether a range begins where the one before it ends.
fn are_neighbours(piece: &Piece, next: &Piece) -> bool {
    piece.addr() + piece.len == next.addr()
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::super::arena::ARENA_LEN;
    use super::super::arenas::IDLE_ARENAS;
    use super::*;

    fn release(source: &MmapSource, runs: Vec<Run>) {
        // SAFETY: (1) and (2): runs of this source, which the tests have no reference into.
        unsafe { source.release_all(&mut runs.into_iter()) };
    }

    /// Runs do not overlap, and reused ones are zeroed.
    #[test]
    fn runs_are_disjoint_and_reused_zeroed() {
        let source = MmapSource::new();
        let runs: Vec<_> = (1..=40).map(|frames| source.reserve(frames).unwrap()).collect();
        let mut spans: Vec<_> = runs.iter().map(|r| (r.base().as_ptr().addr(), r.len())).collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
        for run in &runs {
            // SAFETY: (1) this test alone uses the run.
            unsafe { run.write(run.len() - 4, b"mark") };
        }
        release(&source, runs);
        let again = source.reserve(7).unwrap();
        // SAFETY: (1) this test alone uses the run.
        assert!(unsafe { again.slice(0, again.len()) }.iter().all(|&b| b == 0));
        release(&source, vec![again]);
        assert_eq!(source.arenas(), 1);
    }

    /// Frames of many runs are discarded alone, and neighbours that are released together can be
    /// reserved again.
    #[test]
    fn discard_all_and_release_all_keep_neighbours() {
        let source = MmapSource::new();
        let runs: Vec<_> = (0..40).map(|_| source.reserve(4).unwrap()).collect();
        for run in &runs {
            // SAFETY: (1) this test alone uses the run.
            unsafe { run.write(0, &vec![7; run.len()]) };
        }
        let frame = source.frame_size();
        // SAFETY: (1) no other thread uses the run.
        let mut middle: Vec<_> = runs
            .iter()
            .map(|run| Discard::new(unsafe { Run::new(run.base(), run.len()) }, 1..3))
            .collect();
        // SAFETY: (1) runs of this source, into which there is no reference.
        unsafe { source.discard_all(&mut middle) };
        for run in &runs {
            // SAFETY: (1) no other thread uses the run.
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

    /// Populated frames are resident and keep their contents.
    #[cfg(target_os = "linux")]
    #[test]
    fn populated_frames_are_resident_and_unchanged() {
        let source = MmapSource::new();
        let (run, frame) = (source.reserve(8).unwrap(), source.frame_size());
        // SAFETY: (1) this test alone uses the run.
        unsafe { run.write(2 * frame, &vec![7; frame]) };
        source.populate(&run, 2..6);
        source.populate(&run, 3..3);
        let mut resident = [0u8; 8];
        // SAFETY: eight frames of ours, and a byte for each.
        let asked =
            unsafe { libc::mincore(run.base().as_ptr().cast(), run.len(), resident.as_mut_ptr()) };
        assert_eq!((asked, resident.map(|byte| byte & 1)), (0, [0, 0, 1, 1, 1, 1, 0, 0]));
        // SAFETY: (1) no other thread uses the run.
        let bytes = unsafe { run.slice(2 * frame, 4 * frame) };
        assert!(
            bytes[..frame].iter().all(|&byte| byte == 7)
                && bytes[frame..].iter().all(|&byte| byte == 0)
        );
        release(&source, vec![run]);
    }

    /// Few idle arenas are kept, and they are reused.
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

    /// A run longer than the address space is an error.
    #[test]
    fn absurd_run_is_error() {
        let source = MmapSource::new();
        assert!(matches!(source.reserve(usize::MAX / 4096), Err(OutOfFrames)));
        assert!(matches!(source.reserve(usize::MAX), Err(OutOfFrames)));
    }
}
