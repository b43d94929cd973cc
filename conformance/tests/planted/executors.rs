//! Manual executors with a thread that runs their jobs, each with one bug or one oddity.

use std::hint::black_box;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use zpool_conformance::executor::{EXECUTOR_CASES, ExecutorMaker};
use zpool_core::exec::{
    DrainError, DrainExecutor, Executor, ExecutorCapabilities, Job, Manual, Refused, RefusedReason,
};
use zpool_core::internal::in_job;
use zpool_core::internal::sync::Mutex;
use zpool_core::might_block;

use crate::{Failed, Found, failure, try_each};
use zpool_testing::heap;

planted! {
    /// The bug or the oddity.
    enum Bug {
        bugs {
            // Jobs.
            ForgetsOneInTen,
            DropsOneInTen,
            LosesDelayedJobs,
            StopsAtAPanic,
            RunsOnTheCallerWhenIdle,
            RunsTheLatestFirst,
            RunsTwoAtATime,
            // Submitting.
            LosesWhatJobsSubmit,
            RefusesWhileUnwinding,
            BlocksInSubmit,
            AllocatesInSubmit,
            // Waiting.
            FlushReturnsAtOnce,
            FlushMissesTheRunningJob,
            WaitsForItselfInSilence,
            // The end.
            ShutdownDropsWhatIsPending,
            ShutdownMissesTheRunningJob,
            ShutdownTwiceIsRefused,
            TakesJobsAfterTheEnd,
            GivesBackAnotherJob,
            RunsWhatItRefuses,
            SaysFullAtTheEnd,
            ShutdownNowDropsWhatIsPending,
            ShutdownNowTurnsTheOrderRound,
            ShutdownNowMissesTheRunningJob,
            // Facts.
            ChangesItsMind,
        }
        oddities {
            Nothing,
            RunsWhenFlushedOnly,
            TakesThreeAtMost,
            PromisesNothing,
        }
    }
}

use Bug::*;

/// The findings of the suite.
pub(crate) fn found() -> Found {
    Found {
        what: "executors",
        bugs: try_each(BUGS, first_failing),
        oddities: try_each(ODDITIES, first_failing),
    }
}

/// Returns the first case that fails for executors with this bug.
fn first_failing(bug: Bug) -> Option<Failed> {
    let drains = bug != PromisesNothing;
    let maker = match drains {
        true => ExecutorMaker::draining(move || Planted::new(bug)),
        false => ExecutorMaker::new(move || Planted::new(bug)),
    };
    // Bugs that wrap jobs allocate in `submit`, which would be reported instead. So would a thread
    // that waits for the lock of the counter.
    let counts = matches!(bug, AllocatesInSubmit | Nothing | RunsWhenFlushedOnly);
    let maker = if counts { maker.heap_calls(heap::calls) } else { maker };
    // Short for executors that surely lose a job. A correct one loses none, however busy the
    // machine is.
    let maker = if BUGS.contains(&bug) { maker.max_wait(Duration::from_secs(3)) } else { maker };
    let capabilities = maker.make().capabilities();
    let mut met =
        EXECUTOR_CASES.iter().filter(|case| case.needs.met_by(capabilities, drains, counts));
    met.find_map(|case| failure(case.name, || (case.run)(&maker)))
}

#[derive(Debug)]
struct Planted {
    bug: Bug,
    jobs: Arc<Manual>,
    ended: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
    /// The number of submitted jobs, or of whatever the bug counts.
    count: AtomicUsize,
    shared: Arc<Shared>,
}

