//! Pool-wide figures that decide whether background work is worthwhile.
//!
//! They are kept up to date under the class locks, so that a free can ask without a walk over the
//! classes. [`Figures`] is a copy of them, and its methods are pure: see also `reclaim::policy`.

use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};

use super::classes::Classes;
use super::state::ClassState;

/// Idle frames that are always tolerated: giving them back would not be worth a call.
const IDLE_FLOOR: usize = 32;

/// The tolerated share of idle frames: 1/16.
const IDLE_SHARE: usize = 16;

/// Compaction is worthwhile if it could free 1/128 of all frames, and [`GAIN_FLOOR`] more.
const GAIN_SHARE: usize = 128;
const GAIN_FLOOR: usize = 4;

/// Compaction is worthwhile again once 1/32 of the objects were freed since the last one. Frees
/// into magazines do not count. A smaller share moves more objects for less memory:
/// `zlab density` and the bench `zsmalloc` show the two sides.
const FREED_SHARE: usize = 32;

/// Releases of a class after which its estimate is brought up to date.
const NOTE_EVERY: usize = 4;

/// The figures. Relaxed throughout: nothing is published through them.
#[derive(Debug)]
pub(super) struct Pressure {
    /// Resident frames.
    frames: AtomicUsize,
    /// Resident frames of empty zspages.
    idle: AtomicUsize,
    /// Frames that compaction could free, summed over the last estimates of the classes. Wraps for
    /// a moment.
    gain: AtomicUsize,
    /// Objects freed since the last compaction, in steps of [`NOTE_EVERY`].
    freed: AtomicUsize,
    /// Objects at the last walk over all classes, cached slots included. The handle table would be
    /// a poor substitute: it only grows.
    objects: AtomicUsize,
}

impl Default for Pressure {
    fn default() -> Pressure {
        Pressure {
            frames: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            gain: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
            // Unknown: the handle table bounds the number.
            objects: AtomicUsize::new(usize::MAX),
        }
    }
}

/// A copy of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Figures {
    /// Resident frames.
    pub(crate) frames: usize,
    /// Resident frames of empty zspages.
    pub(crate) idle: usize,
    /// Frames that compaction could free.
    pub(crate) gain: usize,
    /// Objects freed since the last compaction.
    pub(crate) freed: usize,
    /// Objects in the pool, roughly.
    pub(crate) objects: usize,
}

impl Figures {
    /// Returns whether too many frames are idle.
    pub(crate) fn idle_is_large(&self) -> bool {
        self.idle > IDLE_FLOOR && self.idle > self.frames / IDLE_SHARE
    }

    /// Returns whether compaction could free enough to be worth a call to the system, which
    /// interrupts every thread of the process.
    pub(crate) fn gain_is_large(&self) -> bool {
        self.is_large(self.gain)
    }

    /// Returns whether this number of frames is worth a call to the system.
    pub(crate) fn is_large(&self, frames: usize) -> bool {
        frames > self.frames / GAIN_SHARE + GAIN_FLOOR
    }

    /// Returns whether the gain is large, and enough was freed since the last compaction.
    pub(crate) fn compaction_is_due(&self) -> bool {
        self.gain_is_large() && self.freed > self.objects / FREED_SHARE
    }
}

