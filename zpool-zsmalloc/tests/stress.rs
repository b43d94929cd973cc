//! Threads insert, read and free while others compact and trim. Contents, statistics and structures
//! stay right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use zpool_core::internal::sync::Mutex;
use zpool_core::page::{HeapSource, MmapSource, PageSource};
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

use crate::common::Random;

const STEPS: usize = if cfg!(miri) { 200 } else { 40_000 };

/// Lengths of objects: few classes, so that threads meet.
type Lengths = fn(&mut Random) -> usize;

const FAR_APART: Lengths = |random| 300 + random.below(6) * 400;

/// Classes so close in size that compaction merges one into another.
const NEIGHBOURS: Lengths = |random| 900 + random.below(24) * 16;

/// Returns a self-describing object: its length and its fill are in its first bytes.
fn object(random: &mut Random, lengths: Lengths) -> Vec<u8> {
    let len = lengths(random);
    let fill = random.below(256) as u8;
    let mut bytes = vec![fill; len];
    bytes[..2].copy_from_slice(&(len as u16).to_le_bytes());
    bytes
}

fn check(bytes: &[u8]) {
    let len = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    assert_eq!(bytes.len(), len);
    assert!(bytes[2..].iter().all(|byte| *byte == bytes[2]), "torn object of {len} bytes");
}

/// Replaces the object of `handle` by `new`, and frees the old one. Returns the handle to keep.
fn replace(pool: &dyn ZPool, handle: Handle, mut new: Handle, exchanged: &AtomicUsize) -> Handle {
    // Another thread's guard may hold it, or compaction.
    let done = pool.exchange(&handle, &mut new);
    exchanged.fetch_add(usize::from(done), Ordering::Relaxed);
    let (kept, freed) = if done { (handle, new) } else { (new, handle) };
    pool.free(freed).unwrap();
    kept
}

/// Checks the end of a storm: all objects left are intact and counted, and nothing stays behind.
fn check_what_is_left(pool: &dyn ZPool, source: &dyn PageSource, live: Vec<Handle>) {
    pool.validate().unwrap();
    assert_eq!(pool.stats().objects, live.len());
    for handle in live {
        check(&pool.read(&handle).unwrap());
        pool.free(handle).unwrap();
    }
    pool.trim();
    assert_eq!((source.charged_frames(), pool.stats().zombies), (0, 0));
    pool.validate().unwrap();
}

fn storm(source: Arc<dyn PageSource>, lengths: Lengths) {
    let pool = ZsmallocDriver.create(&PoolConfig::new(source.clone(), 4096)).unwrap();
    let pool: &dyn ZPool = &*pool;
    // Handles are shared: what one thread inserts another reads and frees.
    let shelf: Vec<Mutex<Option<Handle>>> = (0..600).map(|_| Mutex::new(None)).collect();
    let (working, moved, exchanged) =
        (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3u64)
            .map(|seed| {
                let (shelf, exchanged) = (&shelf, &exchanged);
                scope.spawn(move || {
                    let mut random = Random(seed * 77 + 1);
                    for _ in 0..STEPS {
                        let mut place = shelf[random.below(shelf.len())].lock();
                        match place.take() {
                            None if random.below(2) == 0 => {
                                *place = Some(pool.insert(&object(&mut random, lengths)).unwrap())
                            }
                            None => {}
                            Some(handle) => {
                                let guard = pool.read(&handle).unwrap();
                                match random.below(6) {
                                    0..2 => pool.free(handle).unwrap(),
                                    2 => {
                                        check(&guard);
                                        drop(guard);
                                        let new =
                                            pool.insert(&object(&mut random, lengths)).unwrap();
                                        *place = Some(replace(pool, handle, new, exchanged));
                                        continue;
                                    }
                                    _ => *place = Some(handle),
                                }
                                // Held after the lock is released: others may free it, and
                                // compaction skips it.
                                drop(place);
                                check(&guard);
                            }
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut round = 0;
            while working.load(Ordering::Relaxed) {
                round += 1;
                // Without a limit, so that it continues with merging classes.
                let budget = if round % 2 == 0 {
                    CompactionBudget::moves(64)
                } else {
                    CompactionBudget::UNLIMITED
                };
                let report = pool.compact(budget);
                moved.fetch_add(report.moved_objects, Ordering::Relaxed);
                // B15: an estimate that has wrapped is far beyond what these objects can hold.
                assert!(report.estimated_bytes < 1 << 30, "{report:?}");
                for group in pool.stats().groups {
                    let resident = group.resident_frames * source.frame_size();
                    assert!(group.reclaimable_bytes <= resident, "{group:?}");
                }
                if round % 8 == 0 {
                    pool.trim();
                    pool.validate().unwrap();
                }
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        working.store(false, Ordering::Relaxed);
    });
    let live: Vec<_> = shelf.into_iter().filter_map(Mutex::into_inner).collect();
    check_what_is_left(pool, &*source, live);
    assert!(moved.into_inner() > 0 || cfg!(miri), "compaction had something to do");
    assert!(exchanged.into_inner() > 0, "most objects have no reader at most times");
}

/// Threads and compaction over mapped frames.
#[test]
fn b13_b14_threads_over_mapped_frames() {
    storm(Arc::new(MmapSource::new()), FAR_APART);
}

/// Threads and compaction over frames of 16 KiB.
#[test]
fn b13_b14_threads_over_large_frames() {
    storm(Arc::new(HeapSource::new(16_384)), FAR_APART);
}

/// An entry that is reused during a merge names an object of another length, which must not go to
/// the place of the old one.
#[test]
fn b13_b14_threads_and_merging() {
    storm(Arc::new(HeapSource::new(4096)), NEIGHBOURS);
}
