//! The executor that runs jobs only when it is called to, for tests that choose the moment.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::VecDeque;

use super::job_list::JobList;
use super::{
    DrainError, DrainExecutor, Executor, ExecutorCapabilities, Job, Refused, RefusedReason,
};
use crate::internal::sync::atomic::{AtomicU64, Ordering};
use crate::internal::sync::{Condvar, Mutex, MutexGuard, ThreadMark};
use crate::noblock::might_block;

/// Interval without a notification after which a waiter checks whether the other thread still
/// exists.
const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_millis(50);

std::thread_local! {
    /// The manual executors whose jobs are on this thread's stack, innermost last.
    static RUNNING: RefCell<Vec<*const Manual>> = const { RefCell::new(Vec::new()) };
}

/// Keeps jobs until [`run_one`](Self::run_one), [`run_all`](Self::run_all) or a flush runs them on
/// the calling thread.
///
/// One job runs at a time. A thread waits for a job that another thread runs, unless that thread is
/// gone, as in a forked child.
#[derive(Debug, Default)]
pub struct Manual {
    submitted: JobList,
    state: Mutex<ManualState>,
    /// Notified when a job has ended.
    ended: Condvar,
    run: AtomicU64,
    panicked: AtomicU64,
}

/// Capacity for jobs that are taken or nested, before their lists have to grow.
const ROOM: usize = 16;

#[derive(Debug)]
struct ManualState {
    /// Jobs taken out of `submitted` and not yet run, oldest first.
    taken: VecDeque<Job>,
    /// The threads that run a job: one, once more for each job that a job runs.
    running: Vec<ThreadMark>,
}

impl Default for ManualState {
    fn default() -> ManualState {
        ManualState { taken: VecDeque::with_capacity(ROOM), running: Vec::with_capacity(ROOM) }
    }
}

impl Manual {
    /// Makes an open executor without jobs.
    pub fn new() -> Manual {
        Manual::default()
    }

    /// Runs the oldest pending job. Returns whether there was one. May block, as jobs do.
    pub fn run_one(&self) -> bool {
        might_block("Manual::run_one");
        let Some(job) = self.next() else { return false };
        RUNNING.with(|r| r.borrow_mut().push(self));
        let outcome = job.run();
        RUNNING.with(|r| r.borrow_mut().pop());
        // Relaxed: statistics only, as is the next.
        self.run.fetch_add(1, Ordering::Relaxed);
        if outcome.is_err() {
            self.panicked.fetch_add(1, Ordering::Relaxed);
        }
        let (mut state, here) = (self.state.lock(), ThreadMark::here());
        if let Some(at) = state.running.iter().rposition(|&thread| thread == here) {
            state.running.remove(at);
        }
        drop(state);
        self.ended.notify_all();
        true
    }

    /// Runs jobs until none is pending, including those that jobs submit. Returns their number.
    pub fn run_all(&self) -> usize {
        let mut n = 0;
        while self.run_one() {
            n += 1;
        }
        n
    }

    /// Returns how many jobs are pending.
    pub fn pending(&self) -> usize {
        let mut state = self.state.lock();
        state.taken.extend(self.submitted.take_all());
        state.taken.len()
    }

    /// Returns how many jobs have run.
    pub fn jobs_run(&self) -> u64 {
        self.run.load(Ordering::Relaxed)
    }

