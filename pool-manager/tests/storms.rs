//! Switching under load: stores go on, books stay true, executors may end at any moment.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use proptest::prelude::*;
use zpool_core::exec::DrainExecutor;
use zpool_manager::{PoolManager, PoolState, WorkQueue};

/// Switches between `specs` until `stop`, as fast as it can.
fn switch_until(manager: &PoolManager, stop: &AtomicBool) {
    let specs = ["a+x", "b+x", "b+y", "a+y"].map(spec);
    for next in specs.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        manager.switch(next).unwrap();
    }
}

/// Stores, reads back and frees `rounds` objects, keeping up to 20 at a time. Panics if anything is missing or wrong.
fn work(manager: &PoolManager, rounds: u32) {
    let mut kept = Vec::new();
    for i in 0..rounds {
        let bytes = i.to_ne_bytes();
        kept.push((bytes, store(manager, &bytes)));
        if kept.len() > 20 {
            let (bytes, stored) = kept.swap_remove(i as usize % 20);
            assert_eq!(stored.read(), bytes);
            stored.free();
        }
    }
    for (bytes, stored) in kept {
        assert_eq!(stored.read(), bytes);
        stored.free();
    }
}

fn books_balance(manager: &PoolManager, script: &Script) {
    manager.flush();
    let stats = manager.stats();
    assert_eq!(stats.pools_created, stats.pools_destroyed + stats.pools_alive as u64, "{stats:?}");
    assert_eq!((stats.pools_alive, script.alive(), stats.destroyed_on_caller), (1, 1, 0), "i5: {stats:?}");
}

#[test]
fn b50_a_store_during_a_switch_never_lacks_a_pool() {
    for revive in [true, false] {
        let script = Script::new();
        let manager = builder(&script).revive(revive).build(&spec("a+x")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| work(&manager, 20_000))).collect();
            let switcher = scope.spawn(|| switch_until(&manager, &stop));
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            switcher.join().unwrap();
        });
        books_balance(&manager, &script);
    }
}

#[test]
fn b49_a_snapshot_is_of_one_moment() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    // Both pools keep something, so both are always there, whichever is current.
    let first = store(&manager, &[1; 10]);
    manager.switch(&spec("b+x")).unwrap();
    let second = store(&manager, &[2; 20]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let specs = ["a+x", "b+x"].map(spec);
            for i in 0..100_000 {
                manager.switch(&specs[i % 2]).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let pools = manager.pools();
            let current = pools.iter().filter(|pool| pool.state == PoolState::Current).count();
            assert_eq!((pools.len(), current), (2, 1), "{pools:?}");
            assert!(
                pools.iter().all(|pool| (pool.state == PoolState::Current) == pool.retired_for.is_none()),
                "{pools:?}"
            );
            assert_eq!(manager.bytes_held(), 30);
        }
    });
    first.free();
    second.free();
    books_balance(&manager, &script);
}

#[test]
fn i3_there_is_always_a_current_pool_and_it_is_alive() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let switcher = scope.spawn(|| switch_until(&manager, &stop));
        for _ in 0..50_000 {
            let current = manager.current().expect("always one");
            current.zpool().capabilities();
        }
        stop.store(true, Ordering::Relaxed);
        switcher.join().unwrap();
    });
    books_balance(&manager, &script);
}

#[test]
fn i2_a_destroyed_pool_is_not_listed_and_has_no_reader() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let watcher = Arc::downgrade(&manager);
    let bad = Arc::new(AtomicBool::new(false));
    let seen = bad.clone();
    script.on_destroy(move || {
        // Inside the destructor: all that is listed is alive or on its way, and none of it is more than what exists.
        let Some(manager) = watcher.upgrade() else { return };
        let listed = manager.pools();
        let current = listed.iter().filter(|pool| pool.state == PoolState::Current).count();
        if current != 1 || listed.iter().any(|pool| pool.state == PoolState::Dying && pool.references != 0) {
            seen.store(true, Ordering::Relaxed);
        }
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(&manager, 10_000));
        let switcher = scope.spawn(|| switch_until(&manager, &stop));
        worker.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        switcher.join().unwrap();
    });
    manager.flush();
    script.calm();
    assert!(!bad.load(Ordering::Relaxed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The executor ends at any point of a storm: nothing lost, nothing destroyed twice, no deadlock.
    #[test]
    fn i6_the_executor_ends_at_any_point_of_a_storm(end_after in 0u32..400, now: bool, with_manager: bool) {
        let (script, queue) = (Script::new(), Arc::new(WorkQueue::new("storm").unwrap()));
        let manager = builder(&script).executor(queue.clone()).revive(end_after % 2 == 0).build(&spec("a+x")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| work(&manager, 400));
            let switcher = scope.spawn(|| switch_until(&manager, &stop));
            work(&manager, end_after);
            // What `shutdown_now` gives back is ours to run: the switcher may be waiting for it.
            let given_back = if now { queue.shutdown_now().unwrap() } else { queue.shutdown().map(|()| Vec::new()).unwrap() };
            given_back.into_iter().for_each(|job| job.run().unwrap());
            worker.join().unwrap();
            stop.store(true, Ordering::Relaxed);
            switcher.join().unwrap();
        });
        if with_manager {
            books_balance(&manager, &script);
        }
        drop(manager);
        prop_assert_eq!(script.alive(), 0);
    }
}
