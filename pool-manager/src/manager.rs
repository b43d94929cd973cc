//! The pool manager: makes pools, keeps one of them current, and sees the others out.

use std::fmt;
use std::io;
use std::sync::Arc;

use zpool_core::exec::{DrainError, DrainExecutor, Executor, in_job};
use zpool_core::might_block;
use zpool_core::page::{PageSource, default_source};
use zpool_core::spec::PoolSpec;
use zpool_core::sync::Mutex;
use zpool_core::sync::atomic::Ordering;

use crate::error::SwitchError;
use crate::hub::{Hub, Seen};
use crate::observe::{PoolObserver, Watch};
use crate::pool::{Pool, PoolRef};
use crate::queue::WorkQueue;
use crate::registry::Registry;
use crate::stats::{ManagerStats, PoolInfo, PoolState};
use crate::switch::Wanted;

/// The largest block, in bytes, unless the builder is told otherwise.
pub const DEFAULT_BLOCK_LEN: usize = 4096;

/// Pools that may await destruction before a switcher waits, unless the builder is told otherwise.
pub const DEFAULT_MAX_PENDING: usize = 16;

/// Makes pools and switches between them while data lives in them. See the [crate's essay](crate).
///
/// Dropping the manager retires the current pool and gives up the executor: its own queue completes what is pending first. Pools that still hold
/// objects live on until their last reference goes; then the thread that drops it destroys the pool, or leaks it inside a
/// [`NoBlock`](zpool_core::NoBlock) section ([`pools_leaked`](crate::pools_leaked)).
///
/// Dropped inside a job, it waits for nobody. If another thread is handing a pool over at that moment, the executor goes when that thread is done with it.
pub struct PoolManager {
    pub(crate) hub: Arc<Hub>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: Config,
    /// One switcher at a time. Held while plug-ins construct; not while they destroy, nor while waiting for pending destructions. Never taken by
    /// readers or releasers.
    pub(crate) switcher: Mutex<Wanted>,
    queue: Option<Arc<WorkQueue>>,
}

/// What the builder settled.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) block_len: usize,
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) pool_executor: Arc<dyn Executor>,
    pub(crate) max_pending: usize,
    pub(crate) revive: bool,
    pub(crate) wipe_on_free: bool,
}

/// Settings of a [`PoolManager`] to be.
#[derive(Debug)]
pub struct ManagerBuilder {
    registry: Arc<Registry>,
    block_len: usize,
    source: Option<Arc<dyn PageSource>>,
    executor: Option<Arc<dyn Executor>>,
    max_pending: usize,
    revive: bool,
    wipe_on_free: bool,
    observer: Option<Arc<dyn PoolObserver>>,
}

impl ManagerBuilder {
    /// The largest block in bytes (default [`DEFAULT_BLOCK_LEN`]): what pools and contexts are made for.
    pub fn block_len(self, bytes: usize) -> Self {
        ManagerBuilder { block_len: bytes, ..self }
    }

    /// Where pools take their frames (default: mapped memory, shared by the process).
    pub fn page_source(self, source: Arc<dyn PageSource>) -> Self {
        ManagerBuilder { source: Some(source), ..self }
    }

    /// Who destroys pools (default: a [`WorkQueue`] of the manager's own). One whose `submit` is not legal inside a no-block section is used
    /// behind such a queue, except one that runs jobs on the caller: that is done as asked.
    pub fn executor(self, executor: Arc<dyn Executor>) -> Self {
        ManagerBuilder { executor: Some(executor), ..self }
    }

    /// How many pools may await destruction before a switcher waits (default [`DEFAULT_MAX_PENDING`], at least 1).
    pub fn max_pending(self, pools: usize) -> Self {
        ManagerBuilder { max_pending: pools.max(1), ..self }
    }

    /// Whether a switch takes a live retired pool of the same spec instead of making one (default true).
    pub fn revive(self, revive: bool) -> Self {
        ManagerBuilder { revive, ..self }
    }

    /// Whether pools [overwrite](zpool_core::PoolConfig::wipe_on_free) objects that are gone (default false). Allocators that cannot are refused then.
    pub fn wipe_on_free(self, wipe_on_free: bool) -> Self {
        ManagerBuilder { wipe_on_free, ..self }
    }

