//! When memory that became empty is given back, and who does it.
//!
//! ```text
//!   free ── enough idle, enough to gain, or only spares left for long? ── executor that takes jobs anywhere? ── submit the pool's own job
//!                                                    │ none, or it does not take or run the job
//!   insert ◄─────────────────────────────────────────┘  does it first, when enough has gathered
//!   trim, compact: always, all of it
//! ```
//!
//! Frames that one moment leaves empty are often wanted in the next. So compaction by itself is followed by a [rest](REST), and a job that comes too early puts itself
//! off; it gives back only what no class has needed of late; and only if that is much, since each call to the system interrupts every thread of the process. Where
//! nobody inserts, of late is since the job before. Where somebody does, each job forgets a thirty-second, which with an executor that has a clock makes it the last
//! third of a second or so; and spares are left where they are until there is much. As long as classes keep much more than they need, the job comes again.
//!
//! The job is made ahead of time, so submitting it neither blocks nor allocates; it is out at most once, holds the pool weakly, and a pool that is
//! dropped waits for those that run (one may run beside the end of the one that submitted it): no job touches a pool after its end.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use zpool_core::CompactionBudget;
use zpool_core::exec::{Executor, Job, contained};
use zpool_core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use zpool_core::sync::{Condvar, Mutex};

use crate::class_state::ClassState;
use crate::compact::Thorough;
use crate::inner::Inner;

/// Idle frames that are kept in any case: giving them back would not be worth a call.
const IDLE_FLOOR: usize = 32;

/// Of all frames, one in so many may be idle.
const IDLE_SHARE: usize = 16;

/// Compaction runs by itself when it could free one frame in so many, and [`GAIN_FLOOR`] more.
const GAIN_SHARE: usize = 128;
const GAIN_FLOOR: usize = 4;

/// It runs again when one in so many objects has been freed since the last time, those not counted that were kept as spares. Measured: at 24 a small pool came to 1.053
/// bytes held a byte of payload just before it ran; at 32 a quarter more objects are moved than at 16.
const REST_SHARE: usize = 32;

/// From the end of a compaction to the next one that the pool does by itself. Measured when it was introduced: replacing objects at random took 1.2 times what it
/// takes with mimalloc, and without a rest 1.25 to 1.47. See docs/decisions/0022.
const REST: Duration = Duration::from_millis(10);

/// What is kept, from one job to the next, of what a peak is above the present, in parts of [`PARTS`]: most where the pool is in use, so that a class is left what it has
/// needed in the last third of a second or so; nothing where it is not.
const SLOWLY: usize = PARTS - 1;
const AT_A_STROKE: usize = 0;
const PARTS: usize = 32;

/// Objects that one job moves at most: a millisecond of the executor's time.
const JOB_MOVES: CompactionBudget = CompactionBudget::moves(2048);

