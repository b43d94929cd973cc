//! What outlives the manager: the part that pools refer to when they come and go. The list of
//! pools, the current one, and the gate to the executor.
//!
//! Locks, all leaves: `pools` (list and current pool change together under it, and nothing is
//! allocated or freed), `gate`, `executor`, `kept_blocks`, and those of `doomed`.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use zpool_core::compress::ContextBudget;
use zpool_core::exec::{Executor, Job, Refused, RefusedReason};
use zpool_core::internal::Counted;
use zpool_core::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex, MutexGuard, ThreadMark};
use zpool_core::internal::{Contained, JobList, PreparedJob, contained};

use crate::current::Current;
use crate::doomed::DoomedJobs;
use crate::observe::Watch;
use crate::pool::{Pool, PoolRef};
use crate::pool_list::{Listed, Place, PoolList, spec_hash};
use crate::queue::wait::PATIENCE;
use crate::release::count_leaked;

/// Shared by a manager and all its pools.
pub(crate) struct Hub {
    /// Tells managers of the process apart: the group of all jobs of this one.
    pub(crate) id: u64,
    pub(crate) current: Current<Pool>,
    /// Every pool that is not destroyed: the current one, retired ones, and those whose destruction
    /// is pending.
    pub(crate) pools: Mutex<PoolList>,
    /// Bounded looks at the books since all pools were asked.
    pub(crate) looks: AtomicUsize,
    /// There until the manager goes.
    executor: Mutex<Option<OurExecutor>>,
    /// Jobs that destroy pools.
    pub(crate) doomed: DoomedJobs,
    /// Tickets that the executor refused.
    pub(crate) orphans: JobList,
    /// A thread of the process in which the manager was made.
    pub(crate) maker: ThreadMark,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) gate_moved: Condvar,
    /// Control blocks of destroyed pools that a reader still held, so that it is not the reader
    /// that frees one.
    kept_blocks: Mutex<Vec<Arc<Counted<Pool>>>>,
    pub(crate) counters: Counters,
    pub(crate) watch: Watch,
}

/// The manager's executor. Its drop is foreign code.
pub(crate) type OurExecutor = Contained<Arc<dyn Executor>>;

/// How many times [`PATIENCE`] a manager that goes waits for a foreign `submit` to return.
const PATIENCE_WITH_SUBMIT: u32 = 40;

thread_local! {
    /// Calls of executors on this thread's stack.
    static HANDING: Cell<u32> = const { Cell::new(0) };
}

/// Is the calling thread inside an executor's `submit`?
pub(crate) fn is_handing_over() -> bool {
    HANDING.with(Cell::get) > 0
}

/// Who is on the way to destruction.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Pools whose last reference has gone and which are not destroyed yet.
    pub(crate) pending: usize,
    /// Threads that are handing a job to the executor.
    in_flight: usize,
    manager_gone: bool,
    /// Pending pools that no thread will ever destroy: theirs was ended in the middle.
    pub(crate) lost: usize,
    /// So many were pending when a thread had waited too long for them; 0 as soon as one goes.
    pub(crate) stuck: usize,
    /// The manager has not waited for those: the last of them sees to what it left.
    left_to_last: bool,
}

