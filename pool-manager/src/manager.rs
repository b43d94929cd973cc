//! The pool manager: makes pools, keeps one of them current, and sees the others out.

use std::fmt;
use std::io;
use std::sync::Arc;

use zpool_core::exec::{DrainError, DrainExecutor, Executor, ExecutorProperties};
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::{Contained, contained, in_job};
use zpool_core::might_block;
use zpool_core::page::{PageSource, default_source};
use zpool_core::spec::PoolSpec;

use crate::error::SwitchError;
use crate::gateway::Gateway;
use crate::hub::{Hub, is_handing_over};
use crate::observe::{PoolObserver, Watch};
use crate::pool::PoolRef;
use crate::queue::{SharedWorker, WorkQueue};
use crate::registry::Registry;
use crate::stats::{ManagerStats, PoolInfo, PoolState};
use crate::switch::{Wanted, is_inside_switch};
use crate::walk::Seen;

/// The largest block, in bytes, unless the builder is told otherwise.
pub const DEFAULT_BLOCK_LEN: usize = 4096;

/// Pools that may await destruction before a switcher waits, unless the builder is told otherwise.
pub const DEFAULT_MAX_PENDING: usize = 16;

/// Makes pools and switches between them while data lives in them. See the [crate's essay](crate).
///
/// # Drop
///
/// Dropping the manager retires the current pool. Then it gives up the executor:
///
/// - One that it was given keeps the jobs that it has. Dropped with them, it destroys their pools.
/// - Without one of its own, and behind a relay, the manager first completes its jobs. It waits for
///   those that run, and runs the others itself: also where the executor's only thread is the one
///   that drops the manager. It waits for no other manager's jobs.
///
/// Pools that still hold objects live on until their last reference goes. Then the thread that
/// drops it destroys the pool, or leaks it inside a [`NoBlock`](zpool_core::NoBlock) section
/// ([`pools_leaked`](crate::pools_leaked)).
///
/// Dropped inside a job, or inside its executor's `submit`, it waits for no thread. If another
/// thread is handing a pool over at that moment, the executor goes when that thread is done with
/// it.
///
/// # Fork
///
/// A forked child has no thread but the one that called `fork`. Its copy of the manager may be used
/// and dropped: switches, `flush` and the drop destroy pools on the calling thread, jobs of pools
/// are refused, and no wait is for a thread that is not there. A pool whose destruction was under
/// way in the parent is leaked in the child. Locks are another matter: a thread that was inside a
/// pool at the moment of the fork holds its locks for ever in the child, the manager's own worker
/// among them. Call [`flush`](Self::flush) before `fork`, and fork while no other thread is in a
/// call.
pub struct PoolManager {
    pub(crate) hub: Arc<Hub>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: Config,
    /// One switcher at a time. Held while plug-ins construct; not while they destroy, nor while
    /// waiting for pending destructions. Never taken by readers or releasers.
    pub(crate) switcher: Mutex<Wanted>,
    queue: Option<Queue>,
}

/// The queue that completes its jobs before the manager goes.
enum Queue {
    Shared(Arc<SharedWorker>),
    Relay(Arc<WorkQueue>),
}

/// What the builder settled.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) block_len: usize,
    pub(crate) source: Contained<Arc<dyn PageSource>>,
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
    source: Option<Contained<Arc<dyn PageSource>>>,
    executor: Option<Contained<Arc<dyn Executor>>>,
    max_pending: usize,
    revive: bool,
    wipe_on_free: bool,
    observer: Option<Contained<Arc<dyn PoolObserver>>>,
}

impl ManagerBuilder {
    /// The largest block in bytes (default [`DEFAULT_BLOCK_LEN`]): what pools and contexts are made
    /// for.
    pub fn block_len(self, bytes: usize) -> Self {
        ManagerBuilder { block_len: bytes, ..self }
    }

    /// Where pools take their frames (default: mapped memory, shared by the process).
    pub fn page_source(self, source: Arc<dyn PageSource>) -> Self {
        ManagerBuilder { source: Some(source.into()), ..self }
    }

    /// Sets the executor that destroys pools (default: one worker thread that the process starts
    /// with the first such manager, and that ends after the last).
    ///
    /// One whose `submit` is not legal inside a no-block section is used behind a
    /// [relay](WorkQueue::relay), except one that runs jobs on the caller: that is done as asked.
    /// An executor that panics when it is asked for its properties promises nothing.
    pub fn executor(self, executor: Arc<dyn Executor>) -> Self {
        ManagerBuilder { executor: Some(executor.into()), ..self }
    }

    /// How many pools may await destruction before a switcher waits (default
    /// [`DEFAULT_MAX_PENDING`], at least 1).
    pub fn max_pending(self, pools: usize) -> Self {
        ManagerBuilder { max_pending: pools.max(1), ..self }
    }

    /// Whether a switch takes a live retired pool of the same spec instead of making one (default
    /// true).
    pub fn revive(self, revive: bool) -> Self {
        ManagerBuilder { revive, ..self }
    }

    /// Whether pools [overwrite](zpool_core::PoolConfig::wipe_on_free) objects that are gone
    /// (default false). Allocators that cannot are refused then.
    pub fn wipe_on_free(self, wipe_on_free: bool) -> Self {
        ManagerBuilder { wipe_on_free, ..self }
    }

    /// Who is told what happens to pools (default: nobody).
    pub fn observer(self, observer: Arc<dyn PoolObserver>) -> Self {
        ManagerBuilder { observer: Some(observer.into()), ..self }
    }

