//! When memory that became empty is given back, and who does it.
//!
//! ```text
//!   free ── enough idle, enough to gain, or only spares left for long? ── executor that takes jobs anywhere? ── submit the pool's own job
//!                                                    │ none, or it does not take or run the job
//!   insert ◄─────────────────────────────────────────┘  does it first, when enough has gathered
//!   trim, compact: always, all of it
//! ```
//!
//! Frames that one moment leaves empty are often wanted in the next. So compaction by itself is
//! followed by a [rest](policy::REST), and a job that comes too early puts itself off; it gives
//! back only what no class has needed recently; and only if that is much, since each call to the
//! system interrupts every thread of the process. Where there are no inserts, that is since the job
//! before. Where there are, each job forgets 1/32, which with an executor that has a
//! clock makes it the last third of a second or so; and spares are left where they are until there
//! is much. As long as classes keep much more than they need, the job comes again.
//!
//! The job is made ahead of time, so submitting it neither blocks nor allocates; it is out at most once, holds the pool weakly, and a pool that is
//! dropped waits for those that run (one may run beside the end of the one that submitted it): no job touches a pool after its end.

mod job;
mod policy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::CompactionBudget;
use zpool_core::exec::{Executor, Job};
use zpool_core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use zpool_core::sync::{Condvar, Mutex};

use self::job::RunGate;
use self::policy::COOLDOWN;
use crate::pool::core::PoolCore;
use crate::reclaim::compact::ReclaimScope;

/// What is kept, from one job to the next, of what a peak is above the present, in parts of [`PARTS`]: most where the pool is in use, so that a class is left what it has
/// needed in the last third of a second or so; nothing where it is not.
const SLOWLY: usize = PARTS - 1;
const AT_A_STROKE: usize = 0;
const PARTS: usize = 32;

/// Objects that one job moves at most: a millisecond of the executor's time.
const JOB_MOVES: CompactionBudget = CompactionBudget::moves(2048);

/// The pool's side of its background work.
#[derive(Debug)]
pub(crate) struct Background {
    /// Taken out when the pool goes.
    executor: Mutex<Option<Arc<dyn Executor>>>,
    /// Is there an executor that may be used from `free`? Never changes.
    usable: bool,
    /// The executor did not take the last job, or dropped it: inserts do the work until it takes one again.
    refused: AtomicBool,
    /// The heap refused the next job: there is none.
    job_missing: AtomicBool,
    /// May it compact?
    compact: bool,
    /// The job, while it is not out.
    job: Mutex<Option<Job>>,
    /// Whether a job runs. The lock is held to look and to change it, never while one runs: a job calls the page source and the executor.
    gate: Mutex<RunGate>,
    /// Told when a job has ended.
    ended: Condvar,
    /// Frames that compaction could free, summed over what the classes noted last. Wraps for a moment.
    gain: AtomicUsize,
    /// Objects freed since the last compaction, in steps of [`policy::NOTE_EVERY`].
    freed: AtomicUsize,
    /// Objects that there were when all classes were walked over the last time, those kept as spares after that included: the handle table only ever grows.
    live: AtomicUsize,
    /// When the rest after the last compaction is over.
    cooldown_end: Mutex<Option<Instant>>,
    /// What the job that is out goes on with: one of the constants below.
    next_start: AtomicU32,
    /// Somebody has inserted something, as of the last job that did not go on at once.
    in_use: AtomicBool,
}

/// With nothing.
const ANEW: u32 = 0;

/// With what the one before it has left undone a moment ago.
const AT_ONCE: u32 = 1;

/// With that, after the rest.
const AFTER_REST: u32 = 2;

impl Background {
    pub(crate) fn new(executor: Option<Arc<dyn Executor>>, compact: bool) -> Background {
        let usable =
            executor.as_ref().is_some_and(|executor| executor.properties().submit_in_no_block);
        Background {
            executor: Mutex::new(executor.filter(|_| usable)),
            usable,
            refused: AtomicBool::new(false),
            job_missing: AtomicBool::new(false),
            compact,
            job: Mutex::new(None),
            gate: Mutex::new(RunGate::default()),
            ended: Condvar::new(),
            gain: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
            // Nobody has looked yet: the handle table says at most how many.
            live: AtomicUsize::new(usize::MAX),
            cooldown_end: Mutex::new(None),
            next_start: AtomicU32::new(ANEW),
            in_use: AtomicBool::new(false),
        }
    }
}

