//! The place of the pool's one background job: submits it, and waits for its runs.
//!
//! ```text
//!   ready ──submit──► out (with the executor) ──runs, or is dropped──► the next one is made: ready
//!     ▲                  │ refused
//!     └──────────────────┘
//! ```
//!
//! The job is made ahead of time, so submitting it neither blocks nor allocates. It is out at most
//! once, unless an executor that panicked has kept it. `reclaim::background` makes and runs it.

use std::sync::Arc;
use std::time::Duration;

use zpool_core::exec::{Executor, Job};
use zpool_core::internal::catch;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex};

/// The reason for the job that is ready or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobReason {
    /// A free, an insert or a trim asks for it.
    Requested,
    /// It continues what the job before it has left undone.
    Continuation,
    /// It continues that after a cooldown.
    AfterCooldown,
}

impl JobReason {
    const ALL: [JobReason; 3] =
        [JobReason::Requested, JobReason::Continuation, JobReason::AfterCooldown];

    fn from_bits(bits: u32) -> JobReason {
        JobReason::ALL.get(bits as usize).copied().unwrap_or(JobReason::Requested)
    }
}

/// The place of the job.
#[derive(Debug)]
pub(crate) struct JobSlot {
    /// Taken out when the pool closes.
    executor: Mutex<Option<Arc<dyn Executor>>>,
    /// Whether there is an executor that `free` may use. Never changes.
    usable: bool,
    /// The executor refused or dropped the last job: inserts do its work until it takes one.
    refused: AtomicBool,
    /// There is no job, because the heap refused the next one, or the executor lost the last one.
    missing: AtomicBool,
    ready: Mutex<Option<Job>>,
    /// A [`JobReason`].
    reason: AtomicU32,
    /// Not held while a job runs: a job calls the page source and the executor.
    gate: Mutex<RunGate>,
    /// Notified when a job has ended.
    ended: Condvar,
}

/// State of the running jobs.
#[derive(Debug, Default)]
struct RunGate {
    /// Jobs that run. More than one for a moment, if the executor starts the next one before the
    /// one that submitted it has ended.
    running: usize,
    /// The pool is being dropped.
    closed: bool,
    /// Jobs that have begun so far.
    runs: usize,
}

impl JobSlot {
    /// Returns a place without a job. Drops an executor that may not be used inside a no-block
    /// section.
    pub(super) fn new(executor: Option<Arc<dyn Executor>>) -> JobSlot {
        let usable =
            executor.as_ref().is_some_and(|executor| executor.capabilities().submit_in_no_block);
        JobSlot {
            executor: Mutex::new(executor.filter(|_| usable)),
            usable,
            refused: AtomicBool::new(false),
            missing: AtomicBool::new(false),
            ready: Mutex::new(None),
            reason: AtomicU32::new(JobReason::Requested as u32),
            gate: Mutex::new(RunGate::default()),
            ended: Condvar::new(),
        }
    }

    // Relaxed, here and below, for `refused`, `missing` and `reason`: they are policy. The mutexes
    // order the job itself.

    pub(crate) fn is_usable(&self) -> bool {
        self.usable
    }

    /// Returns whether inserts have to do the work of the job.
    #[inline]
    pub(crate) fn needs_inline_work(&self) -> bool {
        !self.usable || self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn reason(&self) -> JobReason {
        JobReason::from_bits(self.reason.load(Ordering::Relaxed))
    }

    pub(crate) fn set_reason(&self, reason: JobReason) {
        self.reason.store(reason as u32, Ordering::Relaxed);
    }

    /// Returns the reason for the job that begins now, and resets it to `Requested`.
    pub(crate) fn take_reason(&self) -> JobReason {
        JobReason::from_bits(self.reason.swap(JobReason::Requested as u32, Ordering::Relaxed))
    }

    /// Makes a job ready. With `None`, because the heap refused one, inserts do the work, and an
    /// insert, a compaction or a trim [makes](Self::take_missing) the job.
    pub(crate) fn put(&self, job: Option<Job>) {
        self.missing.store(job.is_none(), Ordering::Relaxed);
        match job {
            Some(job) => {
                // There is one if two threads have made the job that an executor had lost.
                let surplus = self.ready.lock().replace(job);
                drop(surplus);
            }
            None => self.note_refused(),
        }
    }

    /// Returns whether there is a job to submit.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.lock().is_some()
    }

