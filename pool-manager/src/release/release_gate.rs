//! The gate between the last reference to a pool and the job that destroys it.
//!
//! ```text
//!   hand_over ──► destroy queue ◄── ticket ◄── executor
//!                      ▲
//!                      └────────────── wait_for_pending_below, destroy_pending
//! ```
//!
//! The gate owns the manager's executor until the manager is dropped, and counts the pools whose
//! destruction is pending. All locks here are leaves.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::exec::{Executor, Job, Refused, RefusedReason};
use zpool_core::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex, ThreadMark};
use zpool_core::internal::{Foreign, JobList, catch};

use super::count_leaked;
use super::destroy_queue::DestroyQueue;
use crate::queue::wait::LIVENESS_CHECK_INTERVAL;
use crate::shared::count;

/// The manager's executor, whose drop is foreign code.
pub(crate) type OwnedExecutor = Foreign<Arc<dyn Executor>>;

/// Longest time that the manager's drop waits for a foreign `submit`. Only time in which no thread
/// has left `submit` counts.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait of [`ReleaseGate::destroy_pending`] for destructions that other threads have begun.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Hands pools whose last reference is gone to the executor, or to a thread that may block.
pub(crate) struct ReleaseGate {
    /// Distinguishes managers of the process: the [group](Job::group) of all jobs of this one.
    group: u64,
    /// Taken when the manager is dropped.
    executor: Mutex<Option<OwnedExecutor>>,
    destroy_queue: DestroyQueue,
    /// Tickets that the executor refused.
    orphans: JobList,
    /// A thread of the process in which the manager was made.
    origin: ThreadMark,
    state: Mutex<GateState>,
    changed: Condvar,
    jobs_refused: AtomicU64,
    pending_max: AtomicUsize,
    /// Bytes of the allocators of pools that await destruction.
    pending_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct GateState {
    /// Pools whose last reference is gone and that are not destroyed yet.
    pending: usize,
    /// Threads that are handing a job to the executor.
    in_flight: usize,
    manager_gone: bool,
    /// Pending pools that no thread will ever destroy: their thread ended halfway.
    lost: usize,
    /// The number of pending pools when a caller gave up waiting for them; 0 as soon as one of
    /// them is destroyed.
    stuck: usize,
    /// The manager did not wait for the threads in flight. The last of them takes the executor.
    left_to_last: bool,
}

impl GateState {
    /// Notes that a pool is destroyed. It may be one that was given up.
    fn end_pending(&mut self) {
        self.pending -= 1;
        self.lost = self.lost.min(self.pending);
        self.stuck = 0;
    }

    /// Returns how many pools await destruction, without those that were given up.
    fn awaited(&self) -> usize {
        self.pending - self.lost
    }

    /// Returns whether callers have given up waiting for every awaited pool.
    fn is_settled(&self) -> bool {
        self.pending <= self.lost.max(self.stuck)
    }

    /// Counts all pending pools as lost. Returns how many were not counted before.
    fn give_up(&mut self) -> usize {
        let awaited = self.awaited();
        self.lost = self.pending;
        awaited
    }
}

/// Work left to the thread that drops a reference, because the manager is gone.
#[derive(Debug)]
pub(crate) struct Leftovers {
    /// The pool's own job, if it was not handed over.
    pub(crate) job: Option<Job>,
    /// Whether the jobs of other pools, which the executor refused during the manager's drop, have
    /// to be run as well.
    pub(crate) orphans: bool,
    /// The executor, if the manager could not wait to take it.
    pub(crate) executor: Option<OwnedExecutor>,
}

thread_local! {
    /// Calls of executors on this thread's stack.
    static SUBMITTING: Cell<u32> = const { Cell::new(0) };
}

/// Returns whether the calling thread is inside an executor's `submit`.
pub(crate) fn is_submitting() -> bool {
    SUBMITTING.with(Cell::get) > 0
}

impl ReleaseGate {
    pub(crate) fn new(executor: Arc<dyn Executor>) -> ReleaseGate {
        // Not part of a protocol. From 1: group 0 means none.
        static GROUPS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);
        ReleaseGate {
            group: GROUPS.fetch_add(1, Ordering::Relaxed),
            executor: Mutex::new(Some(executor.into())),
            destroy_queue: DestroyQueue::new(),
            orphans: JobList::new(),
            origin: ThreadMark::here(),
            state: Mutex::default(),
            changed: Condvar::new(),
            jobs_refused: AtomicU64::new(0),
            pending_max: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
        }
    }

