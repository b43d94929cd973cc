//! The work queue: one named thread that runs jobs in order.
//!
//! ```text
//!   submit ────────► JobList ──► backlog ──► run, one at a time, on the worker
//!        (push: one exchange)      ▲
//!   submit_later, every ───────────┘ ordered by time
//! ```
//!
//! - Submitting is legal inside a no-block section: one exchange and at most one wake-up, without
//!   an allocation or a lock. The push that finds the list empty unparks the worker.
//! - Waiting for the queue or ending it from inside one of its own jobs is an error, not a
//!   deadlock.
//! - Drops wake the waiters, so no panic and no lost job leaves one waiting.
//! - If the worker is gone, a waiter does its work. A forked child, for example, has only the
//!   thread that forked.

mod backlog;
mod periodic;
mod relay;
mod shared;
pub(crate) mod wait;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use zpool_core::exec::{
    DrainError, DrainExecutor, Executor, ExecutorCapabilities, Job, JobPanic, Refused,
    RefusedReason,
};
use zpool_core::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zpool_core::internal::sync::{
    Condvar, Mutex, MutexGuard, ThreadMark, park_timeout, spawn_worker, thread,
};
use zpool_core::internal::{JobList, in_job};
use zpool_core::might_block;

use self::backlog::{Backlog, Due, NextStep};
pub use self::periodic::Periodic;
use self::relay::Relay;
pub(crate) use self::shared::SharedWorker;
use self::wait::{lock_unless, wait_unless};

/// An executor with one thread of its own, which blocks all signals. Dropping it completes pending
/// jobs, as [`shutdown`](DrainExecutor::shutdown) does.
///
/// # Sharing
///
/// Any number of managers and stores may share a queue: give each the same `Arc<WorkQueue>` as its
/// executor. They then neither wait for it nor end it, and [`flush`](DrainExecutor::flush) waits
/// for the jobs of all of them. (Managers without an executor share one worker of the process
/// anyway; there each waits for its own jobs only.)
///
/// # Fork
///
/// In a forked child, or after the thread was ended from outside, no job runs by itself. `flush`,
/// `shutdown` and the drop notice that, and run pending jobs on the calling thread. A job that was
/// running at that moment is lost. If the queue was locked at that moment, these calls fail with a
/// [`DrainError`].
pub struct WorkQueue {
    state: Arc<QueueState>,
    worker: thread::Thread,
    join: Mutex<Option<thread::JoinHandle<()>>>,
}

struct QueueState {
    submitted: JobList,
    /// Jobs taken out of `submitted`, and delayed ones. The list is closed under this lock, so that
    /// a worker that sees it closed also sees its last jobs.
    backlog: Mutex<Backlog>,
    /// Runs the jobs; `None` if the worker does.
    relay: Option<Relay>,
    /// The worker's thread, once it has begun.
    mark: OnceLock<ThreadMark>,
    /// A thread of the process in which the worker was started.
    origin: ThreadMark,
    /// Held by a thread that stands in for a worker that is gone.
    stand_in: Mutex<()>,
    exited: Mutex<bool>,
    exit: Condvar,
    /// The group of the running job, or 0.
    group: Mutex<u64>,
    group_moved: Condvar,
    counters: Arc<QueueCounters>,
}

/// Outcomes of the jobs.
#[derive(Debug)]
struct QueueCounters {
    depth: AtomicUsize,
    run: AtomicU64,
    panicked: AtomicU64,
    dropped: AtomicU64,
    last_panic: Mutex<Option<JobPanic>>,
}

/// Statistics of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Jobs submitted and not yet finished.
    pub depth: usize,
    /// Jobs that have run, including those that panicked.
    pub jobs_run: u64,
    /// Jobs that panicked. The panics were caught.
    pub jobs_panicked: u64,
    /// Jobs that the executor behind a relay dropped unrun.
    pub jobs_dropped: u64,
    /// The latest panic of a job.
    pub last_panic: Option<JobPanic>,
}

impl WorkQueue {
    /// Starts a queue whose thread is called `name`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread, or `name` contains a zero byte
    /// ([`io::ErrorKind::InvalidInput`]).
    pub fn new(name: &str) -> io::Result<WorkQueue> {
        WorkQueue::start(name, None)
    }

