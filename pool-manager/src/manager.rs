//! The pool manager: makes pools, keeps one of them current, and has the others destroyed.

use std::fmt;
use std::sync::Arc;

use zpool_core::exec::{DrainError, DrainExecutor, Executor};
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};
use zpool_core::internal::{Foreign, catch, in_job};
use zpool_core::page::PageSource;
use zpool_core::{NoBlock, might_block};

use crate::pools::pool::PoolRef;
use crate::pools::pool_list::PoolSnapshot;
use crate::queue::{SharedWorker, WorkQueue};
use crate::registry::Registry;
use crate::release::release_gate::is_submitting;
use crate::shared::Shared;
use crate::stats::{ManagerStats, PoolInfo, PoolState};
use crate::switch::{RequestedSpec, is_inside_switch};

/// Makes pools and switches between them while data lives in them. See the [crate
/// documentation](crate).
///
/// # Drop
///
/// Dropping the manager retires the current pool and then gives up the executor:
///
/// - An executor that the program supplied keeps its jobs. If it is dropped with them, that
///   destroys their pools.
/// - With the shared worker or behind a relay, the manager first completes its own jobs. It waits
///   for those that run, and runs the others itself, so it may be dropped on the executor's only
///   thread. It waits for no other manager's jobs.
///
/// Pools that still hold objects live on until their last reference is dropped. The thread that
/// drops it then destroys the pool, or leaks it inside a [`NoBlock`](zpool_core::NoBlock) section
/// ([`pools_leaked`](crate::pools_leaked)).
///
/// A manager that is dropped inside a job, or inside its executor's `submit`, waits for no thread.
/// If another thread is handing a pool over at that moment, that thread drops the executor.
///
/// # Fork
///
/// A forked child has only the thread that called `fork`. It may use and drop its copy of the
/// manager: switches, `flush` and the drop destroy pools on the calling thread, jobs of pools are
/// refused, and no call waits for a thread that does not exist. A pool that the parent was
/// destroying at the moment of the fork is leaked in the child.
///
/// Locks are not covered: a thread of the parent that was inside a pool at the moment of the fork
/// holds its locks in the child for ever. Call [`flush`](Self::flush) before `fork`, and fork while
/// no other thread is in a call.
pub struct PoolManager {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: Config,
    /// The switch mutex: one switch at a time. Held while plug-ins construct, but not while they
    /// are destroyed, nor during a wait for pending destructions. Readers and releasers never take
    /// it.
    pub(crate) switch_mutex: Mutex<RequestedSpec>,
    queue: Option<JobQueue>,
}

/// The queue whose jobs are completed before the manager is gone.
pub(crate) enum JobQueue {
    Shared(Arc<SharedWorker>),
    Relay(Arc<WorkQueue>),
}

/// The settings of a manager, as the builder resolved them.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) block_size: usize,
    pub(crate) source: Foreign<Arc<dyn PageSource>>,
    pub(crate) pool_executor: Arc<dyn Executor>,
    pub(crate) max_pending: usize,
    pub(crate) revive: bool,
    pub(crate) wipe_on_free: bool,
}

impl PoolManager {
    pub(crate) fn new(
        shared: Arc<Shared>,
        registry: Arc<Registry>,
        config: Config,
        queue: Option<JobQueue>,
    ) -> PoolManager {
        PoolManager { shared, registry, config, switch_mutex: Mutex::default(), queue }
    }

    /// Returns a reference to the current pool; `None` only before the first successful switch.
    ///
    /// Costs one atomic load and one count. Never blocks.
    #[inline]
    pub fn current(&self) -> Option<PoolRef> {
        self.shared.pools.current()
    }

    /// Returns the registry of drivers.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Returns the largest block in bytes.
    pub fn block_size(&self) -> usize {
        self.config.block_size
    }

