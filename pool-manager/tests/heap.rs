//! The release path makes no heap call, with one exception: after the manager is gone, the dropping
//! thread destroys the pool itself.

mod common;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};

use common::*;
use zpool_conformance::executor_suite;
use zpool_core::NoBlock;
use zpool_core::exec::{DrainExecutor, Executor, Manual};
use zpool_manager::{PoolManager, PoolRef, WorkQueue};
use zpool_testing::executors::RefusingExecutor;
use zpool_testing::heap::{self, CountingAllocator, calls_of};

thread_local! {
    /// Whether calls of this thread check if [`WATCHED`]'s list is locked.
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

static WATCHED: OnceLock<PoolManager> = OnceLock::new();
/// Calls of watching threads, and the number of those during which the list was locked.
static WATCHED_CALLS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Runs at each heap call.
fn look_at_the_list() {
    if WATCHING.with(Cell::get)
        && let Some(manager) = WATCHED.get()
    {
        WATCHED_CALLS[0].fetch_add(1, Ordering::Relaxed);
        WATCHED_CALLS[1].fetch_add(usize::from(manager.list_is_locked()), Ordering::Relaxed);
    }
}

// The suite runs in this program, because it needs the counting allocator.
executor_suite!(
    queue,
    [no_block, ordered, drain],
    || WorkQueue::new("queue").unwrap(),
    heap_calls = heap::calls,
);
executor_suite!(
    relay_to_a_queue,
    [no_block, ordered, drain],
    || WorkQueue::relay("relay", Arc::new(WorkQueue::new("queue").unwrap())).unwrap(),
    heap_calls = heap::calls,
);

/// Returns the only reference to a retired, empty pool.
fn last_reference(manager: &PoolManager) -> PoolRef {
    let last = manager.current().unwrap();
    let next = if last.spec().allocator.name == "a" { "b+x" } else { "a+x" };
    manager.switch(&spec(next)).unwrap();
    last
}

/// Handing a pool over to the executor makes no heap call.
#[test]
fn last_reference_drop_makes_no_heap_call() {
    let executors: [Arc<dyn Executor>; 3] = [
        Arc::new(WorkQueue::new("heap").unwrap()),
        Arc::new(Manual::new()),
        Arc::new(RefusingExecutor::default()),
    ];
    for executor in executors {
        let manager =
            builder(&Script::new()).executor(executor.clone()).build(&spec("a+x")).unwrap();
        drop(last_reference(&manager));

        let last = last_reference(&manager);
        assert_eq!(calls_of(|| drop(last)), 0, "on the thread that switched, {executor:?}");

        let last = last_reference(&manager);
        let inside = calls_of(|| {
            let _section = NoBlock::enter();
            drop(last);
        });
        assert_eq!(inside, 0, "inside a no-block section, {executor:?}");

        let last = last_reference(&manager);
        let elsewhere = std::thread::spawn(move || calls_of(|| drop(last))).join().unwrap();
        assert_eq!(elsewhere, 0, "on another thread, {executor:?}");

        struct Unwound(Option<PoolRef>);
        impl Drop for Unwound {
            fn drop(&mut self) {
                assert!(std::thread::panicking());
                let last = self.0.take();
                let during = calls_of(|| drop(last));
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

/// A reference dropped after the executor's shutdown makes no heap call.
#[test]
fn drop_after_shutdown_makes_no_heap_call() {
    let queue = Arc::new(WorkQueue::new("ending").unwrap());
    let manager = builder(&Script::new()).executor(queue.clone()).build(&spec("a+x")).unwrap();
    let last = last_reference(&manager);
    queue.shutdown().unwrap();
    assert_eq!(calls_of(|| drop(last)), 0);
    assert_eq!(manager.reap(), 1);
}

/// Once warm, taking and dropping a reference to the current pool makes no heap call.
#[test]
fn warm_current_makes_no_heap_call() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    // arc-swap registers a thread at its first load.
    drop(manager.current());
    assert_eq!(calls_of(|| drop(manager.current().unwrap().clone())), 0);
}

/// Grows parking_lot's table of waiting threads. It grows when more threads wait than ever before,
/// by a heap call of the last one. That belongs to the process and not to the release path, so it
/// happens here, before calls are counted.
fn grow_the_table_of_waiting_threads() {
    const THREADS: usize = 64;
    let (barrier, waiting) =
        (Barrier::new(THREADS), (parking_lot::Mutex::new(0), parking_lot::Condvar::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut arrived = waiting.0.lock();
                *arrived += 1;
                waiting.1.notify_all();
                waiting.1.wait_while(&mut arrived, |arrived| *arrived < THREADS);
                drop(arrived);
                barrier.wait();
            });
        }
    });
}

/// A reference dropped during the executor's shutdown makes no heap call.
#[test]
fn drop_during_shutdown_makes_no_heap_call() {
    grow_the_table_of_waiting_threads();
    for round in 0..300 {
        let queue = Arc::new(WorkQueue::new("ending").unwrap());
        let script = Script::new();
        let manager = builder(&script).executor(queue.clone()).build(&spec("a+x")).unwrap();
        let (last, start) = (last_reference(&manager), Barrier::new(2));
        let given_back = std::thread::scope(|scope| {
            let ending = scope.spawn(|| {
                start.wait();
                // Earlier and later than the other thread.
                (0..round % 5).for_each(|_| std::hint::spin_loop());
                if round % 2 == 0 {
                    queue.shutdown_now().unwrap()
                } else {
                    queue.shutdown().map(|()| Vec::new()).unwrap()
                }
            });
            start.wait();
            assert_eq!(calls_of(|| drop(last)), 0, "round {round}");
            ending.join().unwrap()
        });
        given_back.into_iter().for_each(|job| job.run().unwrap());
        manager.flush().unwrap();
        assert_eq!(script.alive(), 1, "round {round}: nothing lost");
    }
}

/// A reader whose load of the current pool outlives a switch makes no heap call.
#[test]
fn reader_outliving_switch_makes_no_heap_call() {
    grow_the_table_of_waiting_threads();
    let manager = builder(&Script::new()).max_pending(64).build(&spec("a+x")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    drop(manager.current());
                    calls_of(|| {
                        while !stop.load(Ordering::Relaxed) {
                            drop(manager.current());
                        }
                    })
                })
            })
            .collect();
        let specs = ["a+x", "b+x"].map(spec);
        for i in 0..30_000 {
            manager.switch(&specs[i % 2]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            // It drops the last reference to many pools, and may be the last owner of a block.
            assert_eq!(reader.join().unwrap(), 0);
        }
    });
    manager.flush().unwrap();
    assert_eq!(manager.stats().pools_alive, 1);
}

