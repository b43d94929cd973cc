//! What pools get as their executor.
//!
//! A pool that owned the manager's executor would close a circle: executor, its list of jobs, the
//! job that destroys the pool, the pool. An executor dropped with such jobs in it would never go.
//! So pools have this, which knows the hub, and the hub has the executor only until the manager
//! goes.

use std::sync::Arc;
use std::time::Duration;

use zpool_core::NoBlock;
use zpool_core::exec::{Executor, ExecutorProperties, Job, Refused};

use crate::hub::{Hub, Left};
use crate::release::see_to;

/// Passes the jobs of pools on to the manager's executor, as one group; refuses them once the
/// manager is gone, and in a forked child.
#[derive(Debug)]
pub(crate) struct Gateway {
    hub: Arc<Hub>,
    /// The executor's, asked once.
    properties: ExecutorProperties,
}

impl Gateway {
    pub(crate) fn new(hub: Arc<Hub>, properties: ExecutorProperties) -> Gateway {
        Gateway { hub, properties }
    }

    fn end(&self, left: Option<Left>) {
        if let Some(left) = left {
            see_to(left, &self.hub, NoBlock::is_active());
        }
    }
}

impl Executor for Gateway {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        let (outcome, left) = self.hub.submit(job, |executor, job| executor.submit(job));
        self.end(left);
        outcome
    }

    fn submit_later(&self, delay: Duration, job: Job) -> Result<(), Refused> {
        let later = |executor: &dyn Executor, job| executor.submit_later(delay, job);
        let (outcome, left) = self.hub.submit(job, later);
        self.end(left);
        outcome
    }

    fn properties(&self) -> ExecutorProperties {
        self.properties
    }
}