impl PoolCore {
    /// Submits the job if there is enough to do. Never blocks or allocates.
    pub(crate) fn request_background_work_if_due(&self) {
        let background = &self.background;
        // Relaxed: policy. First of all, since for the time of a rest every free would find something to do and no job.
        if background.next_start.load(Ordering::Relaxed) != ANEW {
            return;
        }
        if background.usable && (self.too_much_idle() || self.much_to_gain()) {
            self.submit(None);
        }
    }

    /// Without an executor that does it, an insert gives empty frames back when enough have
    /// gathered.
    #[inline]
    pub(crate) fn reclaim_before_insert(&self) {
        // Relaxed: policy.
        if !self.background.usable || self.background.refused.load(Ordering::Relaxed) {
            self.reclaim_inline();
        }
    }

    fn reclaim_inline(&self) {
        if self.too_much_idle() {
            self.drain_magazines(None);
            self.release_surplus();
        }
        // Relaxed: policy. Of several inserts one does it.
        if self.much_to_gain() && self.background.freed.swap(0, Ordering::Relaxed) > 0 {
            self.drain_magazines(None);
            self.discard_empty_frames(self.existing_classes(), ReclaimScope::All);
            self.estimate();
        }
    }

    /// What the job does. Gives when it is to go on, if it is: at once, or after what is left of the rest. A job that has waited for the rest does so no more: an executor
    /// without a clock ran it at once. That one is kept busy for as many jobs as it takes to forget what a pool in use has needed.
    fn run_once(&self) -> Option<Duration> {
        let background = &self.background;
        // Relaxed: set before this job was submitted.
        let next_start = background.next_start.swap(ANEW, Ordering::Relaxed);
        if next_start != AT_ONCE {
            // Relaxed: a job is there to be submitted when the one before it has done its work, so they come one after the other this far.
            background.in_use.store(self.magazines.take_inserted(), Ordering::Relaxed);
        }
        let in_use = background.in_use.load(Ordering::Relaxed);
        // They hide what they hold up. While a pool is in use they are wanted again at once, so then it is enough to have them when there is something to do.
        if next_start == ANEW || !in_use {
            self.drain_magazines(None);
        }
        self.estimate();
        let wanted = if next_start == ANEW { self.much_to_gain() } else { self.gain_is_large() };
        let rest = if wanted && next_start == ANEW { self.cooldown_left() } else { None };
        let again = if wanted && rest.is_none() { self.gain_a_little(in_use) } else { rest };
        self.release_surplus();
        if again.is_none() && next_start != ANEW && in_use {
            // The last one for now, and frees that came meanwhile found none to have them taken.
            self.drain_magazines(None);
        }
        again
    }

    /// One job's part of a compaction; where the pool is not to compact, what can be had without moving an object. Gives when to go on: at once as long as it gets on,
    /// and later if classes were left more frames than they need now.
    fn gain_a_little(&self, in_use: bool) -> Option<Duration> {
        // Only those counted by now: what is freed while it works is for the next time.
        let seen = self.background.freed.load(Ordering::Relaxed);
        // What nobody inserts into needs nothing but what it has.
        let needed_more = !in_use && self.lower_peaks(AT_A_STROKE);
        let moved = if !self.surplus_is_large() {
            0
        } else if self.background.compact {
            self.compact_as(JOB_MOVES, ReclaimScope::Surplus).moved_objects
        } else {
            self.drain_magazines(None);
            self.discard_empty_frames(self.existing_classes(), ReclaimScope::Surplus);
            0
        };
        // What is pinned must not keep the executor busy.
        if moved > 0 && self.surplus_is_large() {
            return Some(Duration::ZERO);
        }
        let less = |freed: usize| Some(freed.saturating_sub(seen));
        // Never fails. Relaxed: policy.
        let _ = self.background.freed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        *self.background.cooldown_end.lock() = Some(Instant::now() + COOLDOWN);
        let needed_more = needed_more || in_use && self.lower_peaks(SLOWLY);
        (needed_more && self.gain_is_large()).then_some(COOLDOWN)
    }

    /// Of what a class has needed more than it needs now, leaves it `keep` of [`PARTS`]. Says whether any class has needed more.
    fn lower_peaks(&self, keep: usize) -> bool {
        let lower = |class| self.locked(class, |state| state.lower_peak(keep, PARTS));
        self.existing_classes().map(lower).fold(false, |any, one| any | one)
    }

    /// Gives idle frames back until there are not too many: of each class all zspages but one, and that too if need be. What is left would be too much for ever, and
    /// the job would submit itself again and again.
    fn release_surplus(&self) {
        for keep in [1, 0] {
            if self.too_much_idle() {
                self.release_empty_zspages(keep);
            }
        }
    }
}
