//! Objects move together, and nobody sees it.

use std::thread;

use zpool_core::page::{FaultPlan, PageSource};
use zpool_core::{CompactionBudget, CompactionReport};

use crate::pool::PoolMaker;
use crate::pool::rig::{Object, Rig, assert_contents, scaled};
use crate::rng::Rng;

/// M3: nothing is done, and nothing reported as done.
pub fn a_pool_that_cannot_compact_does_nothing(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let objects = half_freed(&rig, 200);
    let before = rig.pool.stats();
    let report = rig.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(report, CompactionReport::default(), "M3");
    assert_eq!(rig.pool.stats(), before, "M3: the books before and after");
    rig.check_all(&objects);
}

/// M1, M2, A2, S1: with every second object freed, compaction gives frames back, as many as it reports; all objects read as before, under handles as before.
pub fn compaction_gives_frames_back_and_is_not_seen(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let objects = half_freed(&rig, 1200);
    rig.pool.trim();
    let (before, moved) = (rig.source.charged_bytes(), rig.pool.stats().moved_objects);
    let report = rig.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(
        rig.pool.stats().moved_objects - moved,
        report.moved_objects as u64,
        "S1: {report:?}"
    );
    rig.balance(&objects);
    rig.pool.trim();
    let gained = before - rig.source.charged_bytes();
    assert!(report.moved_objects > 0 && gained > 0, "M1: {gained} bytes gained, {report:?}");
    assert!(report.freed_bytes <= gained, "M2: {gained} bytes gained, {report:?}");
    assert!(!report.exhausted, "M2: an unlimited budget ended the call, {report:?}");
    rig.check_all(&objects);
    rig.balance(&objects);

    let again = rig.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(
        again.moved_objects, 0,
        "M1: a second compaction in a row found something to move: {again:?}"
    );
    rig.take_all(objects);
    rig.assert_gives_all_back();
}

/// M1, R2: what a guard holds stays where it is, and is skipped, not waited for; the rest moves.
pub fn compaction_skips_what_guards_hold(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let objects = half_freed(&rig, 600);
    let guards: Vec<_> = objects.iter().step_by(3).map(|o| (o.fill, o.len, rig.guard(o))).collect();
    let addresses: Vec<_> = guards.iter().map(|(.., guard)| guard.as_ptr()).collect();
    rig.pool.compact(CompactionBudget::UNLIMITED);
    for ((fill, len, guard), address) in guards.iter().zip(addresses) {
        assert_eq!(guard.as_ptr(), address, "R2: the address of a pinned object");
        assert_contents(guard, *fill, *len);
    }
    rig.check_all(&objects);
    for (object, (.., guard)) in objects.iter().step_by(3).zip(&guards).filter(|_| !maker.copies())
    {
        assert_eq!(
            rig.guard(object).as_ptr(),
            guard.as_ptr(),
            "R2: a pinned object, as another guard sees it"
        );
    }
    drop(guards);
    rig.pool.compact(CompactionBudget::UNLIMITED);
    rig.end(objects);
}

/// M2: no more moves than allowed, `exhausted` says whether more were wanted, and small steps reach the same end as a large one.
pub fn compaction_keeps_to_its_budget(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let objects = half_freed(&rig, 600);
    let nothing = rig.pool.compact(CompactionBudget::moves(0));
    assert_eq!(nothing.moved_objects, 0, "M2: moves with a budget of 0");
    let mut steps = 0;
    loop {
        let report = rig.pool.compact(CompactionBudget::moves(7));
        assert!(report.moved_objects <= 7, "M2: {report:?} with a budget of 7 moves");
        rig.pool.validate().unwrap_or_else(|violation| panic!("V1: {violation}"));
        if !report.exhausted {
            break;
        }
        steps += 1;
        assert!(steps < 10_000, "M2: {} objects, and no end after {steps} steps", objects.len());
    }
    let rest = rig.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(rest.moved_objects, 0, "M2: left over by small steps: {rest:?}");
    rig.check_all(&objects);
    rig.balance(&objects);
}

/// M1, M2, A2: whichever call of the page source fails while objects move, or all from one on, compaction may do less, but what is stored stays as it was, and what it
/// reports is true.
pub fn compaction_without_memory_loses_nothing(maker: &PoolMaker) {
    for plan in [FaultPlan::Nth, FaultPlan::From] {
        for n in 0..scaled(100) as u64 {
            let rig = Rig::new(maker);
            let objects = half_freed(&rig, 150);
            rig.pool.trim();
            let (failed, before) = (rig.source.failures(), rig.source.charged_bytes());
            rig.source.plan(plan(n));
            let report = rig.pool.compact(CompactionBudget::UNLIMITED);
            rig.source.plan(FaultPlan::Never);
            rig.balance(&objects);
            rig.check_all(&objects);
            rig.pool.trim();
            let gained = before.saturating_sub(rig.source.charged_bytes());
            assert!(report.freed_bytes <= gained, "M2: {gained} bytes gained, {report:?}");
            rig.take_all(objects);
            rig.assert_gives_all_back();
            // Later calls than there are need no try.
            if rig.source.failures() == failed {
                break;
            }
        }
    }
}

/// M1, M4 (B14: recording the new location dropped another thread's pin): objects are read, held and freed while compaction moves them.
pub fn b14_compaction_races_with_reads_and_frees(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    for _ in 0..scaled(10) {
        let mut read = half_freed(&rig, 400);
        let freed = read.split_off(read.len() / 2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        rig.pool.compact(CompactionBudget::moves(50));
                    }
                });
            }
            scope.spawn(|| (0..4).for_each(|_| rig.check_all(&read)));
            for object in freed {
                let guard = rig.guard(&object);
                rig.pool.free(object.handle).expect("F1: the only free of this handle");
                assert_contents(&guard, object.fill, object.len);
            }
        });
        rig.check_all(&read);
        rig.balance(&read);
        rig.take_all(read);
    }
    rig.assert_gives_all_back();
}

/// F3, T1, M1 (B12: an empty zspage stayed because it was isolated): pages that become empty while compaction works on them go back with the next trim.
pub fn b12_pages_emptied_during_compaction_go_back(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    for _ in 0..scaled(10) {
        let objects = half_freed(&rig, 300);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10 {
                    rig.pool.compact(CompactionBudget::moves(40));
                }
            });
            rig.take_all(objects);
        });
        rig.assert_gives_all_back();
    }
}

/// Inserts `n` objects of all lengths and frees every second one, chosen at random.
fn half_freed(rig: &Rig<'_>, n: usize) -> Vec<Object> {
    let mut rng = Rng::new(0xC0_3AC7);
    let mut live: Vec<_> =
        (0..scaled(n) as u64).map(|fill| rig.put(fill, rig.len(&mut rng))).collect();
    for _ in 0..live.len() / 2 {
        rig.take(live.swap_remove(rng.below(live.len())));
    }
    live
}
