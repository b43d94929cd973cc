//! The pool's one job, which releases empty pages: whether it is ready, and whether one runs.
//!
//! ```text
//!   Missing ──put──► Ready ──take──► Submitted ──runs or is dropped──► Missing, Ready
//! ```
//!
//! A job is never dropped under the pool's lock, because its drop takes the lock.

use zpool_core::exec::Job;

/// The job of a pool, as far as the pool's lock protects it.
#[derive(Debug, Default)]
pub(crate) struct ReleaseJob {
    state: JobState,
    /// Jobs that run now.
    running: usize,
    /// The pool is being dropped: jobs return at once.
    closing: bool,
}

/// State of the job.
#[derive(Debug, Default)]
enum JobState {
    /// There is no executor to run one.
    #[default]
    NoExecutor,
    /// Ready to be submitted.
    Ready(Job),
    /// Pending or running. When it ends or is dropped, the next one is made.
    Submitted,
    /// To be made: there was no memory for it, or no object yet.
    Missing,
}

impl ReleaseJob {
    /// Notes that there is an executor, and no job yet.
    pub(crate) fn set_has_executor(&mut self) {
        self.state = JobState::Missing;
    }

    /// Returns whether the job has to be made.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.state, JobState::Missing)
    }

    /// Takes the job to submit it, if it is ready.
    pub(crate) fn take(&mut self) -> Option<Job> {
        match core::mem::replace(&mut self.state, JobState::Submitted) {
            JobState::Ready(job) => Some(job),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Makes a job ready for the next free. Returns it if there is one already, or no executor.
    pub(crate) fn put(&mut self, job: Job) -> Option<Job> {
        match self.state {
            JobState::Submitted | JobState::Missing if !self.closing => {
                self.state = JobState::Ready(job);
                None
            }
            _ => Some(job),
        }
    }

    /// Makes the caller's job ready if one was submitted, because that one is about to end.
    pub(crate) fn put_if_submitted(&mut self, next: &mut Option<Job>) {
        if matches!(self.state, JobState::Submitted)
            && let Some(job) = next.take()
        {
            self.state = JobState::Ready(job);
        }
    }

    /// Notes that the submitted job has ended or was dropped. Returns whether the next one has
    /// to be made.
    pub(crate) fn end_submitted(&mut self) -> bool {
        let ended = !self.closing && matches!(self.state, JobState::Submitted);
        if ended {
            self.state = JobState::Missing;
        }
        ended
    }

    /// Begins a run. Returns whether it may: not once the pool is being dropped.
    pub(crate) fn begin_run(&mut self) -> bool {
        self.running += usize::from(!self.closing);
        !self.closing
    }

    /// Ends a run. Returns whether it was the last one.
    pub(crate) fn end_run(&mut self) -> bool {
        self.running -= 1;
        self.running == 0
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Lets no further run begin. Returns the job, to be dropped without the lock.
    pub(crate) fn close(&mut self) -> Option<Job> {
        self.closing = true;
        self.take()
    }

    #[cfg(test)]
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, JobState::Ready(_))
    }

    #[cfg(test)]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job::new("release", || ())
    }

    /// A pool without an executor never has a job.
    #[test]
    fn job_without_executor_is_not_kept() {
        let mut place = ReleaseJob::default();
        assert!(!place.is_missing() && !place.end_submitted() && place.take().is_none());
        assert!(place.put(job()).is_some());
        place.put_if_submitted(&mut Some(job()));
        assert!(!place.is_ready());
    }

    /// The job goes from missing to ready, submitted and back, and there is one at most.
    #[test]
    fn job_is_ready_submitted_or_missing() {
        let mut place = ReleaseJob::default();
        place.set_has_executor();
        for round in 0..3 {
            assert!(place.is_missing() && place.take().is_none(), "round {round}");
            assert!(place.put(job()).is_none() && place.is_ready());
            assert!(place.put(job()).is_some(), "there is one");
            assert!(!place.end_submitted(), "none is submitted");
            assert!(place.take().is_some() && place.take().is_none());
            let mut next = Some(job());
            if round == 1 {
                place.put_if_submitted(&mut next);
                assert!(next.is_none() && place.take().is_some());
            }
            assert!(place.end_submitted() && !place.end_submitted());
            place.put_if_submitted(&mut Some(job()));
            assert!(!place.is_ready(), "only a submitted job has a next one");
        }
    }

    /// A closed pool begins no run and takes no job, and knows of the runs that have begun.
    #[test]
    fn closed_pool_begins_no_run() {
        let mut place = ReleaseJob::default();
        place.set_has_executor();
        assert!(!place.is_running());
        assert!(place.begin_run() && place.begin_run() && place.is_running());
        assert!(place.put(job()).is_none());
        assert!(place.close().is_some() && place.close().is_none());
        assert!(!place.begin_run() && place.put(job()).is_some() && !place.end_submitted());
        assert!(!place.end_run() && place.is_running());
        assert!(place.end_run() && !place.is_running());
    }
}
