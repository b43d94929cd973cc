//! Passes jobs on to a foreign executor, and tracks when they are over.
//!
//! A job stays with the relay until the foreign executor runs the ticket submitted for it. So a
//! waiter can run jobs that the foreign executor has not begun, for example because its only thread
//! is the waiter.

use std::collections::VecDeque;
use std::sync::Arc;

use zpool_core::exec::{Executor, Job, JobPanic};
use zpool_core::internal::sync::{Condvar, Mutex, ThreadMark};
use zpool_core::internal::{Foreign, catch};

use super::QueueCounters;
use super::wait::LIVENESS_CHECK_INTERVAL;

/// The foreign executor that a queue passes its jobs on to.
#[derive(Debug)]
pub(super) struct Relay {
    executor: Foreign<Arc<dyn Executor>>,
    jobs: Arc<RelayedJobs>,
    counters: Arc<QueueCounters>,
}

/// The jobs that are with the foreign executor.
#[derive(Debug)]
struct RelayedJobs {
    /// Whether that executor runs jobs in order. If so, we run one at a time.
    ordered: bool,
    state: Mutex<RelayState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RelayState {
    /// Jobs that have not begun, oldest first.
    unstarted: VecDeque<Job>,
    /// The threads that run a job.
    running: Vec<ThreadMark>,
    /// Number of jobs that have begun so far.
    begun: u64,
}

/// The foreign executor gets this instead of a job. It runs the oldest job, which is the
/// one it was made for unless a waiter has run some.
struct RelayTicket {
    jobs: Arc<RelayedJobs>,
    counters: Arc<QueueCounters>,
    ran: bool,
}

/// Marks a job as running, and counts it when it is over, however it ends.
struct RunningMark<'h> {
    jobs: &'h RelayedJobs,
    counters: &'h QueueCounters,
    outcome: Option<Result<(), JobPanic>>,
}

impl Relay {
    pub(super) fn to(executor: Arc<dyn Executor>, counters: Arc<QueueCounters>) -> Relay {
        let ordered =
            catch(|| executor.capabilities()).is_some_and(|capabilities| capabilities.ordered);
        let (state, changed) = (Mutex::default(), Condvar::new());
        let jobs = Arc::new(RelayedJobs { ordered, state, changed });
        Relay { executor: executor.into(), jobs, counters }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.jobs.ordered
    }

    /// Passes `job` on. If it is refused, runs it here. May allocate.
    pub(super) fn pass_on(&self, job: Job) {
        let label = job.label();
        self.keep(job);
        let (jobs, counters) = (self.jobs.clone(), self.counters.clone());
        let ticket = RelayTicket { jobs, counters, ran: false };
        let ticket = Job::new(label, move || ticket.run());
        // A panic in a foreign `submit` must not end the queue's thread. The unwinding drops the
        // ticket, unless the executor has kept it.
        if let Some(Err(refused)) = catch(|| self.executor.submit(ticket)) {
            // The ticket catches the job's own panic.
            let _ = refused.job.run();
        }
    }

    /// Adds a job without a ticket: a waiter runs it.
    pub(super) fn keep(&self, job: Job) {
        self.jobs.state.lock().unstarted.push_back(job);
    }

    /// Waits until no job is with the foreign executor. Runs jobs here that it does not begin.
    pub(super) fn wait(&self) {
        loop {
            let mut state = self.jobs.state.lock();
            if state.is_over() {
                return;
            }
            let before = state.progress();
            let timed_out =
                self.jobs.changed.wait_for(&mut state, LIVENESS_CHECK_INTERVAL).timed_out();
            if timed_out && state.progress() == before {
                // A thread that ended during a job never reports it.
                state.running.retain(|thread| !thread.is_gone());
                drop(state);
                self.run_oldest();
            }
        }
    }

    /// Runs the oldest job that the foreign executor has not begun. Returns false if there is none,
    /// or if an earlier job must end first.
    pub(super) fn run_oldest(&self) -> bool {
        let mut state = self.jobs.state.lock();
        if self.jobs.ordered && !state.running.is_empty() {
            return false;
        }
        let Some(job) = state.begin() else { return false };
        drop(state);
        run(job, &self.jobs, &self.counters);
        true
    }

    /// Returns whether no job is with the foreign executor.
    pub(super) fn is_over(&self) -> bool {
        self.jobs.state.lock().is_over()
    }
}

impl RelayState {
    fn is_over(&self) -> bool {
        self.unstarted.is_empty() && self.running.is_empty()
    }

    /// Returns a value that changes when a job begins or ends.
    fn progress(&self) -> (u64, usize) {
        (self.begun, self.running.len())
    }

    fn begin(&mut self) -> Option<Job> {
        let job = self.unstarted.pop_front()?;
        self.running.push(ThreadMark::here());
        self.begun += 1;
        Some(job)
    }
}

impl RelayedJobs {
    /// Takes the oldest job as soon as earlier ones allow it. `None` if waiters have run all.
    fn begin(&self) -> Option<Job> {
        let (mut state, here) = (self.state.lock(), ThreadMark::here());
        // A waiter may be running a job. A job further up this thread's stack cannot end before
        // this one.
        while self.ordered && !state.running.is_empty() && !state.running.contains(&here) {
            if self.changed.wait_for(&mut state, LIVENESS_CHECK_INTERVAL).timed_out() {
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
        self.changed.notify_all();
    }
}

/// Runs a job that is marked as begun.
fn run(job: Job, jobs: &RelayedJobs, counters: &QueueCounters) {
    let mut mark = RunningMark { jobs, counters, outcome: None };
    mark.outcome = Some(job.run());
}

impl RelayTicket {
    fn run(mut self) {
        self.ran = true;
        if let Some(job) = self.jobs.begin() {
            run(job, &self.jobs, &self.counters);
        }
    }
}

impl Drop for RelayTicket {
    fn drop(&mut self) {
        if self.ran {
            return;
        }
        // An async runtime drops its remaining jobs when it ends. The job counts as running while
        // it is dropped, so that a waiter waits for the effects of its drop.
        let job = self.jobs.state.lock().begin();
        if let Some(job) = job {
            let _mark = RunningMark { jobs: &self.jobs, counters: &self.counters, outcome: None };
            drop(job);
        }
    }
}

impl Drop for RunningMark<'_> {
    fn drop(&mut self) {
        match self.outcome.take() {
            Some(outcome) => self.counters.finished(outcome),
            None => self.counters.dropped(),
        }
        self.jobs.end();
    }
}
