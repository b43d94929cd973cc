//! The work queue: one named thread that runs jobs in order.
//!
//! ```text
//!   submit ──────────► JobList ──► backlog ──► run      worker asleep? the push that finds the list empty unparks it
//!                 (push: one exchange) ▲     (its own thread, one at a time)
//!   submit_later, every ───────────────┘ by time: no thread for each
//! ```
//!
//! Submitting is legal inside a no-block section: one exchange and at most one wake-up, no
//! allocation, no lock. Waiting for the queue or ending it from inside one of its own jobs is an
//! error, not a deadlock. Waiters are woken by drops, so that no panic and no lost job leaves them
//! waiting. A waiter whose worker is gone (a forked child has only the thread that forked) does its
//! work.

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
    DrainError, DrainExecutor, Executor, ExecutorProperties, Job, JobPanic, Refused, RefusedReason,
};
use zpool_core::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zpool_core::internal::sync::{
    Condvar, Mutex, MutexGuard, ThreadMark, park_timeout, spawn_worker, thread,
};
use zpool_core::internal::{JobList, in_job};
use zpool_core::might_block;

use self::backlog::{Backlog, Due, Next};
pub use self::periodic::Periodic;
use self::relay::Relay;
pub(crate) use self::shared::SharedWorker;
use self::wait::{lock_unless, wait_unless};

/// An executor with a thread of its own, which blocks all signals. Dropping it completes what is
/// pending, as [`shutdown`](DrainExecutor::shutdown) does.
///
/// # Sharing
///
/// Any number of managers and stores may share one: give each of them the same `Arc<WorkQueue>` as
/// its executor. They then neither wait for it nor end it. [`flush`](DrainExecutor::flush) waits
/// for what all of them submitted. (Managers without an executor of their own share one worker of
/// the process as it is; there each waits for its own jobs only.)
///
/// # Fork
///
/// In a forked child, or once the thread was ended from outside, nothing runs by itself. `flush`,
/// `shutdown` and the drop notice that, and run what is pending on the calling thread. A job that
/// was running in that moment is lost, and so is one whose queue was locked; then they are a
/// [`DrainError`].
pub struct WorkQueue {
    inner: Arc<Inner>,
    worker: thread::Thread,
    join: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Inner {
    submitted: JobList,
    /// Jobs taken out of `submitted`, and those with a time. Also the lock under which the list is
    /// closed, so that the worker sees the rest when it sees the end.
    backlog: Mutex<Backlog>,
    /// Who runs the jobs: `None` is the worker itself.
    relay: Option<Relay>,
    /// The worker, once it has begun.
    mark: OnceLock<ThreadMark>,
    /// A thread of the process that the worker is in.
    maker: ThreadMark,
    /// Held by a thread that does the work of a worker that is gone.
    stand_in: Mutex<()>,
    exited: Mutex<bool>,
    exit: Condvar,
    /// The group of the job that runs, or 0.
    group: Mutex<u64>,
    group_moved: Condvar,
    tally: Arc<Tally>,
}

/// What became of the jobs.
#[derive(Debug)]
struct Tally {
    depth: AtomicUsize,
    run: AtomicU64,
    panicked: AtomicU64,
    dropped: AtomicU64,
    last_panic: Mutex<Option<JobPanic>>,
}

/// What a queue has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Jobs submitted and not yet finished.
    pub depth: usize,
    /// Jobs run, those that panicked included.
    pub jobs_run: u64,
    /// Jobs that panicked; the panics were contained.
    pub jobs_panicked: u64,
    /// Jobs that the executor behind a relay dropped unrun.
    pub jobs_dropped: u64,
    /// The latest of the panics.
    pub last_panic: Option<JobPanic>,
}

impl WorkQueue {
    /// Starts a queue whose thread is called `name`.
    ///
    /// # Errors
    ///
    /// If the system gives no thread, or `name` contains a zero byte
    /// ([`io::ErrorKind::InvalidInput`]).
    pub fn new(name: &str) -> io::Result<WorkQueue> {
        WorkQueue::start(name, None)
    }