    /// Starts a queue that passes its jobs on to `executor`.
    ///
    /// For executors whose `submit` is not legal inside a no-block section. Most thread pools and
    /// async runtimes allocate there.
    ///
    /// - The queue's thread runs a job that `executor` refuses.
    /// - A job that `executor` drops unrun, as an async runtime does when it ends, counts as over.
    ///   So does a job whose `submit` panics.
    /// - A wait for this queue lasts until none of its jobs is with `executor`. The waiting thread,
    ///   which may be the only thread of `executor`, runs the jobs that have not begun.
    /// - Waiting from inside any job is an error, because that job could be one of the queue's.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn relay(name: &str, executor: Arc<dyn Executor>) -> io::Result<WorkQueue> {
        WorkQueue::start(name, Some(executor))
    }

    fn start(name: &str, relay: Option<Arc<dyn Executor>>) -> io::Result<WorkQueue> {
        let counters = Arc::new(QueueCounters {
            depth: AtomicUsize::new(0),
            run: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            last_panic: Mutex::default(),
        });
        let state = Arc::new(QueueState {
            submitted: JobList::new(),
            backlog: Mutex::default(),
            relay: relay.map(|executor| Relay::to(executor, counters.clone())),
            mark: OnceLock::new(),
            origin: ThreadMark::here(),
            stand_in: Mutex::default(),
            exited: Mutex::default(),
            exit: Condvar::new(),
            group: Mutex::default(),
            group_moved: Condvar::new(),
            counters,
        });
        let mine = state.clone();
        let join = spawn_worker(name, move || mine.work())?;
        Ok(WorkQueue { state, worker: join.thread().clone(), join: Mutex::new(Some(join)) })
    }

    /// Runs `work` again and again, waiting `period` before each run. Ends when the returned value
    /// is dropped, `work` panics, or the queue ends.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the queue is shut down.
    pub fn every(
        self: &Arc<Self>,
        period: Duration,
        label: &'static str,
        work: impl FnMut() + Send + 'static,
    ) -> Result<Periodic, Refused> {
        Periodic::start(self, period, label, work)
    }

    /// Returns the statistics of the queue.
    pub fn stats(&self) -> QueueStats {
        // Relaxed: statistics only.
        QueueStats {
            depth: self.state.counters.depth.load(Ordering::Relaxed),
            jobs_run: self.state.counters.run.load(Ordering::Relaxed),
            jobs_panicked: self.state.counters.panicked.load(Ordering::Relaxed),
            jobs_dropped: self.state.counters.dropped.load(Ordering::Relaxed),
            last_panic: self.state.counters.last_panic.lock().clone(),
        }
    }

    fn not_from_own_job(&self) -> Result<(), DrainError> {
        let own =
            thread::current().id() == self.worker.id() || (self.state.relay.is_some() && in_job());
        if own { Err(DrainError) } else { Ok(()) }
    }

    /// Closes the list and moves its jobs to the backlog. Returns `None` if a worker that is gone
    /// holds the lock.
    fn close(&self) -> Option<MutexGuard<'_, Backlog>> {
        let mut backlog = lock_unless(&self.state.backlog, || self.state.worker_is_gone())?;
        backlog.push_all(self.state.submitted.close());
        Some(backlog)
    }

    /// Ends the queue without waiting: the worker runs all pending jobs, delayed ones too, and
    /// ends. The drop does not wait for it either.
    pub(crate) fn shutdown_detached(&self) {
        let Some(mut backlog) = self.close() else { return };
        backlog.make_all_ready();
        drop(backlog);
        // The worker may be asleep, as a relay's is while its jobs run elsewhere.
        self.worker.unpark();
    }

    /// Completes the jobs of one [group](Job::group): waits for the running one, and runs the
    /// others here. Not from inside a job.
    fn end_group(&self, group: u64) {
        let gone = || self.state.worker_is_gone();
        let Some(mut backlog) = lock_unless(&self.state.backlog, gone) else { return };
        backlog.push_all(self.state.submitted.take_all());
        let jobs = backlog.take_group(group);
        drop(backlog);
        // Checked after that: a job that was no longer in the backlog is running or is marked so.
        wait_unless(&self.state.group, &self.state.group_moved, |running| *running != group, gone);
        jobs.into_iter().for_each(|job| self.state.run(job));
    }

    /// Waits until the worker has run all jobs and has ended.
    ///
    /// # Errors
    ///
    /// [`DrainError`] if a worker that is gone has left a lock held.
    fn wait_for_exit(&self) -> Result<(), DrainError> {
        let state = &*self.state;
        let exited = loop {
            let over = || state.worker_is_gone() || state.is_stuck_in_submit();
            if wait_unless(&state.exited, &state.exit, |exited| *exited, over) {
                break true;
            }
            // The worker is gone, or in a foreign `submit` that may wait for this very thread.
            state.take_over()?;
            // Relaxed: the end of a job is counted before the relay's lock is taken, and
            // `take_over` has held that lock.
            if state.worker_is_gone() || state.counters.depth.load(Ordering::Relaxed) == 0 {
                break false;
            }
        };
        state.relay.iter().for_each(Relay::wait);
        let join = self.join.lock().take();
        if let Some(join) = join.filter(|_| exited) {
            // The worker catches panics, so there is none to pass on.
            let _ = join.join();
        }
        Ok(())
    }
}

