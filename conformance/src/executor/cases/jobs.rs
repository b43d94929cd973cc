//! The fate of jobs.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use zpool_core::internal::sync::atomic::{AtomicBool, Ordering};

use crate::executor::ExecutorMaker;
use crate::executor::harness::{ExecutorHarness, yield_often};
use crate::iterations::scaled;

/// `capabilities`: work does not change them.
pub fn capabilities_never_change(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    let before = harness.executor().capabilities();
    harness.submit(harness.job(|| {}));
    harness.wait_for_all();
    assert_eq!(harness.executor().capabilities(), before, "capabilities: after work");
}

/// X1: jobs of one thread, in bursts with pauses, run once each.
pub fn x1_every_job_runs_once(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for burst in [1, 2, 3, 50, 1, scaled(1000), 1] {
        for _ in 0..burst {
            harness.submit(harness.job(|| {}));
        }
        harness.wait_for_all();
    }
}

/// X1, X5: jobs of many threads at once run once each.
pub fn x1_jobs_of_many_threads_run_once(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for _ in 0..3 {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..scaled(300)).for_each(|_| harness.submit(harness.job(|| {}))));
            }
        });
        harness.wait_for_all();
    }
}

/// X1, `submit_later`: delayed jobs between others run once each.
pub fn x1_delayed_jobs_run_once(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for i in 0..20 {
        let delay = Duration::from_millis([0, 2, 1][i % 3]);
        let mark = Arc::new(AtomicBool::new(false));
        let seen = mark.clone();
        let job = harness.job(move || seen.store(true, Ordering::Release));
        harness.submit_later(delay, job);
        harness.submit(harness.job(|| {}));
        // Acquire: pairs with the Release above. A flush waits for jobs that are due, so one of the
        // next flushes runs the job.
        let begin = Instant::now();
        while !mark.load(Ordering::Acquire) {
            assert!(
                begin.elapsed() < harness.max_wait,
                "X1: a job with a delay of {delay:?} is lost"
            );
            harness.run_due_jobs();
        }
    }
    harness.wait_for_all();
}

/// X2: other jobs run after more jobs have panicked than there are threads.
pub fn x2_a_panicking_job_does_not_stop_the_next(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for i in 0..scaled(60) {
        harness.submit(
            harness
                .job(move || assert!(i % 2 == 1, "the panic of a job in a test: to be contained")),
        );
    }
    harness.wait_for_all();
    harness.submit(harness.job(|| {}));
    harness.wait_for_all();
}

/// X3: no job runs on the calling thread inside `submit`, neither the first nor one of many nor one
/// behind others.
pub fn x3_no_job_runs_inside_submit(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for _ in 0..scaled(20) {
        for _ in 0..20 {
            harness.submit(harness.job(yield_often));
        }
        harness.wait_for_all();
    }
    assert_eq!(harness.on_caller(), [], "X3: jobs that ran inside the call that submitted them");
}

/// [`runs_on_caller`](zpool_core::exec::ExecutorCapabilities::runs_on_caller): a job has run when
/// `submit` returns.
pub fn jobs_run_inside_submit(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for n in 0..scaled(100) {
        harness.submit(harness.job(|| {}));
        assert_eq!(harness.ran().len(), n + 1, "runs_on_caller: jobs run when `submit` returned");
    }
    assert_eq!(
        harness.on_caller().len(),
        harness.ran().len(),
        "runs_on_caller: jobs that ran on the caller"
    );
}

/// [`ordered`](zpool_core::exec::ExecutorCapabilities::ordered): jobs of one thread run in the
/// order of their submission, and each begins after the one before has ended.
pub fn jobs_of_a_thread_run_in_order_one_at_a_time(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for round in 0..3 {
        let running = Arc::new(AtomicBool::new(false));
        let overlap = Arc::new(AtomicBool::new(false));
        let begin = harness.ran().len();
        for i in 0..scaled(300) {
            let (running, overlap) = (running.clone(), overlap.clone());
            harness.submit(harness.job(move || {
                // AcqRel: the end of one job is before the beginning of the next, or they overlap.
                if running.swap(true, Ordering::AcqRel) {
                    overlap.store(true, Ordering::Release);
                }
                if i % 16 == 0 {
                    yield_often();
                }
                running.store(false, Ordering::Release);
            }));
            if round == 2 && i % 8 == 0 {
                thread::yield_now();
            }
        }
        // Two threads ask a manual executor to run its jobs.
        thread::scope(|scope| {
            scope.spawn(|| harness.run_due_jobs());
            harness.run_due_jobs();
        });
        harness.wait_for_all();
        let ran = harness.ran();
        let out_of_turn =
            ran[begin..].iter().zip(begin..).find(|(ran, expected)| **ran != *expected);
        assert_eq!(out_of_turn, None, "ordered: the first job out of turn, and whose turn it was");
        assert!(
            !overlap.load(Ordering::Acquire),
            "ordered: a job began before the one before it had ended"
        );
    }
}
