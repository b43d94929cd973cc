//! What there is to gain, and whether that is enough to do something.

use std::time::{Duration, Instant};

use zpool_core::internal::sync::atomic::Ordering;

use crate::class_state::ClassState;
use crate::compact::Thorough;
use crate::inner::Inner;

/// Idle frames that are kept in any case: giving them back would not be worth a call.
const IDLE_FLOOR: usize = 32;

/// One in so many of all frames may be idle.
const IDLE_SHARE: usize = 16;

/// Compaction runs by itself when it could free one frame in so many, and [`GAIN_FLOOR`] more.
const GAIN_SHARE: usize = 128;
const GAIN_FLOOR: usize = 4;

/// It runs again when one in so many objects has been freed since the last time, those not counted
/// that were kept as spares. Measured: at 24 a small pool came to 1.053 bytes held a byte of
/// payload just before it ran; at 32 a quarter more objects are moved than at 16.
const REST_SHARE: usize = 32;

/// From the end of a compaction to the next one that the pool does by itself. Measured when it was
/// introduced: replacing objects at random took 1.2 times what it takes with mimalloc, and without
/// a rest 1.25 to 1.47. See docs/decisions/0022.
pub(super) const REST: Duration = Duration::from_millis(10);

/// Every so many releases of a class the estimate is brought up to date.
pub(super) const NOTE_EVERY: usize = 4;

impl Inner {
    /// Notes what a class has to gain, now and then. True: look whether it is time to do something.
    /// Under the class's lock.
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

    /// Notes how many objects there are, and what each class has to gain: frames that packing every
    /// class to the front would free.
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

    /// Frames that compaction by the pool itself would free, without those needed recently.
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

    pub(super) fn too_much_idle(&self) -> bool {
        // Relaxed: policy. So below.
        let idle = self.counters.idle.load(Ordering::Relaxed);
        idle > IDLE_FLOOR && idle > self.counters.frames.load(Ordering::Relaxed) / IDLE_SHARE
    }

    pub(super) fn much_to_gain(&self) -> bool {
        let housekeeping = &self.housekeeping;
        let freed = housekeeping.freed.load(Ordering::Relaxed);
        let objects = housekeeping.live.load(Ordering::Relaxed).min(self.handles.used());
        self.gain_is_large() && freed > objects / REST_SHARE
    }

    pub(super) fn gain_is_large(&self) -> bool {
        // The sum wraps for a moment while classes note in another order than they changed; half
        // the range is below zero then.
        let gain = self.housekeeping.gain.load(Ordering::Relaxed) as isize;
        self.is_large(gain.max(0) as usize)
    }

    fn is_large(&self, gain: usize) -> bool {
        gain > self.counters.frames.load(Ordering::Relaxed) / GAIN_SHARE + GAIN_FLOOR
    }

    /// Returns whether what no class has needed recently is worth a call to the system, which
    /// interrupts every thread of the process.
    pub(super) fn surplus_is_large(&self) -> bool {
        let surplus = |class| self.locked(class, |state| self.surplus_of(state, Thorough::No));
        self.is_large(self.existing_classes().map(surplus).sum())
    }

    /// What is left of the rest after the last compaction.
    pub(super) fn rest_left(&self) -> Option<Duration> {
        let rested = (*self.housekeeping.rested.lock())?;
        rested.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}
