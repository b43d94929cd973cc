//! Executors that are difficult to work with: ones that refuse, allocate, or lose jobs.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use zpool_core::NoBlock;
use zpool_core::exec::{Executor, ExecutorCapabilities, Job, Manual, Refused, RefusedReason};

/// Refuses every job as full, and promises that it may be called in a no-block section.
#[derive(Debug, Default)]
pub struct RefusingExecutor {
    refused: AtomicUsize,
}

/// Starts a thread per job, as a thread pool may. It allocates, so it is used behind a relay.
#[derive(Debug, Default)]
pub struct SpawningExecutor {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The fate of a job that an [`UnwillingExecutor`] does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Returns it to the submitter.
    Refused,
    /// Drops it.
    Dropped,
    /// Panics, so that the unwinding drops it.
    Unwound,
    /// Keeps it for later, and panics.
    Kept,
    /// Forgets it, and panics.
    Leaked,
}

/// Takes no job while it is unwilling. Once it is willing, it keeps jobs for the test to run.
/// Promises that it may be called in a no-block section.
#[derive(Debug)]
pub struct UnwillingExecutor {
    fate: Fate,
    willing: AtomicBool,
    unwilling: AtomicUsize,
    jobs: Manual,
}

/// The closure of a [`ScriptedExecutor`].
type Script = dyn Fn(Job) -> Result<(), Refused> + Send + Sync;

/// Passes each job to the test's closure.
pub struct ScriptedExecutor {
    script: Box<Script>,
    capabilities: ExecutorCapabilities,
}

/// Returns the job to its submitter, as an executor without room does.
///
/// # Errors
///
/// Always.
pub fn refuse(job: Job) -> Result<(), Refused> {
    Err(Refused { job, reason: RefusedReason::Full })
}

impl RefusingExecutor {
    /// Returns the number of refused jobs.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Executor for RefusingExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        self.refused.fetch_add(1, Ordering::SeqCst);
        refuse(job)
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block()
    }
}

impl UnwillingExecutor {
    /// Creates an executor that is unwilling.
    pub fn new(fate: Fate) -> UnwillingExecutor {
        UnwillingExecutor {
            fate,
            willing: AtomicBool::new(false),
            unwilling: AtomicUsize::new(0),
            jobs: Manual::new(),
        }
    }

    /// Makes it take jobs from now on, or not.
    pub fn set_willing(&self, willing: bool) {
        self.willing.store(willing, Ordering::SeqCst);
    }

    /// Returns the jobs that it took, which the test runs.
    pub fn jobs(&self) -> &Manual {
        &self.jobs
    }

    /// Returns how often it was called while it was unwilling.
    pub fn unwilling_calls(&self) -> usize {
        self.unwilling.load(Ordering::SeqCst)
    }
}

impl Executor for UnwillingExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        if self.willing.load(Ordering::SeqCst) {
            return self.jobs.submit(job);
        }
        self.unwilling.fetch_add(1, Ordering::SeqCst);
        match self.fate {
            Fate::Refused => return refuse(job),
            Fate::Dropped => {
                drop(job);
                return Ok(());
            }
            Fate::Unwound => {}
            Fate::Kept => self.jobs.submit(job)?,
            Fate::Leaked => std::mem::forget(job),
        }
        panic!("the executor panics in submit");
    }

    fn submit_later(&self, _: Duration, job: Job) -> Result<(), Refused> {
        self.submit(job)
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block()
    }
}

impl SpawningExecutor {
    /// Waits until all jobs so far have run.
    ///
    /// # Panics
    ///
    /// If a job has panicked.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads());
        threads.into_iter().for_each(|thread| thread.join().expect("jobs do not panic"));
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor for SpawningExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        assert!(!NoBlock::is_active(), "only ever called where it may allocate");
        let thread = thread::spawn(move || job.run().expect("jobs do not panic"));
        self.threads().push(thread);
        Ok(())
    }
}

impl ScriptedExecutor {
    /// Creates an executor that promises nothing, so that a manager uses it behind a relay.
    pub fn new(
        script: impl Fn(Job) -> Result<(), Refused> + Send + Sync + 'static,
    ) -> ScriptedExecutor {
        ScriptedExecutor { script: Box::new(script), capabilities: ExecutorCapabilities::CAUTIOUS }
    }

    /// Creates an executor that may be called in a no-block section, so that a manager calls it
    /// directly. Whether the script keeps to that is up to the test.
    pub fn in_no_block(
        script: impl Fn(Job) -> Result<(), Refused> + Send + Sync + 'static,
    ) -> ScriptedExecutor {
        let capabilities = ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block();
        ScriptedExecutor { capabilities, ..ScriptedExecutor::new(script) }
    }
}

impl fmt::Debug for ScriptedExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedExecutor").finish_non_exhaustive()
    }
}

impl Executor for ScriptedExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        (self.script)(job)
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        self.capabilities
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn spawning_executor_runs_its_jobs() {
        let (executor, ran) = (SpawningExecutor::default(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 {
            let ran = ran.clone();
            let count = move || {
                ran.fetch_add(1, Ordering::SeqCst);
            };
            executor.submit(Job::new("count", count)).unwrap();
        }
        executor.join();
        assert_eq!(ran.load(Ordering::SeqCst), 3);
    }

    /// A job is refused, dropped, lost or kept while its executor is unwilling, and taken later.
    #[test]
    fn unwilling_executor_takes_jobs_later() {
        for (fate, panics, left) in [
            (Fate::Refused, false, 0),
            (Fate::Dropped, false, 0),
            (Fate::Unwound, true, 0),
            (Fate::Kept, true, 1),
            (Fate::Leaked, true, 0),
        ] {
            let executor = UnwillingExecutor::new(fate);
            let submit = || executor.submit(Job::new("a job", || ()));
            let submitted = catch_unwind(AssertUnwindSafe(submit));
            assert_eq!(submitted.is_err(), panics, "{fate:?}");
            assert_eq!(matches!(submitted, Ok(Err(_))), fate == Fate::Refused);
            assert_eq!((executor.jobs().pending(), executor.unwilling_calls()), (left, 1));
            executor.set_willing(true);
            submit().unwrap();
            assert_eq!((executor.jobs().run_all(), executor.unwilling_calls()), (left + 1, 1));
        }
    }

    #[test]
    fn scripted_executor_follows_its_script() {
        let executor = ScriptedExecutor::in_no_block(|job| match job.label() {
            "refused" => refuse(job),
            _ => job.run().map_err(|_| unreachable!("it does not panic")),
        });
        assert!(executor.capabilities().submit_in_no_block);
        executor.submit(Job::new("run", || ())).unwrap();
        let refused = executor.submit(Job::new("refused", || ())).unwrap_err();
        assert_eq!(refused.job.label(), "refused");
    }

    #[test]
    fn refusing_executor_returns_job() {
        let executor = RefusingExecutor::default();
        let refused = executor.submit(Job::new("never", || ())).unwrap_err();
        assert_eq!((refused.reason, refused.job.label()), (RefusedReason::Full, "never"));
        assert_eq!(executor.refused(), 1);
    }
}
