//! Any number of readers may hold one object for any time, and everything else goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use zpool_core::page::{HeapSource, PageSource};
use zpool_core::{CompactionBudget, PoolConfig, PoolError, ReadGuard, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

const MANY: usize = 10_000;

fn pool() -> (Box<dyn ZPool>, Arc<HeapSource>) {
    let source = Arc::new(HeapSource::new(4096));
    let pool = ZsmallocDriver.create(&PoolConfig::new(source.clone(), 4096)).expect("a pool");
    (pool, source)
}

fn pinned(pool: &dyn ZPool) -> usize {
    pool.stats().groups.iter().map(|group| group.pinned).sum()
}

/// 10 000 guards hold an object. It keeps its place and its handle while others are compacted and
/// exchanged, and counts as one pinned object. After its free it is a zombie until the last guard
/// is dropped, in any order.
#[test]
fn read_by_ten_thousand_guards_succeeds() {
    for from_the_front in [true, false] {
        let (pool, source) = pool();
        let empty = pool.bytes_held();
        let others: Vec<_> = (0..100).map(|i| pool.insert(&[i; 1000]).unwrap()).collect();
        let handle = pool.insert(&[200; 1000]).unwrap();
        let mut other = pool.insert(&[201; 1000]).unwrap();
        let mut guards: Vec<ReadGuard<'_>> =
            (0..MANY).map(|_| pool.read(&handle).unwrap()).collect();
        let at = guards[0].as_ptr();
        assert_eq!(pinned(&*pool), 1);
        assert!(!pool.exchange(&handle, &mut other), "a guard's object keeps its handle");
        for handle in others {
            pool.free(handle).unwrap();
        }
        pool.compact(CompactionBudget::UNLIMITED);
        assert!(guards.iter().all(|guard| guard.as_ptr() == at && **guard == [200; 1000]));
        assert_eq!(pool.survey(), pool.stats());
        let id = handle.id();
        pool.free(handle).unwrap();
        assert_eq!(pool.read(&id.forge()).err(), Some(PoolError::StaleHandle));
        pool.compact(CompactionBudget::UNLIMITED);
        while guards.len() > 1 {
            drop(if from_the_front { guards.swap_remove(0) } else { guards.pop().unwrap() });
            if guards.len().is_multiple_of(1000) {
                let stats = pool.stats();
                assert_eq!((stats.objects, stats.zombies, pinned(&*pool)), (1, 1, 1));
            }
        }
        assert_eq!(*guards[0], [200; 1000]);
        drop(guards);
        let stats = pool.stats();
        assert_eq!((stats.objects, stats.zombies, pinned(&*pool)), (1, 0, 0));
        pool.validate().unwrap();
        pool.free(other).unwrap();
        pool.trim();
        assert_eq!(source.charged_frames(), 0);
        assert!(pool.bytes_held() < empty + 80_000, "the table of shared pins was freed");
    }
}

/// Guards of several crowded objects are counted separately.
#[test]
fn read_of_many_crowded_objects_succeeds() {
    let (pool, _) = pool();
    let handles: Vec<_> = (0..50).map(|i| pool.insert(&[i; 64]).unwrap()).collect();
    let mut guards: Vec<_> =
        (0..500 * 50).map(|i| (i % 50, pool.read(&handles[i % 50]).unwrap())).collect();
    assert_eq!((pinned(&*pool), pool.survey()), (50, pool.stats()));
    for handle in handles {
        pool.free(handle).unwrap();
    }
    // Alternate between the objects.
    let mut at = 0;
    while !guards.is_empty() {
        at = (at * 31 + 17) % guards.len();
        let (i, guard) = guards.swap_remove(at);
        assert_eq!(*guard, [i as u8; 64]);
    }
    let stats = pool.stats();
    assert_eq!((stats.objects, stats.zombies, pinned(&*pool)), (0, 0, 0));
    pool.validate().unwrap();
}

/// Threads read one object beyond the limit of its word while it is replaced, compacted and freed.
/// Each zombie is finished exactly once, so the counts are right at the end.
#[test]
fn crowded_reads_race_with_everything() {
    let (pool, source) = pool();
    let done = AtomicBool::new(false);
    let mut handle = pool.insert(&[0; 700]).unwrap();
    for round in 1..=20u8 {
        let id = handle.id();
        done.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let handle = id.forge();
                    let mut guards = Vec::new();
                    while guards.len() < 400 && !done.load(Ordering::Relaxed) {
                        match pool.read(&handle) {
                            Ok(guard) => guards.push(guard),
                            Err(error) => {
                                assert_eq!(error, PoolError::StaleHandle);
                                break;
                            }
                        }
                        if guards.len() % 7 == 0 {
                            guards.swap_remove(0);
                        }
                    }
                    assert!(guards.iter().all(|guard| **guard == [round - 1; 700]));
                });
            }
            let next = pool.insert(&[round; 700]).unwrap();
            pool.compact(CompactionBudget::UNLIMITED);
            thread::yield_now();
            pool.free(std::mem::replace(&mut handle, next)).unwrap();
            pool.compact(CompactionBudget::UNLIMITED);
            done.store(true, Ordering::Relaxed);
        });
        let stats = pool.stats();
        assert_eq!((stats.objects, stats.zombies, pinned(&*pool)), (1, 0, 0), "round {round}");
        assert_eq!(pool.survey(), stats);
        pool.validate().unwrap();
    }
    pool.free(handle).unwrap();
    pool.trim();
    assert_eq!(source.charged_frames(), 0);
}
