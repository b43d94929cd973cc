//! The end: everything runs, or comes back.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use zpool_core::exec::{Job, RefusedReason};
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};

use crate::executor::ExecutorMaker;
use crate::executor::rig::{Rig, dawdle};
use crate::scale::scaled;

const HOUR: Duration = Duration::from_secs(3600);

/// `shutdown`, X1: all that is pending has run when it returns, jobs with an hour's delay and jobs that panic included.
pub fn shutdown_runs_what_is_pending(maker: &ExecutorMaker) {
    for n in 0..scaled(20) {
        let rig = Rig::new(maker);
        for i in 0..n {
            rig.submit(rig.job(move || {
                dawdle();
                assert!(i % 5 != 4, "the panic of a job in a test: to be contained");
            }));
        }
        rig.submit_later(HOUR, rig.job(|| {}));
        rig.drain().shutdown().expect("a shutdown from outside");
        rig.assert_all_ran();
    }
}

/// `shutdown`, `flush`: an executor that is shut down can be flushed and shut down again, at once and from two threads; each returns when all has run.
pub fn shutdown_twice_and_from_two_threads(maker: &ExecutorMaker) {
    for _ in 0..scaled(20) {
        let rig = Rig::new(maker);
        (0..10).for_each(|_| rig.submit(rig.job(dawdle)));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    rig.drain().shutdown().expect("a shutdown from outside");
                    rig.assert_all_ran();
                });
            }
        });
        rig.drain().flush().expect("a flush after the end");
        rig.drain().shutdown().expect("a shutdown after the end");
        let pending = rig.drain().shutdown_now().expect("a shutdown after the end");
        assert_eq!(pending.len(), 0, "shutdown_now: jobs given back after all had run");
    }
}

/// X4: once shut down, in either way, `submit` and `submit_later` give back the very job, unrun, and say why; no job of theirs runs.
pub fn x4_once_shut_down_jobs_come_back(maker: &ExecutorMaker) {
    for at_once in [false, true] {
        let rig = Rig::new(maker);
        rig.submit(rig.job(|| {}));
        if at_once {
            for job in rig.drain().shutdown_now().expect("a shutdown from outside") {
                job.run().expect("it does nothing");
            }
        } else {
            rig.drain().shutdown().expect("a shutdown from outside");
        }
        let ran = Arc::new(AtomicUsize::new(0));
        for later in [false, true, false] {
            let before = ran.load(Ordering::Acquire);
            let counter = ran.clone();
            let job = Job::new("too late", move || {
                counter.fetch_add(1, Ordering::Release);
            });
            let outcome = match later {
                false => rig.executor().submit(job),
                true => rig.executor().submit_later(Duration::ZERO, job),
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

/// X1, X4: threads submit while another shuts down: what was taken has run, what came back has not.
pub fn x1_submitting_races_with_shutdown(maker: &ExecutorMaker) {
    for _ in 0..scaled(30) {
        let rig = Rig::new(maker);
        let back = submit_while(&rig, || rig.drain().shutdown().expect("a shutdown from outside"));
        run_by_hand(&rig, back);
        rig.assert_all_ran();
    }
}

/// `shutdown_now`, X1: what is pending comes back unrun and in order, what is not has run.
pub fn shutdown_now_gives_back_what_is_pending_in_order(maker: &ExecutorMaker) {
    for n in 0..scaled(40) {
        let rig = Rig::new(maker);
        (0..n).for_each(|_| rig.submit(rig.job(dawdle)));
        let pending = rig.drain().shutdown_now().expect("a shutdown from outside");
        let ran = rig.ran().len();
        assert_eq!(ran + pending.len(), n, "shutdown_now: jobs run and given back, of all");
        run_by_hand(&rig, pending);
        let by_hand = rig.ran().split_off(ran);
        assert!(by_hand.is_sorted(), "shutdown_now: given back out of order: {by_hand:?}");
        rig.assert_all_ran();
    }
}

/// `shutdown_now`: a job that has begun has ended when it returns.
pub fn shutdown_now_lets_the_running_job_finish(maker: &ExecutorMaker) {
    for n in 0..scaled(40) {
        let rig = Rig::new(maker);
        let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..10 {
            let (begun, ended) = (begun.clone(), ended.clone());
            rig.submit(rig.job(move || {
                begun.fetch_add(1, Ordering::Release);
                dawdle();
                ended.fetch_add(1, Ordering::Release);
            }));
        }
        (0..n).for_each(|_| thread::yield_now());
        let pending = rig.drain().shutdown_now().expect("a shutdown from outside");
        // Acquire: pairs with the jobs' Release.
        let (begun, ended) = (begun.load(Ordering::Acquire), ended.load(Ordering::Acquire));
        assert_eq!(begun, ended, "shutdown_now: jobs begun and jobs ended when it returned");
        run_by_hand(&rig, pending);
        rig.assert_all_ran();
    }
}

/// X1, X4: threads submit while another shuts down at once: each job has run, or came back, one way or the other.
pub fn x1_submitting_races_with_shutdown_now(maker: &ExecutorMaker) {
    for _ in 0..scaled(30) {
        let rig = Rig::new(maker);
        let mut pending = Vec::new();
        let back = submit_while(&rig, || {
            pending = rig.drain().shutdown_now().expect("a shutdown from outside");
        });
        run_by_hand(&rig, pending);
        run_by_hand(&rig, back);
        rig.assert_all_ran();
    }
}

/// Submits from three threads until all of them are refused, and meanwhile does `end`. Gives the jobs that came back.
fn submit_while(rig: &Rig, end: impl FnOnce()) -> Vec<Job> {
    thread::scope(|scope| {
        let submitters: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..1_000_000 {
                        if let Err(job) = rig.try_submit(rig.job(|| {})) {
                            return job;
                        }
                        // Lets the others in: who shuts down should not have to run a time slice's worth of jobs.
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

fn run_by_hand(rig: &Rig, jobs: Vec<Job>) {
    let before = rig.ran().len();
    let n = jobs.len();
    jobs.into_iter().for_each(|job| drop(job.run()));
    assert_eq!(rig.ran().len(), before + n, "X4: jobs that came back had run already");
}