    /// Who is told what happens to pools (default: nobody).
    pub fn observer(self, observer: Arc<dyn PoolObserver>) -> Self {
        ManagerBuilder { observer: Some(observer), ..self }
    }

    /// A manager without a current pool: there is one after the first successful switch.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread for the queue.
    pub fn build_idle(self) -> io::Result<PoolManager> {
        let (executor, queue) = match self.executor {
            Some(executor) => {
                let properties = executor.properties();
                if properties.submit_in_no_block || properties.runs_on_caller {
                    (executor, None)
                } else {
                    let queue = Arc::new(WorkQueue::relay("zpool-relay", executor)?);
                    (queue.clone() as Arc<dyn Executor>, Some(queue))
                }
            }
            None => {
                let queue = Arc::new(WorkQueue::new("zpool-work")?);
                (queue.clone() as Arc<dyn Executor>, Some(queue))
            }
        };
        let config = Config {
            block_len: self.block_len,
            source: self.source.unwrap_or_else(default_source),
            pool_executor: executor.clone(),
            max_pending: self.max_pending,
            revive: self.revive,
            wipe_on_free: self.wipe_on_free,
        };
        let hub = Hub::new(executor, Watch(self.observer));
        Ok(PoolManager { hub, registry: self.registry, config, switcher: Mutex::default(), queue })
    }

    /// A manager with a current pool of this spec.
    ///
    /// # Errors
    ///
    /// [`BuildError::Thread`] as for `build_idle`, [`BuildError::Switch`] when the pool cannot be made.
    pub fn build(self, spec: &PoolSpec) -> Result<PoolManager, BuildError> {
        let manager = self.build_idle().map_err(BuildError::Thread)?;
        manager.switch(spec).map_err(BuildError::Switch)?;
        Ok(manager)
    }
}

/// Why there is no manager.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The operating system gave no thread for the work queue.
    Thread(io::Error),
    /// The first pool could not be made.
    Switch(SwitchError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Thread(error) => write!(f, "no thread for the work queue: {error}"),
            BuildError::Switch(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::Thread(error) => Some(error),
            BuildError::Switch(error) => Some(error),
        }
    }
}

impl PoolManager {
    /// Starts to build a manager that makes pools of the drivers in `registry`. The registry stays open: more may be registered later.
    pub fn builder(registry: Arc<Registry>) -> ManagerBuilder {
        ManagerBuilder {
            registry,
            block_len: DEFAULT_BLOCK_LEN,
            source: None,
            executor: None,
            max_pending: DEFAULT_MAX_PENDING,
            revive: true,
            wipe_on_free: false,
            observer: None,
        }
    }

    /// A reference to the current pool; `None` only before the first successful switch. Costs an atomic load and a count; never blocks.
    #[inline]
    pub fn current(&self) -> Option<PoolRef> {
        self.hub.current.get()
    }

    /// The drivers.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The largest block in bytes.
    pub fn block_len(&self) -> usize {
        self.config.block_len
    }