/// What is left to the thread that drops a reference, because the manager is gone.
#[derive(Debug)]
pub(crate) struct Left {
    /// The pool's job, if it was not handed over.
    pub(crate) job: Option<Job>,
    /// Does it have to take the jobs of other pools as well, which the executor refused while the
    /// manager went?
    pub(crate) orphans: bool,
    /// The executor, which the manager could not wait to take.
    pub(crate) executor: Option<OurExecutor>,
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
        // No part of a protocol. From 1: group 0 is none.
        static IDS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);
        Arc::new(Hub {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            current: Current::none(),
            pools: Mutex::new(PoolList::new()),
            looks: AtomicUsize::new(0),
            executor: Mutex::new(Some(executor.into())),
            doomed: DoomedJobs::new(),
            orphans: JobList::new(),
            maker: ThreadMark::here(),
            gate: Mutex::default(),
            gate_moved: Condvar::new(),
            kept_blocks: Mutex::default(),
            counters: Counters::default(),
            watch,
        })
    }

    /// Lists a new pool and makes it current, in one step as snapshots see it. Returns the
    /// block of the pool that was current, which is not to be revived if that is `for_good`.
    pub(crate) fn publish_new(&self, pool: Pool, for_good: bool) -> Option<Arc<Counted<Pool>>> {
        let (label, created, place) = (pool.label().clone(), pool.created(), pool.place().clone());
        let hash = spec_hash(&label.spec);
        let block = Counted::new(pool);
        let (block_too, place_too, retired) = (block.clone(), place.clone(), None);
        let listed =
            Listed { label, block: block_too, place: place_too, created, retired, for_good: false };
        let mut pools = self.list_with_room();
        let at = pools.add(listed, hash);
        let _ = place.set(at);
        self.make_current(&mut pools, Some((at, block)), for_good)
    }

    /// The list, locked, with room for one more: memory is taken and given back while it is not
    /// locked.
    fn list_with_room(&self) -> MutexGuard<'_, PoolList> {
        self.warm();
        loop {
            let pools = self.pools.lock();
            let Some(room) = pools.wants_room_for() else { return pools };
            drop(pools);
            let larger = PoolList::with_room_for(room);
            let smaller = self.pools.lock().grow_into(larger);
            drop(smaller);
        }
    }

    /// arc-swap allocates at a thread's first look: not under the list's lock.
    pub(crate) fn warm(&self) {
        drop(self.current.block());
    }

    /// Makes a listed pool, or none, current. Returns the block of the pool that was.
    pub(crate) fn publish(&self, next: Option<&PoolRef>) -> Option<Arc<Counted<Pool>>> {
        self.warm();
        let next = next
            .and_then(|pool| Some((*pool.place().get()?, zpool_core::internal::Ref::block(pool))));
        self.make_current(&mut self.pools.lock(), next, false)
    }

    fn make_current(
        &self,
        pools: &mut PoolList,
        next: Option<(Place, Arc<Counted<Pool>>)>,
        for_good: bool,
    ) -> Option<Arc<Counted<Pool>>> {
        let old = self.current.block();
        let (at, block) = next.unzip();
        let was = pools.make_current(at);
        pools.strike_current();
        if let Some(listed) = was.and_then(|was| pools.get_mut(was)) {
            listed.retired = Some(Instant::now());
            listed.for_good = for_good;
        }
        if let Some(listed) = at.and_then(|at| pools.get_mut(at)) {
            listed.retired = None;
        }
        self.current.set(block);
        old
    }

    /// Takes a pool off the list, by its place: an allocator's id is what the allocator says.
    pub(crate) fn unlist(&self, pool: &Pool) {
        let Some(&place) = pool.place().get() else { return };
        let listed = self.pools.lock().remove(place);
        // Memory is freed outside the lock.
        drop(listed);
    }

    /// Takes the block of a destroyed pool, to free it when no reader holds it any more. A reader
    /// whose look outlived a switch may be the last to have it, and a reader makes no heap call.
    pub(crate) fn free_block(&self, block: Arc<Counted<Pool>>) {
        let mut kept = self.kept_blocks.lock();
        // Without memory for the list, whichever owner is the last frees it.
        if kept.try_reserve(1).is_ok() {
            kept.push(block);
        }
        // One whose only owner is this list can get no other: it is neither current nor listed.
        while let Some(at) = kept.iter().position(|block| Arc::strong_count(block) == 1) {
            let free = kept.swap_remove(at);
            drop(kept);
            drop(free);
            kept = self.kept_blocks.lock();
        }
    }

    /// Returns a reference to a live retired pool of `spec`.
    pub(crate) fn find_retired(&self, spec: &zpool_core::spec::PoolSpec) -> Option<PoolRef> {
        let hash = spec_hash(spec);
        // One at zero is about to be destroyed: skipped, and the search goes on (a live twin may
        // follow). No reference is dropped under the lock.
        self.pools.lock().find(hash, |_, listed| {
            let wanted = listed.label.spec == *spec && !listed.for_good;
            if wanted { listed.block.try_ref() } else { None }
        })
    }

    /// Is the list locked at this moment?
    pub(crate) fn list_is_locked(&self) -> bool {
        self.pools.try_lock().is_none()
    }

    /// Pools on the list.
    pub(crate) fn alive(&self) -> usize {
        self.pools.lock().len()
    }

    /// Hands the job that destroys a pool to the executor. Never blocks, allocates or fails: a job
    /// that is refused becomes an orphan.
    ///
    /// When the manager is gone, returns what is then the caller's to see to.
    pub(crate) fn hand_over(
        self: &Arc<Self>,
        job: Job,
        ticket: PreparedJob<Ticket>,
    ) -> Option<Left> {
        let mut gate = self.gate.lock();
        gate.pending += 1;
        // Relaxed: statistics only.
        self.counters.pending_max.fetch_max(gate.pending, Ordering::Relaxed);
        if gate.manager_gone {
            drop(gate);
            return Some(Left { job: Some(job), orphans: false, executor: None });
        }
        gate.in_flight += 1;
        drop(gate);
        self.doomed.push(job);
        let ticket = ticket.arm(Ticket(self.clone())).with_group(self.id);
        match self.give(ticket, |executor, ticket| executor.submit(ticket)) {
            Some(Ok(())) => {}
            Some(Err(refused)) => self.adopt(refused.job),
            // A panic in a foreign `submit` must not leave the drop of a reference. The ticket, if
            // it was not taken, was dropped by the unwinding, which destroyed the pool: late, but
            // not lost.
            None => count(&self.counters.jobs_refused),
        }
        self.has_landed()
    }

    /// Hands a job to the executor; in flight meanwhile. `None` is a panic: then the unwinding has
    /// dropped the job, or the executor has kept it.
    fn give(
        &self,
        job: Job,
        how: impl FnOnce(&dyn Executor, Job) -> Result<(), Refused>,
    ) -> Option<Result<(), Refused>> {
        // In a forked child the executor's threads are not there.
        let gone = self.maker.is_of_another_process();
        let executor = self.executor.lock().clone().filter(|_| !gone);
        let Some(executor) = executor else {
            return Some(Err(Refused { job, reason: RefusedReason::ShutDown }));
        };
        HANDING.with(|handing| handing.set(handing.get() + 1));
        let outcome = contained(|| how(&**executor, job));
        HANDING.with(|handing| handing.set(handing.get() - 1));
        // Never the executor's last owner: it is taken out when no thread is in flight.
        drop(executor);
        outcome
    }

    /// Ends what was in flight.
    fn has_landed(&self) -> Option<Left> {
        let mut gate = self.gate.lock();
        gate.in_flight -= 1;
        let last = gate.in_flight == 0 && gate.left_to_last;
        drop(gate);
        self.gate_moved.notify_all();
        if !last {
            return None;
        }
        // The manager went meanwhile and did not wait. No other thread looks at the orphans again,
        // each of which keeps this hub, and none takes the executor.
        let executor = self.executor.lock().take();
        Some(Left { job: None, orphans: !self.orphans.is_empty(), executor })
    }

    /// Submits a job of a pool's own. Refused once the manager is gone, or in a forked child.
    pub(crate) fn submit(
        &self,
        job: Job,
        how: impl FnOnce(&dyn Executor, Job) -> Result<(), Refused>,
    ) -> (Result<(), Refused>, Option<Left>) {
        let mut gate = self.gate.lock();
        if gate.manager_gone {
            return (Err(Refused { job, reason: RefusedReason::ShutDown }), None);
        }
        gate.in_flight += 1;
        drop(gate);
        let outcome = self.give(job.with_group(self.id), how);
        (outcome.unwrap_or(Ok(())), self.has_landed())
    }

    fn adopt(&self, ticket: Job) {
        count(&self.counters.jobs_refused);
        if let Err(ticket) = self.orphans.push(ticket) {
            // The list is never closed while somebody is in flight.
            drop(ticket);
        }
    }

    /// Runs the jobs that the executor refused. Returns how many. May block.
    pub(crate) fn run_orphans(&self) -> usize {
        // A destructor's panic is contained in the job and counted by it.
        self.orphans.take_all().map(|ticket| drop(ticket.run())).count()
    }

    /// Takes the jobs of all pools that are not destroyed, and the tickets that were refused.
    pub(crate) fn take_orphans(&self) -> Vec<Job> {
        let jobs: Vec<_> = self.doomed.take_all().collect();
        drop(self.orphans.take_all());
        jobs
    }

    /// A pool is destroyed, or lost.
    pub(crate) fn one_less_pending(&self) {
        let mut gate = self.gate.lock();
        gate.pending -= 1;
        gate.lost = gate.lost.min(gate.pending);
        gate.stuck = 0;
        drop(gate);
        self.gate_moved.notify_all();
    }

    /// Waits until fewer than `limit` pools await destruction, and destroys those meanwhile that no
    /// thread has begun to. Not for those whose thread is gone. May block; not from inside a job.
    pub(crate) fn wait_for_pending_below(&self, limit: usize) {
        loop {
            self.run_orphans();
            while self.pending() >= limit && self.doomed.run_one() {}
            let mut gate = self.gate.lock();
            if gate.pending - gate.lost < limit {
                return;
            }
            // A job is pushed before its pusher takes the gate's lock to say so: no wake-up is
            // lost.
            if self.doomed.is_waiting() || !self.orphans.is_empty() {
                continue;
            }
            let (pending, in_flight) = (gate.pending, gate.in_flight);
            let timed_out = self.gate_moved.wait_for(&mut gate, PATIENCE).timed_out();
            let at_rest = (gate.pending, gate.in_flight) == (pending, in_flight)
                && (in_flight == 0 || self.maker.is_of_another_process());
            if timed_out && at_rest && !self.doomed.is_waiting() && self.doomed.is_idle() {
                count_leaked(gate.pending - gate.lost);
                gate.lost = gate.pending;
            }
        }
    }

    /// Pools whose destruction is pending, and not given up.
    pub(crate) fn pending(&self) -> usize {
        let gate = self.gate.lock();
        gate.pending - gate.lost
    }

    /// From now on no job goes to the executor. Waits for those who are handing one over, and
    /// returns the executor; if `may_wait` is false, the last of them takes it.
    pub(crate) fn manager_goes(&self, may_wait: bool) -> Option<OurExecutor> {
        let mut gate = self.gate.lock();
        gate.manager_gone = true;
        // In a forked child, who was handing one over is not there any more.
        let forked = self.maker.is_of_another_process();
        // An executor whose `submit` waits for this very thread would wait for ever.
        let mut patience = if may_wait && !forked { PATIENCE_WITH_SUBMIT } else { 0 };
        while patience > 0 && gate.in_flight > 0 {
            let timed_out = self.gate_moved.wait_for(&mut gate, PATIENCE).timed_out();
            patience -= u32::from(timed_out);
        }
        let idle = gate.in_flight == 0 || forked;
        gate.left_to_last = !idle;
        drop(gate);
        if idle { self.executor.lock().take() } else { None }
    }
}

/// What an executor gets to destroy a pool: run or dropped, it destroys the one that waits longest.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Hub>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.doomed.run_one();
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
