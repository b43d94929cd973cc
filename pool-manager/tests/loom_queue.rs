//! A model of the work queue's end, explored by loom (`ci/loom.sh`): every job submitted runs once or comes back, and nobody hangs.
//!
//! A flush against `shutdown_now` is a stress test instead (`relay.rs`): loom wakes a thread that is unparked also when it waits for a lock, and stops there.
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

/// Preemption bound 2; 0.1 s.
#[test]
fn shutdown_against_submit_loses_no_job_and_no_wake_up() {
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

/// Preemption bound 2; under 0.1 s.
#[test]
fn shutdown_now_gives_back_what_has_not_run() {
    model(|| {
        let (queue, ran) = (WorkQueue::new("model").unwrap(), Arc::new(AtomicUsize::new(0)));
        queue.submit(marking(&ran)).unwrap();
        queue.submit(marking(&ran)).unwrap();
        let back = queue.shutdown_now().unwrap().len();
        assert_eq!(ran.load(Ordering::Relaxed) + back, 2);
    });
}
