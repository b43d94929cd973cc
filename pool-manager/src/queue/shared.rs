//! The worker that all managers of a process share that were given no executor.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use zpool_core::exec::Executor;
use zpool_core::internal::in_job;

use super::WorkQueue;

/// One thread for any number of managers: started with the first, it ends after the last.
///
/// The jobs of each manager are a [group](zpool_core::exec::Job::group). A manager that goes
/// completes its own group, on its own thread if need be, and waits for no other.
#[derive(Debug)]
pub(crate) struct SharedWorker {
    queue: Arc<WorkQueue>,
}

/// The worker, while there are managers. Held while one is started. Std's, because loom has no
/// statics, and this is no part of a protocol.
static SHARED: Mutex<Weak<SharedWorker>> = Mutex::new(Weak::new());

impl SharedWorker {
    /// Returns the worker of this process. Starts it if there is none, or if it is gone.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn of_process() -> io::Result<Arc<SharedWorker>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = shared.upgrade()
            && !worker.queue.inner.worker_is_gone()
        {
            return Ok(worker);
        }
        let worker = Arc::new(SharedWorker { queue: Arc::new(WorkQueue::new("zpool-work")?) });
        *shared = Arc::downgrade(&worker);
        Ok(worker)
    }

    /// Where the managers submit their jobs.
    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        self.queue.clone()
    }

    /// Completes the jobs of one group, and waits for no other. Does nothing inside a job, which
    /// could be one of them: then the worker completes them.
    pub(crate) fn end_group(&self, group: u64) {
        if !in_job() {
            self.queue.end_group(group);
        }
    }
}

impl Drop for SharedWorker {
    fn drop(&mut self) {
        // What is left is of managers that went inside a job. Nothing waits for that.
        self.queue.end_unwaited();
    }
}
