//! Overflow into a larger class: an object takes an open slot there, so that a class with few
//! objects does not keep a frame of its own half empty.
//!
//! The bytes that this wastes are counted for the object's own class, and limited.

use zpool_core::internal::sync::atomic::Ordering;

use super::classes::{Class, Classes};
use super::state::ClaimedSlot;
use crate::geometry::size_class::ClassIndex;

impl Classes {
    /// Claims an open slot of a class that is a little larger than `home`.
    pub(crate) fn claim_in_larger_class(
        &self,
        home: &Class,
        len: u32,
    ) -> Option<(ClassIndex, ClaimedSlot)> {
        let limit = self.table.config().frame_size / 16;
        // Relaxed, here and below: a budget. A race may overdraw it by a slot.
        let left = limit.saturating_sub(home.overflow_waste.load(Ordering::Relaxed) as usize);
        for (index, waste) in self.table.overflow_targets(home.index()) {
            if waste > left {
                break;
            }
            let Some(class) = self.existing(index) else { continue };
            if class.open_hint() == 0 {
                continue;
            }
            if let Some(claimed) = self.locked(class, |state| state.claim_open(len)) {
                home.overflow_waste.fetch_add(waste as u32, Ordering::Relaxed);
                return Some((index, claimed));
            }
        }
        None
    }

    /// Uncounts the waste of an object of `len` bytes that leaves a slot of `class`, if that is
    /// larger than its own class.
    #[inline]
    pub(crate) fn uncount_waste(&self, class: ClassIndex, len: u32) {
        if len < self.table.get(class).shortest {
            self.uncount_waste_of_overflow(class, len);
        }
    }

    #[cold]
    fn uncount_waste_of_overflow(&self, class: ClassIndex, len: u32) {
        let home = self.table.class_of(len as usize);
        let waste = self.table.get(class).slot_bytes - self.table.get(home).slot_bytes;
        // Relaxed: a budget.
        self.get(home).overflow_waste.fetch_sub(waste, Ordering::Relaxed);
    }

    /// Counts that an object of `len` bytes moves from a slot of one class to one of another.
    pub(crate) fn move_waste(&self, from: ClassIndex, to: ClassIndex, len: u32) {
        if from != to {
            let home = self.get(self.table.class_of(len as usize));
            let size = |class| self.table.get(class).slot_bytes;
            // Relaxed: a budget. Wrapping, because `to` may be smaller.
            home.overflow_waste.fetch_add(size(to).wrapping_sub(size(from)), Ordering::Relaxed);
        }
    }
}
