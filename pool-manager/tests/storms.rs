//! Switching under load: stores continue, the counts are right, and executors may end at any
//! moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::*;
use parking_lot::Mutex;
use proptest::prelude::*;
use zpool_core::PoolId;
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

/// Stores, reads back and frees `rounds` objects, keeping up to 20 at a time. Panics if one is
/// missing or wrong.
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
    manager.flush().unwrap();
    let stats = manager.stats();
    assert_eq!(stats.pools_created, stats.pools_destroyed + stats.pools_alive as u64, "{stats:?}");
    assert_eq!(
        (stats.pools_alive, script.alive(), stats.destroyed_on_caller),
        (1, 1, 0),
        "i5: {stats:?}"
    );
}

/// B50: a store during a switch always has a pool.
#[test]
fn b50_store_during_switch_has_pool() {
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

/// B49: a snapshot shows one moment.
#[test]
fn b49_snapshot_is_of_one_moment() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    // Both pools keep an object, so both always exist, whichever is current.
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
                pools
                    .iter()
                    .all(|pool| (pool.state == PoolState::Current) == pool.retired_for.is_none()),
                "{pools:?}"
            );
            assert_eq!(manager.bytes_held(), 30);
        }
    });
    first.free();
    second.free();
    books_balance(&manager, &script);
}

/// I3: there is always a current pool, and it is alive.
#[test]
fn i3_current_pool_always_exists_and_is_alive() {
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

/// The references to each pool that the test holds.
type Held = Arc<Mutex<HashMap<PoolId, usize>>>;

/// Stores, reads and frees `rounds` objects, and notes the pools to which it has references.
fn work_noting(manager: &PoolManager, held: &Held, rounds: u32) {
    let mut kept = Vec::new();
    for i in 0..rounds {
        let pool = manager.current().unwrap();
        *held.lock().entry(pool.id()).or_default() += 1;
        let handle = pool.zpool().insert(&i.to_ne_bytes()).unwrap();
        kept.push((i, Stored { pool, handle }));
        if kept.len() > 20 || i + 1 == rounds {
            for (i, stored) in kept.drain(..) {
                assert_eq!(stored.read(), i.to_ne_bytes());
                // Noted before: from now on the pool may be destroyed at any moment.
                *held.lock().get_mut(&stored.pool.id()).unwrap() -= 1;
                stored.free();
            }
        }
    }
}

/// I2: a destroyed pool is not listed, and has no object, no reference and no reader.
#[test]
fn i2_destroyed_pool_is_unlisted_and_unreferenced() {
    let (script, held) = (Script::new(), Held::default());
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let (watcher, known) = (Arc::downgrade(&manager), held.clone());
    let (destroyed, wrong) =
        (Arc::new(Mutex::new(HashSet::new())), Arc::new(Mutex::new(Vec::new())));
    let (seen, errors) = (destroyed.clone(), wrong.clone());
    // Runs inside the pool's destructor.
    script.on_destroy_of(move |id, objects| {
        let Some(manager) = watcher.upgrade() else { return };
        let listed = manager.pools().iter().any(|pool| pool.label.id == id);
        let current = manager.current().unwrap().id() == id;
        let references = known.lock().get(&id).copied().unwrap_or(0);
        let again = !seen.lock().insert(id);
        if listed || current || again || (objects, references) != (0, 0) {
            errors.lock().push(format!("{id}: {listed} {current} {again} {objects} {references}"));
        }
    });
    let stop = AtomicBool::new(false);
    // On a fast machine, all would be done before the first switch. So they continue until enough
    // pools were destroyed.
    let work = || {
        work_noting(&manager, &held, 5_000);
        let enough = || destroyed.lock().len() >= 50;
        (0..20_000).take_while(|_| !enough()).for_each(|_| work_noting(&manager, &held, 100));
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        let switcher = scope.spawn(|| switch_until(&manager, &stop));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        switcher.join().unwrap();
    });
    manager.flush().unwrap();
    script.calm();
    assert_eq!(*wrong.lock(), Vec::<String>::new(), "listed, current, again, objects, references");
    let stats = manager.stats();
    assert!(stats.pools_destroyed >= 50);
    assert_eq!(destroyed.lock().len() as u64, stats.pools_destroyed, "each was looked at once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// I6: the executor may end at any point of a storm. Nothing is lost or destroyed twice, and
    /// there is no deadlock.
    #[test]
    fn i6_executor_ends_at_any_point_of_storm(
        end_after in 0u32..400,
        now: bool,
        with_manager: bool,
    ) {
        let (script, queue) = (Script::new(), Arc::new(WorkQueue::new("storm").unwrap()));
        let builder = builder(&script).executor(queue.clone()).revive(end_after % 2 == 0);
        let manager = builder.build(&spec("a+x")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| work(&manager, 400));
            let switcher = scope.spawn(|| switch_until(&manager, &stop));
            work(&manager, end_after);
            // We have to run the jobs that `shutdown_now` returns: the switching thread may be
            // waiting for them.
            let given_back = if now {
                queue.shutdown_now().unwrap()
            } else {
                queue.shutdown().map(|()| Vec::new()).unwrap()
            };
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
