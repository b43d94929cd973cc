//! The executor that pools get.
//!
//! A pool that owned the manager's executor would close a cycle: executor, its list of jobs, the
//! job that destroys the pool, the pool. An executor dropped with such jobs would never be freed.
//! So pools get this executor, which reaches the manager's through the gate. When the manager is
//! dropped, the gate gives up the manager's executor.

use std::sync::Arc;
use std::time::Duration;

use zpool_core::NoBlock;
use zpool_core::exec::{Executor, ExecutorCapabilities, Job, Refused};

use super::finish_leftovers;
use super::release_gate::Leftovers;
use crate::shared::Shared;

/// Passes the jobs of pools on to the manager's executor, as one group. Refuses them once the
/// manager is gone, and in a forked child.
#[derive(Debug)]
pub(crate) struct PoolExecutor {
    shared: Arc<Shared>,
    /// The capabilities of the manager's executor, asked once.
    capabilities: ExecutorCapabilities,
}

impl PoolExecutor {
    pub(crate) fn new(shared: Arc<Shared>, capabilities: ExecutorCapabilities) -> PoolExecutor {
        PoolExecutor { shared, capabilities }
    }

    fn finish(&self, leftovers: Option<Leftovers>) {
        if let Some(leftovers) = leftovers {
            finish_leftovers(leftovers, &self.shared, NoBlock::is_active());
        }
    }
}

impl Executor for PoolExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        let submit = |executor: &dyn Executor, job| executor.submit(job);
        let (outcome, leftovers) = self.shared.gate.submit(job, submit);
        self.finish(leftovers);
        outcome
    }

    fn submit_later(&self, delay: Duration, job: Job) -> Result<(), Refused> {
        let submit = |executor: &dyn Executor, job| executor.submit_later(delay, job);
        let (outcome, leftovers) = self.shared.gate.submit(job, submit);
        self.finish(leftovers);
        outcome
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        self.capabilities
    }
}
