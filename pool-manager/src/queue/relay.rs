//! Passing jobs on to an executor that is not ours, and knowing when they are over.

use std::sync::Arc;

use zpool_core::exec::{Executor, Job, JobPanic, contained};
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

/// A job on its way through the other executor.
struct Envelope {
    /// Dropped before the mark, so that whoever waits for this one waits for what its drop does.
    job: Option<Job>,
    mark: Mark,
}

/// Enters a job in the books when it is over: it has run, or was dropped unrun, which is what an async runtime that ends does with what is left.
struct Mark {
    handed: Arc<Handed>,
    tally: Arc<Tally>,
    outcome: Option<Result<(), JobPanic>>,
}

impl Relay {
    pub(super) fn to(executor: Arc<dyn Executor>) -> Relay {
        Relay { executor, handed: Arc::default() }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.executor.properties().ordered
    }

    /// Passes `job` on, in an envelope that tells when it is over. May allocate. A job that is refused runs here.
    pub(super) fn pass_on(&self, job: Job, tally: &Arc<Tally>) {
        *self.handed.running.lock() += 1;
        let label = job.label();
        let mark = Mark { handed: self.handed.clone(), tally: tally.clone(), outcome: None };
        let envelope = Envelope { job: Some(job), mark };
        let envelope = Job::new(label, move || envelope.open());
        // A panic in a foreign `submit` must not end the queue's thread. The unwinding drops the envelope, unless somebody has it.
        if let Some(Err(refused)) = contained(|| self.executor.submit(envelope)) {
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

impl Envelope {
    fn open(mut self) {
        self.mark.outcome = self.job.take().map(Job::run);
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        match self.outcome.take() {
            Some(outcome) => self.tally.finished(outcome),
            None => self.tally.dropped(),
        }
        *self.handed.running.lock() -= 1;
        self.handed.fewer.notify_all();
    }
}
