//! Passing jobs on to an executor that is not ours, and knowing when they are over.
//!
//! A job stays with the relay until the other executor opens the envelope that it got for it. So
//! a waiter can run the jobs that the other executor has not begun, for instance because its
//! only thread is the one that waits.

use std::collections::VecDeque;
use std::sync::Arc;

use zpool_core::exec::{Executor, Job, JobPanic};
use zpool_core::internal::sync::{Condvar, Mutex, ThreadMark};
use zpool_core::internal::{Contained, contained};

use super::Tally;
use super::wait::PATIENCE;

/// The executor that a queue passes its jobs on to.
#[derive(Debug)]
pub(super) struct Relay {
    executor: Contained<Arc<dyn Executor>>,
    handed: Arc<Handed>,
    tally: Arc<Tally>,
}

/// The jobs that are with the other executor.
#[derive(Debug)]
struct Handed {
    /// Does that executor run jobs in order? Then so do we: one at a time.
    ordered: bool,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Those that have not begun, oldest first.
    unopened: VecDeque<Job>,
    /// The threads that run one.
    running: Vec<ThreadMark>,
    /// How many have begun.
    begun: u64,
}

/// What the other executor gets instead of a job. Opened, it runs the oldest one, which is its own
/// unless a waiter has run some.
struct Envelope {
    handed: Arc<Handed>,
    tally: Arc<Tally>,
    opened: bool,
}

/// One that runs: to be counted when it is over, in whatever way.
struct Mark<'h> {
    handed: &'h Handed,
    tally: &'h Tally,
    outcome: Option<Result<(), JobPanic>>,
}

impl Relay {
    pub(super) fn to(executor: Arc<dyn Executor>, tally: Arc<Tally>) -> Relay {
        let ordered =
            contained(|| executor.properties()).is_some_and(|properties| properties.ordered);
        let (state, moved) = (Mutex::default(), Condvar::new());
        let handed = Arc::new(Handed { ordered, state, moved });
        Relay { executor: executor.into(), handed, tally }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.handed.ordered
    }

    /// Passes `job` on. May allocate. A job that is refused runs here.
    pub(super) fn pass_on(&self, job: Job) {
        let label = job.label();
        self.keep(job);
        let (handed, tally) = (self.handed.clone(), self.tally.clone());
        let envelope = Envelope { handed, tally, opened: false };
        let envelope = Job::new(label, move || envelope.open());
        // A panic in a foreign `submit` must not end the queue's thread. The unwinding drops the
        // envelope, unless the executor has kept it.
        if let Some(Err(refused)) = contained(|| self.executor.submit(envelope)) {
            // The envelope contains the job's own panic.
            let _ = refused.job.run();
        }
    }

    /// Adds a job that the other executor gets no envelope for: a waiter runs it.
    pub(super) fn keep(&self, job: Job) {
        self.handed.state.lock().unopened.push_back(job);
    }

    /// Waits until none is with the other executor. Runs those here that it does not begin.
    pub(super) fn wait(&self) {
        loop {
            let mut state = self.handed.state.lock();
            if state.is_over() {
                return;
            }
            let before = state.progress();
            let timed_out = self.handed.moved.wait_for(&mut state, PATIENCE).timed_out();
            if timed_out && state.progress() == before {
                // A thread that was ended in the middle of a job never says so.
                state.running.retain(|thread| !thread.is_gone());
                drop(state);
                self.run_oldest();
            }
        }
    }

    /// Runs the oldest job that the other executor has not begun. Returns false if there is none,
    /// or if it is not its turn.
    pub(super) fn run_oldest(&self) -> bool {
        let mut state = self.handed.state.lock();
        if self.handed.ordered && !state.running.is_empty() {
            return false;
        }
        let Some(job) = state.begin() else { return false };
        drop(state);
        run(job, &self.handed, &self.tally);
        true
    }

    /// Is none with the other executor?
    pub(super) fn is_over(&self) -> bool {
        self.handed.state.lock().is_over()
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.unopened.is_empty() && self.running.is_empty()
    }

    /// Differs when a job has begun or ended.
    fn progress(&self) -> (u64, usize) {
        (self.begun, self.running.len())
    }

    fn begin(&mut self) -> Option<Job> {
        let job = self.unopened.pop_front()?;
        self.running.push(ThreadMark::here());
        self.begun += 1;
        Some(job)
    }
}

impl Handed {
    /// Takes the oldest job, when it is its turn. `None`: waiters have run them all.
    fn begin(&self) -> Option<Job> {
        let (mut state, here) = (self.state.lock(), ThreadMark::here());
        // A waiter may run one. One on this very stack does not end before this one.
        while self.ordered && !state.running.is_empty() && !state.running.contains(&here) {
            if self.moved.wait_for(&mut state, PATIENCE).timed_out() {
                state.running.retain(|thread| !thread.is_gone());
            }
        }
        state.begin()
    }

    fn end(&self) {
        let (mut state, here) = (self.state.lock(), ThreadMark::here());
        if let Some(at) = state.running.iter().position(|&thread| thread == here) {
            state.running.swap_remove(at);
        }
        drop(state);
        self.moved.notify_all();
    }
}

/// Runs a job that has begun.
fn run(job: Job, handed: &Handed, tally: &Tally) {
    let mut mark = Mark { handed, tally, outcome: None };
    mark.outcome = Some(job.run());
}

impl Envelope {
    fn open(mut self) {
        self.opened = true;
        if let Some(job) = self.handed.begin() {
            run(job, &self.handed, &self.tally);
        }
    }
}

impl Drop for Envelope {
    fn drop(&mut self) {
        if self.opened {
            return;
        }
        // An async runtime that ends does that with what is left. The job counts as running while
        // it is dropped, so that a waiter waits for what its drop does.
        let job = self.handed.state.lock().begin();
        if let Some(job) = job {
            let _mark = Mark { handed: &self.handed, tally: &self.tally, outcome: None };
            drop(job);
        }
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        match self.outcome.take() {
            Some(outcome) => self.tally.finished(outcome),
            None => self.tally.dropped(),
        }
        self.handed.end();
    }
}
