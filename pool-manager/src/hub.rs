//! What outlives the manager: the part that pools refer to when they come and go. The list of pools, the current one, and the gate to the executor.
//!
//! Locks, all leaves: `pools` (list and current pool change together under it, and nothing is allocated or freed), `gate`, `executor`, `kept_blocks`.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use zpool_core::compress::ContextBudget;
use zpool_core::exec::{Executor, Job, JobList, Jobs, contained};
use zpool_core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zpool_core::sync::{Condvar, Mutex, MutexGuard};
use zpool_core::{Counted, Ref};

use crate::current::Current;
use crate::observe::Watch;
use crate::pool::{Pool, PoolLabel, PoolRef};

/// Shared by a manager and all its pools.
pub(crate) struct Hub {
    pub(crate) current: Current<Pool>,
    /// Every pool that is not destroyed, oldest first: the current one, retired ones, and those whose destruction is pending.
    pools: Mutex<Vec<Listed>>,
    /// There until the manager goes.
    executor: Mutex<Option<Arc<dyn Executor>>>,
    /// Jobs that the executor refused.
    orphans: JobList,
    gate: Mutex<Gate>,
    gate_moved: Condvar,
    /// Blocks of destroyed pools that somebody still looked at, so that it is not the reader who frees one.
    kept_blocks: Mutex<Vec<Arc<Counted<Pool>>>>,
    pub(crate) counters: Counters,
    pub(crate) watch: Watch,
}

/// A pool on the list. Its label and times are known also when it cannot be referenced any more.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) label: Arc<PoolLabel>,
    pub(crate) block: Arc<Counted<Pool>>,
    pub(crate) created: Instant,
    pub(crate) retired: Option<Instant>,
}

/// A pool in a snapshot.
pub(crate) struct Seen {
    pub(crate) listed: Listed,
    /// `None` when its last reference has gone.
    pub(crate) pool: Option<PoolRef>,
    pub(crate) is_current: bool,
}

/// Where a walk over the pools is: at one that it holds.
#[derive(Default)]
pub(crate) struct Cursor {
    at: usize,
    pool: Option<PoolRef>,
}

/// Who is on the way to destruction.
#[derive(Debug, Default)]
struct Gate {
    /// Pools whose last reference has gone and which are not destroyed yet.
    pending: usize,
    /// Threads that are handing a job to the executor.
    in_flight: usize,
    manager_gone: bool,
    /// The manager has not waited for those: the last of them sees to what it left.
    left_to_last: bool,
}

/// What is left to the thread that drops a reference, because the manager is gone.
#[derive(Debug)]
pub(crate) struct Left {
    /// The pool's job, if it was not handed over.
    pub(crate) job: Option<Job>,
    /// Jobs that were refused while the manager went.
    pub(crate) orphans: Jobs,
    /// The executor, which the manager could not wait to take.
    pub(crate) executor: Option<Arc<dyn Executor>>,
}

/// Events so far. Each is a statistic: relaxed, and not synchronised with the others.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) switches: AtomicU64,
    pub(crate) created: AtomicU64,
    pub(crate) revived: AtomicU64,
    pub(crate) destroyed: AtomicU64,
    pub(crate) destroyed_on_caller: AtomicU64,
    pub(crate) destructors_panicked: AtomicU64,
    pub(crate) jobs_refused: AtomicU64,
    pub(crate) pending_max: AtomicUsize,
    /// Bytes of the allocators of pools that await destruction.
    pub(crate) pending_bytes: AtomicUsize,
    /// The contexts of all pools: their codecs count in it, and keep to its bound.
    pub(crate) contexts: Arc<ContextBudget>,
}