    /// Starts a queue that passes its jobs on to `executor`.
    ///
    /// It is for executors whose own `submit` is not legal inside a no-block section: most thread
    /// pools and async runtimes allocate there.
    ///
    /// - A job that `executor` refuses is run on the queue's thread.
    /// - One that it drops unrun, as an async runtime does when it ends, is over then. So is one
    ///   whose `submit` panics.
    /// - Waiting for this queue is waiting until no job of its is with `executor`. Jobs that
    ///   `executor` does not begin are run by the thread that waits, which may be the only one that
    ///   `executor` has.
    /// - Waiting from inside any job is an error, because it could be one of them.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn relay(name: &str, executor: Arc<dyn Executor>) -> io::Result<WorkQueue> {
        WorkQueue::start(name, Some(executor))
    }

    fn start(name: &str, relay: Option<Arc<dyn Executor>>) -> io::Result<WorkQueue> {
        let tally = Arc::new(Tally {
            depth: AtomicUsize::new(0),
            run: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            last_panic: Mutex::default(),
        });
        let inner = Arc::new(Inner {
            submitted: JobList::new(),
            backlog: Mutex::default(),
            relay: relay.map(|executor| Relay::to(executor, tally.clone())),
            mark: OnceLock::new(),
            maker: ThreadMark::here(),
            stand_in: Mutex::default(),
            exited: Mutex::default(),
            exit: Condvar::new(),
            group: Mutex::default(),
            group_moved: Condvar::new(),
            tally,
        });
        let mine = inner.clone();
        let join = spawn_worker(name, move || mine.work())?;
        Ok(WorkQueue { inner, worker: join.thread().clone(), join: Mutex::new(Some(join)) })
    }

    /// Runs `work` every `period`, first after one, until the returned value is dropped or the
    /// queue ends. A run that takes longer than the period delays the next; none is made up for.
    ///
    /// # Errors
    ///
    /// When the queue is shut down.
    pub fn every(
        self: &Arc<Self>,
        period: Duration,
        label: &'static str,
        work: impl FnMut() + Send + 'static,
    ) -> Result<Periodic, Refused> {
        Periodic::start(self, period, label, work)
    }

    /// What it has done.
    pub fn stats(&self) -> QueueStats {
        // Relaxed: statistics only.
        QueueStats {
            depth: self.inner.tally.depth.load(Ordering::Relaxed),
            jobs_run: self.inner.tally.run.load(Ordering::Relaxed),
            jobs_panicked: self.inner.tally.panicked.load(Ordering::Relaxed),
            jobs_dropped: self.inner.tally.dropped.load(Ordering::Relaxed),
            last_panic: self.inner.tally.last_panic.lock().clone(),
        }
    }

    fn not_from_own_job(&self) -> Result<(), DrainError> {
        let own =
            thread::current().id() == self.worker.id() || (self.inner.relay.is_some() && in_job());
        if own { Err(DrainError) } else { Ok(()) }
    }

    /// Closes the list for further jobs; what was in it is in the backlog now. `None` if the lock
    /// is held by a worker that is gone.
    fn close(&self) -> Option<MutexGuard<'_, Backlog>> {
        let mut backlog = lock_unless(&self.inner.backlog, || self.inner.worker_is_gone())?;
        backlog.push_all(self.inner.submitted.close());
        Some(backlog)
    }

    /// Ends the queue without waiting: the worker runs what is pending, also what has a time, and
    /// ends by itself. Then no drop waits for it either.
    pub(crate) fn end_unwaited(&self) {
        let Some(mut backlog) = self.close() else { return };
        backlog.hurry();
        drop(backlog);
        // It may be asleep: a relay's worker is, while its jobs run elsewhere.
        self.worker.unpark();
    }

    /// Completes the jobs of one [group](Job::group): waits for the one that runs, and runs the
    /// others here. Not from inside a job.
    fn end_group(&self, group: u64) {
        let gone = || self.inner.worker_is_gone();
        let Some(mut backlog) = lock_unless(&self.inner.backlog, gone) else { return };
        backlog.push_all(self.inner.submitted.take_all());
        let jobs = backlog.take_group(group);
        drop(backlog);
        // Looked at after that: what was not in the backlog any more has begun, or was marked so.
        wait_unless(&self.inner.group, &self.inner.group_moved, |running| *running != group, gone);
        jobs.into_iter().for_each(|job| self.inner.run(job));
    }

    /// Waits until the worker has done everything, and for its end.
    ///
    /// # Errors
    ///
    /// If a worker that is gone has left a lock behind.
    fn wait_for_exit(&self) -> Result<(), DrainError> {
        let inner = &*self.inner;
        let exited = loop {
            let over = || inner.worker_is_gone() || inner.is_stuck_in_submit();
            if wait_unless(&inner.exited, &inner.exit, |exited| *exited, over) {
                break true;
            }
            // Gone, or in a foreign `submit` that may wait for this very thread.
            inner.take_over()?;
            // Relaxed: what ended a job was told under the relay's lock, which `take_over` has
            // held.
            if inner.worker_is_gone() || inner.tally.depth.load(Ordering::Relaxed) == 0 {
                break false;
            }
        };
        inner.relay.iter().for_each(Relay::wait);
        let join = self.join.lock().take();
        if let Some(join) = join.filter(|_| exited) {
            // The worker contains panics, so there is none to pass on.
            let _ = join.join();
        }
        Ok(())
    }
}