    /// Returns whether the job has to be made. Of several callers one makes it.
    #[inline]
    pub(crate) fn take_missing(&self) -> bool {
        self.missing.load(Ordering::Relaxed) && self.missing.swap(false, Ordering::Relaxed)
    }

    /// Notes that the executor did not run the job, or that there is none.
    pub(crate) fn note_refused(&self) {
        self.set_reason(JobReason::Requested);
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Submits the job, if it is ready. Without a delay it never blocks or allocates. With a delay
    /// it may allocate; only a job does that, to continue later.
    pub(crate) fn submit(&self, delay: Option<Duration>) {
        let Some(job) = self.ready.lock().take() else { return };
        let Some(executor) = self.executor.lock().clone() else { return };
        // Before the submission, so that a job which is dropped at once is noted after this.
        self.refused.store(false, Ordering::Relaxed);
        let submitted = catch(|| match delay {
            Some(delay) if !delay.is_zero() => executor.submit_later(delay, job),
            _ => executor.submit(job),
        });
        let refused = match submitted {
            Some(Ok(())) => return,
            Some(Err(refused)) => Some(refused.job),
            // The executor panicked. If the unwinding has dropped the job, the next one was made.
            // Otherwise the executor keeps it or has leaked it, and an insert makes another one,
            // which does no harm.
            None => {
                self.missing.store(!self.is_ready(), Ordering::Relaxed);
                None
            }
        };
        // The next free tries again. An insert or a trim does the work in any case.
        self.set_reason(JobReason::Requested);
        if refused.is_some() {
            *self.ready.lock() = refused;
        }
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Begins a run of the job. Returns `None` if the pool is being dropped.
    pub(crate) fn enter(&self) -> Option<Running<'_>> {
        let mut gate = self.gate.lock();
        if gate.closed {
            return None;
        }
        gate.running += 1;
        gate.runs += 1;
        Some(Running(self))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gate.lock().closed
    }

    /// Waits for a job that runs. Later ones return at once.
    pub(crate) fn close(&self) {
        self.wait_until_idle(|gate| gate.closed = true);
        // Dropped on this thread instead of a job's: it may be the executor's last reference. And
        // with no lock held: its drop is foreign code that may panic, and the pool has to be torn
        // down even then.
        let executor = self.executor.lock().take();
        let job = self.ready.lock().take();
        drop(job);
        let _ = catch(|| drop(executor));
    }

    /// Waits until no job runs. Returns how many have run so far.
    pub(crate) fn wait_for_runs(&self) -> usize {
        self.wait_until_idle(|gate| gate.runs)
    }

    fn wait_until_idle<R>(&self, then: impl FnOnce(&mut RunGate) -> R) -> R {
        let mut gate = self.gate.lock();
        while gate.running > 0 {
            self.ended.wait(&mut gate);
        }
        then(&mut gate)
    }
}

/// A run of the job. Ends when dropped, even if the job panics: the pool's drop waits for it.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a JobSlot);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.gate.lock().running -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// Every reason survives the round trip through the atomic.
    #[test]
    fn reason_is_taken_as_it_was_set() {
        let slot = JobSlot::new(None);
        for reason in JobReason::ALL {
            slot.set_reason(reason);
            assert_eq!((slot.take_reason(), slot.take_reason()), (reason, JobReason::Requested));
        }
    }

    /// Without an executor, inserts do the work.
    #[test]
    fn slot_without_executor_needs_inline_work() {
        let slot = JobSlot::new(None);
        assert!(!slot.is_usable() && slot.needs_inline_work());
        slot.submit(None);
        drop(slot.enter().expect("open"));
        assert_eq!(slot.wait_for_runs(), 1);
        slot.close();
        assert!(slot.is_closed() && slot.enter().is_none());
    }
}
