//! Jobs, which may block, and the executors that run them.
//!
//! ```text
//!   release of the last reference          executor's thread, a later call, a test
//!        │  (must not block)                      │  (may block)
//!        └── PreparedJob::arm ──► submit ──► JobList ──► Job::run ──► pool destroyed
//!              made with the pool            one exchange
//! ```
//!
//! - A [`Job`] is a linkable node, allocated when it is made, so handing it over allocates nothing.
//! - An [`Executor`] takes jobs. [`Inline`] runs them on the caller, which reproduces the bug that
//!   [`NoBlock`](crate::NoBlock) exists for. [`Manual`] runs them when it is called to. Queues with
//!   threads are in zpool-manager.
//! - [`Manual`] and the queues of zpool-manager keep jobs in a list that any thread pushes to
//!   without blocking.

mod inline;
#[allow(unsafe_code, reason = "an intrusive, type-erased node, linked by raw pointers")]
pub(crate) mod job;
#[allow(unsafe_code, reason = "the intrusive list of those nodes")]
pub(crate) mod job_list;
mod manual;

use core::fmt::{self, Debug};
use core::time::Duration;

pub use inline::Inline;
pub use job::{Job, JobPanic};
pub use manual::Manual;

/// Takes jobs and runs each exactly once, on any thread, at any time.
///
/// One method is enough: anything that can run a closure elsewhere, such as a thread pool or an
/// async runtime, can be an executor.
pub trait Executor: Send + Sync + Debug {
    /// Takes `job` to run it later.
    ///
    /// # Behavior
    ///
    /// - X1. An accepted job is run exactly once, unless `shutdown_now` returns it or the executor
    ///   is dropped with it. It is never run twice.
    /// - X2. The panic of a job is caught. [`Job::run`] does that and returns an error to report.
    /// - X3. The job does not run on the calling thread within this call, unless
    ///   [`ExecutorCapabilities::runs_on_caller`].
    ///
    /// # Errors
    ///
    /// - X4. [`Refused`], with the job unrun, if the executor is shut down or full.
    ///
    /// # Concurrency
    ///
    /// - X5. Called from any thread, from inside a job, and during unwinding. If
    ///   [`ExecutorCapabilities::submit_in_no_block`], also inside a [`NoBlock`](crate::NoBlock)
    ///   section, and then it neither blocks nor allocates.
    fn submit(&self, job: Job) -> Result<(), Refused>;

    /// Takes `job` to run it after `delay`, or somewhat later. An executor without a clock, like
    /// the default, runs it as soon as it can. So a delay may save work, but correctness must not
    /// depend on it.
    ///
    /// # Errors
    ///
    /// As for `submit`.
    ///
    /// # Concurrency
    ///
    /// May allocate: not for a [`NoBlock`](crate::NoBlock) section.
    fn submit_later(&self, delay: Duration, job: Job) -> Result<(), Refused> {
        let _ = delay;
        self.submit(job)
    }

    /// Returns facts about this executor. The default is the most cautious.
    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::default()
    }
}

/// Promises of an [`Executor`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutorCapabilities {
    /// `submit` neither blocks nor allocates. An executor without this promise, as most
    /// off-the-shelf pools, is used behind the manager's own queue.
    pub submit_in_no_block: bool,
    /// Jobs that one thread submits run in that order, one after the other.
    pub ordered: bool,
    /// Jobs run inside `submit`.
    pub runs_on_caller: bool,
    /// `submit_later` keeps its delay. Without this promise, callers submit no work that resubmits
    /// itself for ever.
    pub keeps_delays: bool,
}

impl ExecutorCapabilities {
    /// Promises nothing.
    pub const CAUTIOUS: ExecutorCapabilities = ExecutorCapabilities {
        submit_in_no_block: false,
        ordered: false,
        runs_on_caller: false,
        keeps_delays: false,
    };

    /// Adds that `submit` is legal inside a no-block section.
    pub const fn with_submit_in_no_block(self) -> Self {
        ExecutorCapabilities { submit_in_no_block: true, ..self }
    }

    /// Adds that jobs of one thread run in order.
    pub const fn with_order(self) -> Self {
        ExecutorCapabilities { ordered: true, ..self }
    }

    /// Adds that `submit_later` keeps its delay.
    pub const fn with_delays(self) -> Self {
        ExecutorCapabilities { keeps_delays: true, ..self }
    }

    /// Adds that jobs run on the caller.
    pub const fn with_run_on_caller(self) -> Self {
        ExecutorCapabilities { runs_on_caller: true, ..self }
    }
}

/// An executor that can be flushed and shut down.
pub trait DrainExecutor: Executor {
    /// Waits until every job submitted before this call has run.
    ///
    /// # Errors
    ///
    /// [`DrainError`] if the wait would never end:
    ///
    /// - The caller is inside one of this executor's own jobs, and would wait for itself.
    /// - A thread that is gone, as in a forked child, holds the executor's lock or was running its
    ///   jobs.
    fn flush(&self) -> Result<(), DrainError>;

    /// Refuses further jobs, runs the pending ones, and returns when all have run.
    ///
    /// # Errors
    ///
    /// As for `flush`. Then nothing has changed.
    fn shutdown(&self) -> Result<(), DrainError>;

    /// Refuses further jobs, lets the running one finish, and returns the pending ones in order.
    ///
    /// # Errors
    ///
    /// As for `flush`. Then nothing has changed.
    fn shutdown_now(&self) -> Result<Vec<Job>, DrainError>;
}

/// The error of a wait that would never end: from inside one of the executor's own jobs, or for a
/// thread that is gone, as in a forked child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainError;

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the wait would never end: called from inside one of the executor's own jobs, or its \
             thread is gone; wait from another thread",
        )
    }
}

impl core::error::Error for DrainError {}

/// A job that was refused.
#[derive(Debug)]
pub struct Refused {
    /// The job, unrun.
    pub job: Job,
    /// The reason.
    pub reason: RefusedReason,
}

/// The reason why an executor refuses a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedReason {
    /// The executor is shut down.
    ShutDown,
    /// The executor's queue is full.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            RefusedReason::ShutDown => {
                "the executor is shut down; run it here, or use another executor"
            }
            RefusedReason::Full => "the executor is full; submit it again later",
        };
        write!(f, "job `{}` refused: {why}", self.job.label())
    }
}

impl core::error::Error for Refused {}
