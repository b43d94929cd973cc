//! A slot is claimed or released, and the counts of its zspage and class follow.
//!
//! Every insert and free that a magazine does not serve comes here. So figures that rarely change
//! are tested for and left alone: frames, tails, absent bytes, and the zspage's group and row.

use super::{ClaimedSlot, ClassState, PEAK_UNIT};
use crate::class::fullness::{Group, row};
use crate::geometry::bits::{bit, runs};

impl ClassState {
    /// Marks an open slot claimed for an object of `len` bytes. All its frames are resident and
    /// stay so.
    #[inline]
    pub(super) fn occupy_open(&mut self, local: u32, slot: u16, len: u32) -> ClaimedSlot {
        self.count_object(local, slot, len);
        let member = &mut self.storage.members[local as usize];
        debug_assert!(
            !member.isolated && self.slot_map.frames_of_slot(slot) & !member.resident == 0
        );
        member.open -= 1;
        let (zspage, resident) = (member.id, member.resident);
        self.open -= 1;
        self.regroup(local, resident);
        ClaimedSlot { zspage, slot, new_frames: 0 }
    }

    /// Marks a slot claimed for an object of `len` bytes. The frames that the object lies in become
    /// resident.
    pub(super) fn occupy(&mut self, local: u32, slot: u16, len: u32) -> ClaimedSlot {
        self.count_object(local, slot, len);
        let frames = self.slot_map.frames_of_slot(slot);
        let touched = self.slot_map.frames_of(slot, len);
        let member = &mut self.storage.members[local as usize];
        let before = member.resident;
        let new = touched & !before;
        member.resident |= new;
        let (zspage, mut open) = (member.id, member.open - u16::from(frames & !before == 0));
        self.absent += self.slot_map.bytes_in(slot, frames & !(before | new));
        if new != 0 {
            self.resident += new.count_ones();
            self.tails += self.tails_in(new);
            self.absent -= self.absent_before(local, slot, new);
            // Count only slots that reach into the new frames: none of them was open before.
            let slots = self.slot_map.slots_in(new.trailing_zeros()..64 - new.leading_zeros());
            open += self.count_open(local, slots);
        }
        self.set_open(local, open);
        self.regroup(local, before);
        ClaimedSlot { zspage, slot, new_frames: new.count_ones() as u16 }
    }

    /// Clears the slot of an object of `len` bytes. No handle names it, and no pin holds it.
    #[inline]
    pub(in crate::class) fn release(&mut self, local: u32, slot: u16, len: u32) {
        debug_assert!(bit(self.bits(local), slot), "a slot is released once");
        self.bits_mut(local)[usize::from(slot / 64)] &= !(1 << (slot % 64));
        self.objects -= 1;
        // Wrapping: the length in a cached slot changes elsewhere.
        self.payload = self.payload.wrapping_sub(len as usize);
        let frames = self.slot_map.frames_of_slot(slot);
        let member = &mut self.storage.members[local as usize];
        member.inuse -= 1;
        let resident = member.resident;
        if frames & !resident == 0 {
            member.open += 1;
            self.open += u32::from(!member.isolated);
        } else {
            self.forget_absent(slot, frames & !resident);
        }
        self.regroup(local, resident);
    }

    /// Sets the bit of a slot, and counts its object.
    #[inline]
    fn count_object(&mut self, local: u32, slot: u16, len: u32) {
        debug_assert!(!bit(self.bits(local), slot), "a slot is claimed once");
        self.bits_mut(local)[usize::from(slot / 64)] |= 1 << (slot % 64);
        self.storage.members[local as usize].inuse += 1;
        self.objects += 1;
        self.payload = self.payload.wrapping_add(len as usize);
        self.peak = self.peak.max(self.objects * PEAK_UNIT as u32);
    }

    /// Subtracts the bytes of a slot in frames that are not resident.
    #[cold]
    #[inline(never)]
    fn forget_absent(&mut self, slot: u16, missing: u64) {
        self.absent -= self.slot_map.bytes_in(slot, missing);
    }

    /// Returns the bytes of claimed slots other than `slot` in frames that have become resident.
    /// Each such slot begins before the frame, because the frame where a claimed slot begins is
    /// resident.
    fn absent_before(&self, local: u32, slot: u16, new: u64) -> usize {
        let across = runs(new)
            .flatten()
            .filter_map(|frame| Some((frame, self.slot_map.slot_across(frame)?)));
        let claimed = across.filter(|&(_, other)| other != slot && bit(self.bits(local), other));
        claimed.map(|(frame, other)| self.slot_map.bytes_in(other, 1 << frame)).sum()
    }

    /// Counts the tails in these frames of a zspage: one or none.
    pub(super) fn tails_in(&self, frames: u64) -> u32 {
        u32::from(frames & self.slot_map.tail().0 != 0)
    }

    fn set_open(&mut self, local: u32, open: u16) {
        let member = &mut self.storage.members[local as usize];
        let before = core::mem::replace(&mut member.open, open);
        if !member.isolated {
            self.open = self.open + u32::from(open) - u32::from(before);
        }
    }

    /// Moves a zspage to the group and the row where it belongs now. `resident` are its resident
    /// frames when it was last regrouped.
    #[inline]
    pub(super) fn regroup(&mut self, local: u32, resident: u64) {
        let member = self.member(local);
        let row = row(member.inuse, self.slot_map.slots);
        let to = if member.isolated { Group::None } else { Group::of(row, member.open) };
        if (row, to) != (member.row, member.links.group) {
            self.move_to(local, row, to, resident);
        }
    }

    #[inline(never)]
    fn move_to(&mut self, local: u32, row: u8, to: Group, resident: u64) {
        let member = &mut self.storage.members[local as usize];
        let from = member.links.group;
        self.by_row[usize::from(member.row)] -= 1;
        self.by_row[usize::from(row)] += 1;
        member.row = row;
        if from == Group::Empty {
            self.idle -= resident.count_ones();
        }
        if to == Group::Empty {
            self.idle += member.resident.count_ones();
        }
        if from != to {
            self.groups.unlink(&mut self.storage.members, local);
            self.groups.link(&mut self.storage.members, local, to);
        }
    }

    #[inline]
    fn bits_mut(&mut self, local: u32) -> &mut [u64] {
        let words = usize::from(self.slot_map.words);
        &mut self.storage.bits[local as usize * words..][..words]
    }
}
