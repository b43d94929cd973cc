//! The examples as tests: foreign thread pools behind the one-method trait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, mpsc};

use zpool_conformance::executor_suite;
use zpool_core::exec::{DrainExecutor, Executor, Job};
use zpool_manager::WorkQueue;

#[path = "../examples/no_block.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod no_block;
#[path = "../examples/rayon.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod rayon;
#[path = "../examples/tokio.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod tokio;

/// Pools are destroyed on rayon's threads.
#[test]
fn rayon_threads_destroy_pools() {
    rayon::main().unwrap();
}

/// Pools are destroyed on tokio's blocking threads.
#[test]
fn tokio_blocking_threads_destroy_pools() {
    tokio::main().unwrap();
}

/// A thread inside a no-block section drops the last reference.
#[test]
fn last_reference_dropped_in_no_block_is_legal() {
    no_block::main().unwrap();
}

/// A runtime that ends drops what was spawned and has not begun.
#[test]
fn relay_to_ended_runtime_does_not_wait() {
    let runtime = ::tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let relay = WorkQueue::relay("relay", Arc::new(tokio::TokioExecutor(runtime.handle().clone())))
        .unwrap();
    let ((open, wait), (begun, begins)) = (mpsc::channel::<()>(), mpsc::channel());
    let gate = Job::new("gate", move || {
        begun.send(()).unwrap();
        let _ = wait.recv();
    });
    relay.submit(gate).unwrap();
    begins.recv().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..10 {
        let ran = ran.clone();
        let job = Job::new("pending", move || {
            ran.fetch_add(1, Ordering::SeqCst);
        });
        relay.submit(job).unwrap();
    }
    runtime.shutdown_background();
    drop(open);
    relay.flush().unwrap();
    let stats = relay.stats();
    assert_eq!((stats.depth, stats.jobs_run), (0, 1 + ran.load(Ordering::SeqCst) as u64));
    assert_eq!(stats.jobs_run + stats.jobs_dropped, 11, "{stats:?}");
    relay.shutdown().unwrap();
}

fn on_rayon() -> rayon::RayonExecutor {
    rayon::RayonExecutor(Arc::new(
        ::rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap(),
    ))
}

/// Uses a runtime that outlives the tests, because one that ends drops spawned closures that have
/// not begun.
fn on_tokio() -> tokio::TokioExecutor {
    static RUNTIME: LazyLock<::tokio::runtime::Runtime> = LazyLock::new(|| {
        ::tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .build()
            .unwrap()
    });
    tokio::TokioExecutor(RUNTIME.handle().clone())
}

executor_suite!(rayons_threads, [], on_rayon);
executor_suite!(tokios_threads, [], on_tokio);
// Behind a relay, jobs can be waited for, and submitted inside a no-block section.
executor_suite!(relay_to_rayon, [no_block, drain], || WorkQueue::relay(
    "relay",
    Arc::new(on_rayon())
)
.unwrap());
executor_suite!(relay_to_tokio, [no_block, drain], || WorkQueue::relay(
    "relay",
    Arc::new(on_tokio())
)
.unwrap());
