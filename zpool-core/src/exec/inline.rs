//! The executor that is none: it runs each job inside `submit`.

use super::{Executor, ExecutorProperties, Job, Refused};
use crate::internal::sync::atomic::{AtomicU64, Ordering};

/// Runs every job on the caller, inside `submit`.
///
/// This is the bug of the original: the thread that drops a pool's last reference destroys it, wherever it happens to be. It is here to show
/// what [`might_block`](crate::might_block) finds, and for programs of one thread that never open a [`NoBlock`](crate::NoBlock) section.
#[derive(Debug, Default)]
pub struct Inline {
    run: AtomicU64,
    panicked: AtomicU64,
}

impl Inline {
    /// A new one.
    pub fn new() -> Inline {
        Inline::default()
    }

    /// Jobs that it has run.
    pub fn jobs_run(&self) -> u64 {
        self.run.load(Ordering::Relaxed)
    }

    /// Jobs that panicked; the panics were contained.
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

    fn properties(&self) -> ExecutorProperties {
        ExecutorProperties::CAUTIOUS.with_order().with_run_on_caller()
    }
}
