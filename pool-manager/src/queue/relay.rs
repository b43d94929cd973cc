//! Passing jobs on to an executor that is not ours, and knowing when they have run.

use std::sync::Arc;

use zpool_core::exec::{Executor, Job};
use zpool_core::sync::{Condvar, Mutex};

use super::Tally;

/// The executor that a queue passes its jobs on to.
#[derive(Debug)]
pub(super) struct Relay {
    executor: Arc<dyn Executor>,
    handed: Arc<Handed>,
}

/// How many jobs are with the other executor.
#[derive(Debug, Default)]
struct Handed {
    running: Mutex<usize>,
    fewer: Condvar,
}

/// One of them. Dropped when the job has run, or was dropped unrun.
struct Mark(Arc<Handed>);

impl Relay {
    pub(super) fn to(executor: Arc<dyn Executor>) -> Relay {
        Relay { executor, handed: Arc::default() }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.executor.properties().ordered
    }

    /// Passes `job` on, in an envelope that tells when it has run. May allocate. A job that is refused runs here.
    pub(super) fn pass_on(&self, job: Job, tally: &Arc<Tally>) {
        *self.handed.running.lock() += 1;
        let (mark, tally) = (Mark(self.handed.clone()), tally.clone());
        let envelope = Job::new(job.label(), move || {
            tally.finished(job.run());
            drop(mark);
        });
        if let Err(refused) = self.executor.submit(envelope) {
            // The envelope contains the job's own panic.
            let _ = refused.job.run();
        }
    }

    /// Waits until none is with the other executor.
    pub(super) fn wait(&self) {
        let mut running = self.handed.running.lock();
        while *running > 0 {
            self.handed.fewer.wait(&mut running);
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.fewer.notify_all();
    }
}