impl Executor for WorkQueue {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        // Relaxed: statistics only. Counted before, so that the worker's decrement comes after.
        self.state.counters.depth.fetch_add(1, Ordering::Relaxed);
        match self.state.submitted.push(job) {
            Ok(was_empty) => {
                if was_empty {
                    self.worker.unpark();
                }
                Ok(())
            }
            Err(job) => {
                self.state.counters.depth.fetch_sub(1, Ordering::Relaxed);
                Err(Refused { job, reason: RefusedReason::ShutDown })
            }
        }
    }

    /// Delayed jobs run in the order of their times. A shutdown runs them at once. A delay beyond
    /// the range of the clock never ends.
    fn submit_later(&self, delay: Duration, job: Job) -> Result<(), Refused> {
        let due = Due::after(delay);
        let mut backlog = self.state.backlog.lock();
        // Under the lock that `close` takes: the worker has not yet seen the closed list.
        if self.state.submitted.is_closed() {
            return Err(Refused { job, reason: RefusedReason::ShutDown });
        }
        // Relaxed: statistics only.
        self.state.counters.depth.fetch_add(1, Ordering::Relaxed);
        backlog.push_delayed(due, job);
        drop(backlog);
        // The worker may be sleeping for longer than `delay`.
        self.worker.unpark();
        Ok(())
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        let own = ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block().with_delays();
        let ordered = self.state.relay.as_ref().is_none_or(Relay::is_ordered);
        if ordered { own.with_order() } else { own }
    }
}

impl DrainExecutor for WorkQueue {
    fn flush(&self) -> Result<(), DrainError> {
        might_block("WorkQueue::flush");
        self.not_from_own_job()?;
        let gone = || self.state.worker_is_gone();
        let mut backlog = lock_unless(&self.state.backlog, gone).ok_or(DrainError)?;
        // Under the lock that `close` takes, and in the order of submission: jobs in the list are
        // younger than those in the backlog.
        if self.state.submitted.is_closed() {
            drop(backlog);
            return self.wait_for_exit();
        }
        backlog.push_all(self.state.submitted.take_all());
        let passed = backlog.push_marker();
        drop(backlog);
        self.worker.unpark();
        let stuck = || self.state.worker_is_gone() || self.state.is_stuck_in_submit();
        while !passed.wait(stuck) {
            self.state.take_over()?;
        }
        // All earlier jobs have been passed on; now they have to run.
        self.state.relay.iter().for_each(Relay::wait);
        Ok(())
    }

    fn shutdown(&self) -> Result<(), DrainError> {
        might_block("WorkQueue::shutdown");
        self.not_from_own_job()?;
        self.close().ok_or(DrainError)?.make_all_ready();
        self.worker.unpark();
        self.wait_for_exit()
    }

    fn shutdown_now(&self) -> Result<Vec<Job>, DrainError> {
        might_block("WorkQueue::shutdown_now");
        self.not_from_own_job()?;
        let pending = self.close().ok_or(DrainError)?.take();
        self.state.counters.depth.fetch_sub(pending.len(), Ordering::Relaxed);
        self.worker.unpark();
        self.wait_for_exit()?;
        Ok(pending)
    }
}

