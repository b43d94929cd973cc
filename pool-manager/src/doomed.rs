//! Pools whose last reference has gone, until one thread destroys them.
//!
//! The executor does not get the job that destroys a pool, but a *ticket* that takes the oldest
//! such job. So a thread that may block, and would have to wait for the executor, can take a job
//! itself: it never waits for one that has not begun. That matters where the executor's only thread
//! is the one that waits, where jobs run by hand, and where the executor's thread is gone.

use zpool_core::exec::Job;
use zpool_core::internal::sync::{Mutex, ThreadMark};
use zpool_core::internal::{JobList, Jobs};

/// Threads that run jobs at once before their list has to grow.
const RUNNERS: usize = 16;

/// The jobs, oldest first, and who runs one.
#[derive(Debug)]
pub(crate) struct DoomedJobs {
    pushed: JobList,
    /// Those taken out of `pushed`. A leaf lock.
    taken: Mutex<Jobs>,
    /// Threads that run one. A leaf lock.
    runners: Mutex<Vec<ThreadMark>>,
}

impl DoomedJobs {
    pub(crate) fn new() -> DoomedJobs {
        let runners = Mutex::new(Vec::with_capacity(RUNNERS));
        DoomedJobs { pushed: JobList::new(), taken: Mutex::new(Jobs::none()), runners }
    }

    /// Adds a job. Neither blocks nor allocates.
    pub(crate) fn push(&self, job: Job) {
        // The list is never closed.
        let _ = self.pushed.push(job);
    }

    /// Runs the oldest job, if there is one. May block. Makes no heap call of its own with up to
    /// [`RUNNERS`] threads at once; runs nothing if more find no memory.
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
            // A destructor's panic is contained and counted where it happens.
            let _ = job.run();
        }
        let mut runners = self.runners.lock();
        if let Some(at) = runners.iter().position(|&other| other == runner) {
            runners.swap_remove(at);
        }
        found
    }

    /// Returns whether there is a job that no thread has begun.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.taken.lock().is_empty() || !self.pushed.is_empty()
    }

    /// Returns whether no thread that is still there runs one.
    pub(crate) fn is_idle(&self) -> bool {
        let mut runners = self.runners.lock();
        runners.retain(|runner| !runner.is_gone());
        runners.is_empty()
    }

    /// Takes all jobs.
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