    /// Returns the executor for background work of pools. It passes jobs on to the manager's
    /// executor, and refuses them once the manager is gone.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.config.pool_executor
    }

    /// Returns how often the current pool or the [cold pool](Self::cold) has changed.
    ///
    /// A caller that sees a count also sees, by [`current`](Self::current), the pool that was
    /// current then, or a later one.
    #[inline]
    pub fn switches(&self) -> u64 {
        // Acquire: pairs with the Release in `replace_current` and in `cold.rs`.
        self.shared.counters.switches.load(Ordering::Acquire)
    }

    /// Returns all pools at one moment, oldest first.
    pub fn pools(&self) -> Vec<PoolInfo> {
        self.shared.pools.snapshot().iter().map(info_of).collect()
    }

    /// Returns the manager's counters.
    pub fn stats(&self) -> ManagerStats {
        let Shared { pools, gate, counters, .. } = &*self.shared;
        // Relaxed: statistics only.
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ManagerStats {
            switches: read(&counters.switches),
            pools_created: read(&counters.created),
            pools_revived: read(&counters.revived),
            pools_destroyed: read(&counters.destroyed),
            destroyed_on_caller: read(&counters.destroyed_on_caller),
            destructors_panicked: read(&counters.destructors_panicked),
            jobs_refused: gate.jobs_refused(),
            pools_alive: pools.len(),
            pending_destroy: gate.pending(),
            pending_destroy_bytes: gate.pending_bytes(),
            pending_destroy_max: gate.pending_max(),
        }
    }

    /// Runs the jobs that the executor refused, and returns their number. Does nothing inside an
    /// observer or a constructor. May block.
    pub fn reap(&self) -> usize {
        might_block("PoolManager::reap");
        if is_inside_switch() {
            return 0;
        }
        self.shared.gate.run_orphans()
    }

    /// Waits until no pool awaits destruction, and destroys the pools that the executor has not
    /// begun to destroy. So it works even if the executor runs no job. May block.
    ///
    /// A pool whose destruction was begun by a thread that is gone is given up and leaked.
    ///
    /// # Errors
    ///
    /// [`DrainError`] where it could be waiting for itself: inside a job of any executor (which
    /// includes a plug-in's destructor), a constructor or an observer.
    pub fn flush(&self) -> Result<(), DrainError> {
        might_block("PoolManager::flush");
        if in_job() || is_inside_switch() {
            return Err(DrainError);
        }
        self.shared.gate.wait_for_pending_below(1);
        Ok(())
    }

    /// Destroys the pools that the executor has not begun to destroy, then waits up to 1 s for the
    /// others. Returns the bytes that their allocators held. For callers that need the memory.
    ///
    /// - A destruction that took longer is not waited for again until another one ends.
    /// - Does nothing where it could be waiting for itself: inside a job, a switch, an observer, a
    ///   constructor, an executor's `submit` or a no-block section.
    /// - May block: hold no lock that a plug-in's destructor takes.
    pub fn destroy_pending(&self) -> usize {
        if in_job() || is_inside_switch() || is_submitting() || NoBlock::is_active() {
            return 0;
        }
        if self.shared.gate.pending() == 0 {
            return 0;
        }
        might_block("PoolManager::destroy_pending");
        let before = self.pending_bytes();
        self.shared.gate.destroy_pending();
        before.saturating_sub(self.pending_bytes())
    }

    /// Returns whether the lock of the list of pools is held at this moment. For the test that no
    /// code allocates under it (B6).
    #[doc(hidden)]
    pub fn list_is_locked(&self) -> bool {
        self.shared.pools.is_locked()
    }
}

fn info_of(snapshot: &PoolSnapshot) -> PoolInfo {
    let (listed, pool) = (&snapshot.listed, snapshot.pool.as_deref());
    PoolInfo {
        label: (*listed.label).clone(),
        state: match pool {
            None => PoolState::Dying,
            Some(_) if snapshot.is_current => PoolState::Current,
            Some(_) if snapshot.is_cold => PoolState::Cold,
            Some(_) => PoolState::Retired,
        },
        // Without the reference that this snapshot holds.
        references: listed.block.references().saturating_sub(u64::from(pool.is_some())),
        bytes_held: pool.map_or(0, |pool| catch(|| pool.bytes_held()).unwrap_or(snapshot.recorded)),
        context_bytes: pool.map_or(0, |pool| pool.codec().stats().context_bytes),
        age: listed.created.elapsed(),
        retired_for: listed.retired.map(|since| since.elapsed()),
    }
}

impl Drop for PoolManager {
    fn drop(&mut self) {
        might_block("dropping a PoolManager");
        let pools = &self.shared.pools;
        for last in [pools.publish(None), pools.publish_cold(None)].into_iter().flatten() {
            last.retire();
        }
        // Inside a job, no thread can be waited for: then the last thread that is handing a job
        // over takes the executor.
        let may_wait = !in_job() && !is_submitting();
        let gate = &self.shared.gate;
        let executor = gate.close(may_wait);
        let queue = self.queue.take();
        if queue.is_some() && may_wait {
            gate.wait_for_pending_below(1);
        }
        match queue {
            Some(JobQueue::Shared(worker)) => worker.end_group(gate.group()),
            Some(JobQueue::Relay(queue)) if !may_wait || queue.shutdown().is_err() => {
                // Inside a job: the queue completes its jobs after this one, and its last owner
                // does not wait.
                queue.shutdown_detached();
            }
            _ => {}
        }
        gate.run_orphans();
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
