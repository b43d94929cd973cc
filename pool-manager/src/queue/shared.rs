//! The worker shared by all managers of a process that have no executor of their own.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use zpool_core::exec::Executor;
use zpool_core::internal::in_job;

use super::WorkQueue;

/// One thread for any number of managers. It starts with the first and ends after the last.
///
/// The jobs of each manager are a [group](zpool_core::exec::Job::group). A manager that is dropped
/// completes its own group, if necessary on its own thread, and waits for no other group.
#[derive(Debug)]
pub(crate) struct SharedWorker {
    queue: Arc<WorkQueue>,
}

/// The worker, while there are managers. Locked while one is started. A mutex of std, because loom
/// has no statics and this is part of no protocol.
static SHARED: Mutex<Weak<SharedWorker>> = Mutex::new(Weak::new());

impl SharedWorker {
    /// Returns the worker of this process, and starts one if there is none or its thread is gone.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread.
    pub(crate) fn of_process() -> io::Result<Arc<SharedWorker>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = shared.upgrade()
            && !worker.queue.state.worker_is_gone()
        {
            return Ok(worker);
        }
        let worker = Arc::new(SharedWorker { queue: Arc::new(WorkQueue::new("zpool-work")?) });
        *shared = Arc::downgrade(&worker);
        Ok(worker)
    }

    /// Returns the queue to which the managers submit their jobs.
    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        self.queue.clone()
    }

    /// Completes the jobs of one group, and waits for no other group.
    ///
    /// Does nothing inside a job, which could belong to the group: then the worker completes them.
    pub(crate) fn end_group(&self, group: u64) {
        if !in_job() {
            self.queue.end_group(group);
        }
    }
}

impl Drop for SharedWorker {
    fn drop(&mut self) {
        // Remaining jobs belong to managers that were dropped inside a job. No thread waits for
        // them.
        self.queue.shutdown_detached();
    }
}
