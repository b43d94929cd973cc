//! What the cases share: an executor, and a ledger that says what became of each job.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::exec::{DrainExecutor, Executor, Job, Refused, RefusedReason};
use zpool_core::sync::Mutex;
use zpool_core::{CheckPolicy, set_check_policy};

use super::{ExecutorMaker, Made};

/// How long a case waits for a job that no flush answers for, with no other one ending, before it says that the job is lost.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How deep jobs of the cases submit further jobs, and some: so many flushes wait for all of them.
const DEPTH: usize = 6;

std::thread_local! {
    /// This thread is inside a `submit` of a case.
    static SUBMITTING: Cell<bool> = const { Cell::new(false) };
}

/// An executor that is tested, and the jobs that it got.
#[derive(Clone)]
pub(crate) struct ExecutorHarness {
    made: Made,
    ledger: Arc<Ledger>,
    pub(crate) patience: Duration,
}

/// What became of the jobs of a harness.
#[derive(Debug, Default)]
struct Ledger(Mutex<LedgerEntries>);

#[derive(Debug, Default)]
struct LedgerEntries {
    made: usize,
    /// Numbers of the jobs that have begun, in that order.
    ran: Vec<usize>,
    /// How many of those have ended, by a panic or not.
    ended: usize,
    /// Jobs whose closure was dropped without being called.
    dropped: Vec<usize>,
    /// Jobs that ran inside the call of `submit` that gave them away.
    on_caller: Vec<usize>,
}

/// Goes with a job's closure.
struct JobTicket {
    ledger: Arc<Ledger>,
    number: usize,
    ran: bool,
}

impl ExecutorHarness {
    pub(crate) fn new(maker: &ExecutorMaker) -> ExecutorHarness {
        // For the process and for good: cases run in parallel, and a section is its thread's business anyway.
        set_check_policy(CheckPolicy::Panic);
        ExecutorHarness { made: (maker.make)(), ledger: Arc::default(), patience: maker.patience }
    }

    pub(crate) fn executor(&self) -> &dyn Executor {
        &*self.made.executor
    }

    /// The executor as what can be waited for.
    pub(crate) fn drain(&self) -> &dyn DrainExecutor {
        self.made.drain.as_deref().expect("cases that wait need `drain`")
    }

    /// A job with a number, counted from 0, that does this when it runs.
    pub(crate) fn job(&self, work: impl FnOnce() + Send + 'static) -> Job {
        let mut entries = self.ledger.0.lock();
        let mut ticket =
            JobTicket { ledger: self.ledger.clone(), number: entries.made, ran: false };
        entries.made += 1;
        drop(entries);
        Job::new("case", move || {
            ticket.begin();
            work();
            drop(ticket);
        })
    }

    /// Submits, and runs a job that comes back from a full executor, as whoever submits would.
    #[track_caller]
    pub(crate) fn submit(&self, job: Job) {
        if let Err(job) = self.try_submit(job) {
            panic!("X4: `{}` refused for a shutdown that nobody asked for", job.label());
        }
    }

    /// Submits to an executor that may be shut down: gives the job back then.
    pub(crate) fn try_submit(&self, job: Job) -> Result<(), Job> {
        let outcome = {
            let _inside = Submitting::begin();
            self.executor().submit(job)
        };
        run_if_full(outcome)
    }

    /// Submits with a delay, and runs a job that comes back from a full executor.
    #[track_caller]
    pub(crate) fn submit_later(&self, delay: Duration, job: Job) {
        if let Err(job) = run_if_full(self.executor().submit_later(delay, job)) {
            panic!("X4: `{}` refused for a shutdown that nobody asked for", job.label());
        }
    }

    /// Waits until every job has run, and checks that each did so once.
    #[track_caller]
    pub(crate) fn wait_for_all(&self) {
        match &self.made.drain {
            Some(drain) => {
                (0..DEPTH).for_each(|_| drain.flush().expect("no job of its is on this stack"))
            }
            None => self.wait(),
        }
        self.assert_all_ran();
    }

    /// X1, now: nothing is pending.
    #[track_caller]
    pub(crate) fn assert_all_ran(&self) {
        let entries = self.ledger.0.lock();
        let mut ran = entries.ran.clone();
        ran.sort_unstable();
        assert_eq!(entries.dropped, [], "X1: jobs dropped unrun");
        let missing: Vec<_> = (0..entries.made).filter(|n| ran.binary_search(n).is_err()).collect();
        assert_eq!(missing, [], "X1: jobs that have not run, of {}", entries.made);
        assert_eq!(entries.ended, entries.made, "X1: jobs that have ended, and jobs submitted");
    }

    /// Jobs that have begun, in that order.
    pub(crate) fn ran(&self) -> Vec<usize> {
        self.ledger.0.lock().ran.clone()
    }

    /// Jobs that ran inside their own `submit`.
    pub(crate) fn on_caller(&self) -> Vec<usize> {
        self.ledger.0.lock().on_caller.clone()
    }

    /// Makes an executor run what is due, if it wants to be told; else gives it a moment.
    pub(crate) fn run_due_jobs(&self) {
        match &self.made.drain {
            Some(drain) => drain.flush().expect("no job of its is on this stack"),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }

    fn wait(&self) {
        // Counted from the last job that ended: on a busy machine many short jobs take longer than one that is lost is waited for.
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let entries = self.ledger.0.lock();
            let (made, done) = (entries.made, entries.ended + entries.dropped.len());
            drop(entries);
            if done >= made {
                return;
            }
            if done > last {
                (last, since) = (done, Instant::now());
            }
            let patience = self.patience;
            assert!(
                since.elapsed() < patience,
                "X1: {done} of {made} jobs have run, and none in {patience:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs what a full executor refused; what a shut down one refused comes back.
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

/// Marks this thread for as long as it lives.
struct Submitting {
    /// A job that runs on the caller may submit in turn.
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
        let mut entries = self.ledger.0.lock();
        entries.ran.push(self.number);
        if SUBMITTING.get() {
            entries.on_caller.push(self.number);
        }
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        let mut entries = self.ledger.0.lock();
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
