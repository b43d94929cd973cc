//! The executor that runs each job inside `submit`.

use super::{Executor, ExecutorCapabilities, Job, Refused};
use crate::internal::sync::atomic::{AtomicU64, Ordering};

/// Runs every job on the caller, inside `submit`.
///
/// Reproduces the bug that [`NoBlock`](crate::NoBlock) exists for: the thread that drops a pool's
/// last reference destroys it, even where it must not block. It shows what
/// [`might_block`](crate::might_block) finds, and suits single-threaded programs that never open a
/// no-block section.
#[derive(Debug, Default)]
pub struct Inline {
    run: AtomicU64,
    panicked: AtomicU64,
}

impl Inline {
    /// Makes an executor.
    pub fn new() -> Inline {
        Inline::default()
    }

    /// Returns how many jobs have run.
    pub fn jobs_run(&self) -> u64 {
        self.run.load(Ordering::Relaxed)
    }

    /// Returns how many jobs panicked. The panics were caught.
    pub fn jobs_panicked(&self) -> u64 {
        self.panicked.load(Ordering::Relaxed)
    }
}

impl Executor for Inline {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        if job.run().is_err() {
            // Relaxed: statistics only, as is the next.
            self.panicked.fetch_add(1, Ordering::Relaxed);
        }
        self.run.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_order().with_run_on_caller()
    }
}
