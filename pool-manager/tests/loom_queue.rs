//! A loom model of the work queue's end (`ci/loom.sh`): every submitted job runs once or is
//! returned, and no thread hangs.
//!
//! A flush during `shutdown_now` is a stress test instead (`relay.rs`): loom wakes an unparked
//! thread even if it waits for a lock, and stops there.
#![cfg(zpool_loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zpool_core::exec::{DrainExecutor, Executor, Job};
use zpool_core::internal::sync::thread;
use zpool_manager::WorkQueue;

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(f);
}

fn marking(ran: &Arc<AtomicUsize>) -> Job {
    let ran = ran.clone();
    Job::new("mark", move || {
        ran.fetch_add(1, Ordering::Relaxed);
    })
}

/// A shutdown during submits loses no job and no wake-up. Preemption bound 2.
#[test]
fn shutdown_and_submit_lose_no_job_or_wake_up() {
    model(|| {
        let (queue, ran) =
            (Arc::new(WorkQueue::new("model").unwrap()), Arc::new(AtomicUsize::new(0)));
        let (submitter, mark) = (queue.clone(), ran.clone());
        let other = thread::spawn(move || submitter.submit(marking(&mark)).is_ok());
        queue.submit(marking(&ran)).unwrap();
        queue.shutdown().unwrap();
        let taken = other.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1 + usize::from(taken));
    });
}

/// Preemption bound 2.
#[test]
fn shutdown_now_returns_what_has_not_run() {
    model(|| {
        let (queue, ran) = (WorkQueue::new("model").unwrap(), Arc::new(AtomicUsize::new(0)));
        queue.submit(marking(&ran)).unwrap();
        queue.submit(marking(&ran)).unwrap();
        let back = queue.shutdown_now().unwrap().len();
        assert_eq!(ran.load(Ordering::Relaxed) + back, 2);
    });
}