/// B6: no code allocates or frees under the lock of the list of pools.
#[test]
fn b6_no_heap_call_under_list_lock() {
    let manual = Arc::new(Manual::new());
    let manager = builder(&Script::new())
        .executor(manual.clone())
        .revive(false)
        .max_pending(1_000)
        .build_idle()
        .unwrap();
    let manager = WATCHED.get_or_init(|| manager);
    heap::on_each_call(look_at_the_list);
    // Other tests of this program use other managers, so only this thread takes the list's lock. It
    // is a new thread, which arc-swap does not know yet.
    let watching = std::thread::spawn(move || {
        WATCHING.with(|watching| watching.set(true));
        let mut kept = Vec::new();
        for i in 0..100 {
            manager.switch(&spec(["a+x", "b+x"][i % 2])).unwrap();
            kept.push(store(manager, b"keeps it"));
            assert_eq!(manager.pools().len(), i + 1);
            manager.bytes_held();
        }
        // Revives none and finds the current one.
        manager.switch(&spec("b+x")).unwrap();
        kept.into_iter().for_each(Stored::free);
        manual.run_all();
        WATCHING.with(|watching| watching.set(false));
        manager.stats().pools_alive
    });
    assert_eq!(watching.join().unwrap(), 1);
    let [all, under_the_lock] = [0, 1].map(|i: usize| WATCHED_CALLS[i].load(Ordering::Relaxed));
    assert!(all > 1_000, "{all} calls were looked at");
    assert_eq!(under_the_lock, 0, "of {all} calls");
}
