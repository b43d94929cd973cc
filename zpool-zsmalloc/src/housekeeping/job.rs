//! The pool's job: made ahead of time, out at most once, and waited for when the pool is dropped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use zpool_core::exec::Job;
use zpool_core::internal::catch;
use zpool_core::internal::sync::atomic::Ordering;

use super::{AFTER_REST, ANEW, AT_ONCE};
use crate::inner::Inner;

impl Inner {
    /// Makes the pool's job, if there is an executor for it. When the pool is made, and when the
    /// one before has run.
    pub(crate) fn prepare_job(self: &Arc<Self>) {
        if !self.housekeeping.usable {
            return;
        }
        let made = job(self);
        // Without a job, inserts do the work, and one of them, a compaction or a trim makes it.
        // Relaxed: policy.
        self.housekeeping.unmade.store(made.is_none(), Ordering::Relaxed);
        match made {
            Some(job) => {
                let before = self.housekeeping.job.lock().replace(job);
                debug_assert!(before.is_none(), "it is out while the next one is made");
            }
            None => {
                self.housekeeping.goes_on.store(ANEW, Ordering::Relaxed);
                self.housekeeping.forsaken.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Makes the job for which there was no memory before.
    #[inline]
    pub(crate) fn remake_job(self: &Arc<Self>) {
        let unmade = &self.housekeeping.unmade;
        // Relaxed: a glance.
        if unmade.load(Ordering::Relaxed) {
            self.remake_job_once();
        }
    }

    #[cold]
    fn remake_job_once(self: &Arc<Self>) {
        // Relaxed: policy. One of several callers makes it.
        if self.housekeeping.unmade.swap(false, Ordering::Relaxed) {
            self.prepare_job();
        }
    }

    /// Waits for a job that runs, and keeps later ones from doing anything.
    pub(crate) fn close_gate(&self) {
        self.wait_for_job(|gate| gate.closed = true);
        // On this thread, not on that of a job: it may be the executor's last reference. And with
        // no lock held: its drop is foreign code, which may panic, and the pool has to be taken
        // down all the same.
        let executor = self.housekeeping.executor.lock().take();
        let job = self.housekeeping.job.lock().take();
        drop(job);
        let _ = catch(|| drop(executor));
    }

    /// Waits until no job runs. Returns how many have run so far.
    pub(crate) fn jobs_run(&self) -> usize {
        self.wait_for_job(|gate| gate.runs)
    }

    fn wait_for_job<R>(&self, then: impl FnOnce(&mut Gate) -> R) -> R {
        let mut gate = self.housekeeping.gate.lock();
        while gate.running > 0 {
            self.housekeeping.ended.wait(&mut gate);
        }
        then(&mut gate)
    }

    /// Submits the job, whatever there seems to be to do: the spares hide what they hold up. Never
    /// blocks or allocates.
    pub(crate) fn kick(&self) {
        self.submit(None);
    }

    /// Submits the job, if it is not out. With a delay, to go on with what a job has begun, only
    /// from inside one: that may allocate.
    pub(super) fn submit(&self, delay: Option<Duration>) {
        let housekeeping = &self.housekeeping;
        let Some(job) = housekeeping.job.lock().take() else { return };
        let Some(executor) = housekeeping.executor.lock().clone() else { return };
        // Before, so that a job which is dropped at once is noted after this. Relaxed: policy; so
        // below.
        housekeeping.forsaken.store(false, Ordering::Relaxed);
        let submitted = catch(|| match delay {
            Some(delay) if !delay.is_zero() => executor.submit_later(delay, job),
            _ => executor.submit(job),
        });
        let refused = match submitted {
            Some(Ok(())) => return,
            Some(Err(refused)) => Some(refused.job),
            // The unwinding has dropped the job, whose `Chance` has made the next one; or the
            // executor kept it, and may run it yet.
            None => None,
        };
        // Left for later: a next free tries again, an insert or trim does it in any case.
        housekeeping.goes_on.store(ANEW, Ordering::Relaxed);
        if refused.is_some() {
            *housekeeping.job.lock() = refused;
        }
        housekeeping.forsaken.store(true, Ordering::Relaxed);
    }
}

/// What a job goes on with that comes after `rest`, if it comes.
fn goes_on_with(rest: Option<Duration>) -> u32 {
    rest.map_or(ANEW, |rest| if rest.is_zero() { AT_ONCE } else { AFTER_REST })
}

/// The pool's job. `None` if the heap refuses.
fn job(pool: &Arc<Inner>) -> Option<Job> {
    Job::try_new("zsmalloc housekeeping", || {
        let mut chance = Chance { pool: Arc::downgrade(pool), taken: false };
        move || {
            chance.taken = true;
            if let Some(inner) = chance.pool.upgrade() {
                run(&inner);
            }
        }
    })
}

/// What the job does with a pool that still exists.
fn run(inner: &Arc<Inner>) {
    let Some(_running) = Running::begin(inner) else { return };
    let next = Next(inner);
    let rest = inner.housekeep();
    // Before there is a next job: a free that submits it does so in the stead of what follows here,
    // a little early. Relaxed: policy.
    inner.housekeeping.goes_on.store(goes_on_with(rest), Ordering::Relaxed);
    drop(next);
    match rest {
        Some(rest) => inner.submit(Some(rest)),
        // What came up while this job ran found none to submit.
        None => inner.kick_if_worthwhile(),
    }
}

/// Goes with a job. One that is dropped unrun, as by an executor that ends, is made again.
struct Chance {
    pool: Weak<Inner>,
    taken: bool,
}

impl Drop for Chance {
    fn drop(&mut self) {
        let Some(inner) = self.pool.upgrade().filter(|_| !self.taken) else { return };
        if !inner.housekeeping.gate.lock().closed {
            inner.housekeeping.forsaken.store(true, Ordering::Relaxed);
            inner.housekeeping.goes_on.store(ANEW, Ordering::Relaxed);
            inner.prepare_job();
        }
    }
}

/// What the gate of a pool's jobs knows.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Jobs that run: more than one for a moment, where an executor runs the next one beside the
    /// end of the one that submitted it.
    running: usize,
    /// The pool is gone.
    closed: bool,
    /// Jobs that have begun so far.
    runs: usize,
}

/// A job that runs. Ends with it, even where it panics: the pool's drop waits for it.
struct Running<'a>(&'a Inner);

impl<'a> Running<'a> {
    fn begin(inner: &'a Inner) -> Option<Running<'a>> {
        let mut gate = inner.housekeeping.gate.lock();
        if gate.closed {
            return None;
        }
        gate.running += 1;
        gate.runs += 1;
        Some(Running(inner))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.housekeeping.gate.lock().running -= 1;
        self.0.housekeeping.ended.notify_all();
    }
}

/// Makes the pool's next job when this one is done, or has panicked in the page source.
struct Next<'a>(&'a Arc<Inner>);

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.0.prepare_job();
    }
}
