//! Waiting: `flush`, and waits that would never end.

use std::sync::Arc;
use std::thread;

use zpool_core::exec::DrainError;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::executor::ExecutorMaker;
use crate::executor::harness::{ExecutorHarness, yield_often};
use crate::iterations::scaled;

/// `flush`: when it returns, every job that this thread submitted before has run, even if many were
/// submitted.
pub fn flush_waits_for_all_that_was_submitted_before(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    harness.drain().flush().expect("a flush of nothing");
    for round in 0..scaled(40) {
        for _ in 0..round {
            harness.submit(harness.job(yield_often));
        }
        harness.drain().flush().expect("a flush from outside");
        harness.assert_all_ran();
    }
}

/// `flush`: a job that has begun has ended when it returns.
pub fn flush_waits_for_jobs_that_run(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for _ in 0..scaled(20) {
        let (begun, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (begins, ends) = (begun.clone(), ended.clone());
        harness.submit(harness.job(move || {
            begins.store(true, Ordering::Release);
            (0..5).for_each(|_| yield_often());
            ends.store(true, Ordering::Release);
        }));
        // An executor with threads may have begun the job by now, and one without has not. After
        // the flush both must have ended it.
        (0..20).take_while(|_| !begun.load(Ordering::Acquire)).for_each(|_| thread::yield_now());
        harness.drain().flush().expect("a flush from outside");
        // Acquire: pairs with the job's Release.
        assert!(
            ended.load(Ordering::Acquire),
            "flush: it returned while a job submitted before still ran"
        );
    }
}

/// `flush`: each of several threads that submit and flush finds its own jobs done.
pub fn flushes_of_many_threads(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 1..=scaled(30) {
                    let done = Arc::new(AtomicUsize::new(0));
                    for _ in 0..n {
                        let done = done.clone();
                        harness.submit(harness.job(move || {
                            yield_often();
                            done.fetch_add(1, Ordering::Release);
                        }));
                    }
                    harness.drain().flush().expect("a flush from outside");
                    // Acquire: pairs with the jobs' Release.
                    assert_eq!(
                        done.load(Ordering::Acquire),
                        n,
                        "flush: own jobs done, with other threads at work"
                    );
                }
            });
        }
    });
    harness.wait_for_all();
}

/// `flush`, `shutdown`, `shutdown_now`: from inside a job of the executor, each is an error and no
/// deadlock, and changes nothing. The executor still takes jobs and runs them, this one and later
/// ones included.
pub fn wait_inside_own_job_fails(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for _ in 0..3 {
        let (inner, outcomes) = (harness.clone(), Arc::new(Mutex::new(None)));
        let report = outcomes.clone();
        harness.submit(harness.job(move || {
            let drain = inner.drain();
            *report.lock() =
                Some([drain.flush(), drain.shutdown(), drain.shutdown_now().map(drop)]);
            // Release it before the job ends, because dropping an executor in its own job is
            // another matter.
            drop(inner);
        }));
        harness.submit(harness.job(|| {}));
        harness.wait_for_all();
        assert_eq!(
            *outcomes.lock(),
            Some([Err(DrainError); 3]),
            "flush, shutdown, shutdown_now from inside a job"
        );
    }
}
