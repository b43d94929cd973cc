//! The vectors of a class's members. Larger or smaller ones are made outside the class's lock.

use super::{ClassState, Occupancy};
use crate::collections::fallible::try_with_capacity;
use crate::geometry::slot_map::SlotMap;

/// The room for members, made outside the lock.
#[derive(Debug, Default)]
pub(crate) struct MemberStorage {
    pub(super) members: Vec<Occupancy>,
    pub(super) bits: Vec<u64>,
}

impl MemberStorage {
    /// Makes room for so many members of a class. `None` if the heap refuses.
    pub(crate) fn with_capacity(slot_map: &SlotMap, members: usize) -> Option<MemberStorage> {
        Some(MemberStorage {
            members: try_with_capacity(members)?,
            bits: try_with_capacity(members * usize::from(slot_map.words))?,
        })
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.members.capacity() * size_of::<Occupancy>() + self.bits.capacity() * size_of::<u64>()
    }
}

impl ClassState {
    /// Returns the capacity that another member needs: 0 while there is some.
    pub(crate) fn storage_needed(&self) -> usize {
        let members = self.room.members.len();
        if members < self.room.members.capacity() { 0 } else { members + 1 + members / 8 }
    }

    /// Puts the members into larger room. Returns the old room, or the new one if it is not larger,
    /// to be dropped outside the lock.
    pub(crate) fn enlarge(&mut self, room: MemberStorage) -> MemberStorage {
        if room.members.capacity() > self.room.members.capacity() { self.refit(room) } else { room }
    }

    /// The members that room should be made for, if most of the room is unused.
    pub(crate) fn excess_storage(&self) -> Option<(SlotMap, usize)> {
        let (used, capacity) = (self.room.members.len(), self.room.members.capacity());
        (capacity > used + used / 4 + 1).then_some((self.slot_map, used))
    }

    /// Puts the members into other room, if they fit. Returns the room that is not used, to be
    /// dropped outside the lock.
    pub(crate) fn refit(&mut self, mut room: MemberStorage) -> MemberStorage {
        if room.members.capacity() >= self.room.members.len() {
            room.members.append(&mut self.room.members);
            room.bits.append(&mut self.room.bits);
            core::mem::swap(&mut room, &mut self.room);
        }
        room
    }
}
