//! What a queue still has to do: jobs whose turn it is, and jobs whose time has not come.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use zpool_core::exec::Job;

/// Jobs in the order in which they will run. Guarded by the queue's mutex.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    ready: VecDeque<Job>,
    timed: BinaryHeap<Timed>,
    /// Makes jobs that are due at the same instant run in the order of their submission.
    sequence: u64,
}

/// What the worker does next.
#[derive(Debug)]
pub(super) enum Next {
    Run(Job),
    /// Nothing is due for so long.
    WaitFor(Duration),
    /// Nothing is there.
    Wait,
}

impl Backlog {
    pub(super) fn push_all(&mut self, jobs: impl Iterator<Item = Job>) {
        self.ready.extend(jobs);
    }

    pub(super) fn push_timed(&mut self, due: Instant, job: Job) {
        self.sequence += 1;
        self.timed.push(Timed { due, sequence: self.sequence, job });
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        while let Some(first) = self.timed.peek()
            && first.due <= now
        {
            self.ready.extend(self.timed.pop().map(|timed| timed.job));
        }
        match (self.ready.pop_front(), self.timed.peek()) {
            (Some(job), _) => Next::Run(job),
            (None, Some(first)) => Next::WaitFor(first.due - now),
            (None, None) => Next::Wait,
        }
    }

    /// All that is left, in order: a queue that ends does not wait for anybody's time.
    pub(super) fn hurry(&mut self) {
        while let Some(timed) = self.timed.pop() {
            self.ready.push_back(timed.job);
        }
    }

    /// Takes all that is left, in order.
    pub(super) fn take(&mut self) -> Vec<Job> {
        self.hurry();
        self.ready.drain(..).collect()
    }
}

#[derive(Debug)]
struct Timed {
    due: Instant,
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

    #[test]
    fn due_jobs_run_by_time_then_by_submission_and_the_rest_waits() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let second = Duration::from_secs(1);
        for (label, due) in [("c", now + second * 2), ("b", now + second), ("B", now + second)] {
            backlog.push_timed(due, Job::new(label, || {}));
        }
        backlog.push_all([Job::new("a", || {})].into_iter());
        let mut ran = Vec::new();
        loop {
            match backlog.next(now + second) {
                Next::Run(job) => ran.push(job.label()),
                Next::WaitFor(wait) => break assert_eq!(wait, second),
                Next::Wait => panic!("c is left"),
            }
        }
        assert_eq!(ran, ["a", "b", "B"]);
        assert_eq!(backlog.take().iter().map(Job::label).collect::<Vec<_>>(), ["c"]);
    }
}
