//! No heap call in the release path, in any circumstance but one (after the manager is gone the dropping thread destroys the pool itself).
#![allow(unsafe_code, reason = "a global allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::*;
use zpool_conformance::executor_suite;
use zpool_core::NoBlock;
use zpool_core::exec::{DrainExecutor, Executor, ExecutorProperties, Job, Manual, Refused, RefusedReason};
use zpool_manager::{PoolManager, PoolRef, WorkQueue};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn calls_so_far() -> u64 {
    CALLS.with(Cell::get) as u64
}

// The suite is in this program for its counter.
executor_suite!(
    queue,
    [no_block, ordered, drain],
    || WorkQueue::new("queue").unwrap(),
    heap_calls = calls_so_far,
);
executor_suite!(
    relay_to_a_queue,
    [no_block, ordered, drain],
    || WorkQueue::relay("relay", Arc::new(WorkQueue::new("queue").unwrap())).unwrap(),
    heap_calls = calls_so_far,
);

/// Heap calls of this thread in `f`.
fn calls(f: impl FnOnce()) -> usize {
    let before = CALLS.with(Cell::get);
    f();
    CALLS.with(Cell::get) - before
}

/// The only reference to a retired pool, which nothing is stored in.
fn last_reference(manager: &PoolManager) -> PoolRef {
    let last = manager.current().unwrap();
    let next = if last.spec().allocator.name == "a" { "b+x" } else { "a+x" };
    manager.switch(&spec(next)).unwrap();
    last
}

#[derive(Debug)]
struct Refusing;

impl Executor for Refusing {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        Err(Refused { job, reason: RefusedReason::Full })
    }

    fn properties(&self) -> ExecutorProperties {
        ExecutorProperties::CAUTIOUS.with_submit_in_no_block()
    }
}

#[test]
fn handing_the_last_reference_over_makes_no_heap_call() {
    let executors: [Arc<dyn Executor>; 3] =
        [Arc::new(WorkQueue::new("heap").unwrap()), Arc::new(Manual::new()), Arc::new(Refusing)];
    for executor in executors {
        let manager = builder(&Script::new()).executor(executor.clone()).build(&spec("a+x")).unwrap();
        drop(last_reference(&manager));

        let last = last_reference(&manager);
        assert_eq!(calls(|| drop(last)), 0, "on the thread that switched, {executor:?}");

        let last = last_reference(&manager);
        let inside = calls(|| {
            let _section = NoBlock::enter();
            drop(last);
        });
        assert_eq!(inside, 0, "inside a no-block section, {executor:?}");

        let last = last_reference(&manager);
        let elsewhere = std::thread::spawn(move || calls(|| drop(last))).join().unwrap();
        assert_eq!(elsewhere, 0, "on another thread, {executor:?}");

        struct Unwound(Option<PoolRef>);
        impl Drop for Unwound {
            fn drop(&mut self) {
                assert!(std::thread::panicking());
                let last = self.0.take();
                let during = calls(|| drop(last));
                assert_eq!(during, 0, "during unwinding");
            }
        }
        let last = Unwound(Some(last_reference(&manager)));
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _last = last;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err());
        manager.reap();
    }
}

#[test]
fn a_reference_dropped_while_the_executor_shuts_down_makes_no_heap_call() {
    let queue = Arc::new(WorkQueue::new("ending").unwrap());
    let manager = builder(&Script::new()).executor(queue.clone()).build(&spec("a+x")).unwrap();
    let last = last_reference(&manager);
    queue.shutdown().unwrap();
    assert_eq!(calls(|| drop(last)), 0);
    assert_eq!(manager.reap(), 1);
}

#[test]
fn finding_the_current_pool_and_letting_it_go_makes_no_heap_call_once_warm() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    // arc-swap registers a thread at its first look.
    drop(manager.current());
    assert_eq!(calls(|| drop(manager.current().unwrap().clone())), 0);
}