/// Adds one to a statistic.
pub(crate) fn count(counter: &AtomicU64) {
    // Relaxed: statistics only.
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Hub {
    pub(crate) fn new(executor: Arc<dyn Executor>, watch: Watch) -> Arc<Hub> {
        Arc::new(Hub {
            current: Current::none(),
            pools: Mutex::default(),
            executor: Mutex::new(Some(executor)),
            orphans: JobList::new(),
            gate: Mutex::default(),
            gate_moved: Condvar::new(),
            kept_blocks: Mutex::default(),
            counters: Counters::default(),
            watch,
        })
    }

    /// Lists a new pool and makes it current, in one step for whoever takes a snapshot. Gives the block of the pool that was current.
    pub(crate) fn publish_new(&self, pool: Pool) -> Option<Arc<Counted<Pool>>> {
        let (label, created) = (pool.label().clone(), pool.created());
        let block = Counted::new(pool);
        let listed = Listed { label, block: block.clone(), created, retired: None };
        let mut pools = self.list_with_room();
        pools.push(listed);
        self.make_current(&mut pools, Some(block))
    }

    /// The list, locked, with room for one more: memory is taken and given back while it is not locked.
    fn list_with_room(&self) -> MutexGuard<'_, Vec<Listed>> {
        self.warm();
        loop {
            let mut pools = self.pools.lock();
            if pools.len() < pools.capacity() {
                return pools;
            }
            let room = 2 * pools.len() + 4;
            drop(pools);
            let mut larger = Vec::with_capacity(room);
            pools = self.pools.lock();
            if larger.capacity() > pools.len() {
                larger.append(&mut pools);
                core::mem::swap(&mut *pools, &mut larger);
            }
            drop(pools);
        }
    }

    /// Fills a vector from the list, `look`ing at each pool under the lock.
    fn look<T>(&self, look: impl Fn(&Listed, Option<&Arc<Counted<Pool>>>) -> T) -> Vec<T> {
        self.warm();
        let mut seen = Vec::new();
        loop {
            let pools = self.pools.lock();
            if pools.len() <= seen.capacity() {
                let current = self.current.block();
                seen.extend(pools.iter().map(|listed| look(listed, current.as_ref())));
                drop(pools);
                return seen;
            }
            let room = pools.len();
            drop(pools);
            seen.reserve(room);
        }
    }

    /// arc-swap allocates at a thread's first look: not under the list's lock.
    fn warm(&self) {
        drop(self.current.block());
    }

    /// Makes a listed pool, or none, current. Gives the block of the pool that was.
    pub(crate) fn publish(&self, block: Option<Arc<Counted<Pool>>>) -> Option<Arc<Counted<Pool>>> {
        self.warm();
        self.make_current(&mut self.pools.lock(), block)
    }

    fn make_current(
        &self,
        pools: &mut [Listed],
        next: Option<Arc<Counted<Pool>>>,
    ) -> Option<Arc<Counted<Pool>>> {
        let old = self.current.block();
        for listed in pools {
            if next.as_ref().is_some_and(|next| Arc::ptr_eq(&listed.block, next)) {
                listed.retired = None;
            } else if old.as_ref().is_some_and(|old| Arc::ptr_eq(&listed.block, old)) {
                listed.retired = Some(Instant::now());
            }
        }
        self.current.set(next);
        old
    }

    /// Takes a pool off the list, by its block: an allocator's id is what the allocator says.
    pub(crate) fn unlist(&self, block: &Arc<Counted<Pool>>) {
        let mut pools = self.pools.lock();
        let at = pools.iter().position(|listed| Arc::ptr_eq(&listed.block, block));
        let listed = at.map(|at| pools.remove(at));
        drop(pools);
        // Memory is freed outside the lock.
        drop(listed);
    }

    /// Takes the block of a destroyed pool, to free it when nobody looks at it any more. A reader whose look outlived a switch may be the last to have it, and
    /// a reader makes no heap call.
    pub(crate) fn free_block(&self, block: Arc<Counted<Pool>>) {
        let mut kept = self.kept_blocks.lock();
        kept.push(block);
        // One whose only owner is this list can get no other: it is neither current nor listed.
        let free: Vec<_> = kept.extract_if(.., |block| Arc::strong_count(block) == 1).collect();
        drop(kept);
        drop(free);
    }

    /// The list. What is on it may be at zero.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        self.look(|listed, _| listed.clone())
    }

    /// The next pool that is alive after the one that `cursor` has, which is dropped: with no lock
    /// held, since that may release it. For walks that make no heap call.
    pub(crate) fn next_alive<'c>(&self, cursor: &'c mut Cursor) -> Option<&'c PoolRef> {
        let next = {
            let pools = self.pools.lock();
            // Pools before it may be gone from the list by now; itself it is there as long as it is referenced.
            let before = cursor.pool.as_ref().map(Ref::block);
            let passed = before.and_then(|before| {
                let until = pools.len().min(cursor.at + 1);
                pools[..until].iter().rposition(|listed| Arc::ptr_eq(&listed.block, &before))
            });
            let first = passed.map_or(0, |passed| passed + 1);
            let alive = pools.iter().enumerate().skip(first);
            let mut alive = alive.filter_map(|(at, listed)| listed.block.try_ref().map(|pool| (at, pool)));
            alive.next()
        };
        let before = match next {
            Some((at, pool)) => {
                cursor.at = at;
                cursor.pool.replace(pool)
            }
            None => cursor.pool.take(),
        };
        drop(before);
        cursor.pool.as_ref()
    }

    /// All pools at one moment (B49). To be dropped where the last reference of a pool may be: it may hold that.
    pub(crate) fn snapshot(&self) -> Vec<Seen> {
        self.look(|listed, current| Seen {
            listed: listed.clone(),
            // Under the lock: what is current keeps its identity reference until another one is, and that takes the lock.
            pool: listed.block.try_ref(),
            is_current: current.is_some_and(|current| Arc::ptr_eq(current, &listed.block)),
        })
    }

    /// Puts what the allocator of a pool holds, which nobody can ask any more, on the books until it is destroyed. Gives how much that is.
    pub(crate) fn owe(&self, pool: &Pool) -> usize {
        // Foreign code, on the release path.
        let bytes = contained(|| pool.zpool().bytes_held()).unwrap_or(0);
        // Relaxed: statistics only.
        self.counters.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }

    /// Is the list locked at this moment?
    pub(crate) fn list_is_locked(&self) -> bool {
        self.pools.try_lock().is_none()
    }

    /// Pools on the list.
    pub(crate) fn alive(&self) -> usize {
        self.pools.lock().len()
    }

    /// Gives the job that destroys a pool to the executor. Never blocks, allocates or fails: a job that is refused becomes an orphan.
    ///
    /// When the manager is gone, gives back what is then the caller's to see to.
    pub(crate) fn hand_over(&self, job: Job) -> Option<Left> {
        let mut gate = self.gate.lock();
        gate.pending += 1;
        // Relaxed: statistics only.
        self.counters.pending_max.fetch_max(gate.pending, Ordering::Relaxed);
        if gate.manager_gone {
            drop(gate);
            return Some(Left { job: Some(job), orphans: Jobs::none(), executor: None });
        }
        gate.in_flight += 1;
        drop(gate);
        self.submit(job);
        let mut gate = self.gate.lock();
        gate.in_flight -= 1;
        let last = gate.in_flight == 0 && gate.left_to_last;
        drop(gate);
        self.gate_moved.notify_all();
        if !last {
            return None;
        }
        // The manager went meanwhile and did not wait. Nobody else looks at the orphans again, each of which keeps this hub, and nobody takes the executor.
        let executor = self.executor.lock().take();
        Some(Left { job: None, orphans: self.orphans.take_all(), executor })
    }

    fn submit(&self, job: Job) {
        let executor = self.executor.lock().clone();
        let Some(executor) = executor else { return self.adopt(job) };
        // A panic in a foreign `submit` must not leave the drop of a reference. The job, if it was not taken, is dropped by the unwinding, which
        // destroys the pool right here: late, but not lost.
        match contained(|| executor.submit(job)) {
            Some(Ok(())) => {}
            Some(Err(refused)) => self.adopt(refused.job),
            None => count(&self.counters.jobs_refused),
        }
        // Never the executor's last owner: it is taken out when nobody is in flight.
        drop(executor);
    }

    fn adopt(&self, job: Job) {
        count(&self.counters.jobs_refused);
        if let Err(job) = self.orphans.push(job) {
            // The list is never closed while somebody is in flight.
            drop(job);
        }
    }

    /// Runs the jobs that the executor refused. Returns how many. May block.
    pub(crate) fn run_orphans(&self) -> usize {
        // A destructor's panic is contained in the job and counted by it.
        self.orphans.take_all().map(|job| drop(job.run())).count()
    }

    /// A pool is destroyed, or lost.
    pub(crate) fn one_less_pending(&self) {
        self.gate.lock().pending -= 1;
        self.gate_moved.notify_all();
    }

    /// Waits until fewer than `limit` pools await destruction, running orphans meanwhile.
    pub(crate) fn wait_for_pending_below(&self, limit: usize) {
        loop {
            self.run_orphans();
            let mut gate = self.gate.lock();
            if gate.pending < limit {
                return;
            }
            // An orphan is pushed before its pusher takes the gate's lock to say so: no wake-up is lost.
            if self.orphans.is_empty() {
                self.gate_moved.wait(&mut gate);
            }
        }
    }

    /// Pools whose destruction is pending.
    pub(crate) fn pending(&self) -> usize {
        self.gate.lock().pending
    }

    /// From now on no job goes to the executor. Waits for those who are handing one over, and gives the executor; if `may_wait` is false, the last of
    /// them takes it.
    pub(crate) fn manager_goes(&self, may_wait: bool) -> Option<Arc<dyn Executor>> {
        let mut gate = self.gate.lock();
        gate.manager_gone = true;
        while may_wait && gate.in_flight > 0 {
            self.gate_moved.wait(&mut gate);
        }
        let idle = gate.in_flight == 0;
        gate.left_to_last = !idle;
        drop(gate);
        if idle { self.executor.lock().take() } else { None }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("alive", &self.alive())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
