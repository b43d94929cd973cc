//! Work that may block, and who does it.
//!
//! ```text
//!   release of the last reference          executor's thread, a later call, a test's hand
//!        │  (must not block)                      │  (may block)
//!        └── PreparedJob::arm ──► submit ──► JobList ──► Job::run ──► pool destroyed
//!              made with the pool            one exchange
//! ```
//!
//! - A [`Job`] is a linkable node: it was allocated when it was made, so handing it over allocates nothing.
//! - An [`Executor`] takes jobs. [`Inline`] runs them on the caller (the original bug, kept as a yardstick), [`Manual`] when it is told to.
//!   Queues with threads live in zpool-manager.
//! - A [`JobList`] is what executors keep jobs in: any thread pushes, one takes all.

mod inline;
#[allow(
    unsafe_code,
    reason = "an intrusive node: type-erased, linked by raw pointers, no allocation when handed over"
)]
pub(crate) mod job;
#[allow(unsafe_code, reason = "the intrusive list of those nodes")]
pub(crate) mod job_list;
mod manual;

use core::fmt::{self, Debug};
use core::time::Duration;

pub use inline::Inline;
pub use job::{Job, JobPanic};
pub use manual::Manual;

/// Takes jobs and runs each exactly once, somewhere and some time.
///
/// One method is enough: anything that can run a closure elsewhere (a thread pool, an async runtime's blocking pool) is an executor.
pub trait Executor: Send + Sync + Debug {
    /// Takes `job` to run it later.
    ///
    /// # Behavior
    ///
    /// - X1. A job taken is run exactly once, or given back by a shutdown that says so: never dropped unrun, never run twice.
    /// - X2. A job that panics is contained: [`Job::run`] does that, and its error is worth reporting.
    /// - X3. The job does not run on the calling thread within this call, unless [`ExecutorProperties::runs_on_caller`].
    ///
    /// # Errors
    ///
    /// - X4. [`Refused`] gives the job back, unrun, when the executor is shut down or full.
    ///
    /// # Concurrency
    ///
    /// - X5. Called from any thread, from inside a job, during unwinding, and if [`ExecutorProperties::submit_in_no_block`] says so inside a
    ///   [`NoBlock`](crate::NoBlock) section; then it neither blocks nor allocates.
    fn submit(&self, job: Job) -> Result<(), Refused>;

    /// Takes `job` to run it when `delay` has passed, or somewhat later. An executor without a clock, like the default, runs it as soon as it can:
    /// so a delay may spare work, but nothing may depend on it.
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

    /// Facts about this executor. The default is the most cautious one.
    fn properties(&self) -> ExecutorProperties {
        ExecutorProperties::default()
    }
}

/// What an [`Executor`] promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutorProperties {
    /// `submit` neither blocks nor allocates. One that does (most off-the-shelf pools allocate) is used behind the manager's own queue.
    pub submit_in_no_block: bool,
    /// Jobs submitted by one thread are run in that order, one after the other.
    pub ordered: bool,
    /// Jobs run inside `submit`.
    pub runs_on_caller: bool,
}

impl ExecutorProperties {
    /// Promises nothing.
    pub const CAUTIOUS: ExecutorProperties =
        ExecutorProperties { submit_in_no_block: false, ordered: false, runs_on_caller: false };

    /// The same, and `submit` is legal inside a no-block section.
    pub const fn with_submit_in_no_block(self) -> Self {
        ExecutorProperties { submit_in_no_block: true, ..self }
    }

    /// The same, and jobs of one thread run in order.
    pub const fn with_order(self) -> Self {
        ExecutorProperties { ordered: true, ..self }
    }

    /// The same, and jobs run on the caller.
    pub const fn with_run_on_caller(self) -> Self {
        ExecutorProperties { runs_on_caller: true, ..self }
    }
}

/// An executor that can be waited for and ended.
pub trait DrainExecutor: Executor {
    /// Waits until every job submitted before this call has run.
    ///
    /// # Errors
    ///
    /// [`DrainError`] when called from inside one of this executor's own jobs: it would wait for itself.
    fn flush(&self) -> Result<(), DrainError>;

    /// Takes no further job, runs what is pending, and returns when all has run.
    ///
    /// # Errors
    ///
    /// As for `flush`; then nothing has changed.
    fn shutdown(&self) -> Result<(), DrainError>;

    /// Takes no further job, lets the running one finish, and gives back what is pending, in order.
    ///
    /// # Errors
    ///
    /// As for `flush`; then nothing has changed.
    fn shutdown_now(&self) -> Result<Vec<Job>, DrainError>;
}

/// A wait that would never end: from inside one of the executor's own jobs, or for a thread that is
/// gone, as in a forked child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainError;

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("called from inside one of the executor's own jobs, or its thread is gone: the wait would never end")
    }
}

impl core::error::Error for DrainError {}

/// A job that was not taken.
#[derive(Debug)]
pub struct Refused {
    /// The job, unrun.
    pub job: Job,
    /// Why.
    pub reason: RefusedReason,
}

/// Why an executor refuses a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedReason {
    /// It is shut down.
    ShutDown,
    /// It has as many jobs as it takes.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            RefusedReason::ShutDown => "the executor is shut down",
            RefusedReason::Full => "the executor is full",
        };
        write!(f, "job `{}` refused: {why}", self.job.label())
    }
}

impl core::error::Error for Refused {}
