//! Zspages join a class, are set apart, lose frames, and leave.

use super::{ClassState, Occupancy};
use crate::class::fullness::{Group, Links};
use crate::geometry::slot_map::{bit, count_set, first_set, runs};
use crate::zspage::table::ZspageTable;

impl ClassState {
    /// Adds a new zspage, empty and without a resident frame. There is room.
    pub(crate) fn adopt(&mut self, id: u32, zspages: &ZspageTable) {
        let local = self.room.members.len() as u32;
        debug_assert_eq!(self.storage_needed(), 0, "room was made outside the lock");
        let links = Links::UNLINKED;
        let empty =
            Occupancy { resident: 0, id, links, inuse: 0, open: 0, isolated: false, row: 0 };
        self.by_row[usize::from(empty.row)] += 1;
        self.room.members.push(empty);
        self.room.bits.extend(core::iter::repeat_n(0, usize::from(self.slot_map.words)));
        set_local(zspages, id, local);
        self.groups.link(&mut self.room.members, local, Group::Empty);
    }

    /// Takes a zspage out of the groups, so that no slot of it is claimed.
    pub(crate) fn isolate(&mut self, local: u32) {
        let resident = self.member(local).resident;
        self.open -= u32::from(self.member(local).open);
        self.room.members[local as usize].isolated = true;
        self.regroup(local, resident);
    }

    /// Ends the isolation.
    pub(crate) fn rejoin(&mut self, local: u32) {
        let resident = self.member(local).resident;
        self.room.members[local as usize].isolated = false;
        self.open += u32::from(self.member(local).open);
        self.regroup(local, resident);
    }

    /// Returns the frames that are resident although no claimed slot reaches into them.
    pub(crate) fn empty_frames(&self, local: u32) -> u64 {
        let (member, bits) = (self.member(local), self.bits(local));
        let empty = |frame: &u32| {
            let slots = self.slot_map.slots_in(*frame..*frame + 1);
            first_set(bits, slots.start, slots.end).is_none()
        };
        let frames = runs(member.resident).flatten().filter(empty);
        frames.fold(0, |mask, frame| mask | 1 << frame)
    }

    /// Strikes frames of an isolated zspage off the resident ones. They are hollow.
    pub(crate) fn mark_absent(&mut self, local: u32, frames: u64) {
        debug_assert!(self.member(local).isolated && frames & !self.empty_frames(local) == 0);
        self.tails -= self.tails_in(frames & self.member(local).resident);
        self.room.members[local as usize].resident &= !frames;
        self.resident -= frames.count_ones();
        let open = self.count_open(local, 0..self.slot_map.objects);
        self.room.members[local as usize].open = open;
    }

    /// Removes an empty zspage for good. Returns its id and the number of its resident frames.
    pub(crate) fn remove(&mut self, local: u32, zspages: &ZspageTable) -> (u32, usize) {
        debug_assert_eq!(self.member(local).inuse, 0, "only an empty zspage goes");
        if !self.member(local).isolated {
            self.isolate(local);
        }
        let words = usize::from(self.slot_map.words);
        let gone = self.room.members.swap_remove(local as usize);
        let last = self.room.members.len();
        self.room.bits.copy_within(last * words.., local as usize * words);
        self.room.bits.truncate(last * words);
        if (local as usize) < last {
            set_local(zspages, self.member(local).id, local);
            self.groups.renumber(&mut self.room.members, local);
        }
        self.by_row[usize::from(gone.row)] -= 1;
        let frames = gone.resident.count_ones();
        self.resident -= frames;
        self.tails -= self.tails_in(gone.resident);
        (gone.id, frames as usize)
    }

    /// Counts the slots of `range` that are not claimed and lie in resident frames.
    pub(crate) fn count_open(&self, local: u32, range: core::ops::Range<u16>) -> u16 {
        let (bits, resident) = (self.bits(local), self.member(local).resident);
        let is_open = |&object: &u16| {
            !bit(bits, object) && self.slot_map.frames_of_slot(object) & !resident == 0
        };
        range.filter(is_open).count() as u16
    }

    /// Counts the slots claimed from `first` on.
    pub(crate) fn count_from(&self, local: u32, first: u16) -> usize {
        count_set(self.bits(local), first..self.slot_map.objects)
    }
}

fn set_local(zspages: &ZspageTable, id: u32, local: u32) {
    zspages.get(id).expect("a member's entry exists").set_local(local);
}
