//! Every operation that may block reports it. The check policy and its counters belong to the
//! process, so this is a test program of its own.

mod common;

use std::sync::Arc;

use common::*;
use zpool_core::exec::{DrainExecutor, Job, Manual};
use zpool_core::{CheckPolicy, NoBlock, set_check_policy, violations};
use zpool_manager::WorkQueue;

/// Returns the violations of `f` inside a section.
fn found(f: impl FnOnce()) -> u64 {
    let (before, _section) = (violations(), NoBlock::enter());
    f();
    violations() - before
}

/// Inside a no-block section, calls that may block are reported and the others are not.
#[test]
fn only_blocking_calls_violate_no_block() {
    set_check_policy(CheckPolicy::Count);
    let (manual, queue) = (Arc::new(Manual::new()), WorkQueue::new("checked").unwrap());
    assert_eq!(found(|| assert!(!manual.run_one())), 1, "Manual::run_one");
    assert!(found(|| manual.flush().unwrap()) >= 1, "Manual::flush");
    let manager = builder(&Script::new()).executor(manual.clone()).build(&spec("a+x")).unwrap();
    assert_eq!(found(|| drop(manager.switch(&spec("b+x")))), 1, "switch");
    assert_eq!(found(|| assert_eq!(manager.reap(), 0)), 1, "reap");
    manual.run_all();
    assert_eq!(found(|| manager.flush().unwrap()), 1, "PoolManager::flush");
    assert_eq!(
        found(|| drop(manager.registry().unregister_allocator("absent"))),
        1,
        "unregister_allocator"
    );
    assert_eq!(
        found(|| drop(manager.registry().unregister_compressor("absent"))),
        1,
        "unregister_compressor"
    );
    assert_eq!(found(|| queue.flush().unwrap()), 1, "WorkQueue::flush");
    assert_eq!(found(|| queue.shutdown().unwrap()), 1, "WorkQueue::shutdown");
    assert_eq!(found(|| drop(queue.shutdown_now().unwrap())), 1, "WorkQueue::shutdown_now");

    let pool = manager.current().unwrap();
    let warm = || pool.codec().compress(b"block", 5, |out| assert!(out.is_some())).unwrap();
    warm();
    assert_eq!(found(warm), 0, "compressing with a context that is there");
    let mut section = None;
    let before = violations();
    let retires = |_: Option<&[u8]>| {
        pool.codec().retire_compression();
        section = Some(NoBlock::enter());
    };
    pool.codec().compress(b"block", 5, retires).unwrap();
    drop(section);
    assert_eq!(violations() - before, 1, "the context comes back to a retired pool and is dropped");

    let job = Job::new("quiet", || ());
    assert_eq!(found(|| drop((job, manager.current(), pool, manager.stats()))), 0);
    drop(manual.shutdown_now().unwrap());
    assert_eq!(found(|| drop(manual.shutdown_now().unwrap())), 1, "Manual::shutdown_now");
}