    /// A manager without a current pool: there is one after the first successful switch.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread for the queue.
    pub fn build_idle(self) -> io::Result<PoolManager> {
        let (executor, queue) = match self.executor {
            Some(executor) => {
                let executor = Arc::clone(&executor);
                let properties = properties(&*executor);
                if properties.submit_in_no_block || properties.runs_on_caller {
                    (executor, None)
                } else {
                    let queue = Arc::new(WorkQueue::relay("zpool-relay", executor)?);
                    (queue.clone() as Arc<dyn Executor>, Some(Queue::Relay(queue)))
                }
            }
            None => {
                let worker = SharedWorker::of_process()?;
                (worker.executor(), Some(Queue::Shared(worker)))
            }
        };
        let properties = properties(&*executor);
        let hub = Hub::new(executor, Watch::new(self.observer));
        let config = Config {
            block_len: self.block_len,
            source: self.source.unwrap_or_else(|| default_source().into()),
            pool_executor: Arc::new(Gateway::new(hub.clone(), properties)),
            max_pending: self.max_pending,
            revive: self.revive,
            wipe_on_free: self.wipe_on_free,
        };
        Ok(PoolManager { hub, registry: self.registry, config, switcher: Mutex::default(), queue })
    }

    /// A manager with a current pool of this spec.
    ///
    /// # Errors
    ///
    /// [`BuildError::Thread`] as for `build_idle`, [`BuildError::Switch`] when the pool cannot be
    /// made.
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
    /// Starts to build a manager that makes pools of the drivers in `registry`. The registry stays
    /// open: more may be registered later.
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

    /// A reference to the current pool; `None` only before the first successful switch. Costs an
    /// atomic load and a count; never blocks.
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

    /// Returns where pools that want to do work in the background submit it. It passes jobs on to
    /// the manager's executor, and refuses them once the manager is gone.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.config.pool_executor
    }

    /// Returns the bytes that all pools hold together, retired ones and those that await
    /// destruction included: allocators and contexts. Exact; asks every pool. An allocator that
    /// panics when it is asked counts with what it held when it was last asked.
    pub fn bytes_held(&self) -> usize {
        self.hub.allocator_bytes(None) + self.context_bytes()
    }

    /// Returns the bytes that the allocators of all pools but `pool` hold together. A caller that
    /// knows how that one grows need not ask the others, which only shrink until the next
    /// [switch](Self::switches). Their [contexts](Self::context_bytes) may grow as long as
    /// something is loaded from them.
    ///
    /// Exact while there are up to 64 pools. If there are more, a call takes no longer than with
    /// 64: it asks the pools that were retired last and a few others, and adds what the rest held
    /// when they were last asked, which is at least what they hold. Every so often a call asks all,
    /// so that after an eighth as many calls as there are pools the figure is exact again.
    pub fn allocator_bytes_besides(&self, pool: &PoolRef) -> usize {
        self.hub.allocator_bytes_soon(pool)
    }

    /// Changes of the current pool so far. A caller that sees a count also sees, by
    /// [`current`](Self::current), the pool that was current then, or a later one.
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
                bytes_held: pool
                    .map_or(0, |pool| contained(|| pool.bytes_held()).unwrap_or(seen.booked)),
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
        let read = |counter: &zpool_core::internal::sync::atomic::AtomicU64| {
            counter.load(Ordering::Relaxed)
        };
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

    /// Runs the jobs that the executor refused. Returns how many: none inside an observer or a
    /// constructor. May block.
    pub fn reap(&self) -> usize {
        might_block("PoolManager::reap");
        if is_inside_switch() {
            return 0;
        }
        self.hub.run_orphans()
    }

    /// Waits until no pool awaits destruction. Destroys those itself that the executor has not
    /// begun to destroy, so it needs no executor that runs its jobs. May block.
    ///
    /// A pool whose destruction was begun by a thread that is gone is given up: it is leaked.
    ///
    /// # Errors
    ///
    /// [`DrainError`] from inside a job, of whatever executor, a plug-in's destructor among them,
    /// and from inside a constructor or an observer: it could be waiting for itself.
    pub fn flush(&self) -> Result<(), DrainError> {
        might_block("PoolManager::flush");
        if in_job() || is_inside_switch() {
            return Err(DrainError);
        }
        self.hub.wait_for_pending_below(1);
        Ok(())
    }

    /// Is the lock of the list of pools taken at this moment? For the test that nothing is
    /// allocated under it (B6).
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
        // From inside a job no thread can be waited for: then the last one that is handing a job
        // over takes the executor.
        let may_wait = !in_job() && !is_handing_over();
        let executor = self.hub.manager_goes(may_wait);
        let queue = self.queue.take();
        if queue.is_some() && may_wait {
            self.hub.wait_for_pending_below(1);
        }
        match queue {
            Some(Queue::Shared(worker)) => worker.end_group(self.hub.id),
            Some(Queue::Relay(queue)) if !may_wait || queue.shutdown().is_err() => {
                // Inside a job: the queue completes what is pending after it, and its last owner
                // does not wait.
                queue.end_unwaited();
            }
            _ => {}
        }
        self.hub.run_orphans();
        drop(executor);
    }
}

/// Asks a foreign executor for its properties.
fn properties(executor: &dyn Executor) -> ExecutorProperties {
    contained(|| executor.properties()).unwrap_or(ExecutorProperties::CAUTIOUS)
}

impl fmt::Debug for PoolManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolManager")
            .field("current", &self.current())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