/// Every so many releases of a class the estimate is brought up to date.
const NOTE_EVERY: usize = 4;

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
    /// Objects freed since the last compaction, in steps of [`NOTE_EVERY`].
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
        let usable = executor.as_ref().is_some_and(|executor| executor.properties().submit_in_no_block);
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
    /// Makes the pool's job, if there is an executor for it. When the pool is made, and when the one before has run.
    pub(crate) fn prepare_job(self: &Arc<Self>) {
        if !self.housekeeping.usable {
            return;
        }
        let made = job(self);
        // Without a job, inserts do the work, and one of them, a compaction or a trim makes it. Relaxed: policy.
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
        // On this thread, not on that of a job: it may be the executor's last reference. And with no lock held: its drop is foreign code, which may panic, and
        // the pool has to be taken down all the same.
        let executor = self.housekeeping.executor.lock().take();
        let job = self.housekeeping.job.lock().take();
        drop(job);
        let _ = contained(|| drop(executor));
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

    /// Notes what a class has to gain, now and then. True: look whether it is time to do something. Under the class's lock.
    pub(crate) fn note_release(&self, state: &mut ClassState) -> bool {
        state.releases = state.releases.wrapping_add(1);
        let now = state.releases.is_multiple_of(NOTE_EVERY as u32);
        if now {
            self.note_gain(state);
            // Relaxed: a policy's figure.
            self.housekeeping.freed.fetch_add(NOTE_EVERY, Ordering::Relaxed);
        }
        now || state.idle() > 0
    }

    /// Notes many releases of a class at once. Under the class's lock.
    pub(crate) fn note_releases(&self, state: &mut ClassState, count: usize) {
        state.releases = state.releases.wrapping_add(count as u32);
        self.note_gain(state);
        // Relaxed: a policy's figure.
        self.housekeeping.freed.fetch_add(count, Ordering::Relaxed);
    }

    /// Brings the pool's estimate up to date with one class. Under its lock.
    pub(crate) fn note_gain(&self, state: &mut ClassState) {
        let gain = self.gain_of(state);
        let before = core::mem::replace(&mut state.noted_gain, gain as u32) as usize;
        // Relaxed: a policy's figure.
        self.housekeeping.gain.fetch_add(gain.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Notes how many objects there are, and what each class has to gain: frames that packing every class to the front would free.
    pub(crate) fn estimate(&self) -> usize {
        let (mut gain, mut live) = (0, 0);
        for class in self.existing_classes() {
            self.locked(class, |state| {
                self.note_gain(state);
                gain += state.noted_gain as usize;
                live += state.objects();
            });
        }
        // Relaxed: a policy's figure.
        self.housekeeping.live.store(live, Ordering::Relaxed);
        gain
    }

    /// Frames that packing a class to the front would free.
    pub(crate) fn gain_of(&self, state: &ClassState) -> usize {
        self.frames_beyond(state, state.objects())
    }

    /// The same, for compaction by the pool itself without those that were needed of late.
    pub(crate) fn surplus_of(&self, state: &ClassState, thorough: Thorough) -> usize {
        match thorough {
            Thorough::Yes => self.gain_of(state),
            Thorough::No => self.frames_beyond(state, state.peak()),
        }
    }

    fn frames_beyond(&self, state: &ClassState, objects: usize) -> usize {
        let class = self.table.get(self.table.class_of(state.shape.slot as usize));
        state.resident().saturating_sub(self.table.frames_needed(class, objects))
    }

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

    /// Submits the job, whatever there seems to be to do: the spares hide what they hold up. Never blocks or allocates.
    pub(crate) fn kick(&self) {
        self.submit(None);
    }

    /// Submits the job, if it is not out. With a delay, to go on with what a job has begun, only from inside one: that may allocate.
    fn submit(&self, delay: Option<Duration>) {
        let housekeeping = &self.housekeeping;
        let Some(job) = housekeeping.job.lock().take() else { return };
        let Some(executor) = housekeeping.executor.lock().clone() else { return };
        // Before, so that a job which is dropped at once is noted after this. Relaxed: policy; so below.
        housekeeping.forsaken.store(false, Ordering::Relaxed);
        let submitted = contained(|| match delay {
            Some(delay) if !delay.is_zero() => executor.submit_later(delay, job),
            _ => executor.submit(job),
        });
        let refused = match submitted {
            Some(Ok(())) => return,
            Some(Err(refused)) => Some(refused.job),
            // The unwinding has dropped the job, whose `Chance` has made the next one; or the executor kept it, and may run it yet.
            None => None,
        };
        // Left for later: a next free tries again, an insert or trim does it in any case.
        housekeeping.goes_on.store(ANEW, Ordering::Relaxed);
        if refused.is_some() {
            *housekeeping.job.lock() = refused;
        }
        housekeeping.forsaken.store(true, Ordering::Relaxed);
    }

    /// Without an executor that does it, an insert gives empty frames back when enough have gathered.
    pub(crate) fn tidy_before_insert(&self) {
        let housekeeping = &self.housekeeping;
        let alone = !housekeeping.usable || housekeeping.forsaken.load(Ordering::Relaxed);
        if alone && self.too_much_idle() {
            self.take_back_spares(None);
            self.release_surplus();
        }
        // Relaxed: policy. Of several inserts one does it.
        if alone && self.much_to_gain() && housekeeping.freed.swap(0, Ordering::Relaxed) > 0 {
            self.take_back_spares(None);
            self.discard_hollow_frames(self.existing_classes(), Thorough::Yes);
            self.estimate();
        }
    }

    fn too_much_idle(&self) -> bool {
        // Relaxed: policy. So below.
        let idle = self.counters.idle.load(Ordering::Relaxed);
        idle > IDLE_FLOOR && idle > self.counters.frames.load(Ordering::Relaxed) / IDLE_SHARE
    }

    fn much_to_gain(&self) -> bool {
        let housekeeping = &self.housekeeping;
        let freed = housekeeping.freed.load(Ordering::Relaxed);
        let objects = housekeeping.live.load(Ordering::Relaxed).min(self.handles.used());
        self.gain_is_large() && freed > objects / REST_SHARE
    }

    fn gain_is_large(&self) -> bool {
        // The sum wraps for a moment while classes note in another order than they changed; half the range is below zero then.
        let gain = self.housekeeping.gain.load(Ordering::Relaxed) as isize;
        self.is_large(gain.max(0) as usize)
    }

    fn is_large(&self, gain: usize) -> bool {
        gain > self.counters.frames.load(Ordering::Relaxed) / GAIN_SHARE + GAIN_FLOOR
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

    /// Is what no class has needed of late worth a call to the system, which interrupts every thread of the process?
    fn surplus_is_large(&self) -> bool {
        let surplus = |class| self.locked(class, |state| self.surplus_of(state, Thorough::No));
        self.is_large(self.existing_classes().map(surplus).sum())
    }

    /// Of what a class has needed more than it needs now, leaves it `keep` of [`PARTS`]. Says whether any class has needed more.
    fn lower_peaks(&self, keep: usize) -> bool {
        let lower = |class| self.locked(class, |state| state.lower_peak(keep, PARTS));
        self.existing_classes().map(lower).fold(false, |any, one| any | one)
    }

    /// What is left of the rest after the last compaction.
    fn rest_left(&self) -> Option<Duration> {
        let rested = (*self.housekeeping.rested.lock())?;
        rested.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
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
    // Before there is a next job: a free that submits it does so in the stead of what follows here, a little early. Relaxed: policy.
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
struct Gate {
    /// Jobs that run: more than one for a moment, where an executor runs the next one beside the end of the one that submitted it.
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
