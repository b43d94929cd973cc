//! The vectors of a class's members. Larger or smaller ones are allocated outside the class's lock.

use super::{ClassState, Member};
use crate::collections::fallible::try_with_capacity;
use crate::geometry::slot_map::SlotMap;

/// Storage for members, allocated outside the lock.
#[derive(Debug, Default)]
pub(crate) struct MemberStorage {
    pub(super) members: Vec<Member>,
    pub(super) bits: Vec<u64>,
}

impl MemberStorage {
    /// Allocates storage for `members` members of a class. Returns `None` if the heap refuses.
    pub(crate) fn with_capacity(slot_map: &SlotMap, members: usize) -> Option<MemberStorage> {
        Some(MemberStorage {
            members: try_with_capacity(members)?,
            bits: try_with_capacity(members * usize::from(slot_map.words))?,
        })
    }

    /// Returns the bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.members.capacity() * size_of::<Member>() + self.bits.capacity() * size_of::<u64>()
    }
}

impl ClassState {
    /// Returns the capacity that another member needs: 0 while there is room.
    pub(crate) fn storage_needed(&self) -> usize {
        let members = self.storage.members.len();
        if members < self.storage.members.capacity() { 0 } else { members + 1 + members / 8 }
    }

    /// Moves the members into larger storage. Returns the old storage, or the new one if it is not
    /// larger, for the caller to drop outside the lock.
    pub(crate) fn enlarge(&mut self, storage: MemberStorage) -> MemberStorage {
        if storage.members.capacity() > self.storage.members.capacity() {
            self.refit(storage)
        } else {
            storage
        }
    }

    /// Returns the number of members to allocate smaller storage for, if most of it is unused.
    pub(crate) fn excess_storage(&self) -> Option<usize> {
        let (used, capacity) = (self.storage.members.len(), self.storage.members.capacity());
        (capacity > used + used / 4 + 1).then_some(used)
    }

    /// Moves the members into other storage, if they fit. Returns the storage that is not used, for
    /// the caller to drop outside the lock.
    pub(crate) fn refit(&mut self, mut storage: MemberStorage) -> MemberStorage {
        if storage.members.capacity() >= self.storage.members.len() {
            storage.members.append(&mut self.storage.members);
            storage.bits.append(&mut self.storage.bits);
            core::mem::swap(&mut storage, &mut self.storage);
        }
        storage
    }
}
