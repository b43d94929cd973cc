//! The last reference, in every circumstance.

mod common;

use std::sync::Arc;

use common::*;
use zpool_core::NoBlock;
use zpool_core::exec::{DrainExecutor, Inline, Manual};
use zpool_manager::{WorkQueue, pools_leaked};
use zpool_testing::executors::RefusingExecutor;

#[test]
fn an_inline_executor_destroys_on_the_caller_and_is_found_out() {
    let script = Script::new();
    let manager = builder(&script).executor(Arc::new(Inline::new())).build(&spec("a+x")).unwrap();
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!((manager.stats().destroyed_on_caller, script.alive()), (1, 1));
}

#[test]
fn a_refused_job_is_an_orphan_until_the_next_switch_or_reap() {
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
    assert_eq!(script.alive(), 0, "and the manager's drop the rest");
}

#[test]
fn an_executor_that_refuses_everything_stops_no_switcher() {
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

#[test]
fn i6_dropping_the_manager_completes_what_its_queue_has_pending() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    for i in 0..10 {
        manager.switch(&spec(if i % 2 == 0 { "b+x" } else { "a+x" })).unwrap();
    }
    drop(manager);
    assert_eq!(script.alive(), 0);
}

#[test]
fn after_the_manager_the_dropping_thread_destroys_or_leaks_in_a_no_block_section() {
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

#[test]
fn a_user_owned_queue_that_is_shut_down_makes_orphans_not_losses() {
    let (script, queue) = (Script::new(), Arc::new(WorkQueue::new("users").unwrap()));
    let manager = builder(&script).executor(queue.clone()).build(&spec("a+x")).unwrap();
    queue.shutdown().unwrap();
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!(script.alive(), 2);
    manager.flush().unwrap();
    assert_eq!((script.alive(), manager.stats().jobs_refused), (1, 1));
}

#[test]
fn a_job_that_an_executor_drops_still_destroys_its_pool() {
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

#[test]
fn a_destructor_that_panics_is_counted_and_delays_nobody() {
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

#[test]
fn b1_a_hundred_thousand_switches_without_delay() {
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

#[test]
fn b38_two_specs_that_both_keep_entries_for_many_switches() {
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
