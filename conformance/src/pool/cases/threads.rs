//! Many threads at once.

use std::sync::Barrier;
use std::thread;

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::page::PageSource;
use zpool_core::{CompactionBudget, HandleId, PoolError};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, assert_contents};
use crate::rng::SplitMix;

const THREADS: u64 = 4;

/// N1, R1, F1, A1: threads insert, read, hold and free each other's objects. Contents are compared
/// at every read, and the accounting at the end.
pub fn threads_insert_read_and_free(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let shared = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (harness, shared) = (&harness, &shared);
            scope.spawn(move || work_of_one_thread(harness, shared, thread, scaled(2500)));
        }
    });
    let left = shared.into_inner();
    harness.finish(left);
}

/// The work of one thread: it keeps some objects, leaves some for other threads, and takes theirs.
fn work_of_one_thread(
    harness: &PoolHarness<'_>,
    shared: &Mutex<Vec<StoredObject>>,
    thread: u64,
    steps: usize,
) {
    let mut rng = SplitMix::new(thread);
    let mut mine = Vec::new();
    let mut held = Vec::new();
    for step in 0..steps as u64 {
        match rng.below(10) {
            0..4 => mine.push(harness.put(thread << 32 | step, harness.len(&mut rng))),
            4..6 if !mine.is_empty() => harness.check(&mine[rng.below(mine.len())]),
            6 if !mine.is_empty() => {
                let object = &mine[rng.below(mine.len())];
                held.push((object.fill, object.len, harness.guard(object)));
            }
            7 if !mine.is_empty() => {
                let given = mine.swap_remove(rng.below(mine.len()));
                shared.lock().push(given);
            }
            8 => mine.extend(shared.lock().pop()),
            _ if !mine.is_empty() => harness.free_checked(mine.swap_remove(rng.below(mine.len()))),
            _ => {}
        }
        if held.len() > 8 {
            let (fill, len, guard) = held.swap_remove(rng.below(held.len()));
            assert_contents(&guard, fill, len);
        }
        if step % 512 == 511 {
            harness.pool.trim();
        }
    }
    shared.lock().extend(mine);
}

/// R1, R4, F1, F2: a read that races with the free of its object returns the object's bytes under a
/// guard that keeps them, or reports a stale handle. It never returns other bytes, and no byte is
/// lost at the end.
pub fn racing_read_and_free_see_the_object_or_nothing(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let len = harness.max().min(256);
    for round in 0..scaled(150) as u64 {
        let objects: Vec<_> = (0..8).map(|i| harness.put(round << 8 | i, len)).collect();
        let names: Vec<(HandleId, u64)> = objects.iter().map(|o| (o.handle.id(), o.fill)).collect();
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..4 {
                        names.iter().for_each(|&(id, fill)| read_or_stale(&harness, id, fill, len));
                    }
                });
            }
            start.wait();
            // The slots are reused at once.
            for (i, object) in objects.into_iter().enumerate() {
                harness.pool.free(object.handle).expect("F1: the only free of this handle");
                harness.free_checked(harness.put(round << 8 | 0x80 | i as u64, len));
            }
        });
        harness.balance(&[]);
    }
    harness.assert_releases_all_frames();
}

fn read_or_stale(harness: &PoolHarness<'_>, id: HandleId, fill: u64, len: usize) {
    match harness.pool.read(&id.forge()) {
        Ok(guard) => {
            assert_contents(&guard, fill, len);
            thread::yield_now();
            assert_contents(&guard, fill, len);
        }
        Err(error) => assert_eq!(error, PoolError::StaleHandle, "R4: a read that came too late"),
    }
}

/// F1 (B25, B44): if two threads free one object, although only one of them owns it, exactly one
/// succeeds, and the accounting stays right.
pub fn one_of_two_racing_frees_wins(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let len = harness.max().min(300);
    let wins = AtomicUsize::new(0);
    let ids: Vec<_> =
        (0..scaled(600) as u64).map(|fill| harness.put(fill, len).handle.id()).collect();
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                for id in &ids {
                    match harness.pool.free(id.forge()) {
                        Ok(()) => drop(wins.fetch_add(1, Ordering::Relaxed)),
                        Err(e) => {
                            assert_eq!(*e.error(), PoolError::StaleHandle, "F4: the free that lost")
                        }
                    }
                }
            });
        }
    });
    assert_eq!(wins.into_inner(), ids.len(), "F1: successful frees of as many objects");
    harness.assert_releases_all_frames();
}

/// S1, A3, V1 (B15: unlocked reads underflowed): figures taken while threads work stay within what
/// those threads can have done.
pub fn b15_accounts_stay_sane_while_threads_work(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let most_objects = THREADS as usize * 20;
    // Each object may take a page of its own and be held twice, as a zombie and its successor, and
    // pages may wait for their release.
    let most_bytes = (4 << 20) + 8 * most_objects * harness.max().max(harness.source.frame_size());
    let working = AtomicUsize::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (harness, working) = (&harness, &working);
            scope.spawn(move || {
                churn(harness, thread, scaled(1500));
                working.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // At least once, and while any worker runs. A worker that panicked ends the scope's wait by
        // its own panic.
        for _ in 0..scaled(3000) {
            let (stats, held) = (harness.pool.stats(), harness.pool.bytes_held());
            assert!(
                stats.objects <= most_objects,
                "S1: {} objects of {most_objects}",
                stats.objects
            );
            assert!(stats.zombies <= most_objects, "S1: {} zombies", stats.zombies);
            assert!(
                stats.pool_bytes() <= most_bytes,
                "S1: {most_bytes} bytes at most, in {stats:?}"
            );
            assert!(held <= most_bytes, "A1: {held} bytes held of {most_bytes} at most");
            if let Err(violation) = harness.pool.validate() {
                panic!("V1: found while threads work: {violation}");
            }
            if working.load(Ordering::Relaxed) == 0 {
                break;
            }
        }
    });
    harness.assert_releases_all_frames();
}

/// Inserts, reads and frees, with at most 20 objects at a time.
fn churn(harness: &PoolHarness<'_>, thread: u64, steps: usize) {
    let mut rng = SplitMix::new(thread);
    let mut mine = Vec::new();
    for step in 0..steps as u64 {
        if mine.len() < 20 && (mine.is_empty() || rng.percent(50)) {
            mine.push(harness.put(thread << 32 | step, harness.len(&mut rng)));
        } else {
            let object = mine.swap_remove(rng.below(mine.len()));
            let guard = harness.guard(&object);
            harness.pool.free(object.handle).expect("F1");
            assert_contents(&guard, object.fill, object.len);
        }
        if step % 128 == 127 {
            harness.pool.compact(CompactionBudget::moves(16));
        }
    }
    harness.free_all_checked(mine);
}