    /// Returns the group of this manager's jobs.
    pub(crate) fn group(&self) -> u64 {
        self.group
    }

    /// Queues the job that destroys a pool, and submits a ticket for it. Never blocks, allocates
    /// or fails: a ticket that is refused becomes an orphan.
    ///
    /// If the manager is gone, makes no ticket and returns what the caller has to finish.
    pub(crate) fn hand_over(&self, job: Job, ticket: impl FnOnce() -> Job) -> Option<Leftovers> {
        let mut state = self.state.lock();
        state.pending += 1;
        // Relaxed: statistics only.
        self.pending_max.fetch_max(state.pending, Ordering::Relaxed);
        if state.manager_gone {
            drop(state);
            return Some(Leftovers { job: Some(job), orphans: false, executor: None });
        }
        state.in_flight += 1;
        drop(state);
        self.destroy_queue.push(job);
        let ticket = ticket().with_group(self.group);
        match self.call_executor(ticket, |executor, ticket| executor.submit(ticket)) {
            Some(Ok(())) => {}
            Some(Err(refused)) => self.keep_orphan(refused.job),
            // A panic in a foreign `submit` must not leave the drop of a reference. If the ticket
            // was not taken, the unwinding has dropped it, which destroyed the pool.
            None => count(&self.jobs_refused),
        }
        self.end_hand_over()
    }

    /// Submits a job of a pool's own. Refuses it once the manager is gone, or in a forked child.
    pub(crate) fn submit(
        &self,
        job: Job,
        how: impl FnOnce(&dyn Executor, Job) -> Result<(), Refused>,
    ) -> (Result<(), Refused>, Option<Leftovers>) {
        let mut state = self.state.lock();
        if state.manager_gone {
            return (Err(Refused { job, reason: RefusedReason::ShutDown }), None);
        }
        state.in_flight += 1;
        drop(state);
        let outcome = self.call_executor(job.with_group(self.group), how);
        (outcome.unwrap_or(Ok(())), self.end_hand_over())
    }

    /// Calls the executor for a job that is in flight. Returns `None` if it panicked: then the
    /// unwinding has dropped the job, or the executor has kept it.
    fn call_executor(
        &self,
        job: Job,
        how: impl FnOnce(&dyn Executor, Job) -> Result<(), Refused>,
    ) -> Option<Result<(), Refused>> {
        // A forked child does not have the executor's threads.
        let forked = self.is_forked_child();
        let executor = self.executor.lock().clone().filter(|_| !forked);
        let Some(executor) = executor else {
            return Some(Err(Refused { job, reason: RefusedReason::ShutDown }));
        };
        SUBMITTING.with(|depth| depth.set(depth.get() + 1));
        let outcome = catch(|| how(&**executor, job));
        SUBMITTING.with(|depth| depth.set(depth.get() - 1));
        // Never the executor's last owner: it is taken out while no thread is in flight.
        drop(executor);
        outcome
    }

    /// Ends a hand-over that was in flight.
    fn end_hand_over(&self) -> Option<Leftovers> {
        let mut state = self.state.lock();
        state.in_flight -= 1;
        let last = state.in_flight == 0 && state.left_to_last;
        drop(state);
        self.changed.notify_all();
        if !last {
            return None;
        }
        // The manager was dropped meanwhile and did not wait. No other thread will look at the
        // orphans, each of which keeps the gate alive, and no other thread takes the executor.
        let executor = self.executor.lock().take();
        Some(Leftovers { job: None, orphans: !self.orphans.is_empty(), executor })
    }

    fn keep_orphan(&self, ticket: Job) {
        count(&self.jobs_refused);
        if let Err(ticket) = self.orphans.push(ticket) {
            // The list is never closed while a thread is in flight.
            drop(ticket);
        }
    }

    /// Destroys the pool that has waited longest, if no thread has begun to. May block.
    pub(crate) fn destroy_oldest(&self) {
        self.destroy_queue.run_one();
    }

