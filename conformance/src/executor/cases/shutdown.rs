//! The end of an executor: every job runs or is returned.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use zpool_core::exec::{Job, RefusedReason};
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};

use crate::executor::ExecutorMaker;
use crate::executor::harness::{ExecutorHarness, yield_often};
use crate::iterations::scaled;

const HOUR: Duration = Duration::from_secs(3600);

/// `shutdown`, X1: when it returns, all pending jobs have run, including jobs with an hour's delay
/// and jobs that panic.
pub fn shutdown_runs_what_is_pending(maker: &ExecutorMaker) {
    for n in 0..scaled(20) {
        let harness = ExecutorHarness::new(maker);
        for i in 0..n {
            harness.submit(harness.job(move || {
                yield_often();
                assert!(i % 5 != 4, "the panic of a job in a test: to be contained");
            }));
        }
        harness.submit_later(HOUR, harness.job(|| {}));
        harness.drain().shutdown().expect("a shutdown from outside");
        harness.assert_all_ran();
    }
}

/// `shutdown`, `flush`: an executor that is shut down can be flushed and shut down again, even by
/// two threads at once. Each call returns after all jobs have run.
pub fn shutdown_twice_and_from_two_threads(maker: &ExecutorMaker) {
    for _ in 0..scaled(20) {
        let harness = ExecutorHarness::new(maker);
        (0..10).for_each(|_| harness.submit(harness.job(yield_often)));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    harness.drain().shutdown().expect("a shutdown from outside");
                    harness.assert_all_ran();
                });
            }
        });
        harness.drain().flush().expect("a flush after the end");
        harness.drain().shutdown().expect("a shutdown after the end");
        let pending = harness.drain().shutdown_now().expect("a shutdown after the end");
        assert_eq!(pending.len(), 0, "shutdown_now: jobs returned after all had run");
    }
}

/// X4: after either shutdown, `submit` and `submit_later` return the very job, unrun, with the
/// reason, and run no job.
pub fn x4_once_shut_down_jobs_come_back(maker: &ExecutorMaker) {
    for at_once in [false, true] {
        let harness = ExecutorHarness::new(maker);
        harness.submit(harness.job(|| {}));
        if at_once {
            for job in harness.drain().shutdown_now().expect("a shutdown from outside") {
                job.run().expect("it does nothing");
            }
        } else {
            harness.drain().shutdown().expect("a shutdown from outside");
        }
        let ran = Arc::new(AtomicUsize::new(0));
        for later in [false, true, false] {
            let before = ran.load(Ordering::Acquire);
            let counter = ran.clone();
            let job = Job::new("too late", move || {
                counter.fetch_add(1, Ordering::Release);
            });
            let outcome = match later {
                false => harness.executor().submit(job),
                true => harness.executor().submit_later(Duration::ZERO, job),
            };
            let refused = outcome.expect_err("X4: a job was taken after a shutdown");
            assert_eq!(refused.reason, RefusedReason::ShutDown, "X4: why");
            assert_eq!(refused.job.label(), "too late", "X4: another job came back");
            // Acquire: pairs with the job's Release.
            assert_eq!(ran.load(Ordering::Acquire), before, "X4: a job that was refused had run");
            refused.job.run().expect("it only counts");
            assert_eq!(
                ran.load(Ordering::Acquire),
                before + 1,
                "X4: the job that came back does what it did"
            );
        }
    }
}

/// X1, X4: threads submit while another shuts down. Accepted jobs have run, and returned ones have
/// not.
pub fn x1_submitting_races_with_shutdown(maker: &ExecutorMaker) {
    for _ in 0..scaled(30) {
        let harness = ExecutorHarness::new(maker);
        let back =
            submit_while(&harness, || harness.drain().shutdown().expect("a shutdown from outside"));
        run_by_hand(&harness, back);
        harness.assert_all_ran();
    }
}

/// `shutdown_now`, X1: pending jobs are returned unrun and in order, and all others have run.
pub fn shutdown_now_returns_pending_jobs_in_order(maker: &ExecutorMaker) {
    for n in 0..scaled(40) {
        let harness = ExecutorHarness::new(maker);
        (0..n).for_each(|_| harness.submit(harness.job(yield_often)));
        let pending = harness.drain().shutdown_now().expect("a shutdown from outside");
        let ran = harness.ran().len();
        assert_eq!(ran + pending.len(), n, "shutdown_now: jobs run and returned");
        run_by_hand(&harness, pending);
        let by_hand = harness.ran().split_off(ran);
        assert!(by_hand.is_sorted(), "shutdown_now: returned out of order: {by_hand:?}");
        harness.assert_all_ran();
    }
}

/// `shutdown_now`: when it returns, a job that has begun has ended.
pub fn shutdown_now_lets_the_running_job_finish(maker: &ExecutorMaker) {
    for n in 0..scaled(40) {
        let harness = ExecutorHarness::new(maker);
        let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..10 {
            let (begun, ended) = (begun.clone(), ended.clone());
            harness.submit(harness.job(move || {
                begun.fetch_add(1, Ordering::Release);
                yield_often();
                ended.fetch_add(1, Ordering::Release);
            }));
        }
        (0..n).for_each(|_| thread::yield_now());
        let pending = harness.drain().shutdown_now().expect("a shutdown from outside");
        // Acquire: pairs with the jobs' Release.
        let (begun, ended) = (begun.load(Ordering::Acquire), ended.load(Ordering::Acquire));
        assert_eq!(begun, ended, "shutdown_now: jobs begun and jobs ended when it returned");
        run_by_hand(&harness, pending);
        harness.assert_all_ran();
    }
}

/// X1, X4: threads submit while another calls `shutdown_now`. Each job has run or is returned, by
/// one call or the other.
pub fn x1_submitting_races_with_shutdown_now(maker: &ExecutorMaker) {
    for _ in 0..scaled(30) {
        let harness = ExecutorHarness::new(maker);
        let mut pending = Vec::new();
        let back = submit_while(&harness, || {
            pending = harness.drain().shutdown_now().expect("a shutdown from outside");
        });
        run_by_hand(&harness, pending);
        run_by_hand(&harness, back);
        harness.assert_all_ran();
    }
}

/// Submits from three threads until all of them are refused, and does `end` meanwhile. Returns the
/// refused jobs.
fn submit_while(harness: &ExecutorHarness, end: impl FnOnce()) -> Vec<Job> {
    thread::scope(|scope| {
        let submitters: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..1_000_000 {
                        if let Err(job) = harness.try_submit(harness.job(|| {})) {
                            return job;
                        }
                        // Yield, so that the thread that shuts down need not run a time slice's
                        // worth of jobs.
                        thread::yield_now();
                    }
                    panic!("X4: a million jobs were taken while it was shut down");
                })
            })
            .collect();
        (0..20).for_each(|_| thread::yield_now());
        end();
        submitters
            .into_iter()
            .map(|s| s.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
            .collect()
    })
}

fn run_by_hand(harness: &ExecutorHarness, jobs: Vec<Job>) {
    let before = harness.ran().len();
    let n = jobs.len();
    jobs.into_iter().for_each(|job| drop(job.run()));
    assert_eq!(harness.ran().len(), before + n, "X4: jobs that came back had run already");
}
