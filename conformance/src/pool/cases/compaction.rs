//! Compaction moves objects, and no caller notices.

use std::thread;

use zpool_core::page::{FaultPlan, PageSource};
use zpool_core::{CompactionBudget, CompactionReport};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, assert_contents};
use crate::rng::SplitMix;

/// M3: it does nothing, and reports that it did nothing.
pub fn a_pool_that_cannot_compact_does_nothing(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let objects = half_freed(&harness, 200);
    let before = harness.pool.stats();
    let report = harness.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(report, CompactionReport::default(), "M3");
    assert_eq!(harness.pool.stats(), before, "M3: the accounts before and after");
    harness.check_all(&objects);
}

/// M1, M2, A2, S1: with every second object freed, compaction releases as many frames as it
/// reports. All objects read as before under the same handles.
pub fn compact_releases_frames_keeps_contents(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let objects = half_freed(&harness, 1200);
    harness.pool.trim();
    let (before, moved) = (harness.source.charged_bytes(), harness.pool.stats().moved_objects);
    let report = harness.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(
        harness.pool.stats().moved_objects - moved,
        report.moved_objects as u64,
        "S1: {report:?}"
    );
    harness.balance(&objects);
    harness.pool.trim();
    let gained = before - harness.source.charged_bytes();
    assert!(report.moved_objects > 0 && gained > 0, "M1: {gained} bytes gained, {report:?}");
    assert!(report.freed_bytes <= gained, "M2: {gained} bytes gained, {report:?}");
    assert!(!report.exhausted, "M2: an unlimited budget ended the call, {report:?}");
    harness.check_all(&objects);
    harness.balance(&objects);

    let again = harness.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(
        again.moved_objects, 0,
        "M1: a second compaction in a row found something to move: {again:?}"
    );
    harness.free_all_checked(objects);
    harness.assert_releases_all_frames();
}

/// M1, R2: objects under guards stay in place and are skipped without waiting, and the others move.
pub fn compaction_skips_what_guards_hold(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let objects = half_freed(&harness, 600);
    let guards: Vec<_> =
        objects.iter().step_by(3).map(|o| (o.fill, o.len, harness.guard(o))).collect();
    let addresses: Vec<_> = guards.iter().map(|(.., guard)| guard.as_ptr()).collect();
    harness.pool.compact(CompactionBudget::UNLIMITED);
    for ((fill, len, guard), address) in guards.iter().zip(addresses) {
        assert_eq!(guard.as_ptr(), address, "R2: the address of a pinned object");
        assert_contents(guard, *fill, *len);
    }
    harness.check_all(&objects);
    for (object, (.., guard)) in objects.iter().step_by(3).zip(&guards).filter(|_| !maker.copies())
    {
        assert_eq!(
            harness.guard(object).as_ptr(),
            guard.as_ptr(),
            "R2: a pinned object, as another guard sees it"
        );
    }
    drop(guards);
    harness.pool.compact(CompactionBudget::UNLIMITED);
    harness.finish(objects);
}

/// M2: it makes no more moves than allowed, `exhausted` tells whether more were wanted, and small
/// steps reach the same end as a large one.
pub fn compaction_keeps_to_its_budget(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let objects = half_freed(&harness, 600);
    let nothing = harness.pool.compact(CompactionBudget::moves(0));
    assert_eq!(nothing.moved_objects, 0, "M2: moves with a budget of 0");
    let mut steps = 0;
    loop {
        let report = harness.pool.compact(CompactionBudget::moves(7));
        assert!(report.moved_objects <= 7, "M2: {report:?} with a budget of 7 moves");
        harness.pool.validate().unwrap_or_else(|violation| panic!("V1: {violation}"));
        if !report.exhausted {
            break;
        }
        steps += 1;
        assert!(steps < 10_000, "M2: {} objects, and no end after {steps} steps", objects.len());
    }
    let rest = harness.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(rest.moved_objects, 0, "M2: left over by small steps: {rest:?}");
    harness.check_all(&objects);
    harness.balance(&objects);
}

/// M1, M2, A2: if one or all calls of the page source fail while objects move, compaction may do
/// less. What is stored stays as it was, and the report is true.
pub fn compaction_without_memory_loses_nothing(maker: &PoolMaker) {
    for plan in [FaultPlan::Nth, FaultPlan::From] {
        for n in 0..scaled(100) as u64 {
            let harness = PoolHarness::new(maker);
            let objects = half_freed(&harness, 150);
            harness.pool.trim();
            let (failed, before) = (harness.source.failures(), harness.source.charged_bytes());
            harness.source.plan(plan(n));
            let report = harness.pool.compact(CompactionBudget::UNLIMITED);
            harness.source.plan(FaultPlan::Never);
            harness.balance(&objects);
            harness.check_all(&objects);
            harness.pool.trim();
            let gained = before.saturating_sub(harness.source.charged_bytes());
            assert!(report.freed_bytes <= gained, "M2: {gained} bytes gained, {report:?}");
            harness.free_all_checked(objects);
            harness.assert_releases_all_frames();
            // Stop after the last call that can fail.
            if harness.source.failures() == failed {
                break;
            }
        }
    }
}

/// M1, M4 (B14: recording the new location dropped another thread's pin): objects are read, held
/// and freed while compaction moves them.
pub fn b14_compaction_races_with_reads_and_frees(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    for _ in 0..scaled(10) {
        let mut read = half_freed(&harness, 400);
        let freed = read.split_off(read.len() / 2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        harness.pool.compact(CompactionBudget::moves(50));
                    }
                });
            }
            scope.spawn(|| (0..4).for_each(|_| harness.check_all(&read)));
            for object in freed {
                let guard = harness.guard(&object);
                harness.pool.free(object.handle).expect("F1: the only free of this handle");
                assert_contents(&guard, object.fill, object.len);
            }
        });
        harness.check_all(&read);
        harness.balance(&read);
        harness.free_all_checked(read);
    }
    harness.assert_releases_all_frames();
}

/// F3, T1, M1 (B12: an empty zspage stayed because it was isolated): pages that become empty during
/// a compaction are released by the next trim.
pub fn b12_pages_emptied_during_compaction_go_back(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    for _ in 0..scaled(10) {
        let objects = half_freed(&harness, 300);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10 {
                    harness.pool.compact(CompactionBudget::moves(40));
                }
            });
            harness.free_all_checked(objects);
        });
        harness.assert_releases_all_frames();
    }
}

/// Inserts `n` objects of all lengths and frees every second one, chosen at random.
fn half_freed(harness: &PoolHarness<'_>, n: usize) -> Vec<StoredObject> {
    let mut rng = SplitMix::new(0xC0_3AC7);
    let mut live: Vec<_> =
        (0..scaled(n) as u64).map(|fill| harness.put(fill, harness.len(&mut rng))).collect();
    for _ in 0..live.len() / 2 {
        harness.free_checked(live.swap_remove(rng.below(live.len())));
    }
    live
}
