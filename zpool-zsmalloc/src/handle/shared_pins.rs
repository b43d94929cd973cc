//! Readers beyond those that an object's word can count. They share one pin of the word and are
//! counted here.
//!
//! ```text
//!   word of an object      | ... | 128 pins of readers | + 1, shared |
//!                                                           ▲
//!   table, under a lock    | entry 17: 9 872 guards | ──────┘   the last of them takes it back
//! ```
//!
//! So the protocol of the word does not know them: it sees one more pin, which goes when the last
//! of these guards does. The lock is a leaf, held for a few instructions, and only readers of
//! objects with more than `MAX_PINS` guards take it.

use zpool_core::PoolError;
use zpool_core::internal::sync::Mutex;

use super::entry::{HandleEntry, ReaderPin, Unpinned};

/// The shared pins of a pool.
#[derive(Debug, Default)]
pub struct SharedPins {
    shared: Mutex<Vec<SharedPin>>,
}

/// One object's shared pin.
#[derive(Debug)]
struct SharedPin {
    /// Index of the entry. The table is sorted by it.
    index: u32,
    /// Guards that share the pin: at least one.
    guards: usize,
}

impl SharedPins {
    /// Returns an empty table.
    pub fn new() -> SharedPins {
        SharedPins::default()
    }

    /// Adds a guard of entry `index` to those that share a pin. Calls `grown` with the bytes that
    /// the table grew by.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`]; [`PoolError::TooManyReaders`] if the heap refuses room for one
    /// more object.
    pub fn add(
        &self,
        entry: &HandleEntry,
        (index, generation): (u32, u16),
        grown: impl FnOnce(usize),
    ) -> Result<ReaderPin, PoolError> {
        let mut shared = self.shared.lock();
        match shared.binary_search_by_key(&index, |shared| shared.index) {
            Ok(at) => {
                let location = entry.share(generation)?;
                shared[at].guards += 1;
                Ok(ReaderPin { location, first: false })
            }
            Err(at) => {
                let before = shared.capacity();
                shared.try_reserve(1).map_err(|_| PoolError::TooManyReaders)?;
                grown((shared.capacity() - before) * size_of::<SharedPin>());
                let pinned = entry.pin_shared(generation)?;
                shared.insert(at, SharedPin { index, guards: 1 });
                Ok(pinned)
            }
        }
    }

    /// Removes a guard. Returns the result of the unpin if this was the last guard that shared the
    /// pin.
    pub fn remove(&self, entry: &HandleEntry, index: u32) -> Option<Unpinned> {
        let mut shared = self.shared.lock();
        let at = shared.binary_search_by_key(&index, |shared| shared.index).ok()?;
        shared[at].guards -= 1;
        if shared[at].guards > 0 {
            return None;
        }
        shared.remove(at);
        // Under the lock, so that there is never more than one shared pin.
        Some(entry.unpin())
    }

    /// Frees the heap memory of an empty table. Returns its bytes.
    pub(crate) fn trim(&self) -> usize {
        let mut shared = self.shared.lock();
        if !shared.is_empty() {
            return 0;
        }
        let room = core::mem::take(&mut *shared);
        drop(shared);
        room.capacity() * size_of::<SharedPin>()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::handle::entry::{Freed, MAX_PINS, PackedLocation};
    use crate::handle::hazards::HazardTable;

    /// Guards beyond the limit share one pin, whatever their number, and the last of all guards
    /// releases the object.
    #[test]
    fn overflow_pin_is_taken_back_once() {
        let (entry, shared) = (HandleEntry::default(), SharedPins::new());
        let generation = entry.set_live(PackedLocation(7));
        for _ in 0..MAX_PINS {
            entry.pin(generation).unwrap();
        }
        assert_eq!(entry.pin(generation), Err(PoolError::TooManyReaders));
        let mut bytes = 0;
        for _ in 0..10_000 {
            let pinned = shared.add(&entry, (3, generation), |grown| bytes += grown).unwrap();
            assert_eq!(pinned, ReaderPin { location: PackedLocation(7), first: false });
        }
        assert_eq!(entry.free(generation, 3, &HazardTable::new()), Ok(Freed::Later));
        assert_eq!(shared.add(&entry, (3, generation), |_| ()), Err(PoolError::StaleHandle));
        for _ in 0..MAX_PINS {
            assert_eq!(entry.unpin().dead, None);
        }
        for _ in 1..10_000 {
            assert_eq!(shared.remove(&entry, 3), None);
            assert_eq!(shared.trim(), 0, "in use");
        }
        assert_eq!(
            shared.remove(&entry, 3),
            Some(Unpinned { dead: Some(PackedLocation(7)), last: true })
        );
        assert_eq!((shared.remove(&entry, 3), shared.trim()), (None, bytes));
    }

    /// Objects in the table do not get in each other's way.
    #[test]
    fn overflow_keeps_objects_apart() {
        let shared = SharedPins::new();
        let entries: Vec<_> = (0..40).map(|_| HandleEntry::default()).collect();
        for (index, entry) in entries.iter().enumerate().rev() {
            let generation = entry.set_live(PackedLocation(index as u64));
            for _ in 0..=index % 3 {
                let pinned = shared.add(entry, (index as u32, generation), |_| ()).unwrap();
                assert_eq!(pinned.location, PackedLocation(index as u64));
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            for _ in 0..index % 3 {
                assert_eq!(shared.remove(entry, index as u32), None);
            }
            assert_eq!(
                shared.remove(entry, index as u32),
                Some(Unpinned { dead: None, last: true })
            );
        }
    }
}
