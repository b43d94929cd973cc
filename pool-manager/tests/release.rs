//! Dropping the last reference, in all circumstances.

use std::sync::Arc;

use crate::common::*;
use zpool_core::NoBlock;
use zpool_core::exec::{DrainExecutor, Inline, Manual};
use zpool_manager::{WorkQueue, pools_leaked};
use zpool_testing::executors::RefusingExecutor;

/// An inline executor destroys on the caller, which the counters show.
#[test]
fn inline_executor_is_counted_as_on_caller() {
    let script = Script::new();
    let manager = builder(&script).executor(Arc::new(Inline::new())).build(&spec("a+x")).unwrap();
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!((manager.stats().destroyed_on_caller, script.alive()), (1, 1));
}

/// A refused job is an orphan until the next switch or reap.
#[test]
fn refused_job_runs_at_next_switch_or_reap() {
    let (script, refusing) = (Script::new(), Arc::new(RefusingExecutor::default()));
    let manager = builder(&script).executor(refusing.clone()).build(&spec("a+x")).unwrap();
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!((script.alive(), refusing.refused()), (2, 1));
    assert_eq!((manager.reap(), script.alive()), (1, 1));
    manager.switch(&spec("a+x")).unwrap();
    assert_eq!(script.alive(), 2);
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!(script.alive(), 2, "this switch ran the orphan of the one before, and left its own");
    drop(manager);
    assert_eq!(script.alive(), 0, "and the manager's drop ran the rest");
}

/// An executor that refuses every job stops no switch.
#[test]
fn refusing_executor_stops_no_switch() {
    let script = Script::new();
    let manager = builder(&script)
        .executor(Arc::new(RefusingExecutor::default()))
        .max_pending(1)
        .build(&spec("a+x"))
        .unwrap();
    for i in 0..50 {
        manager.switch(&spec(if i % 2 == 0 { "b+x" } else { "a+x" })).unwrap();
    }
    manager.flush().unwrap();
    assert_eq!((script.alive(), manager.stats().jobs_refused), (1, 50));
}

/// I6: dropping the manager completes the pending jobs of its queue.
#[test]
fn i6_manager_drop_completes_pending_jobs() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    for i in 0..10 {
        manager.switch(&spec(if i % 2 == 0 { "b+x" } else { "a+x" })).unwrap();
    }
    drop(manager);
    assert_eq!(script.alive(), 0);
}

/// After the manager is gone, the dropping thread destroys the pool, or leaks it in a no-block
/// section.
#[test]
fn drop_after_manager_destroys_or_leaks() {
    let (script, leaked) = (Script::new(), pools_leaked());
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let first = store(&manager, b"outlives the manager");
    manager.switch(&spec("b+x")).unwrap();
    let second = store(&manager, b"this one, too");
    drop(manager);
    assert_eq!((script.alive(), first.read()), (2, b"outlives the manager".to_vec()));
    first.free();
    assert_eq!(script.alive(), 1, "destroyed by the thread that dropped it");
    let section = NoBlock::enter();
    second.free();
    drop(section);
    assert_eq!(script.alive(), 1, "leaked rather than blocked");
    assert_eq!(pools_leaked() - leaked, 1, "and counted");
}

/// A user's queue that is shut down makes orphans and loses nothing.
#[test]
fn shut_down_user_queue_makes_orphans() {
    let (script, queue) = (Script::new(), Arc::new(WorkQueue::new("users").unwrap()));
    let manager = builder(&script).executor(queue.clone()).build(&spec("a+x")).unwrap();
    queue.shutdown().unwrap();
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!(script.alive(), 2);
    manager.flush().unwrap();
    assert_eq!((script.alive(), manager.stats().jobs_refused), (1, 1));
}

/// A job that an executor drops still destroys its pool.
#[test]
fn job_dropped_by_executor_destroys_pool() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = builder(&script).executor(manual.clone()).build(&spec("a+x")).unwrap();
    manager.switch(&spec("b+x")).unwrap();
    drop(manual.shutdown_now().unwrap());
    let stats = manager.stats();
    assert_eq!(
        (script.alive(), stats.pools_alive, stats.pools_destroyed, stats.pending_destroy),
        (1, 1, 1, 0)
    );
}

/// A destructor that panics is counted and delays no caller.
#[test]
fn panicking_destructor_is_counted() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    script.on_destroy(|| panic!("destructor gave up"));
    manager.switch(&spec("b+x")).unwrap();
    manager.flush().unwrap();
    script.calm();
    let stats = manager.stats();
    assert_eq!((stats.destructors_panicked, stats.pools_destroyed, stats.pools_alive), (1, 1, 1));
    manager.switch(&spec("a+x")).unwrap();
    manager.flush().unwrap();
    assert_eq!(manager.stats().pools_destroyed, 2);
}

/// B1: 100 000 switches without a delay.
#[test]
fn b1_many_switches_without_delay() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let specs = [spec("a+y"), spec("a+x")];
    for i in 0..100_000 {
        manager.switch(&specs[i % 2]).unwrap();
    }
    manager.flush().unwrap();
    let stats = manager.stats();
    assert_eq!((stats.switches, stats.pools_created), (100_001, 100_001));
    assert_eq!(
        (stats.pools_destroyed, stats.pools_alive, stats.destroyed_on_caller),
        (100_000, 1, 0)
    );
    assert!(stats.pending_destroy_max <= zpool_manager::DEFAULT_MAX_PENDING, "{stats:?}");
}

/// B38: two specs that both keep entries through many switches.
#[test]
fn b38_two_specs_keep_entries_in_switches() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let specs = [spec("b+x"), spec("a+x")];
    let first = store(&manager, b"of a+x");
    manager.switch(&specs[0]).unwrap();
    let second = store(&manager, b"of b+x");
    for i in 1..100_000 {
        manager.switch(&specs[i % 2]).unwrap();
    }
    let stats = manager.stats();
    assert_eq!((stats.pools_created, stats.pools_revived, stats.pools_destroyed), (2, 99_999, 0));
    assert_eq!((first.read(), second.read()), (b"of a+x".to_vec(), b"of b+x".to_vec()));
    first.free();
    second.free();
    manager.flush().unwrap();
    assert_eq!(
        (manager.stats().pools_alive, script.alive()),
        (1, 1),
        "i5: only the current pool is left"
    );
}
