//! Budgets and reports of drains.

use std::fmt;
use std::time::Duration;

/// A bound on the work of one [`drain`](crate::Store::drain), which ends at the first one reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainBudget {
    /// The most entries to move.
    pub entries: usize,
    /// The most bytes of objects to move, as long as they were before. The last entry may pass it.
    pub bytes: usize,
    /// The longest time. The last entry may pass it.
    pub time: Duration,
}

impl DrainBudget {
    /// No bound.
    pub const UNLIMITED: DrainBudget =
        DrainBudget { entries: usize::MAX, bytes: usize::MAX, time: Duration::MAX };

    /// Returns a budget of this many entries.
    pub const fn entries(entries: usize) -> DrainBudget {
        DrainBudget { entries, ..DrainBudget::UNLIMITED }
    }

    /// Returns a budget of this much time.
    pub const fn time(time: Duration) -> DrainBudget {
        DrainBudget { time, ..DrainBudget::UNLIMITED }
    }

    /// Adds a bound on the entries.
    pub const fn with_entries(self, entries: usize) -> DrainBudget {
        DrainBudget { entries, ..self }
    }

    /// Adds a bound on the bytes of objects.
    pub const fn with_bytes(self, bytes: usize) -> DrainBudget {
        DrainBudget { bytes, ..self }
    }

    /// Adds a bound on the time.
    pub const fn with_time(self, time: Duration) -> DrainBudget {
        DrainBudget { time, ..self }
    }
}

impl Default for DrainBudget {
    fn default() -> Self {
        DrainBudget::UNLIMITED
    }
}

/// The reason why a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DrainEnd {
    /// No block is left in a retired pool.
    #[default]
    Empty,
    /// The budget is used up.
    Budget,
    /// The store is so close to its limit that a copy of the next entry does not fit.
    Limit,
    /// There is no memory for a copy of the next entry.
    OutOfMemory,
    /// The remaining entries did not move in a whole pass over the index: they are unreadable,
    /// refused by the target pool, or have more readers than their allocator counts.
    Stuck,
}

impl fmt::Display for DrainEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DrainEnd::Empty => "nothing is left in a retired pool",
            DrainEnd::Budget => "the budget is used up",
            DrainEnd::Limit => "the store is at its limit",
            DrainEnd::OutOfMemory => "there is no memory for copies",
            DrainEnd::Stuck => "what is left cannot be moved",
        })
    }
}

/// The result of a [`drain`](crate::Store::drain).
///
/// An entry is a block, or a value of several blocks. `moved` is the sum of `copied` and
/// `recompressed`. An entry that could not be moved counts each time that it was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Entries moved out of retired pools, to the current or the cold pool.
    pub moved: usize,
    /// Moved entries whose objects were copied as they are, because both pools have one codec.
    pub copied: usize,
    /// Moved entries of which at least one block was decompressed and compressed again.
    pub recompressed: usize,
    /// Entries that were replaced or removed while they were copied: there was nothing to move.
    pub changed: usize,
    /// Entries that stay because their allocator or compressor did not return their bytes, or the
    /// checksum was wrong.
    pub unreadable: usize,
    /// Entries that stay because the target pool's allocator or compressor refused their bytes.
    pub refused: usize,
    /// Entries that were passed over because their allocator counts no more readers.
    pub busy: usize,
    /// Blocks in retired pools when the call ended. Each block of a longer value counts.
    pub remaining: usize,
    /// Bytes of the moved objects before the move.
    pub object_bytes_before: usize,
    /// Bytes of the moved objects after it.
    pub object_bytes_after: usize,
    /// Bytes that the store held when the call began.
    pub held_before: usize,
    /// Bytes that the store held when the call ended. Frames that became empty may be released
    /// later.
    pub held_after: usize,
    /// The reason why the call ended.
    pub end: DrainEnd,
}

impl DrainReport {
    /// Returns the report of two calls, one after the other.
    pub fn then(self, later: DrainReport) -> DrainReport {
        DrainReport {
            moved: self.moved + later.moved,
            copied: self.copied + later.copied,
            recompressed: self.recompressed + later.recompressed,
            changed: self.changed + later.changed,
            unreadable: self.unreadable + later.unreadable,
            refused: self.refused + later.refused,
            busy: self.busy + later.busy,
            object_bytes_before: self.object_bytes_before + later.object_bytes_before,
            object_bytes_after: self.object_bytes_after + later.object_bytes_after,
            held_before: self.held_before,
            ..later
        }
    }
}

/// The state of a store's drain on the executor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainProgress {
    /// Whether a drain is under way: it runs, or waits for its next step.
    pub is_active: bool,
    /// Whether the drain was paused, and does nothing until it is resumed.
    pub is_paused: bool,
    /// Entries moved since the drain was last asked for.
    pub moved: usize,
    /// Blocks in retired pools. Each block of a longer value counts.
    pub remaining: usize,
    /// The reason why the latest step ended. `None` before the first.
    pub last_end: Option<DrainEnd>,
}
