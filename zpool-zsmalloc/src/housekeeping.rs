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
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex};

use self::job::Gate;
use self::policy::REST;
use crate::compact::Thorough;
use crate::inner::Inner;

/// What is kept, from one job to the next, of what a peak is above the present, in parts of [`PARTS`]: most where the pool is in use, so that a class is left what it has
/// needed in the last third of a second or so; nothing where it is not.
const SLOWLY: usize = PARTS - 1;
const AT_A_STROKE: usize = 0;
const PARTS: usize = 32;

/// Objects that one job moves at most: a millisecond of the executor's time.
const JOB_MOVES: CompactionBudget = CompactionBudget::moves(2048);

/// The pool's side of its background work.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    /// Taken out when the pool goes.
    executor: Mutex<Option<Arc<dyn Executor>>>,
    /// Is there an executor that may be used from `free`? Never changes.
    usable: bool,
    /// The executor did not take the last job, or dropped it: inserts do the work until it takes one again.
    forsaken: AtomicBool,
    /// The heap refused the next job: there is none.
    unmade: AtomicBool,
    /// May it compact?
    compact: bool,
    /// The job, while it is not out.
    job: Mutex<Option<Job>>,
    /// Whether a job runs. The lock is held to look and to change it, never while one runs: a job calls the page source and the executor.
    gate: Mutex<Gate>,
    /// Told when a job has ended.
    ended: Condvar,
    /// Frames that compaction could free, summed over what the classes noted last. Wraps for a moment.
    gain: AtomicUsize,
    /// Objects freed since the last compaction, in steps of [`policy::NOTE_EVERY`].
    freed: AtomicUsize,
    /// Objects that there were when all classes were walked over the last time, those kept as spares after that included: the handle table only ever grows.
    live: AtomicUsize,
    /// When the rest after the last compaction is over.
    rested: Mutex<Option<Instant>>,
    /// What the job that is out goes on with: one of the constants below.
    goes_on: AtomicU32,
    /// Somebody has inserted something, as of the last job that did not go on at once.
    in_use: AtomicBool,
}

/// With nothing.
const ANEW: u32 = 0;

/// With what the one before it has left undone a moment ago.
const AT_ONCE: u32 = 1;

/// With that, after the rest.
const AFTER_REST: u32 = 2;

impl Housekeeping {
    pub(crate) fn new(executor: Option<Arc<dyn Executor>>, compact: bool) -> Housekeeping {
        let usable =
            executor.as_ref().is_some_and(|executor| executor.properties().submit_in_no_block);
        Housekeeping {
            executor: Mutex::new(executor.filter(|_| usable)),
            usable,
            forsaken: AtomicBool::new(false),
            unmade: AtomicBool::new(false),
            compact,
            job: Mutex::new(None),
            gate: Mutex::new(Gate::default()),
            ended: Condvar::new(),
            gain: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
            // Nobody has looked yet: the handle table says at most how many.
            live: AtomicUsize::new(usize::MAX),
            rested: Mutex::new(None),
            goes_on: AtomicU32::new(ANEW),
            in_use: AtomicBool::new(false),
        }
    }
}

impl Inner {
    /// Submits the job if there is enough to do. Never blocks or allocates.
    pub(crate) fn kick_if_worthwhile(&self) {
        let housekeeping = &self.housekeeping;
        // Relaxed: policy. First of all, since for the time of a rest every free would find something to do and no job.
        if housekeeping.goes_on.load(Ordering::Relaxed) != ANEW {
            return;
        }
        if housekeeping.usable && (self.too_much_idle() || self.much_to_gain()) {
            self.submit(None);
        }
    }

    /// Without an executor that does it, an insert gives empty frames back when enough have
    /// gathered.
    #[inline]
    pub(crate) fn tidy_before_insert(&self) {
        // Relaxed: policy.
        if !self.housekeeping.usable || self.housekeeping.forsaken.load(Ordering::Relaxed) {
            self.tidy();
        }
    }

    fn tidy(&self) {
        if self.too_much_idle() {
            self.take_back_spares(None);
            self.release_surplus();
        }
        // Relaxed: policy. Of several inserts one does it.
        if self.much_to_gain() && self.housekeeping.freed.swap(0, Ordering::Relaxed) > 0 {
            self.take_back_spares(None);
            self.discard_hollow_frames(self.existing_classes(), Thorough::Yes);
            self.estimate();
        }
    }

    /// What the job does. Gives when it is to go on, if it is: at once, or after what is left of the rest. A job that has waited for the rest does so no more: an executor
    /// without a clock ran it at once. That one is kept busy for as many jobs as it takes to forget what a pool in use has needed.
    fn housekeep(&self) -> Option<Duration> {
        let housekeeping = &self.housekeeping;
        // Relaxed: set before this job was submitted.
        let goes_on = housekeeping.goes_on.swap(ANEW, Ordering::Relaxed);
        if goes_on != AT_ONCE {
            // Relaxed: a job is there to be submitted when the one before it has done its work, so they come one after the other this far.
            housekeeping.in_use.store(self.spares.inserted_since(), Ordering::Relaxed);
        }
        let in_use = housekeeping.in_use.load(Ordering::Relaxed);
        // They hide what they hold up. While a pool is in use they are wanted again at once, so then it is enough to have them when there is something to do.
        if goes_on == ANEW || !in_use {
            self.take_back_spares(None);
        }
        self.estimate();
        let wanted = if goes_on == ANEW { self.much_to_gain() } else { self.gain_is_large() };
        let rest = if wanted && goes_on == ANEW { self.rest_left() } else { None };
        let again = if wanted && rest.is_none() { self.gain_a_little(in_use) } else { rest };
        self.release_surplus();
        if again.is_none() && goes_on != ANEW && in_use {
            // The last one for now, and frees that came meanwhile found none to have them taken.
            self.take_back_spares(None);
        }
        again
    }

    /// One job's part of a compaction; where the pool is not to compact, what can be had without moving an object. Gives when to go on: at once as long as it gets on,
    /// and later if classes were left more frames than they need now.
    fn gain_a_little(&self, in_use: bool) -> Option<Duration> {
        // Only those counted by now: what is freed while it works is for the next time.
        let seen = self.housekeeping.freed.load(Ordering::Relaxed);
        // What nobody inserts into needs nothing but what it has.
        let needed_more = !in_use && self.lower_peaks(AT_A_STROKE);
        let moved = if !self.surplus_is_large() {
            0
        } else if self.housekeeping.compact {
            self.compact_as(JOB_MOVES, Thorough::No).moved_objects
        } else {
            self.take_back_spares(None);
            self.discard_hollow_frames(self.existing_classes(), Thorough::No);
            0
        };
        // What is pinned must not keep the executor busy.
        if moved > 0 && self.surplus_is_large() {
            return Some(Duration::ZERO);
        }
        let less = |freed: usize| Some(freed.saturating_sub(seen));
        // Never fails. Relaxed: policy.
        let _ = self.housekeeping.freed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        *self.housekeeping.rested.lock() = Some(Instant::now() + REST);
        let needed_more = needed_more || in_use && self.lower_peaks(SLOWLY);
        (needed_more && self.gain_is_large()).then_some(REST)
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
