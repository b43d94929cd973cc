//! Clean copies: records of blocks that are in memory again, and have not changed since. Such a
//! block goes back to the tier without a write.
//!
//! An object has no place for a record's name, so a shard remembers them, by the identities of the
//! objects. The list is direct-mapped: a newer copy takes the place of an older one, which costs no
//! more than a write later. A copy counts as a reference to its record.

use crate::value::ValueId;
use crate::value::tier_place::TierPlace;

/// Copies that the first list has room for, and the longest one.
const FIRST: usize = 16;
const LONGEST: usize = 1 << 14;

/// The clean copies of a shard's blocks.
#[derive(Debug, Default)]
pub(crate) struct CleanCopies {
    slots: Vec<Option<CleanCopy>>,
    len: usize,
}

/// A record of a block in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CleanCopy {
    id: ValueId,
    place: TierPlace,
}

impl CleanCopies {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes of the list.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<CleanCopy>>()
    }

    /// Remembers that `place` has the block of `id`. Returns the place that is forgotten for it:
    /// `place` itself if there is no memory.
    pub(crate) fn insert(&mut self, id: ValueId, place: TierPlace) -> Option<TierPlace> {
        if 2 * self.len >= self.slots.len() && self.slots.len() < LONGEST {
            self.grow();
        }
        if self.slots.is_empty() {
            return Some(place);
        }
        self.put(CleanCopy { id, place })
    }

    fn put(&mut self, copy: CleanCopy) -> Option<TierPlace> {
        let at = self.slot(copy.id);
        let older = self.slots[at].replace(copy);
        self.len += usize::from(older.is_none());
        older.map(|older| older.place)
    }

    /// Doubles the list. Copies whose slots differ before still do after.
    fn grow(&mut self) {
        let mut longer = Vec::new();
        let count = (2 * self.slots.len()).max(FIRST);
        if longer.try_reserve_exact(count).is_err() {
            return;
        }
        longer.resize(count, None);
        let shorter = std::mem::replace(&mut self.slots, longer);
        self.len = 0;
        for copy in shorter.into_iter().flatten() {
            let forgotten = self.put(copy);
            debug_assert!(forgotten.is_none(), "slots are the low bits of one hash");
        }
    }

    /// Returns the record of the object of `id`.
    pub(crate) fn get(&self, id: ValueId) -> Option<TierPlace> {
        self.slots.get(self.slot(id))?.filter(|copy| copy.id == id).map(|copy| copy.place)
    }

    /// Forgets the record of the object of `id`, which has left the index.
    pub(crate) fn remove(&mut self, id: ValueId) -> Option<TierPlace> {
        let at = self.slot(id);
        let copy = self.slots.get_mut(at)?.take_if(|copy| copy.id == id)?;
        self.len -= 1;
        Some(copy.place)
    }

    /// Forgets everything. Returns the records.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = TierPlace> + use<> {
        self.len = 0;
        std::mem::take(&mut self.slots).into_iter().flatten().map(|copy| copy.place)
    }

    /// Returns the slot of an id: the low bits of its hash.
    fn slot(&self, id: ValueId) -> usize {
        let ValueId::Pooled { handle, .. } = id else { return 0 };
        let mixed = handle.get().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 32) as usize & self.slots.len().saturating_sub(1)
    }
}
