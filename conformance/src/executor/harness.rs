//! The shared part of the cases: an executor, and a log of the fate of each job.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::exec::{DrainExecutor, Executor, Job, Refused, RefusedReason};
use zpool_core::internal::sync::Mutex;
use zpool_core::{CheckPolicy, set_check_policy};

use super::{ExecutorMaker, Made};

/// How long a case waits for a job that no flush covers, while no other job ends, before it reports
/// the job as lost.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(60);

/// The depth of nested submissions in the cases, and some more. This many flushes wait for all of
/// them.
const DEPTH: usize = 6;

std::thread_local! {
    /// Whether this thread is inside a `submit` of a case.
    static SUBMITTING: Cell<bool> = const { Cell::new(false) };
}

/// An executor under test, and the jobs that it got.
#[derive(Clone)]
pub(crate) struct ExecutorHarness {
    made: Made,
    log: Arc<JobLog>,
    pub(crate) max_wait: Duration,
}

/// The outcome of each job of a harness.
#[derive(Debug, Default)]
struct JobLog(Mutex<JobLogEntries>);

#[derive(Debug, Default)]
struct JobLogEntries {
    made: usize,
    /// The numbers of the jobs that have begun, in that order.
    ran: Vec<usize>,
    /// The number of those that have ended, with a panic or without.
    ended: usize,
    /// Jobs whose closure was dropped without being called.
    dropped: Vec<usize>,
    /// Jobs that ran inside the call of `submit` that submitted them.
    on_caller: Vec<usize>,
}

/// Owned by a job's closure.
struct JobTicket {
    log: Arc<JobLog>,
    number: usize,
    ran: bool,
}

impl ExecutorHarness {
    pub(crate) fn new(maker: &ExecutorMaker) -> ExecutorHarness {
        // For the whole process and for good, because cases run in parallel, and a section concerns
        // only its thread.
        set_check_policy(CheckPolicy::Panic);
        ExecutorHarness { made: (maker.make)(), log: Arc::default(), max_wait: maker.max_wait }
    }

    pub(crate) fn executor(&self) -> &dyn Executor {
        &*self.made.executor
    }

    /// Returns the executor as one that can be drained.
    pub(crate) fn drain(&self) -> &dyn DrainExecutor {
        self.made.drain.as_deref().expect("cases that wait need `drain`")
    }

    /// Makes a job with a number, counted from 0, that does `work`.
    pub(crate) fn job(&self, work: impl FnOnce() + Send + 'static) -> Job {
        let mut entries = self.log.0.lock();
        let mut ticket = JobTicket { log: self.log.clone(), number: entries.made, ran: false };
        entries.made += 1;
        drop(entries);
        Job::new("case", move || {
            ticket.begin();
            work();
            drop(ticket);
        })
    }

    /// Submits a job. If a full executor returns it, runs it, as a caller would.
    #[track_caller]
    pub(crate) fn submit(&self, job: Job) {
        if let Err(job) = self.try_submit(job) {
            panic!("X4: `{}` refused as shut down, but no shutdown was requested", job.label());
        }
    }

    /// Submits to an executor that may be shut down. Returns the job if it is.
    pub(crate) fn try_submit(&self, job: Job) -> Result<(), Job> {
        let outcome = {
            let _inside = Submitting::begin();
            self.executor().submit(job)
        };
        run_if_full(outcome)
    }

    /// Submits with a delay. If a full executor returns the job, runs it.
    #[track_caller]
    pub(crate) fn submit_later(&self, delay: Duration, job: Job) {
        if let Err(job) = run_if_full(self.executor().submit_later(delay, job)) {
            panic!("X4: `{}` refused as shut down, but no shutdown was requested", job.label());
        }
    }

    /// Waits until every job has run, and checks that each did so once.
    #[track_caller]
    pub(crate) fn wait_for_all(&self) {
        match &self.made.drain {
            Some(drain) => (0..DEPTH)
                .for_each(|_| drain.flush().expect("called from outside the executor's jobs")),
            None => self.wait(),
        }
        self.assert_all_ran();
    }

    /// X1: no job is pending now.
    #[track_caller]
    pub(crate) fn assert_all_ran(&self) {
        let entries = self.log.0.lock();
        let mut ran = entries.ran.clone();
        ran.sort_unstable();
        assert_eq!(entries.dropped, [], "X1: jobs dropped unrun");
        let missing: Vec<_> = (0..entries.made).filter(|n| ran.binary_search(n).is_err()).collect();
        assert_eq!(missing, [], "X1: jobs that have not run, of {}", entries.made);
        assert_eq!(entries.ended, entries.made, "X1: jobs that have ended, and jobs submitted");
    }

    /// Returns the jobs that have begun, in that order.
    pub(crate) fn ran(&self) -> Vec<usize> {
        self.log.0.lock().ran.clone()
    }

    /// Returns the jobs that ran inside their own `submit`.
    pub(crate) fn on_caller(&self) -> Vec<usize> {
        self.log.0.lock().on_caller.clone()
    }

    /// Makes a manual executor run the jobs that are due. Gives another one a moment.
    pub(crate) fn run_due_jobs(&self) {
        match &self.made.drain {
            Some(drain) => drain.flush().expect("called from outside the executor's jobs"),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }

    fn wait(&self) {
        // Count from the last job that ended, because many short jobs on a busy machine take longer
        // than the longest wait for one.
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let entries = self.log.0.lock();
            let (made, done) = (entries.made, entries.ended + entries.dropped.len());
            drop(entries);
            if done >= made {
                return;
            }
            if done > last {
                (last, since) = (done, Instant::now());
            }
            let max_wait = self.max_wait;
            assert!(
                since.elapsed() < max_wait,
                "X1: {done} of {made} jobs have run, and none in {max_wait:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs a job that a full executor refused. Returns one that a shut-down executor refused.
pub(crate) fn run_if_full(outcome: Result<(), Refused>) -> Result<(), Job> {
    match outcome {
        Ok(()) => Ok(()),
        Err(refused) if refused.reason == RefusedReason::ShutDown => Err(refused.job),
        Err(refused) => {
            let _ = refused.job.run();
            Ok(())
        }
    }
}

/// Marks this thread while it lives.
struct Submitting {
    /// A job that runs on the caller may submit in turn, so remember the mark before.
    was: bool,
}

impl Submitting {
    fn begin() -> Submitting {
        Submitting { was: SUBMITTING.replace(true) }
    }
}

impl Drop for Submitting {
    fn drop(&mut self) {
        SUBMITTING.set(self.was);
    }
}

impl JobTicket {
    fn begin(&mut self) {
        self.ran = true;
        let mut entries = self.log.0.lock();
        entries.ran.push(self.number);
        if SUBMITTING.get() {
            entries.on_caller.push(self.number);
        }
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        let mut entries = self.log.0.lock();
        match self.ran {
            true => entries.ended += 1,
            false => entries.dropped.push(self.number),
        }
    }
}

/// Lets other threads run for a while.
pub(crate) fn yield_often() {
    (0..50).for_each(|_| std::thread::yield_now());
}
