//! What a queue still has to do: jobs whose turn it is, and jobs whose time has not come.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::exec::Job;
use zpool_core::internal::sync::{Condvar, Mutex};

use super::wait::wait_unless;

/// Jobs in the order in which they will run. Guarded by the queue's mutex.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    ready: VecDeque<Entry>,
    timed: BinaryHeap<Timed>,
    /// Makes jobs that are due at the same instant run in the order of their submission.
    sequence: u64,
}

#[derive(Debug)]
enum Entry {
    Job(Job),
    /// Not a job: a shutdown gives it to nobody, and no count has it.
    Marker(Marker),
}

/// Stands in the backlog for a caller that waits until what is before it has had its turn. However
/// it goes, by its turn or with the backlog, its drop tells them.
#[derive(Debug)]
pub(super) struct Marker(Arc<Passed>);

/// Where they wait.
#[derive(Debug, Default)]
pub(super) struct Passed {
    gone: Mutex<bool>,
    moved: Condvar,
}

impl Passed {
    /// Waits for it. Returns false if that is `hopeless`.
    pub(super) fn wait(&self, hopeless: impl Fn() -> bool) -> bool {
        wait_unless(&self.gone, &self.moved, |gone| *gone, hopeless)
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        *self.0.gone.lock() = true;
        self.0.moved.notify_all();
    }
}

/// What the worker does next.
#[derive(Debug)]
pub(super) enum Next {
    Run(Job),
    /// Everything before this has had its turn: to be dropped.
    Passed(Marker),
    /// Nothing is due for so long.
    WaitFor(Duration),
    /// Nothing is there.
    Wait,
}

impl Backlog {
    pub(super) fn push_all(&mut self, jobs: impl Iterator<Item = Job>) {
        self.ready.extend(jobs.map(Entry::Job));
    }

    /// Marks the place behind all that is ready now.
    pub(super) fn push_marker(&mut self) -> Arc<Passed> {
        let passed = Arc::<Passed>::default();
        self.ready.push_back(Entry::Marker(Marker(passed.clone())));
        passed
    }

    pub(super) fn push_timed(&mut self, due: Due, job: Job) {
        self.sequence += 1;
        self.timed.push(Timed { due, sequence: self.sequence, job });
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        while let Some(first) = self.timed.peek()
            && first.due <= Due::At(now)
        {
            self.ready.extend(self.timed.pop().map(|timed| Entry::Job(timed.job)));
        }
        match (self.ready.pop_front(), self.timed.peek().map(|first| first.due)) {
            (Some(Entry::Job(job)), _) => Next::Run(job),
            (Some(Entry::Marker(marker)), _) => Next::Passed(marker),
            (None, Some(Due::At(due))) => Next::WaitFor(due - now),
            (None, Some(Due::Never) | None) => Next::Wait,
        }
    }

    /// All that is left, in order: a queue that ends does not wait for anybody's time.
    pub(super) fn hurry(&mut self) {
        while let Some(timed) = self.timed.pop() {
            self.ready.push_back(Entry::Job(timed.job));
        }
    }

    /// Takes the jobs of one [group](Job::group), in order, those included whose time has not come.
    pub(super) fn take_group(&mut self, group: u64) -> Vec<Job> {
        let mut taken = Vec::new();
        // In and out of the queue once: the rest keeps its order.
        for entry in std::mem::take(&mut self.ready) {
            match entry {
                Entry::Job(job) if job.group() == group => taken.push(job),
                other => self.ready.push_back(other),
            }
        }
        let (mut timed, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.timed)
            .into_iter()
            .partition(|timed| timed.job.group() == group);
        self.timed = rest.into();
        timed.sort_by_key(|timed| (timed.due, timed.sequence));
        taken.extend(timed.into_iter().map(|timed| timed.job));
        taken
    }

    /// Takes all jobs that are left, in order. Who waits behind some of them is told.
    pub(super) fn take(&mut self) -> Vec<Job> {
        self.hurry();
        let job = |entry| match entry {
            Entry::Job(job) => Some(job),
            Entry::Marker(_) => None,
        };
        self.ready.drain(..).filter_map(job).collect()
    }
}

/// When a delayed job's time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    At(Instant),
    /// The clock does not go that far: only a shutdown runs it, or gives it back.
    Never,
}

impl Due {
    pub(super) fn after(delay: Duration) -> Due {
        Instant::now().checked_add(delay).map_or(Due::Never, Due::At)
    }
}

#[derive(Debug)]
struct Timed {
    due: Due,
    sequence: u64,
    job: Job,
}

impl Ord for Timed {
    /// Reversed: a `BinaryHeap` gives its greatest first, and we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timed {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group's jobs come out in order, timed ones last, and the others stay as they were.
    #[test]
    fn group_leaves_the_others_in_order() {
        let mut backlog = Backlog::default();
        let job = |label, group| Job::new(label, || {}).with_group(group);
        backlog.push_all([job("a", 1), job("b", 2), job("c", 1)].into_iter());
        let passed = backlog.push_marker();
        backlog.push_timed(Due::Never, job("e", 1));
        backlog.push_timed(Due::after(Duration::from_secs(9)), job("d", 1));
        backlog.push_timed(Due::Never, job("f", 2));
        let labels = |jobs: Vec<Job>| jobs.iter().map(Job::label).collect::<Vec<_>>();
        assert_eq!(labels(backlog.take_group(1)), ["a", "c", "d", "e"]);
        assert!(!passed.wait(|| true), "the marker is still in its place");
        assert_eq!(labels(backlog.take()), ["b", "f"]);
        assert!(passed.wait(|| false));
    }

    #[test]
    fn due_jobs_run_by_time_then_by_submission_and_the_rest_waits() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let second = Duration::from_secs(1);
        for (label, due) in [("c", now + second * 2), ("b", now + second), ("B", now + second)] {
            backlog.push_timed(Due::At(due), Job::new(label, || {}));
        }
        backlog.push_timed(Due::Never, Job::new("never", || {}));
        backlog.push_all([Job::new("a", || {})].into_iter());
        let mut ran = Vec::new();
        loop {
            match backlog.next(now + second) {
                Next::Run(job) => ran.push(job.label()),
                Next::WaitFor(wait) => break assert_eq!(wait, second),
                Next::Wait => panic!("c is left"),
                Next::Passed(_) => panic!("nobody waits"),
            }
        }
        assert_eq!(ran, ["a", "b", "B"]);
        assert_eq!(backlog.take().iter().map(Job::label).collect::<Vec<_>>(), ["c", "never"]);
    }
}