/// The state that the jobs of a bug need.
#[derive(Debug, Default)]
struct Shared {
    panicked: AtomicBool,
    stack: Mutex<Vec<Job>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Planted {
    fn new(bug: Bug) -> Planted {
        let (jobs, ended) = (Arc::new(Manual::new()), Arc::new(AtomicBool::new(false)));
        let (runs, ends) = (jobs.clone(), ended.clone());
        let work = move || {
            // Acquire: pairs with the Release in `drop`.
            while !ends.load(Ordering::Acquire) {
                runs.run_all();
                thread::park();
            }
        };
        let worker = (bug != RunsWhenFlushedOnly).then(|| thread::spawn(work));
        Planted { bug, jobs, ended, worker, count: AtomicUsize::new(0), shared: Arc::default() }
    }

    /// Returns the job as the bug changes it, or `None` if the bug loses it.
    fn altered(&self, job: Job) -> Option<Job> {
        // Relaxed: only the number matters.
        let nth = self.count.fetch_add(1, Ordering::Relaxed);
        let shared = self.shared.clone();
        match self.bug {
            ForgetsOneInTen if nth % 10 == 9 => mem::forget(job),
            DropsOneInTen if nth % 10 == 9 => drop(job),
            LosesWhatJobsSubmit if in_job() => mem::forget(job),
            StopsAtAPanic => {
                return Some(Job::new("until one panics", move || {
                    match shared.panicked.load(Ordering::Acquire) {
                        true => mem::forget(job),
                        false => shared.panicked.store(job.run().is_err(), Ordering::Release),
                    }
                }));
            }
            RunsTheLatestFirst => {
                shared.stack.lock().push(job);
                return Some(Job::new("the latest", move || {
                    let job = shared.stack.lock().pop();
                    drop(job.map(Job::run));
                }));
            }
            // Runs the job on a thread that the manual executor's job does not wait for. In order,
            // unless that is the bug.
            RunsTwoAtATime | ShutdownMissesTheRunningJob | ShutdownNowMissesTheRunningJob => {
                let waits = self.bug != RunsTwoAtATime || nth.is_multiple_of(2);
                return Some(Job::new("on a thread", move || {
                    if waits {
                        shared.join();
                    }
                    let thread = thread::spawn(move || drop(job.run()));
                    shared.threads.lock().push(thread);
                }));
            }
            _ => return Some(job),
        }
        None
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn not_from_a_job(&self) -> Result<(), DrainError> {
        if in_job() { Err(DrainError) } else { Ok(()) }
    }

    fn refused(&self, job: Job) -> Refused {
        match self.bug {
            GivesBackAnotherJob => {
                drop(job);
                Refused { job: Job::new("another", || {}), reason: RefusedReason::ShutDown }
            }
            RunsWhatItRefuses => {
                let label = job.label();
                drop(job.run());
                Refused { job: Job::new(label, || {}), reason: RefusedReason::ShutDown }
            }
            SaysFullAtTheEnd => Refused { job, reason: RefusedReason::Full },
            _ => Refused { job, reason: RefusedReason::ShutDown },
        }
    }
}

impl Executor for Planted {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        match self.bug {
            BlocksInSubmit => might_block("Planted::submit"),
            AllocatesInSubmit => drop(black_box(vec![0_u8; 8])),
            RefusesWhileUnwinding if thread::panicking() => return Err(self.refused(job)),
            TakesThreeAtMost if self.jobs.pending() >= 3 => {
                return Err(Refused { job, reason: RefusedReason::Full });
            }
            RunsOnTheCallerWhenIdle if self.jobs.pending() == 0 => {
                drop(job.run());
                return Ok(());
            }
            _ => {}
        }
        let Some(job) = self.altered(job) else { return Ok(()) };
        match self.jobs.submit(job) {
            Ok(()) => {
                self.worker.iter().for_each(|worker| worker.thread().unpark());
                Ok(())
            }
            Err(_) if self.is(TakesJobsAfterTheEnd) => Ok(()),
            Err(refused) => Err(self.refused(refused.job)),
        }
    }

    fn submit_later(&self, _delay: Duration, job: Job) -> Result<(), Refused> {
        if self.is(LosesDelayedJobs) {
            mem::forget(job);
            return Ok(());
        }
        self.submit(job)
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        match self.bug {
            PromisesNothing => ExecutorCapabilities::CAUTIOUS,
            // A job that it refuses runs out of order.
            TakesThreeAtMost => ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block(),
            // Relaxed: only the number matters.
            ChangesItsMind if self.count.load(Ordering::Relaxed) > 0 => {
                ExecutorCapabilities::CAUTIOUS
            }
            _ => ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block().with_order(),
        }
    }
}

impl DrainExecutor for Planted {
    fn flush(&self) -> Result<(), DrainError> {
        if self.is(WaitsForItselfInSilence) && in_job() {
            return Ok(());
        }
        self.not_from_a_job()?;
        match self.bug {
            FlushReturnsAtOnce => {}
            FlushMissesTheRunningJob => {
                while self.jobs.pending() > 0 {
                    thread::yield_now();
                }
            }
            _ => {
                self.jobs.flush()?;
                self.shared.join();
            }
        }
        Ok(())
    }

    fn shutdown(&self) -> Result<(), DrainError> {
        self.not_from_a_job()?;
        // Relaxed: only the number matters.
        if self.is(ShutdownTwiceIsRefused)
            && self.count.fetch_add(1 << 32, Ordering::Relaxed) >> 32 > 0
        {
            return Err(DrainError);
        }
        if self.is(ShutdownDropsWhatIsPending) {
            return self.jobs.shutdown_now().map(drop);
        }
        self.jobs.shutdown()?;
        if !self.is(ShutdownMissesTheRunningJob) {
            self.shared.join();
        }
        Ok(())
    }

    fn shutdown_now(&self) -> Result<Vec<Job>, DrainError> {
        self.not_from_a_job()?;
        let mut pending = self.jobs.shutdown_now()?;
        match self.bug {
            ShutdownNowMissesTheRunningJob => return Ok(pending),
            ShutdownNowDropsWhatIsPending => pending.clear(),
            ShutdownNowTurnsTheOrderRound => pending.reverse(),
            _ => {}
        }
        self.shared.join();
        Ok(pending)
    }
}

impl Shared {
    /// Waits for the jobs on threads of their own. Under the lock, so that of two waiting threads
    /// neither returns early.
    fn join(&self) {
        self.threads.lock().drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in the worker's loop.
        self.ended.store(true, Ordering::Release);
        if let Some(worker) = self.worker.take() {
            worker.thread().unpark();
            if worker.thread().id() != thread::current().id() {
                drop(worker.join());
            }
        }
    }
}