    /// Runs the tickets that the executor refused. Returns their number. May block.
    pub(crate) fn run_orphans(&self) -> usize {
        // A destructor's panic is caught in the job and counted there.
        self.orphans.take_all().map(|ticket| drop(ticket.run())).count()
    }

    /// Takes the jobs of all pools that are not destroyed, and drops the refused tickets.
    pub(crate) fn take_orphans(&self) -> Vec<Job> {
        let jobs: Vec<_> = self.destroy_queue.take_all().collect();
        drop(self.orphans.take_all());
        jobs
    }

    /// Notes that a pool is destroyed.
    pub(crate) fn end_pending(&self) {
        self.state.lock().end_pending();
        self.changed.notify_all();
    }

    /// Waits until fewer than `limit` pools await destruction, and destroys the ones that no
    /// thread has begun. Gives up pools whose thread is gone. May block; not from inside a job.
    pub(crate) fn wait_for_pending_below(&self, limit: usize) {
        loop {
            self.run_orphans();
            while self.pending() >= limit && self.destroy_queue.run_one() {}
            let mut state = self.state.lock();
            if state.awaited() < limit {
                return;
            }
            if self.has_unstarted_jobs() {
                continue;
            }
            let (pending, in_flight) = (state.pending, state.in_flight);
            let timed_out = self.changed.wait_for(&mut state, LIVENESS_CHECK_INTERVAL).timed_out();
            let at_rest = (state.pending, state.in_flight) == (pending, in_flight)
                && (in_flight == 0 || self.is_forked_child());
            if timed_out
                && at_rest
                && !self.destroy_queue.has_jobs()
                && self.destroy_queue.is_idle()
            {
                count_leaked(state.give_up());
            }
        }
    }

