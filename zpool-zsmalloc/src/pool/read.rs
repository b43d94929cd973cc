//! Reading: publish a hazard, look up, slice. There is no lock, but one exchange here and one when
//! the guard is dropped, both in a cache line of this CPU.
//!
//! ```text
//!   handle ─► hazard ─► word: live, no pins? ──► zspage, slot, slack ─► base + slot * slot size
//!                └ none left, or pins ─► pin ─────┘                     slot size - slack bytes
//!   guard dropped ─► clear the hazard, or unpin
//! ```
//!
//! The protocol and its orderings are in `handle::hazards` and `handle::entry`. What may happen to
//! the bytes meanwhile is in `zspage::memory`.

use zpool_core::{Handle, Pins, PoolError, ReadGuard};

use super::core::PoolCore;
use crate::geometry::size_class::ClassIndex;
use crate::handle::entry::{EntryRef, PackedLocation, Unpinned};
use crate::handle::{GuardHold, Protection};

impl PoolCore {
    /// See `ZPool::read`.
    #[inline]
    pub(crate) fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let entry = self.handles.open(handle)?;
        let (location, hold) = self.hold(entry)?;
        let (at, slack) = self.handles.unpack(location);
        let slot = self.zspages.slot(at);
        // SAFETY: `slice` (1): the object of this length is held by a hazard or a pin. The guard
        // lets go of it when dropped, after its last use of the bytes; it borrows the pool, which
        // gives its zspages up only when it is dropped.
        let bytes = unsafe { slot.slice((slot.slot_bytes() - slack) as usize) };
        let token = u64::from(hold.to_bits()) << u32::BITS | u64::from(entry.index);
        Ok(ReadGuard::pinned(bytes, self, token))
    }

    /// Keeps an object where it is until [`Pins::unpin`].
    #[inline]
    fn hold(&self, entry: EntryRef<'_>) -> Result<(PackedLocation, GuardHold), PoolError> {
        match self.handles.protect(entry) {
            Protection::Done(location, hold) => return Ok((location, hold)),
            Protection::Converted => self.unpin_entry(entry.index, GuardHold::PIN),
            Protection::Unavailable => {}
        }
        let (pinned, hold) = self.handles.pin(entry)?;
        if pinned.first {
            self.classes.note_pinned(self.class_at(pinned.location), 1);
        }
        Ok((pinned.location, hold))
    }

    /// Takes a reader's pin back: its own, or its share of the common one.
    #[cold]
    fn unpin_entry(&self, index: u32, hold: GuardHold) {
        let Some(entry) = self.handles.entry(index) else { return };
        // Before the unpin: after it the object may be moved or freed, and its zspage may go.
        let class = self.class_at(entry.location());
        let Some(Unpinned { dead, last }) = self.handles.unpin(index, entry, hold) else { return };
        if last {
            self.classes.note_pinned(class, -1);
        }
        if let Some(location) = dead {
            self.finish_zombie(index, location);
        }
    }

    /// Returns the class of the slot of an object that the caller keeps there.
    #[inline]
    pub(super) fn class_at(&self, location: PackedLocation) -> ClassIndex {
        let (at, _) = self.handles.unpack(location);
        self.zspages.existing(at.zspage).class()
    }
}

impl Pins for PoolCore {
    #[inline]
    fn unpin(&self, token: u64) {
        let (index, hold) = (token as u32, GuardHold::from_bits((token >> u32::BITS) as u32));
        if !self.handles.clear(hold) {
            self.unpin_entry(index, hold);
        }
    }
}
