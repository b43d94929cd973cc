//! The work queue: one named thread that runs jobs in order.
//!
//! ```text
//!   submit ──────────► JobList ──► backlog ──► run      worker asleep? the push that finds the list empty unparks it
//!                 (push: one exchange) ▲     (its own thread, one at a time)
//!   submit_later, every ───────────────┘ by time: no thread for each
//! ```
//!
//! Submitting is legal inside a no-block section: one exchange and at most one wake-up, no allocation, no lock. Waiting for the queue or ending it from
//! inside one of its own jobs is an error, not a deadlock. Whoever waits is told by drops, so that no panic and no lost job leaves them waiting.

mod backlog;
mod periodic;
mod relay;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::exec::{
    DrainError, DrainExecutor, Executor, ExecutorProperties, Job, JobList, JobPanic, Refused, RefusedReason,
    in_job,
};
use zpool_core::might_block;
use zpool_core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zpool_core::sync::{Condvar, Mutex, MutexGuard, park_timeout, thread};

use self::backlog::{Backlog, Due, Next};
pub use self::periodic::Periodic;
use self::relay::Relay;

/// An executor with a thread of its own. Dropping it completes what is pending, as [`shutdown`](DrainExecutor::shutdown) does.
pub struct WorkQueue {
    inner: Arc<Inner>,
    worker: thread::Thread,
    join: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Inner {
    submitted: JobList,
    /// Jobs taken out of `submitted`, and those with a time. Also the lock under which the list is closed, so that the worker sees the rest when it sees the end.
    backlog: Mutex<Backlog>,
    /// Who runs the jobs: `None` is the worker itself.
    relay: Option<Relay>,
    exited: Mutex<bool>,
    exit: Condvar,
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
    /// When the operating system gives no thread.
    pub fn new(name: &str) -> io::Result<WorkQueue> {
        WorkQueue::start(name, None)
    }

    /// Starts a queue that passes its jobs on to `executor`: for executors whose own `submit` is not legal inside a no-block section (most thread
    /// pools and async runtimes allocate there). A job that `executor` refuses is run on the queue's thread; one that it drops unrun, as an async runtime
    /// does when it ends, is over then, and so is one whose `submit` panics. Waiting for this queue is waiting until no job of its is with `executor`:
    /// an error from inside any job, since it could be one of them, and for ever if `executor` keeps a job and never runs it.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn relay(name: &str, executor: Arc<dyn Executor>) -> io::Result<WorkQueue> {
        WorkQueue::start(name, Some(Relay::to(executor)))
    }

    fn start(name: &str, relay: Option<Relay>) -> io::Result<WorkQueue> {
        let inner = Arc::new(Inner {
            submitted: JobList::new(),
            backlog: Mutex::default(),
            relay,
            exited: Mutex::default(),
            exit: Condvar::new(),
            tally: Arc::new(Tally {
                depth: AtomicUsize::new(0),
                run: AtomicU64::new(0),
                panicked: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
                last_panic: Mutex::default(),
            }),
        });
        let mine = inner.clone();
        let join = thread::Builder::new().name(name.to_owned()).spawn(move || mine.work())?;
        Ok(WorkQueue { inner, worker: join.thread().clone(), join: Mutex::new(Some(join)) })
    }

    /// Runs `work` every `period`, first after one, until the returned value is dropped or the queue ends. A run that takes longer than the
    /// period delays the next; none is made up for.
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
        let own = thread::current().id() == self.worker.id() || (self.inner.relay.is_some() && in_job());
        if own { Err(DrainError) } else { Ok(()) }
    }

    /// Closes the list for further jobs; what was in it is in the backlog now.
    fn close(&self) -> MutexGuard<'_, Backlog> {
        let mut backlog = self.inner.backlog.lock();
        backlog.push_all(self.inner.submitted.close());
        backlog
    }

    /// Ends the queue without waiting: the worker runs what is pending, also what has a time, and ends by itself. Then no drop waits for it either.
    pub(crate) fn end_unwaited(&self) {
        self.close().hurry();
        // It may be asleep: a relay's worker is, while its jobs run elsewhere.
        self.worker.unpark();
    }

    /// Waits for the worker to end.
    fn wait_for_exit(&self) {
        let mut exited = self.inner.exited.lock();
        while !*exited {
            self.inner.exit.wait(&mut exited);
        }
        drop(exited);
        self.inner.relay.iter().for_each(Relay::wait);
        let join = self.join.lock().take();
        if let Some(join) = join {
            // The worker contains panics, so there is none to pass on.
            let _ = join.join();
        }
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

    /// Delayed jobs run in the order of their times. A shutdown runs them at once. A delay that the clock does not reach never ends.
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
        match &self.inner.relay {
            None => own.with_order(),
            Some(relay) if relay.is_ordered() => own.with_order(),
            Some(_) => own,
        }
    }
}

impl DrainExecutor for WorkQueue {
    fn flush(&self) -> Result<(), DrainError> {
        might_block("WorkQueue::flush");
        self.not_from_own_job()?;
        let mut backlog = self.inner.backlog.lock();
        // Under the lock that `close` takes, and in the order of the submissions: what is in the list is younger than what is in the backlog.
        if self.inner.submitted.is_closed() {
            drop(backlog);
            self.wait_for_exit();
            return Ok(());
        }
        backlog.push_all(self.inner.submitted.take_all());
        let passed = backlog.push_marker();
        drop(backlog);
        self.worker.unpark();
        passed.wait();
        // All before it have been passed on; now they have to run.
        self.inner.relay.iter().for_each(Relay::wait);
        Ok(())
    }

    fn shutdown(&self) -> Result<(), DrainError> {
        might_block("WorkQueue::shutdown");
        self.not_from_own_job()?;
        self.close().hurry();
        self.worker.unpark();
        self.wait_for_exit();
        Ok(())
    }

    fn shutdown_now(&self) -> Result<Vec<Job>, DrainError> {
        might_block("WorkQueue::shutdown_now");
        self.not_from_own_job()?;
        let pending = self.close().take();
        self.inner.tally.depth.fetch_sub(pending.len(), Ordering::Relaxed);
        self.worker.unpark();
        self.wait_for_exit();
        Ok(pending)
    }
}

impl Inner {
    /// The worker's life.
    fn work(&self) {
        let _exit = Exit(self);
        loop {
            let mut backlog = self.backlog.lock();
            if !backlog.has_ready() {
                backlog.push_all(self.submitted.take_all());
            }
            // Read under the lock: `close` empties the list into the backlog under it.
            let ended = self.submitted.is_closed();
            let next = backlog.next(Instant::now());
            drop(backlog);
            match next {
                Next::Run(job) => self.run(job),
                Next::Passed(marker) => drop(marker),
                Next::Wait if ended => break,
                Next::Wait => thread::park(),
                Next::WaitFor(time) => park_timeout(time),
            }
        }
    }

    fn run(&self, job: Job) {
        match &self.relay {
            None => self.tally.finished(job.run()),
            Some(relay) => relay.pass_on(job, &self.tally),
        }
    }
}

/// The end of the worker, in whatever way.
struct Exit<'q>(&'q Inner);

impl Drop for Exit<'_> {
    fn drop(&mut self) {
        // Something is left only if a panic ended the worker, which nothing of ours lets through: then dropping is all that can be done with it.
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
            // Dropped by one of its own jobs, or by one of whatever executor if it is a relay: nobody can wait.
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
