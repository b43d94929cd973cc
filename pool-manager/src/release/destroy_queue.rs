//! Pools whose last reference is gone, until one thread destroys them.
//!
//! The executor does not get the job that destroys a pool, but a *ticket* that takes the oldest
//! such job. So a thread that may block can take a job itself instead of waiting for the executor,
//! and never waits for a job that has not begun. That matters in three cases: the executor's only
//! thread is the one that waits, jobs are run by hand, or the executor's thread is gone.

use zpool_core::exec::Job;
use zpool_core::internal::sync::{Mutex, ThreadMark};
use zpool_core::internal::{JobList, Jobs};

/// Threads that can run jobs at once before their list has to grow.
const RUNNERS: usize = 16;

/// The jobs, oldest first, and the threads that run one.
#[derive(Debug)]
pub(crate) struct DestroyQueue {
    pushed: JobList,
    /// Jobs taken out of `pushed`. A leaf lock.
    taken: Mutex<Jobs>,
    /// Threads that run a job. A leaf lock.
    runners: Mutex<Vec<ThreadMark>>,
}

impl DestroyQueue {
    pub(crate) fn new() -> DestroyQueue {
        let runners = Mutex::new(Vec::with_capacity(RUNNERS));
        DestroyQueue { pushed: JobList::new(), taken: Mutex::new(Jobs::none()), runners }
    }

    /// Adds a job. Neither blocks nor allocates.
    pub(crate) fn push(&self, job: Job) {
        // The list is never closed.
        let _ = self.pushed.push(job);
    }

    /// Runs the oldest job. Returns whether there was one. May block.
    ///
    /// Makes no heap call of its own while at most [`RUNNERS`] threads run jobs. A further thread
    /// that finds no memory runs nothing.
    pub(crate) fn run_one(&self) -> bool {
        let runner = ThreadMark::here();
        {
            let mut runners = self.runners.lock();
            if runners.try_reserve(1).is_err() {
                return false;
            }
            runners.push(runner);
        }
        let job = self.pop();
        let found = job.is_some();
        if let Some(job) = job {
            // A destructor's panic is caught and counted where it happens.
            let _ = job.run();
        }
        let mut runners = self.runners.lock();
        if let Some(at) = runners.iter().position(|&other| other == runner) {
            runners.swap_remove(at);
        }
        found
    }

    /// Returns whether there is a job that no thread has begun.
    pub(crate) fn has_jobs(&self) -> bool {
        !self.taken.lock().is_empty() || !self.pushed.is_empty()
    }

    /// Returns whether no thread that still exists runs a job.
    pub(crate) fn is_idle(&self) -> bool {
        let mut runners = self.runners.lock();
        runners.retain(|runner| !runner.is_gone());
        runners.is_empty()
    }

    /// Takes all jobs, oldest first.
    pub(crate) fn take_all(&self) -> impl Iterator<Item = Job> {
        core::iter::from_fn(|| self.pop())
    }

    fn pop(&self) -> Option<Job> {
        let mut taken = self.taken.lock();
        if taken.is_empty() {
            *taken = self.pushed.take_all();
        }
        taken.next()
    }
}