impl QueueState {
    /// Runs the worker's loop.
    fn work(&self) {
        let _exit = ExitGuard(self);
        let _ = self.mark.set(ThreadMark::here());
        loop {
            let (next, ended) = self.next(&mut self.backlog.lock());
            match next {
                NextStep::Run(job) => self.run_grouped(job),
                NextStep::Passed(marker) => drop(marker),
                NextStep::Wait if ended => break,
                NextStep::Wait => thread::park(),
                NextStep::WaitFor(time) => park_timeout(time),
            }
        }
    }

    /// Returns the next step, and whether the queue has ended.
    fn next(&self, backlog: &mut Backlog) -> (NextStep, bool) {
        if !backlog.has_ready() {
            backlog.push_all(self.submitted.take_all());
        }
        // Read under the lock, under which `close` moves the list into the backlog.
        let ended = self.submitted.is_closed();
        let next = backlog.next(Instant::now());
        if let NextStep::Run(job) = &next
            && job.group() != 0
        {
            // Before the backlog is unlocked: see `end_group`.
            *self.group.lock() = job.group();
        }
        (next, ended)
    }

    fn run_grouped(&self, job: Job) {
        let group = job.group();
        self.run(job);
        if group != 0 {
            *self.group.lock() = 0;
            self.group_moved.notify_all();
        }
    }

    fn run(&self, job: Job) {
        match &self.relay {
            None => self.counters.finished(job.run()),
            Some(relay) => relay.pass_on(job),
        }
    }

    /// Returns whether the worker's thread no longer exists, or is in another process.
    fn worker_is_gone(&self) -> bool {
        self.mark.get().map_or(self.origin.is_of_another_process(), |mark| mark.is_gone())
    }

    /// Returns whether the worker may be in a foreign `submit` that does not return. Asked after a
    /// while without progress.
    fn is_stuck_in_submit(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| !relay.is_over())
    }

    /// Does the worker's work on the calling thread, without waiting for delayed jobs.
    fn take_over(&self) -> Result<(), DrainError> {
        let _alone = self.stand_in.lock();
        let gone = || self.worker_is_gone();
        if gone() {
            // The job that ran when the worker ended is lost.
            *lock_unless(&self.group, || true).ok_or(DrainError)? = 0;
        }
        loop {
            self.relay.iter().for_each(|relay| while relay.run_oldest() {});
            let mut backlog = lock_unless(&self.backlog, gone).ok_or(DrainError)?;
            if !backlog.has_ready() {
                backlog.push_all(self.submitted.take_all());
            }
            let next = backlog.next(Instant::now());
            drop(backlog);
            match next {
                NextStep::Run(job) => match &self.relay {
                    None => self.counters.finished(job.run()),
                    // Not passed on, because its executor makes no progress.
                    Some(relay) => relay.keep(job),
                },
                NextStep::Passed(marker) => drop(marker),
                NextStep::Wait | NextStep::WaitFor(_) => return Ok(()),
            }
        }
    }
}

/// Reports the end of the worker, however it ends.
struct ExitGuard<'q>(&'q QueueState);

impl Drop for ExitGuard<'_> {
    fn drop(&mut self) {
        // Jobs are left only if a panic ended the worker, which no job causes. Then they can only
        // be dropped.
        let mut backlog = self.0.backlog.lock();
        backlog.push_all(self.0.submitted.close());
        let left = backlog.take();
        drop(backlog);
        drop(left);
        *self.0.exited.lock() = true;
        self.0.exit.notify_all();
    }
}

impl QueueCounters {
    fn finished(&self, outcome: Result<(), JobPanic>) {
        // Relaxed: statistics only.
        self.run.fetch_add(1, Ordering::Relaxed);
        self.depth.fetch_sub(1, Ordering::Relaxed);
        if let Err(panic) = outcome {
            self.panicked.fetch_add(1, Ordering::Relaxed);
            *self.last_panic.lock() = Some(panic);
        }
    }

    /// Counts a job that was dropped unrun.
    fn dropped(&self) {
        // Relaxed: statistics only.
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // If the queue was ended before, that call has waited, or asked for no wait.
        if !self.state.submitted.is_closed() && self.shutdown().is_err() {
            // Dropped by one of its own jobs, or, as a relay, by a job of any executor: no thread
            // can wait.
            self.shutdown_detached();
        }
    }
}

impl fmt::Debug for WorkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue")
            .field("thread", &self.worker.name())
            .field("stats", &self.stats())
            .finish()
    }
}