impl Executor for WorkQueue {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        // Relaxed: statistics only. Counted before, so that the worker's decrement comes after.
        self.inner.tally.depth.fetch_add(1, Ordering::Relaxed);
        match self.inner.submitted.push(job) {
            Ok(was_empty) => {
                if was_empty {
                    self.worker.unpark();
                }
                Ok(())
            }
            Err(job) => {
                self.inner.tally.depth.fetch_sub(1, Ordering::Relaxed);
                Err(Refused { job, reason: RefusedReason::ShutDown })
            }
        }
    }

    /// Delayed jobs run in the order of their times. A shutdown runs them at once. A delay that the
    /// clock does not reach never ends.
    fn submit_later(&self, delay: Duration, job: Job) -> Result<(), Refused> {
        let due = Due::after(delay);
        let mut backlog = self.inner.backlog.lock();
        // Under the lock that `close` takes: the worker has not yet seen the end.
        if self.inner.submitted.is_closed() {
            return Err(Refused { job, reason: RefusedReason::ShutDown });
        }
        // Relaxed: statistics only.
        self.inner.tally.depth.fetch_add(1, Ordering::Relaxed);
        backlog.push_timed(due, job);
        drop(backlog);
        // The worker may sleep for longer than that.
        self.worker.unpark();
        Ok(())
    }

    fn properties(&self) -> ExecutorProperties {
        let own = ExecutorProperties::CAUTIOUS.with_submit_in_no_block();
        let ordered = self.inner.relay.as_ref().is_none_or(Relay::is_ordered);
        if ordered { own.with_order() } else { own }
    }
}

impl DrainExecutor for WorkQueue {
    fn flush(&self) -> Result<(), DrainError> {
        might_block("WorkQueue::flush");
        self.not_from_own_job()?;
        let gone = || self.inner.worker_is_gone();
        let mut backlog = lock_unless(&self.inner.backlog, gone).ok_or(DrainError)?;
        // Under the lock that `close` takes, and in the order of the submissions: what is in the
        // list is younger than what is in the backlog.
        if self.inner.submitted.is_closed() {
            drop(backlog);
            return self.wait_for_exit();
        }
        backlog.push_all(self.inner.submitted.take_all());
        let passed = backlog.push_marker();
        drop(backlog);
        self.worker.unpark();
        let stuck = || self.inner.worker_is_gone() || self.inner.is_stuck_in_submit();
        while !passed.wait(stuck) {
            self.inner.take_over()?;
        }
        // All before it have been passed on; now they have to run.
        self.inner.relay.iter().for_each(Relay::wait);
        Ok(())
    }

