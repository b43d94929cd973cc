//! Background work: the pool's job, and the inserts that stand in for it.
//!
//! ```text
//!   free ── too much idle, compaction due, or a streak ended? ──► submit the job
//!                                                    │ no executor that may be used in `free`,
//!                                                    │ or it does not run the job
//!   insert ◄─────────────────────────────────────────┘ does the work first, if it is due
//!   trim, compact: always, all of it
//! ```
//!
//! `policy` decides what a job does. The job holds the pool weakly, and a pool that is dropped
//! waits for the jobs that run. So no job touches a pool after its end.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use zpool_core::exec::Job;
use zpool_core::internal::sync::atomic::Ordering;

use super::policy::{
    COOLDOWN, JOB_MOVES, PeakDecay, Phase, ReclaimScope, Snapshot, Step, decide, drains_first,
    drains_last, next_reason,
};
use super::reclaimer::Reclaimer;
use super::release;
use crate::pool::JobReason;

impl Reclaimer {
    /// Makes the pool's job, if there is an executor for it and no job: when the pool is created,
    /// and when the job before has run.
    pub(super) fn prepare_job(self: &Arc<Self>) {
        if self.pool.jobs().is_usable() && !self.pool.jobs().is_ready() {
            self.pool.jobs().put(job(self));
        }
    }

    /// Makes the job if the heap refused it before, or the executor lost it.
    #[inline]
    pub(crate) fn remake_missing_job(self: &Arc<Self>) {
        if self.pool.jobs().take_missing() {
            self.prepare_job();
        }
    }

    /// Runs the work of the job if no executor does. An insert calls this first.
    #[inline]
    pub(crate) fn reclaim_before_insert(&self) {
        if self.pool.jobs().needs_inline_work() {
            self.reclaim_inline();
        }
    }

    fn reclaim_inline(&self) {
        let (pool, classes) = (&self.pool, self.pool.classes());
        if pool.figures().idle_is_large() {
            pool.drain_magazines(None);
            self.release_idle();
        }
        // Of several inserts one does it.
        if pool.figures().compaction_is_due() && classes.take_freed() > 0 {
            pool.drain_magazines(None);
            release::discard_empty_frames(pool, classes.iter(), ReclaimScope::All);
            classes.estimate();
        }
    }

    /// Runs one job. Returns the step that it ended with.
    fn run_once(&self) -> Step {
        let (pool, classes) = (&self.pool, self.pool.classes());
        let reason = pool.jobs().take_reason();
        // Relaxed: jobs come one after the other this far, because the next one is made when this
        // one has done its work.
        if reason != JobReason::Continuation {
            self.in_use.store(classes.magazines().take_inserted(), Ordering::Relaxed);
        }
        let in_use = self.in_use.load(Ordering::Relaxed);
        if drains_first(reason, in_use) {
            pool.drain_magazines(None);
        }
        classes.estimate();
        let step = self.run_steps(reason, in_use);
        self.release_idle();
        if drains_last(reason, in_use, step) {
            pool.drain_magazines(None);
        }
        step
    }

    /// Carries out steps until one ends the job.
    fn run_steps(&self, reason: JobReason, in_use: bool) -> Step {
        // Frees during this job are left to the next one.
        let freed = self.pool.figures().freed;
        let cooldown = self.cooldown_left();
        let mut phase = Phase::Begun;
        loop {
            let figures = self.pool.figures();
            match decide(&Snapshot { reason, phase, figures, cooldown }) {
                Step::Reclaim => phase = self.reclaim_surplus(in_use),
                Step::StartCooldown => phase = self.start_cooldown(in_use, phase, freed),
                step @ (Step::Stop | Step::Again(_)) => return step,
            }
        }
    }

