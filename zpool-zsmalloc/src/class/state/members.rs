//! Zspages join a class, are isolated, lose frames, and leave.

use super::{ClassState, Member};
use crate::class::fullness::{Group, Links};
use crate::geometry::bits::{bit, count_set, first_set, runs};
use crate::zspage::{Zspage, Zspages};

/// A zspage that is neither full nor empty nor isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartialZspage {
    /// Slots claimed.
    pub(crate) inuse: u16,
    pub(crate) id: u32,
}

impl ClassState {
    /// Adds a new zspage, empty and without a resident frame. There is storage for it.
    pub(crate) fn adopt(&mut self, id: u32, zspages: &Zspages) {
        let local = self.storage.members.len() as u32;
        debug_assert_eq!(self.storage_needed(), 0, "storage is allocated outside the lock");
        let links = Links::UNLINKED;
        let empty = Member { resident: 0, id, links, inuse: 0, open: 0, isolated: false, row: 0 };
        self.by_row[usize::from(empty.row)] += 1;
        self.storage.members.push(empty);
        self.storage.bits.extend(core::iter::repeat_n(0, usize::from(self.slot_map.words)));
        zspages.existing(id).set_local(local);
        self.groups.link(&mut self.storage.members, local, Group::Empty);
    }

    /// Removes a zspage from the groups, so that no further slot of it is claimed.
    pub(crate) fn isolate(&mut self, local: u32) {
        let resident = self.member(local).resident;
        self.open -= u32::from(self.member(local).open);
        self.storage.members[local as usize].isolated = true;
        self.regroup(local, resident);
    }

    /// Ends the isolation of a zspage.
    pub(crate) fn rejoin(&mut self, local: u32) {
        let resident = self.member(local).resident;
        self.storage.members[local as usize].isolated = false;
        self.open += u32::from(self.member(local).open);
        self.regroup(local, resident);
    }

    pub(crate) fn is_isolated(&self, local: u32) -> bool {
        self.member(local).isolated
    }

    /// Returns whether a zspage has no objects or is isolated.
    pub(crate) fn is_empty_or_isolated(&self, local: u32) -> bool {
        self.member(local).inuse == 0 || self.member(local).isolated
    }

    pub(crate) fn id(&self, local: u32) -> u32 {
        self.member(local).id
    }

    /// Returns the index of a zspage, unless this class has removed it.
    pub(crate) fn local_of(&self, zspage: &Zspage, id: u32) -> Option<u32> {
        let local = zspage.local();
        let member = self.storage.members.get(local as usize)?;
        (member.id == id).then_some(local)
    }

    /// Iterates over the zspages that are neither full nor empty nor isolated.
    pub(crate) fn partial_zspages(&self) -> impl Iterator<Item = PartialZspage> {
        let slots = self.slot_map.slots;
        let partial =
            move |member: &&Member| !member.isolated && (1..slots).contains(&member.inuse);
        let members = self.storage.members.iter().filter(partial);
        members.map(|member| PartialZspage { inuse: member.inuse, id: member.id })
    }

    /// Returns the zspage with the fewest objects, but at least one, and a free slot, to the
    /// precision of the groups.
    pub(crate) fn emptiest(&self) -> Option<u32> {
        let groups =
            [Group::Growing, Group::Quarter, Group::Half, Group::ThreeQuarters, Group::AlmostFull];
        let heads = groups.into_iter().filter_map(|group| self.head(group));
        heads.min_by_key(|&local| self.member(local).inuse)
    }

    /// Returns an empty zspage, passing over the first `skip` of them.
    pub(crate) fn nth_empty(&self, skip: usize) -> Option<u32> {
        self.list(Group::Empty).nth(skip)
    }

    /// Returns the number of resident frames of a zspage.
    pub(crate) fn resident_of(&self, local: u32) -> usize {
        self.member(local).resident.count_ones() as usize
    }

    /// Returns the resident frames that claimed slots reach into, as bits.
    pub(crate) fn occupied_frames(&self, local: u32) -> u64 {
        self.member(local).resident & !self.empty_frames(local)
    }

    /// Returns the resident frames that no claimed slot reaches into, as bits.
    pub(crate) fn empty_frames(&self, local: u32) -> u64 {
        let (member, bits) = (self.member(local), self.bits(local));
        let empty = |frame: &u32| {
            let slots = self.slot_map.slots_in(*frame..*frame + 1);
            first_set(bits, slots.start, slots.end).is_none()
        };
        let frames = runs(member.resident).flatten().filter(empty);
        frames.fold(0, |mask, frame| mask | 1 << frame)
    }

    /// Marks frames of an isolated zspage as not resident. They are empty.
    pub(crate) fn mark_absent(&mut self, local: u32, frames: u64) {
        debug_assert!(self.member(local).isolated && frames & !self.empty_frames(local) == 0);
        self.tails -= self.tails_in(frames & self.member(local).resident);
        self.storage.members[local as usize].resident &= !frames;
        self.resident -= frames.count_ones();
        let open = self.count_open(local, 0..self.slot_map.slots);
        self.storage.members[local as usize].open = open;
    }

    /// Removes an empty zspage for good. Returns its id and the number of its resident frames.
    pub(crate) fn remove(&mut self, local: u32, zspages: &Zspages) -> (u32, usize) {
        debug_assert_eq!(self.member(local).inuse, 0, "only an empty zspage is removed");
        if !self.member(local).isolated {
            self.isolate(local);
        }
        let words = usize::from(self.slot_map.words);
        let gone = self.storage.members.swap_remove(local as usize);
        let last = self.storage.members.len();
        self.storage.bits.copy_within(last * words.., local as usize * words);
        self.storage.bits.truncate(last * words);
        if (local as usize) < last {
            zspages.existing(self.member(local).id).set_local(local);
            self.groups.renumber(&mut self.storage.members, local);
        }
        self.by_row[usize::from(gone.row)] -= 1;
        let frames = gone.resident.count_ones();
        self.resident -= frames;
        self.tails -= self.tails_in(gone.resident);
        (gone.id, frames as usize)
    }

    /// Counts the slots of `range` that are not claimed and lie in resident frames.
    pub(in crate::class) fn count_open(&self, local: u32, range: core::ops::Range<u16>) -> u16 {
        let (bits, resident) = (self.bits(local), self.member(local).resident);
        let is_open =
            |&slot: &u16| !bit(bits, slot) && self.slot_map.frames_of_slot(slot) & !resident == 0;
        range.filter(is_open).count() as u16
    }

    /// Counts the claimed slots from `first` on.
    pub(crate) fn count_claimed_from(&self, local: u32, first: u16) -> usize {
        count_set(self.bits(local), first..self.slot_map.slots)
    }

    /// Returns whether a slot is claimed.
    pub(crate) fn is_claimed(&self, local: u32, slot: u16) -> bool {
        slot < self.slot_map.slots && bit(self.bits(local), slot)
    }

    /// Returns whether all frames that an object of `len` bytes lies in are resident.
    pub(crate) fn is_resident(&self, local: u32, slot: u16, len: u32) -> bool {
        self.slot_map.frames_of(slot, len) & !self.member(local).resident == 0
    }
}