    /// Where pools that want to do work in the background submit it.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.config.pool_executor
    }

    /// Bytes that all pools hold together, retired ones and those that await destruction included: allocators and contexts.
    pub fn bytes_held(&self) -> usize {
        self.allocator_bytes(|_| true) + self.context_bytes()
    }

    /// Bytes that the allocators of all pools but `pool` hold together: a caller that knows how that one grows need not walk the others, which only shrink
    /// until the next [switch](Self::switches). Their [contexts](Self::context_bytes) may grow as long as something is loaded from them.
    pub fn allocator_bytes_besides(&self, pool: &PoolRef) -> usize {
        self.allocator_bytes(|other| !PoolRef::same(pool, other))
    }

    fn allocator_bytes(&self, counts: impl Fn(&PoolRef) -> bool) -> usize {
        // Relaxed, here and below: statistics only.
        let mut pending = self.hub.counters.pending_bytes.load(Ordering::Relaxed);
        // A pool that comes to await destruction during the walk may be counted twice: then once
        // more. Twice at most; after that it may be too much, for this caller.
        for last in [false, false, true] {
            let mut alive = 0;
            self.for_each_pool(|pool| alive += if counts(pool) { pool.zpool().bytes_held() } else { 0 });
            let now = self.hub.counters.pending_bytes.load(Ordering::Relaxed);
            if now <= pending || last {
                return alive + now;
            }
            pending = now;
        }
        unreachable!("the last round returns")
    }

    /// Changes of the current pool so far. Whoever sees a count also sees, by [`current`](Self::current), the pool that was current then, or a later one.
    #[inline]
    pub fn switches(&self) -> u64 {
        // Acquire: pairs with the Release in `replace_current`.
        self.hub.counters.switches.load(Ordering::Acquire)
    }

    /// All pools at one moment, oldest first.
    pub fn pools(&self) -> Vec<PoolInfo> {
        let info = |seen: &Seen| {
            let (listed, pool) = (&seen.listed, seen.pool.as_deref());
            PoolInfo {
                label: (*listed.label).clone(),
                state: match pool {
                    None => PoolState::Dying,
                    Some(_) if seen.is_current => PoolState::Current,
                    Some(_) => PoolState::Retired,
                },
                // Less the one this snapshot holds.
                references: listed.block.references().saturating_sub(u64::from(pool.is_some())),
                bytes_held: pool.map_or(0, Pool::bytes_held),
                context_bytes: pool.map_or(0, |pool| pool.codec().stats().context_bytes),
                age: listed.created.elapsed(),
                retired_for: listed.retired.map(|since| since.elapsed()),
            }
        };
        self.hub.snapshot().iter().map(info).collect()
    }

    /// The manager's counters.
    pub fn stats(&self) -> ManagerStats {
        let counters = &self.hub.counters;
        // Relaxed: statistics only.
        let read = |counter: &zpool_core::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        ManagerStats {
            switches: read(&counters.switches),
            pools_created: read(&counters.created),
            pools_revived: read(&counters.revived),
            pools_destroyed: read(&counters.destroyed),
            destroyed_on_caller: read(&counters.destroyed_on_caller),
            destructors_panicked: read(&counters.destructors_panicked),
            jobs_refused: read(&counters.jobs_refused),
            pools_alive: self.hub.alive(),
            pending_destroy: self.hub.pending(),
            pending_destroy_bytes: counters.pending_bytes.load(Ordering::Relaxed),
            pending_destroy_max: counters.pending_max.load(Ordering::Relaxed),
        }
    }

    /// Runs the jobs that the executor refused. Returns how many. May block.
    pub fn reap(&self) -> usize {
        might_block("PoolManager::reap");
        self.hub.run_orphans()
    }

    /// Waits until no pool awaits destruction, and runs refused jobs meanwhile. May block; for ever, if the executor never runs its jobs.
    ///
    /// # Errors
    ///
    /// [`DrainError`] from inside a job, of whatever executor, a plug-in's destructor among them: it could be waiting for itself.
    pub fn flush(&self) -> Result<(), DrainError> {
        might_block("PoolManager::flush");
        if in_job() {
            return Err(DrainError);
        }
        self.hub.wait_for_pending_below(1);
        Ok(())
    }

    /// Is the lock of the list of pools taken at this moment? For the test that nothing is allocated under it (B6).
    #[doc(hidden)]
    pub fn list_is_locked(&self) -> bool {
        self.hub.list_is_locked()
    }
}

impl Drop for PoolManager {
    fn drop(&mut self) {
        might_block("dropping a PoolManager");
        let last = self.hub.publish(None);
        if let Some(block) = last {
            block.retire();
        }
        // From inside a job nobody can be waited for: then the last thread that is handing a job over takes the executor.
        let executor = self.hub.manager_goes(!in_job());
        if let Some(queue) = self.queue.take()
            && queue.shutdown().is_err()
        {
            // Inside one of the queue's own jobs: it completes what is pending after this one, and whoever drops it last does not wait.
            queue.end_unwaited();
        }
        self.hub.run_orphans();
        drop(executor);
    }
}

impl fmt::Debug for PoolManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolManager")
            .field("current", &self.current())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
