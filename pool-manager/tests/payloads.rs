//! Panic payloads of foreign code are foreign, too, and may panic when they are dropped. None of
//! these panics leaves the manager or ends a queue's thread.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::*;
use zpool_core::exec::{DrainExecutor, Executor, Job, Manual};
use zpool_manager::{PoolEvent, PoolManager, PoolObserver, SwitchError, WorkQueue};
use zpool_testing::codecs::{CodecHooks, HookedDriver};
use zpool_testing::executors::ScriptedExecutor;

/// Panics when it is dropped.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("the payload panics, too");
    }
}

/// A panic payload of a destructor leaves neither the job nor the dropping thread.
#[test]
fn destructor_payload_stays_in_its_job() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = builder(&script).executor(manual.clone()).build(&spec("a+x")).unwrap();
    script.on_destroy(|| panic_any(Payload));
    manager.switch(&spec("b+x")).unwrap();
    manual.run_all();
    let stats = manager.stats();
    assert_eq!(
        (stats.destructors_panicked, stats.pools_destroyed, stats.pending_destroy),
        (1, 1, 0)
    );
    // It has outlived the manager, so it is destroyed here, even while this thread unwinds.
    let last = store(&manager, b"outlives the manager");
    drop(manager);
    manual.run_all();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _last = last.pool;
        std::panic::resume_unwind(Box::new("the caller's own"));
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the caller's own"));
    assert_eq!(script.alive(), 0);
}

/// A panic payload of a constructor becomes an error.
#[test]
fn constructor_payload_is_switch_error() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    script.on_create(|| panic_any(Payload));
    let error = manager.switch(&spec("b+x")).unwrap_err();
    assert!(
        matches!(&error, SwitchError::Panicked { component, message }
            if component.name == "b" && message == "(no message)"),
        "{error}"
    );
    script.calm();
    manager.switch(&spec("b+x")).unwrap();
}

#[derive(Debug, Default)]
struct PanickingObserver(AtomicUsize);

impl PoolObserver for PanickingObserver {
    fn observe(&self, _: &PoolEvent<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic_any(Payload);
    }
}

/// A panic payload of an observer affects no caller.
#[test]
fn observer_payload_is_discarded() {
    let (script, shouting) = (Script::new(), Arc::new(PanickingObserver::default()));
    let manager = builder(&script).observer(shouting.clone()).build(&spec("a+x")).unwrap();
    manager.switch(&spec("b+x")).unwrap();
    manager.flush().unwrap();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
    assert_eq!(
        shouting.0.load(Ordering::SeqCst),
        7,
        "two made, two published; one retired, emptied, destroyed"
    );
}

fn counting(ran: &Arc<AtomicUsize>) -> Job {
    let ran = ran.clone();
    Job::new("count", move || {
        ran.fetch_add(1, Ordering::SeqCst);
    })
}

/// A panic payload of a job does not end the queue's thread.
#[test]
fn job_payload_does_not_end_queue_thread() {
    let (queue, ran) = (WorkQueue::new("queue").unwrap(), Arc::new(AtomicUsize::new(0)));
    queue.submit(Job::new("hostile", || panic_any(Payload))).unwrap();
    queue.submit(counting(&ran)).unwrap();
    queue.flush().unwrap();
    assert_eq!((ran.load(Ordering::SeqCst), queue.stats().jobs_panicked), (1, 1));
    queue.submit(counting(&ran)).unwrap();
    queue.shutdown().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 2);
}

/// An executor that panics instead of taking a job, for the first `panics` jobs.
fn panics_in_submit(panics: usize) -> Arc<ScriptedExecutor> {
    let left = AtomicUsize::new(panics);
    Arc::new(ScriptedExecutor::in_no_block(move |job| {
        if left.fetch_sub(1, Ordering::SeqCst) > 0 {
            panic_any(Payload);
        }
        left.store(0, Ordering::SeqCst);
        job.run().unwrap();
        Ok(())
    }))
}

/// No switch and no release unwinds because of an executor's panic payload.
#[test]
fn executor_payload_leaves_no_switch_or_release() {
    let script = Script::new();
    let manager =
        builder(&script).executor(panics_in_submit(usize::MAX / 2)).build(&spec("a+x")).unwrap();
    let kept = store(&manager, b"keeps a+x, so that the switch submits a job for its contexts");
    manager.switch(&spec("b+x")).unwrap();
    kept.free();
    assert_eq!(script.alive(), 1, "destroyed by the unwinding");
    assert_eq!(manager.stats().jobs_refused, 1);
}

/// A panic payload of an executor does not end a relay.
#[test]
fn executor_payload_does_not_end_relay() {
    let ran = Arc::new(AtomicUsize::new(0));
    let relay = WorkQueue::relay("relay", panics_in_submit(1)).unwrap();
    for _ in 0..2 {
        relay.submit(counting(&ran)).unwrap();
        // Not by a flush: it runs a job that an executor does not begin for a while, as a panic on
        // a busy machine does not.
        while relay.stats().depth > 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!((ran.load(Ordering::SeqCst), relay.stats().jobs_dropped), (1, 1));
    relay.shutdown().unwrap();
}

/// A compressor that panics when it and its contexts are dropped.
#[derive(Debug)]
struct PanicsInDrop;

impl CodecHooks for PanicsInDrop {
    fn on_drop_context(&self) {
        panic_any(Payload);
    }

    fn on_drop_compressor(&self) {
        panic_any(Payload);
    }
}

/// If all contexts and their compressor panic when their pool is destroyed, all are counted.
#[test]
fn panicking_context_drops_are_all_counted() {
    let registry = registry(&Script::new());
    registry
        .register_compressor(Arc::new(HookedDriver("falling", Arc::new(PanicsInDrop))))
        .unwrap();
    let manager = PoolManager::builder(registry).build(&spec("a+falling")).unwrap();
    let pool = manager.current().unwrap();
    // The second context is made while the first is leased.
    let codec = pool.codec();
    codec.compress(b"1", 1, |_| codec.compress(b"2", 1, |_| ()).unwrap()).unwrap();
    drop(pool);
    manager.switch(&spec("a+x")).unwrap();
    manager.flush().unwrap();
    assert_eq!((manager.stats().destructors_panicked, manager.stats().pools_destroyed), (3, 1));
}
