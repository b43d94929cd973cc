//! The bytes that a pool reports agree with the operating system and the heap, at each stage of the
//! density procedure.
//!
//! - Frames: exactly those that `/proc/self/pagemap` shows as present in the pool's own arenas.
//! - Metadata: within 5 % of what a counting global allocator saw the pool allocate.
//!
//! It is one test in a process of its own, so that no other test allocates meanwhile.
#![cfg(all(target_os = "linux", not(miri)))]
#![allow(unsafe_code, reason = "a page source that watches another one")]

mod common;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use zpool_core::exec::Manual;
use zpool_core::internal::sync::Mutex;
use zpool_core::page::{FramesRetained, MmapSource, OutOfFrames, PageSource, Run};
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_testing::heap::{CountingAllocator, Heap};
use zpool_zsmalloc::ZsmallocDriver;

use common::Random;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Mapped memory, with the ranges of address space that runs were cut from. They are kept after the
/// runs are released, so that memory which stays resident there is not missed.
#[derive(Debug)]
struct Watched {
    source: MmapSource,
    ranges: Mutex<Vec<Range<usize>>>,
    /// Heap bytes of the source itself: its lists of arenas and free runs, which all pools share.
    own: AtomicIsize,
}

// SAFETY: forwards to a source that keeps the promises.
unsafe impl PageSource for Watched {
    fn frame_size(&self) -> usize {
        self.source.frame_size()
    }
    fn reserve(&self, frames: usize) -> Result<Run, OutOfFrames> {
        let run = self.counted(|| self.source.reserve(frames))?;
        let start = run.base().as_ptr().addr();
        self.ranges.lock().push(start..start + run.len());
        Ok(run)
    }
    fn charge(&self, frames: usize) -> Result<(), OutOfFrames> {
        self.source.charge(frames)
    }
    fn uncharge(&self, frames: usize) {
        self.source.uncharge(frames);
    }
    unsafe fn discard(&self, run: &Run, frames: Range<usize>) -> Result<(), FramesRetained> {
        // SAFETY: our caller's promise.
        unsafe { self.source.discard(run, frames) }
    }
    unsafe fn release(&self, run: Run) {
        // SAFETY: our caller's promise.
        self.counted(|| unsafe { self.source.release(run) });
    }
    unsafe fn release_all(&self, runs: &mut dyn Iterator<Item = Run>) {
        // SAFETY: our caller's promise.
        self.counted(|| unsafe { self.source.release_all(runs) });
    }
    fn charged_frames(&self) -> usize {
        self.source.charged_frames()
    }
}

impl Watched {
    /// Adds what the source allocates in `work`.
    fn counted<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = Heap::now().bytes;
        let result = work();
        let grown = Heap::now().bytes - before;
        self.own.fetch_add(grown, Ordering::Relaxed);
        result
    }

    /// Frames of all runs ever cut that are present now.
    fn resident(&self) -> usize {
        let pagemap = File::open("/proc/self/pagemap").expect("Linux has it");
        let mut ranges = self.ranges.lock();
        ranges.sort_unstable_by_key(|range| range.start);
        let (mut seen, mut present) = (0, 0);
        for range in ranges.iter() {
            // Reused and overlapping ranges are counted once.
            for page in (range.start.max(seen)..range.end).step_by(self.frame_size()) {
                let mut entry = [0; 8];
                pagemap
                    .read_exact_at(&mut entry, (page / self.frame_size() * 8) as u64)
                    .expect("one entry per page");
                present += usize::from(u64::from_ne_bytes(entry) >> 63 == 1);
            }
            seen = seen.max(range.end);
        }
        present
    }
}

/// Lengths as compressed pages have them: most between 1/16 and all of a page, some raw.
fn length(random: &mut Random) -> usize {
    match random.below(10) {
        0 => 4096,
        1 => 40 + random.below(400),
        _ => 250 + random.below(1800) + random.below(1800),
    }
}

const SLOTS: usize = 4000;

/// Reported frames are resident, and reported metadata is allocated.
#[test]
fn bytes_held_match_system_and_heap() {
    // Twice: what a process makes once (class tables, lazily made locks) exists the second time.
    procedure(false);
    procedure(true);
}

fn procedure(check: bool) {
    let watched = Arc::new(Watched {
        source: MmapSource::new(),
        ranges: Mutex::new(Vec::with_capacity(1 << 16)),
        own: AtomicIsize::new(0),
    });
    let executor = Arc::new(Manual::new());
    let config = PoolConfig::new(watched.clone(), 4096).with_executor(executor.clone());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let object = [7u8; 4096];
    let mut live: Vec<Option<Handle>> = Vec::with_capacity(SLOTS);
    let before = Heap::now().bytes;
    let pool = ZsmallocDriver.create(&config).unwrap();
    let stage = |name: &str| {
        executor.run_all();
        let own = watched.own.load(Ordering::Relaxed);
        let heap = (Heap::now().bytes - before - own) as f64;
        let stats = pool.stats();
        if !check {
            return;
        }
        assert_eq!(watched.resident(), stats.resident_frames, "{name}: frames resident by pagemap");
        assert_eq!(pool.bytes_held(), stats.pool_bytes(), "{name}");
        let (said, off) = (stats.metadata_bytes as f64, heap - stats.metadata_bytes as f64);
        assert!(
            off.abs() <= said * 0.05,
            "{name}: {said} bytes of metadata reported, {heap} on the heap"
        );
    };
    stage("empty");
    for _ in 0..SLOTS {
        live.push(Some(pool.insert(&object[..length(&mut random)]).unwrap()));
    }
    stage("fill");
    for _ in 0..4 * SLOTS {
        let at = random.below(SLOTS);
        free(&*pool, live[at].take());
        live[at] = Some(pool.insert(&object[..length(&mut random)]).unwrap());
        executor.run_all();
    }
    stage("churn");
    for slot in &mut live {
        if random.below(2) == 0 {
            free(&*pool, slot.take());
        }
    }
    stage("half freed");
    pool.compact(CompactionBudget::UNLIMITED);
    pool.trim();
    stage("compacted");
    live.iter_mut().for_each(|slot| free(&*pool, slot.take()));
    pool.trim();
    stage("emptied");
    if check {
        assert_eq!((watched.resident(), watched.charged_frames()), (0, 0));
    }
}

fn free(pool: &dyn ZPool, handle: Option<Handle>) {
    if let Some(handle) = handle {
        pool.free(handle).unwrap();
    }
}