impl Pressure {
    /// Adds `after - before`, wrapping.
    fn shift(figure: &AtomicUsize, before: usize, after: usize) {
        if before != after {
            figure.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn frames_changed(&self, before: usize, after: usize) {
        Pressure::shift(&self.frames, before, after);
    }

    #[inline]
    pub(super) fn idle_changed(&self, before: usize, after: usize) {
        Pressure::shift(&self.idle, before, after);
    }

    /// Counts a release of a class, and brings its estimate up to date every [`NOTE_EVERY`]
    /// releases. Returns whether the caller should check if background work is due. Under the
    /// class's lock.
    #[inline]
    pub(super) fn note_release(&self, state: &mut ClassState) -> bool {
        let now = state.count_releases(1).is_multiple_of(NOTE_EVERY as u32);
        if now {
            self.note_gain(state);
            self.freed.fetch_add(NOTE_EVERY, Ordering::Relaxed);
        }
        now || state.idle() > 0
    }

    /// Counts many releases of a class at once. Under its lock.
    pub(super) fn note_releases(&self, state: &mut ClassState, count: usize) {
        state.count_releases(count as u32);
        self.note_gain(state);
        self.freed.fetch_add(count, Ordering::Relaxed);
    }

    /// Brings the pool's gain up to date with one class. Under its lock.
    pub(super) fn note_gain(&self, state: &mut ClassState) {
        let (before, gain) = state.note_gain();
        self.gain.fetch_add(gain.wrapping_sub(before), Ordering::Relaxed);
    }
}

impl Classes {
    /// Returns the resident frames of all classes.
    pub(crate) fn resident_frames(&self) -> usize {
        // Relaxed: statistics only; so below.
        self.pressure.frames.load(Ordering::Relaxed)
    }

    /// Returns a copy of the figures. `entries`: handle entries in use, which bound the number of
    /// objects.
    pub(crate) fn figures(&self, entries: usize) -> Figures {
        let load = |figure: &AtomicUsize| figure.load(Ordering::Relaxed);
        // The sum wraps for a moment while classes note in another order than they changed: half
        // of the range is below 0.
        let gain = (load(&self.pressure.gain) as isize).max(0).cast_unsigned();
        Figures {
            frames: load(&self.pressure.frames),
            idle: load(&self.pressure.idle),
            gain,
            freed: load(&self.pressure.freed),
            objects: load(&self.pressure.objects).min(entries),
        }
    }

    /// Counts the objects of all classes and brings all estimates up to date. Returns the frames
    /// that packing every class to the front would free.
    pub(crate) fn estimate(&self) -> usize {
        let (mut gain, mut objects) = (0, 0);
        for class in self.iter() {
            self.locked_and_estimated(class, |state| {
                gain += state.gain();
                objects += state.objects();
            });
        }
        self.pressure.objects.store(objects, Ordering::Relaxed);
        gain
    }

    /// Subtracts frees that a reclaim has dealt with. Those that came after it began stay counted.
    pub(crate) fn forget_freed(&self, freed: usize) {
        let less = |now: usize| Some(now.saturating_sub(freed));
        // Never fails.
        let _ = self.pressure.freed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Takes all frees counted so far. Of several threads, one gets them.
    pub(crate) fn take_freed(&self) -> usize {
        self.pressure.freed.swap(0, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    fn figures(frames: usize) -> Figures {
        Figures { frames, ..Figures::default() }
    }

    /// Frames are idle in excess above the floor and above their share.
    #[test]
    fn idle_is_large_above_floor_and_share() {
        for (frames, idle, large) in
            [(100, 32, false), (100, 33, true), (1600, 100, false), (1600, 101, true)]
        {
            assert_eq!(Figures { idle, ..figures(frames) }.idle_is_large(), large, "{idle}");
        }
    }

    /// A gain is large above its share and the floor together.
    #[test]
    fn gain_is_large_above_share_and_floor() {
        for (frames, gain, large) in
            [(0, 4, false), (0, 5, true), (1280, 14, false), (1280, 15, true)]
        {
            assert_eq!(Figures { gain, ..figures(frames) }.gain_is_large(), large, "{gain}");
        }
    }

    /// Compaction is due if both the gain and the frees since the last one suffice.
    #[test]
    fn compaction_is_due_after_enough_frees() {
        for (gain, freed, due) in [(4, 1000, false), (5, 10, false), (5, 11, true)] {
            let figures = Figures { gain, freed, objects: 320, ..Figures::default() };
            assert_eq!(figures.compaction_is_due(), due, "{figures:?}");
        }
    }
}
