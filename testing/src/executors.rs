//! Executors that are difficult to have: ones that refuse, allocate, or lose jobs.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use zpool_core::NoBlock;
use zpool_core::exec::{Executor, ExecutorProperties, Job, Refused, RefusedReason};

/// Refuses every job as full, and says that it may be called in a no-block section.
#[derive(Debug, Default)]
pub struct RefusingExecutor {
    refused: AtomicUsize,
}

/// Starts a thread per job, as a thread pool may. It allocates, so it is used behind a relay.
#[derive(Debug, Default)]
pub struct SpawningExecutor {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The closure of a [`ScriptedExecutor`].
type Script = dyn Fn(Job) -> Result<(), Refused> + Send + Sync;

/// Does with each job what the test's closure says.
pub struct ScriptedExecutor {
    script: Box<Script>,
    properties: ExecutorProperties,
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

    fn properties(&self) -> ExecutorProperties {
        ExecutorProperties::CAUTIOUS.with_submit_in_no_block()
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
        ScriptedExecutor { script: Box::new(script), properties: ExecutorProperties::CAUTIOUS }
    }

    /// Creates an executor that may be called in a no-block section, so that a manager calls it
    /// directly. Whether the script keeps to that is up to the test.
    pub fn in_no_block(
        script: impl Fn(Job) -> Result<(), Refused> + Send + Sync + 'static,
    ) -> ScriptedExecutor {
        let properties = ExecutorProperties::CAUTIOUS.with_submit_in_no_block();
        ScriptedExecutor { properties, ..ScriptedExecutor::new(script) }
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

    fn properties(&self) -> ExecutorProperties {
        self.properties
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn scripted_executor_does_what_it_is_told() {
        let executor = ScriptedExecutor::in_no_block(|job| match job.label() {
            "refused" => refuse(job),
            _ => job.run().map_err(|_| unreachable!("it does not panic")),
        });
        assert!(executor.properties().submit_in_no_block);
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