    /// Releases a large surplus: by compaction, or if objects must not move, only what is empty.
    fn reclaim_surplus(&self, in_use: bool) -> Phase {
        let (pool, scope) = (&self.pool, ReclaimScope::Surplus);
        // A pool without inserts needs only what it uses now.
        let decayed = !in_use && self.decay_peaks(PeakDecay::Full);
        let mut moved = 0;
        if pool.figures().is_large(self.surplus()) {
            if self.compact_in_background {
                moved = self.compact_in(JOB_MOVES, scope).moved_objects;
            } else {
                pool.drain_magazines(None);
                release::discard_empty_frames(pool, pool.classes().iter(), scope);
            }
        }
        let surplus = if moved > 0 { self.surplus() } else { 0 };
        Phase::Reclaimed { moved, surplus, decayed }
    }

    /// Begins the cooldown, and lowers the peaks of a pool in use.
    fn start_cooldown(&self, in_use: bool, phase: Phase, freed: usize) -> Phase {
        self.pool.classes().forget_freed(freed);
        *self.cooldown_end.lock() = Some(Instant::now() + COOLDOWN);
        let decayed = matches!(phase, Phase::Reclaimed { decayed: true, .. });
        Phase::CoolingDown { decayed: decayed || in_use && self.decay_peaks(PeakDecay::Gradual) }
    }

    /// Lowers the peaks of all classes. Returns whether any was above the present.
    fn decay_peaks(&self, decay: PeakDecay) -> bool {
        let ((keep, of), classes) = (decay.kept(), self.pool.classes());
        let lower = |class| classes.locked(class, |state| state.lower_peak(keep, of));
        classes.iter().map(lower).fold(false, |any, one| any | one)
    }

    /// Returns the frames that no class has needed recently.
    fn surplus(&self) -> usize {
        let classes = self.pool.classes();
        let surplus = |class| classes.locked(class, |state| state.surplus());
        classes.iter().map(surplus).sum()
    }

    fn cooldown_left(&self) -> Duration {
        let end = *self.cooldown_end.lock();
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()))
    }

    /// Releases empty zspages until not too many frames are idle: all but one of each class, and
    /// then that one as well. Too many idle frames would make the job submit itself for ever.
    fn release_idle(&self) {
        for keep in [1, 0] {
            if self.pool.figures().idle_is_large() {
                release::release_empty_zspages(&self.pool, keep);
            }
        }
    }
}

/// Makes the job of a pool. Returns `None` if the heap refuses.
fn job(pool: &Arc<Reclaimer>) -> Option<Job> {
    Job::try_new("zsmalloc background reclaim", || {
        let mut ticket = ReclaimTicket { pool: Arc::downgrade(pool), used: false };
        move || {
            ticket.used = true;
            if let Some(pool) = ticket.pool.upgrade() {
                run(&pool);
            }
        }
    })
}

fn run(pool: &Arc<Reclaimer>) {
    let jobs = pool.pool.jobs();
    let Some(_running) = jobs.enter() else { return };
    let rearm = RearmOnDrop(pool);
    let step = pool.run_once();
    // Before there is a next job: a free that submits it replaces the submission below, a little
    // early.
    jobs.set_reason(next_reason(step));
    drop(rearm);
    match step {
        Step::Again(delay) => jobs.submit(Some(delay)),
        // Frees during this job found none to submit.
        _ => pool.pool.request_background_work_if_due(),
    }
}

/// Makes the pool's next job when this one is done, or has panicked in the page source.
struct RearmOnDrop<'a>(&'a Arc<Reclaimer>);

impl Drop for RearmOnDrop<'_> {
    fn drop(&mut self) {
        self.0.prepare_job();
    }
}

/// Travels with a job. If the job is dropped without having run, as by an executor that ends, then
/// the next one is made.
struct ReclaimTicket {
    pool: Weak<Reclaimer>,
    used: bool,
}

impl Drop for ReclaimTicket {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade().filter(|_| !self.used) else { return };
        if !pool.pool.jobs().is_closed() {
            pool.pool.jobs().note_refused();
            pool.prepare_job();
        }
    }
}
