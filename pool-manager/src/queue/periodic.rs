//! Work that comes again and again, on a queue's own thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use zpool_core::exec::{Executor, Job, Refused};

use super::WorkQueue;

/// Periodic work on a [`WorkQueue`]: dropping this ends it. A run that has begun is completed.
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
        let round = Round {
            queue: Arc::downgrade(queue),
            stopped: stopped.clone(),
            period,
            label,
            work: Box::new(work),
        };
        round.submit(queue)?;
        Ok(Periodic { stopped })
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        // Relaxed: the next round sees it, or the one after.
        self.stopped.store(true, Ordering::Relaxed);
    }
}

struct Round {
    /// Weak: periodic work does not keep its queue.
    queue: Weak<WorkQueue>,
    stopped: Arc<AtomicBool>,
    period: Duration,
    label: &'static str,
    work: Box<dyn FnMut() + Send>,
}

impl Round {
    fn submit(self, queue: &WorkQueue) -> Result<(), Refused> {
        queue.submit_later(self.period, Job::new(self.label, move || self.run()))
    }

    fn run(mut self) {
        // Relaxed: see `Periodic::drop`.
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        // A panic ends the work: it is contained and counted by the job.
        (self.work)();
        if let Some(queue) = self.queue.upgrade() {
            // Refused: the queue has ended, and so does this. If ours is the queue's last owner,
            // its drop finds itself inside a job and waits for no thread.
            let _ = self.submit(&queue);
        }
    }
}