    fn shutdown(&self) -> Result<(), DrainError> {
        might_block("WorkQueue::shutdown");
        self.not_from_own_job()?;
        self.close().ok_or(DrainError)?.hurry();
        self.worker.unpark();
        self.wait_for_exit()
    }

    fn shutdown_now(&self) -> Result<Vec<Job>, DrainError> {
        might_block("WorkQueue::shutdown_now");
        self.not_from_own_job()?;
        let pending = self.close().ok_or(DrainError)?.take();
        self.inner.tally.depth.fetch_sub(pending.len(), Ordering::Relaxed);
        self.worker.unpark();
        self.wait_for_exit()?;
        Ok(pending)
    }
}

impl Inner {
    /// The worker's life.
    fn work(&self) {
        let _exit = Exit(self);
        let _ = self.mark.set(ThreadMark::here());
        loop {
            let (next, ended) = self.next(&mut self.backlog.lock());
            match next {
                Next::Run(job) => self.run_grouped(job),
                Next::Passed(marker) => drop(marker),
                Next::Wait if ended => break,
                Next::Wait => thread::park(),
                Next::WaitFor(time) => park_timeout(time),
            }
        }
    }

    /// What is next, and whether the queue has ended.
    fn next(&self, backlog: &mut Backlog) -> (Next, bool) {
        if !backlog.has_ready() {
            backlog.push_all(self.submitted.take_all());
        }
        // Read under the lock: `close` empties the list into the backlog under it.
        let ended = self.submitted.is_closed();
        let next = backlog.next(Instant::now());
        if let Next::Run(job) = &next
            && job.group() != 0
        {
            // Before the backlog's lock is free: see `end_group`.
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
            None => self.tally.finished(job.run()),
            Some(relay) => relay.pass_on(job),
        }
    }

    /// Has the worker ended without saying so, or is it in another process?
    fn worker_is_gone(&self) -> bool {
        self.mark.get().map_or(self.maker.is_of_another_process(), |mark| mark.is_gone())
    }

    /// May the worker be in the `submit` of an executor that does not return? Asked when nothing
    /// has happened for a while.
    fn is_stuck_in_submit(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| !relay.is_over())
    }

    /// Does what the worker would do now, on the calling thread, without waiting for times.
    fn take_over(&self) -> Result<(), DrainError> {
        let _alone = self.stand_in.lock();
        let gone = || self.worker_is_gone();
        if gone() {
            // What ran when the worker went is lost.
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
                Next::Run(job) => match &self.relay {
                    None => self.tally.finished(job.run()),
                    // Not passed on: its executor does not come along.
                    Some(relay) => relay.keep(job),
                },
                Next::Passed(marker) => drop(marker),
                Next::Wait | Next::WaitFor(_) => return Ok(()),
            }
        }
    }
}

/// The end of the worker, in whatever way.
struct Exit<'q>(&'q Inner);

impl Drop for Exit<'_> {
    fn drop(&mut self) {
        // Something is left only if a panic ended the worker, which nothing of ours lets through:
        // then dropping is all that can be done with it.
        let mut backlog = self.0.backlog.lock();
        backlog.push_all(self.0.submitted.close());
        let left = backlog.take();
        drop(backlog);
        drop(left);
        *self.0.exited.lock() = true;
        self.0.exit.notify_all();
    }
}

impl Tally {
    fn finished(&self, outcome: Result<(), JobPanic>) {
        // Relaxed: statistics only.
        self.run.fetch_add(1, Ordering::Relaxed);
        self.depth.fetch_sub(1, Ordering::Relaxed);
        if let Err(panic) = outcome {
            self.panicked.fetch_add(1, Ordering::Relaxed);
            *self.last_panic.lock() = Some(panic);
        }
    }

    /// A job is over that did not run.
    fn dropped(&self) {
        // Relaxed: statistics only.
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // Ended before: whoever did it has waited, or wanted nobody to wait.
        if !self.inner.submitted.is_closed() && self.shutdown().is_err() {
            // Dropped by one of its own jobs, or by one of whatever executor if it is a relay:
            // no thread can wait.
            self.end_unwaited();
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
