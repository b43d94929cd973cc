//! Finding the slot that the next object of a class goes to.

use super::ClassState;
use crate::class::fullness::Group;
use crate::geometry::bits::first_clear;

/// A slot that the caller has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimedSlot {
    pub(crate) zspage: u32,
    pub(crate) slot: u16,
    /// Frames that have become resident with it.
    pub(crate) new_frames: u16,
}

/// Resources that a claim lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shortage {
    /// Frames to charge.
    pub(crate) frames: usize,
    /// A new zspage.
    pub(crate) zspage: bool,
    /// Members to allocate storage for, or 0.
    pub(crate) storage: usize,
}

impl ClassState {
    /// Claims an open slot for an object of `len` bytes, in the fullest zspage that has one.
    #[inline]
    pub(crate) fn claim_open(&mut self, len: u32) -> Option<ClaimedSlot> {
        if self.open == 0 {
            return None;
        }
        let local = Group::FULLEST_FIRST
            .iter()
            .find_map(|&group| self.head(group))
            .or_else(|| self.list(Group::Empty).find(|&local| self.member(local).open > 0))?;
        let slot = self.first_open(local)?;
        Some(self.occupy_open(local, slot, len))
    }

    /// Claims the first free slot of a zspage that has none in resident frames, and takes the
    /// frames it needs from `credit`. Returns `None` if there is no such zspage.
    ///
    /// # Errors
    ///
    /// If `credit` is too small, the number of frames needed. Then nothing has changed.
    pub(crate) fn claim_growing(
        &mut self,
        len: u32,
        credit: &mut usize,
    ) -> Result<Option<ClaimedSlot>, usize> {
        let Some(local) = self.head(Group::Growing).or_else(|| self.head(Group::Empty)) else {
            return Ok(None);
        };
        let Some(slot) = first_clear(self.bits(local), 0, self.slot_map.slots) else {
            return Ok(None);
        };
        self.claim_at(local, slot, len, credit).map(Some)
    }

    /// Claims the first free slot of a zspage that is neither empty nor isolated, fuller ones
    /// first, unless `barred` excludes that slot. Takes the frames it needs from `credit`.
    /// Compaction uses this: it fills gaps whether their frames are resident or not.
    ///
    /// # Errors
    ///
    /// If `credit` is too small, the number of frames needed. Then nothing has changed.
    pub(crate) fn claim_gap(
        &mut self,
        len: u32,
        credit: &mut usize,
        barred: impl Fn(u32, u16) -> bool,
    ) -> Result<Option<ClaimedSlot>, usize> {
        let groups =
            [Group::AlmostFull, Group::ThreeQuarters, Group::Growing, Group::Half, Group::Quarter];
        let candidates = groups.into_iter().flat_map(|group| self.list(group));
        let mut gaps = candidates.filter_map(|local| {
            let slot = first_clear(self.bits(local), 0, self.slot_map.slots)?;
            (!barred(self.member(local).id, slot)).then_some((local, slot))
        });
        let Some((local, slot)) = gaps.next() else { return Ok(None) };
        drop(gaps);
        self.claim_at(local, slot, len, credit).map(Some)
    }

    /// Returns the first slot that is not claimed and lies in resident frames.
    #[inline]
    fn first_open(&self, local: u32) -> Option<u16> {
        let (bits, resident) = (self.bits(local), self.member(local).resident);
        let mut from = 0;
        loop {
            let slot = first_clear(bits, from, self.slot_map.slots)?;
            let missing = self.slot_map.frames_of_slot(slot) & !resident;
            if missing == 0 {
                return Some(slot);
            }
            // Continue where frames are resident again.
            let absent = missing.trailing_zeros();
            let next = absent + (resident >> absent).trailing_zeros();
            from = self.slot_map.first_slot_from(next.min(64)).max(slot + 1);
        }
    }

    fn claim_at(
        &mut self,
        local: u32,
        slot: u16,
        len: u32,
        credit: &mut usize,
    ) -> Result<ClaimedSlot, usize> {
        let touched = self.slot_map.frames_of(slot, len) & !self.member(local).resident;
        let frames = touched.count_ones() as usize;
        if *credit < frames {
            return Err(frames);
        }
        *credit -= frames;
        Ok(self.occupy(local, slot, len))
    }
}
