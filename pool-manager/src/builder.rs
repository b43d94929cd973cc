//! The settings of a manager, and how it is built from them.

use std::fmt;
use std::io;
use std::sync::Arc;

use zpool_core::exec::{Executor, ExecutorCapabilities};
use zpool_core::internal::{Foreign, catch};
use zpool_core::page::{PageSource, default_source};
use zpool_core::spec::PoolSpec;

use crate::error::SwitchError;
use crate::manager::{Config, JobQueue, PoolManager};
use crate::observe::{Notifier, PoolObserver};
use crate::queue::{SharedWorker, WorkQueue};
use crate::registry::Registry;
use crate::release::pool_executor::PoolExecutor;
use crate::shared::Shared;

/// Default for the largest block, in bytes.
pub const DEFAULT_BLOCK_SIZE: usize = 4096;

/// Default for the number of pools that may await destruction before a switch waits.
pub const DEFAULT_MAX_PENDING: usize = 16;

/// Settings of a [`PoolManager`].
#[derive(Debug)]
pub struct ManagerBuilder {
    registry: Arc<Registry>,
    block_size: usize,
    source: Option<Foreign<Arc<dyn PageSource>>>,
    executor: Option<Foreign<Arc<dyn Executor>>>,
    max_pending: usize,
    revive: bool,
    wipe_on_free: bool,
    observer: Option<Foreign<Arc<dyn PoolObserver>>>,
}

impl PoolManager {
    /// Returns a builder for a manager that makes pools of the drivers in `registry`. Drivers may
    /// still be registered later.
    pub fn builder(registry: Arc<Registry>) -> ManagerBuilder {
        ManagerBuilder {
            registry,
            block_size: DEFAULT_BLOCK_SIZE,
            source: None,
            executor: None,
            max_pending: DEFAULT_MAX_PENDING,
            revive: true,
            wipe_on_free: false,
            observer: None,
        }
    }
}

impl ManagerBuilder {
    /// Sets the largest block in bytes (default [`DEFAULT_BLOCK_SIZE`]). Pools and contexts are
    /// made for this length.
    pub fn block_size(self, bytes: usize) -> Self {
        ManagerBuilder { block_size: bytes, ..self }
    }

    /// Sets the source of the pools' frames (default: mapped memory, shared by the process).
    pub fn page_source(self, source: Arc<dyn PageSource>) -> Self {
        ManagerBuilder { source: Some(source.into()), ..self }
    }

    /// Sets the executor that destroys pools (default: one worker thread that all such managers of
    /// the process share).
    ///
    /// - An executor whose `submit` is not legal inside a no-block section is used behind a
    ///   [relay](WorkQueue::relay). One that runs jobs on the caller is not.
    /// - An executor that panics when it is asked for its capabilities counts as cautious.
    pub fn executor(self, executor: Arc<dyn Executor>) -> Self {
        ManagerBuilder { executor: Some(executor.into()), ..self }
    }

    /// Sets how many pools may await destruction before a switch waits (default
    /// [`DEFAULT_MAX_PENDING`], at least 1).
    pub fn max_pending(self, pools: usize) -> Self {
        ManagerBuilder { max_pending: pools.max(1), ..self }
    }

    /// Sets whether a switch revives a live retired pool of the same spec instead of making one
    /// (default true).
    pub fn revive(self, revive: bool) -> Self {
        ManagerBuilder { revive, ..self }
    }

    /// Sets whether pools [overwrite](zpool_core::PoolConfig::wipe_on_free) freed objects (default
    /// false). If true, switches to allocators that cannot do that fail.
    pub fn wipe_on_free(self, wipe_on_free: bool) -> Self {
        ManagerBuilder { wipe_on_free, ..self }
    }

    /// Sets the observer of the pools' events (default: none).
    pub fn observer(self, observer: Arc<dyn PoolObserver>) -> Self {
        ManagerBuilder { observer: Some(observer.into()), ..self }
    }

    /// Makes a manager without a current pool. The first successful switch makes one.
    ///
    /// # Errors
    ///
    /// If the operating system cannot start a thread for the queue.
    pub fn build_idle(self) -> io::Result<PoolManager> {
        let (executor, queue) = match self.executor {
            Some(executor) => {
                let executor = Arc::clone(&executor);
                let capabilities = capabilities_of(&*executor);
                if capabilities.submit_in_no_block || capabilities.runs_on_caller {
                    (executor, None)
                } else {
                    let queue = Arc::new(WorkQueue::relay("zpool-relay", executor)?);
                    (queue.clone() as Arc<dyn Executor>, Some(JobQueue::Relay(queue)))
                }
            }
            None => {
                let worker = SharedWorker::of_process()?;
                (worker.executor(), Some(JobQueue::Shared(worker)))
            }
        };
        let capabilities = capabilities_of(&*executor);
        let shared = Shared::new(executor, Notifier::new(self.observer));
        let config = Config {
            block_size: self.block_size,
            source: self.source.unwrap_or_else(|| default_source().into()),
            pool_executor: Arc::new(PoolExecutor::new(shared.clone(), capabilities)),
            max_pending: self.max_pending,
            revive: self.revive,
            wipe_on_free: self.wipe_on_free,
        };
        Ok(PoolManager::new(shared, self.registry, config, queue))
    }

    /// Makes a manager with a current pool of `spec`.
    ///
    /// # Errors
    ///
    /// - [`BuildError::Thread`] as for [`build_idle`](Self::build_idle).
    /// - [`BuildError::Switch`] if the pool cannot be made.
    pub fn build(self, spec: &PoolSpec) -> Result<PoolManager, BuildError> {
        let manager = self.build_idle().map_err(BuildError::Thread)?;
        manager.switch(spec).map_err(BuildError::Switch)?;
        Ok(manager)
    }
}

/// Asks a foreign executor for its capabilities.
fn capabilities_of(executor: &dyn Executor) -> ExecutorCapabilities {
    catch(|| executor.capabilities()).unwrap_or(ExecutorCapabilities::CAUTIOUS)
}

/// The reason why no manager was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The operating system could not start a thread for the work queue.
    Thread(io::Error),
    /// The first pool could not be made.
    Switch(SwitchError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Thread(error) => write!(
                f,
                "no thread for the work queue: {error}; allow more threads, or set `executor`"
            ),
            BuildError::Switch(error) => error.fmt(f),
        }
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for BuildError {}