    /// Destroys the pools that no thread has begun to destroy, then waits up to
    /// [`LONGEST_WAIT`] for the others. May block; not from inside a job.
    pub(crate) fn destroy_pending(&self) {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            self.run_orphans();
            while self.destroy_queue.run_one() {}
            let mut state = self.state.lock();
            if state.is_settled() {
                return;
            }
            if self.has_unstarted_jobs() {
                continue;
            }
            if Instant::now() >= deadline || self.is_forked_child() {
                state.stuck = state.pending;
                return;
            }
            self.changed.wait_for(&mut state, LIVENESS_CHECK_INTERVAL);
        }
    }

    /// Returns whether a job or ticket waits that no thread has begun. Asked under the gate's lock
    /// before a wait: a job is pushed before its pusher takes that lock, so no wake-up is lost.
    fn has_unstarted_jobs(&self) -> bool {
        self.destroy_queue.has_jobs() || !self.orphans.is_empty()
    }

    fn is_forked_child(&self) -> bool {
        self.origin.is_of_another_process()
    }

    /// Returns how many pools await destruction, without those that were given up.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().awaited()
    }

    /// Returns the largest number of pools that awaited destruction at one time.
    pub(crate) fn pending_max(&self) -> usize {
        // Relaxed, here and below: statistics only.
        self.pending_max.load(Ordering::Relaxed)
    }

    /// Returns how many jobs the executor refused.
    pub(crate) fn jobs_refused(&self) -> u64 {
        self.jobs_refused.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the allocators of pools that await destruction.
    #[inline]
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add_pending_bytes(&self, bytes: usize) {
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn subtract_pending_bytes(&self, bytes: usize) {
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Closes the gate for the manager's drop: from now on no job goes to the executor.
    ///
    /// Waits for the threads in flight and returns the executor. If `may_wait` is false or a
    /// foreign `submit` does not return, the last of those threads takes the executor.
    pub(crate) fn close(&self, may_wait: bool) -> Option<OwnedExecutor> {
        let mut state = self.state.lock();
        state.manager_gone = true;
        // A forked child does not have the threads that were in flight.
        let forked = self.is_forked_child();
        // An executor whose `submit` waits for this very thread would wait for ever.
        let mut left = if may_wait && !forked { SUBMIT_TIMEOUT } else { Duration::ZERO };
        while !left.is_zero() && state.in_flight > 0 {
            if self.changed.wait_for(&mut state, LIVENESS_CHECK_INTERVAL).timed_out() {
                left = left.saturating_sub(LIVENESS_CHECK_INTERVAL);
            }
        }
        let idle = state.in_flight == 0 || forked;
        state.left_to_last = !idle;
        drop(state);
        if idle { self.executor.lock().take() } else { None }
    }
}

impl fmt::Debug for ReleaseGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleaseGate").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::thread;

    use zpool_core::exec::Manual;

    use super::*;

    /// Nothing is awaited once all pending pools were given up, by one caller or for good.
    #[test]
    fn settled_means_nothing_is_awaited() {
        for (pending, lost, stuck, awaited, settled) in [
            (0, 0, 0, 0, true),
            (1, 0, 0, 1, false),
            (1, 1, 0, 0, true),
            (1, 0, 1, 1, true),
            (3, 1, 2, 2, false),
            (3, 2, 1, 1, false),
            (3, 1, 3, 2, true),
        ] {
            let state = GateState { pending, lost, stuck, ..GateState::default() };
            assert_eq!((state.awaited(), state.is_settled()), (awaited, settled), "{state:?}");
        }
    }

    /// A destroyed pool is taken off both counts, and a caller waits again.
    #[test]
    fn destroyed_pool_is_not_lost() {
        let mut state = GateState { pending: 3, lost: 1, stuck: 3, ..GateState::default() };
        assert_eq!((state.give_up(), state.awaited()), (2, 0));
        state.end_pending();
        assert_eq!((state.pending, state.lost, state.stuck), (2, 2, 0));
        state.lost = 0;
        state.end_pending();
        assert_eq!((state.pending, state.lost, state.awaited()), (1, 0, 1));
    }

    /// Without pools a gate waits for nothing. Each hand-over makes one pool pending, with a
    /// ticket, and its job makes none.
    #[test]
    fn pending_pools_are_counted() {
        let manual = Arc::new(Manual::new());
        let gate = ReleaseGate::new(manual.clone());
        gate.destroy_pending();
        gate.wait_for_pending_below(1);
        assert_eq!((gate.pending(), gate.pending_max(), gate.jobs_refused()), (0, 0, 0));
        let gate = Arc::new(gate);
        for n in 1..=3 {
            let ending = gate.clone();
            let job = Job::new("destroys a pool", move || ending.end_pending());
            assert!(gate.hand_over(job, || Job::new("a ticket", || ())).is_none());
            assert_eq!((gate.pending(), gate.pending_max(), manual.pending()), (n, n, n));
        }
        gate.wait_for_pending_below(3);
        assert_eq!(gate.pending(), 2, "one pool was destroyed");
        gate.destroy_pending();
        assert_eq!((gate.pending(), gate.pending_max(), gate.jobs_refused()), (0, 3, 0));
        drop(gate.close(true).expect("no thread is in flight"));
        let job = Job::new("too late", || ());
        let leftovers = gate.hand_over(job, || unreachable!("no ticket is made")).unwrap();
        assert_eq!(leftovers.job.unwrap().label(), "too late");
        assert!(!leftovers.orphans && leftovers.executor.is_none());
    }

    /// A caller waits for a destruction that another thread has begun.
    #[test]
    fn begun_destruction_is_waited_for() {
        let gate = Arc::new(ReleaseGate::new(Arc::new(Manual::new())));
        let returned = Arc::new(AtomicBool::new(false));
        let (begun, begins) = mpsc::channel();
        let (ending, gave_up) = (gate.clone(), returned.clone());
        let job = Job::new("destroys a pool", move || {
            begun.send(()).unwrap();
            // A wake-up without a reason shows that the caller waits, and does not end its wait.
            while ending.changed.notify_all() == 0 && !gave_up.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            ending.end_pending();
        });
        assert!(gate.hand_over(job, || Job::new("a ticket", || ())).is_none());
        thread::scope(|scope| {
            scope.spawn(|| gate.destroy_oldest());
            begins.recv().unwrap();
            gate.wait_for_pending_below(1);
            let pending = gate.pending();
            returned.store(true, Ordering::SeqCst);
            assert_eq!(pending, 0, "the wait is over");
        });
    }
}
