//! Periodic work on a queue's own thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use zpool_core::exec::{Executor, Job, Refused};

use super::WorkQueue;

/// Periodic work on a [`WorkQueue`]. Dropping this ends it, after a run that has begun.
#[derive(Debug)]
pub struct Periodic {
    stopped: Arc<AtomicBool>,
}

impl Periodic {
    pub(super) fn start(
        queue: &Arc<WorkQueue>,
        period: Duration,
        label: &'static str,
        work: impl FnMut() + Send + 'static,
    ) -> Result<Periodic, Refused> {
        let stopped = Arc::new(AtomicBool::new(false));
        let run = PeriodicRun {
            queue: Arc::downgrade(queue),
            stopped: stopped.clone(),
            period,
            label,
            work: Box::new(work),
        };
        run.submit(queue)?;
        Ok(Periodic { stopped })
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        // Relaxed: the next run sees it, or the one after.
        self.stopped.store(true, Ordering::Relaxed);
    }
}

struct PeriodicRun {
    /// Weak: periodic work does not keep its queue alive.
    queue: Weak<WorkQueue>,
    stopped: Arc<AtomicBool>,
    period: Duration,
    label: &'static str,
    work: Box<dyn FnMut() + Send>,
}

impl PeriodicRun {
    fn submit(self, queue: &WorkQueue) -> Result<(), Refused> {
        queue.submit_later(self.period, Job::new(self.label, move || self.run()))
    }

    fn run(mut self) {
        // Relaxed: see `Periodic::drop`.
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        // A panic ends the periodic work; the job catches and counts it.
        (self.work)();
        if let Some(queue) = self.queue.upgrade() {
            // If it is refused, the queue has ended. If ours is the last reference to the queue,
            // its drop runs inside a job and so waits for no thread.
            let _ = self.submit(&queue);
        }
    }
}