    /// Returns how many jobs panicked. The panics were caught.
    pub fn jobs_panicked(&self) -> u64 {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Takes the oldest pending job, which counts as running from now on. One job runs at a time,
    /// so jobs run in order even if several threads flush. The exception is a running job, which
    /// may run later ones inside itself.
    fn next(&self) -> Option<Job> {
        let on_top = self.not_from_own_job().is_err();
        let mut state = self.state.lock();
        if !on_top {
            self.wait_until_idle(&mut state);
        }
        state.taken.extend(self.submitted.take_all());
        let job = state.taken.pop_front()?;
        state.running.push(ThreadMark::here());
        Some(job)
    }

    /// Refuses further jobs and moves the pending ones to `taken`.
    fn close(&self) {
        let mut state = self.state.lock();
        state.taken.extend(self.submitted.close());
    }

    /// Waits for jobs that other threads run. Not from inside one of its own jobs.
    fn wait_for_others(&self) {
        self.wait_until_idle(&mut self.state.lock());
    }

    fn wait_until_idle(&self, state: &mut MutexGuard<'_, ManualState>) {
        while !state.running.is_empty() {
            if self.ended.wait_for(state, LIVENESS_CHECK_INTERVAL).timed_out() {
                state.running.retain(|thread| !thread.is_gone());
            }
        }
    }

    fn not_from_own_job(&self) -> Result<(), DrainError> {
        let own = RUNNING.with(|r| r.borrow().iter().any(|&running| core::ptr::eq(running, self)));
        if own { Err(DrainError) } else { Ok(()) }
    }
}

impl Executor for Manual {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        match self.submitted.push(job) {
            Ok(_) => Ok(()),
            Err(job) => Err(Refused { job, reason: RefusedReason::ShutDown }),
        }
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block().with_order()
    }
}

impl DrainExecutor for Manual {
    fn flush(&self) -> Result<(), DrainError> {
        might_block("Manual::flush");
        self.not_from_own_job()?;
        self.run_all();
        self.wait_for_others();
        Ok(())
    }

    fn shutdown(&self) -> Result<(), DrainError> {
        might_block("Manual::shutdown");
        self.not_from_own_job()?;
        self.close();
        self.run_all();
        self.wait_for_others();
        Ok(())
    }

    fn shutdown_now(&self) -> Result<Vec<Job>, DrainError> {
        might_block("Manual::shutdown_now");
        self.not_from_own_job()?;
        self.close();
        let pending = self.state.lock().taken.drain(..).collect();
        self.wait_for_others();
        Ok(pending)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// No job runs before `run_one` or `run_all` is called.
    #[test]
    fn jobs_run_only_when_asked() {
        let (manual, seen) = (Manual::new(), Arc::new(AtomicU64::new(0)));
        for i in 1..=3 {
            let seen = seen.clone();
            manual
                .submit(Job::new("digit", move || {
                    seen.store(seen.load(Ordering::Relaxed) * 10 + i, Ordering::Relaxed)
                }))
                .unwrap();
        }
        assert_eq!((manual.pending(), seen.load(Ordering::Relaxed)), (3, 0));
        assert!(manual.run_one());
        assert_eq!((manual.run_all(), seen.load(Ordering::Relaxed)), (2, 123));
    }

    /// A flush or shutdown from inside one of its own jobs is an error.
    #[test]
    fn drain_from_own_job_is_error() {
        let manual = Arc::new(Manual::new());
        let (inner, outcome) = (manual.clone(), Arc::new(Mutex::new(None)));
        let report = outcome.clone();
        let job = Job::new("reenter", move || {
            *report.lock() = Some((inner.flush(), inner.shutdown(), inner.shutdown_now().err()))
        });
        manual.submit(job).unwrap();
        manual.flush().unwrap();
        assert_eq!(
            outcome.lock().take(),
            Some((Err(DrainError), Err(DrainError), Some(DrainError)))
        );
        assert!(manual.submit(Job::new("still open", || {})).is_ok());
    }

    /// `shutdown` runs pending jobs, and `shutdown_now` returns them.
    #[test]
    fn shutdown_runs_and_shutdown_now_returns_jobs() {
        let manual = Manual::new();
        manual.submit(Job::new("pending", || {})).unwrap();
        manual.shutdown().unwrap();
        assert_eq!(manual.jobs_run(), 1);
        assert_eq!(
            manual.submit(Job::new("late", || {})).unwrap_err().reason,
            RefusedReason::ShutDown
        );

        let manual = Manual::new();
        manual.submit(Job::new("a", || {})).unwrap();
        manual.submit(Job::new("b", || {})).unwrap();
        let labels: Vec<_> = manual.shutdown_now().unwrap().iter().map(Job::label).collect();
        assert_eq!((labels, manual.jobs_run()), (vec!["a", "b"], 0));
    }
}
