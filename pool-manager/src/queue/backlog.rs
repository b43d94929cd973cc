//! The pending jobs of a queue: those that are ready, and those that are delayed.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::exec::Job;
use zpool_core::internal::sync::{Condvar, Mutex};

use super::wait::wait_unless;

/// Pending jobs in the order in which they will run. Guarded by the queue's mutex.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    ready: VecDeque<BacklogEntry>,
    delayed: BinaryHeap<DelayedJob>,
    /// Orders jobs that are due at the same instant by their submission.
    sequence: u64,
}

#[derive(Debug)]
enum BacklogEntry {
    Job(Job),
    /// Not a job: never returned by a shutdown, and never counted.
    Marker(FlushMarker),
}

/// Marks the position of a caller that waits until all earlier jobs have had their turn. Its drop
/// wakes the caller, whether its turn comes or the backlog is dropped.
#[derive(Debug)]
pub(super) struct FlushMarker(Arc<MarkerGone>);

/// Signals that a [`FlushMarker`] is gone.
#[derive(Debug, Default)]
pub(super) struct MarkerGone {
    gone: Mutex<bool>,
    changed: Condvar,
}

impl MarkerGone {
    /// Waits until the marker is dropped. Returns false if `owner_is_gone` reports that it never
    /// will be.
    pub(super) fn wait(&self, owner_is_gone: impl Fn() -> bool) -> bool {
        wait_unless(&self.gone, &self.changed, |gone| *gone, owner_is_gone)
    }
}

impl Drop for FlushMarker {
    fn drop(&mut self) {
        *self.0.gone.lock() = true;
        self.0.changed.notify_all();
    }
}

/// The next step of the worker.
#[derive(Debug)]
pub(super) enum NextStep {
    Run(Job),
    /// All earlier jobs have had their turn: drop the marker.
    Passed(FlushMarker),
    /// No job is due for this long.
    WaitFor(Duration),
    /// No job is pending, or none that will ever be due.
    Wait,
}

impl Backlog {
    pub(super) fn push_all(&mut self, jobs: impl Iterator<Item = Job>) {
        self.ready.extend(jobs.map(BacklogEntry::Job));
    }

    /// Adds a marker behind all jobs that are ready now.
    pub(super) fn push_marker(&mut self) -> Arc<MarkerGone> {
        let passed = Arc::<MarkerGone>::default();
        self.ready.push_back(BacklogEntry::Marker(FlushMarker(passed.clone())));
        passed
    }

    pub(super) fn push_delayed(&mut self, due: Due, job: Job) {
        self.sequence += 1;
        self.delayed.push(DelayedJob { due, sequence: self.sequence, job });
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn next(&mut self, now: Instant) -> NextStep {
        while let Some(first) = self.delayed.peek()
            && first.due <= Due::At(now)
        {
            self.ready.extend(self.delayed.pop().map(|delayed| BacklogEntry::Job(delayed.job)));
        }
        match (self.ready.pop_front(), self.delayed.peek().map(|first| first.due)) {
            (Some(BacklogEntry::Job(job)), _) => NextStep::Run(job),
            (Some(BacklogEntry::Marker(marker)), _) => NextStep::Passed(marker),
            (None, Some(Due::At(due))) => NextStep::WaitFor(due - now),
            (None, Some(Due::Never) | None) => NextStep::Wait,
        }
    }

    /// Makes all delayed jobs ready, in order: a queue that ends does not wait for their times.
    pub(super) fn make_all_ready(&mut self) {
        while let Some(delayed) = self.delayed.pop() {
            self.ready.push_back(BacklogEntry::Job(delayed.job));
        }
    }

    /// Takes the jobs of one [group](Job::group), in order, including delayed ones.
    pub(super) fn take_group(&mut self, group: u64) -> Vec<Job> {
        let mut taken = Vec::new();
        // Every entry goes out of the queue and back in, so the rest keeps its order.
        for entry in std::mem::take(&mut self.ready) {
            match entry {
                BacklogEntry::Job(job) if job.group() == group => taken.push(job),
                other => self.ready.push_back(other),
            }
        }
        let (mut delayed, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.delayed)
            .into_iter()
            .partition(|delayed| delayed.job.group() == group);
        self.delayed = rest.into();
        delayed.sort_by_key(|delayed| (delayed.due, delayed.sequence));
        taken.extend(delayed.into_iter().map(|delayed| delayed.job));
        taken
    }

    /// Takes all pending jobs, in order, and drops the markers between them.
    pub(super) fn take(&mut self) -> Vec<Job> {
        self.make_all_ready();
        let job = |entry| match entry {
            BacklogEntry::Job(job) => Some(job),
            BacklogEntry::Marker(_) => None,
        };
        self.ready.drain(..).filter_map(job).collect()
    }
}

/// The time at which a delayed job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    At(Instant),
    /// Beyond the range of the clock: only a shutdown runs the job, or returns it.
    Never,
}

impl Due {
    pub(super) fn after(delay: Duration) -> Due {
        Instant::now().checked_add(delay).map_or(Due::Never, Due::At)
    }
}

#[derive(Debug)]
struct DelayedJob {
    due: Due,
    sequence: u64,
    job: Job,
}

impl Ord for DelayedJob {
    /// Reversed: a `BinaryHeap` pops the greatest first, and we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl PartialOrd for DelayedJob {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DelayedJob {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for DelayedJob {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The jobs of a group come out in order, delayed ones last, and the others keep their order.
    #[test]
    fn take_group_keeps_others_in_order() {
        let mut backlog = Backlog::default();
        let job = |label, group| Job::new(label, || {}).with_group(group);
        backlog.push_all([job("a", 1), job("b", 2), job("c", 1)].into_iter());
        let passed = backlog.push_marker();
        backlog.push_delayed(Due::Never, job("e", 1));
        backlog.push_delayed(Due::after(Duration::from_secs(9)), job("d", 1));
        backlog.push_delayed(Due::Never, job("f", 2));
        let labels = |jobs: Vec<Job>| jobs.iter().map(Job::label).collect::<Vec<_>>();
        assert_eq!(labels(backlog.take_group(1)), ["a", "c", "d", "e"]);
        assert!(!passed.wait(|| true), "the marker keeps its place");
        assert_eq!(labels(backlog.take()), ["b", "f"]);
        assert!(passed.wait(|| false));
    }

    /// Due jobs run by time and then by submission; the others wait.
    #[test]
    fn due_jobs_run_by_time_then_submission() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let second = Duration::from_secs(1);
        for (label, due) in [("c", now + second * 2), ("b", now + second), ("B", now + second)] {
            backlog.push_delayed(Due::At(due), Job::new(label, || {}));
        }
        backlog.push_delayed(Due::Never, Job::new("never", || {}));
        backlog.push_all([Job::new("a", || {})].into_iter());
        let mut ran = Vec::new();
        loop {
            match backlog.next(now + second) {
                NextStep::Run(job) => ran.push(job.label()),
                NextStep::WaitFor(wait) => break assert_eq!(wait, second),
                NextStep::Wait => panic!("c is left"),
                NextStep::Passed(_) => panic!("no marker was pushed"),
            }
        }
        assert_eq!(ran, ["a", "b", "B"]);
        assert_eq!(backlog.take().iter().map(Job::label).collect::<Vec<_>>(), ["c", "never"]);
    }
}
