//! Objects that compaction moves: for a moment each has two slots, of which one counts.
//!
//! ```text
//!   claim the second slot ─► copy, exchange the entry's word ─► release the first
//!        in transit: +1                                          in transit: -1
//! ```
//!
//! If the exchange fails, the second slot is released instead. The count changes under the lock of
//! the class whose slot is claimed or released. So a thread that holds all of these locks sees
//! every object once.

use core::convert::Infallible;

use zpool_core::internal::sync::atomic::Ordering;

use super::classes::{Class, Classes};
use super::state::{ClaimedSlot, ClassState};
use crate::geometry::size_class::ClassIndex;
use crate::zspage::Zspage;

impl Classes {
    /// Claims a slot of `class` by `claim`, for an object that has one already.
    ///
    /// # Errors
    ///
    /// Those of `claim`.
    pub(crate) fn claim_second_slot<E>(
        &self,
        class: &Class,
        claim: impl FnOnce(&mut ClassState) -> Result<Option<ClaimedSlot>, E>,
    ) -> Result<Option<ClaimedSlot>, E> {
        self.locked(class, |state| {
            let claimed = claim(state)?;
            if claimed.is_some() {
                // Relaxed, here and below: read under the locks of all classes.
                self.in_transit.fetch_add(1, Ordering::Relaxed);
            }
            Ok(claimed)
        })
    }

    /// Claims an open slot of exactly this class, for an object of `len` bytes that has a slot
    /// already.
    pub(crate) fn claim_open_second(&self, class: ClassIndex, len: u32) -> Option<ClaimedSlot> {
        let open = |state: &mut ClassState| Ok::<_, Infallible>(state.claim_open(len));
        let Ok(claimed) = self.claim_second_slot(self.existing(class)?, open);
        claimed
    }

    /// Releases one of the two slots of an object of `len` bytes: the old one after a move, the new
    /// one if the move failed.
    pub(crate) fn end_transit(&self, zspage: &Zspage, slot: u16, len: u32) {
        self.locked(self.get(zspage.class()), |state| {
            state.release(zspage.local(), slot, len);
            self.pressure.note_release(state);
            self.in_transit.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Returns how many objects have two slots. Exact while the caller holds the locks of all
    /// classes.
    pub(crate) fn in_transit(&self) -> usize {
        self.in_transit.load(Ordering::Relaxed)
    }
}
