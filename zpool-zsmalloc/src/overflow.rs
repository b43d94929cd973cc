//! Readers beyond those that an object's word can count: they share one pin of it, and are counted
//! here.
//!
//! ```text
//!   word of an object      | ... | 128 pins of readers | + 1, shared |
//!                                                           ▲
//!   table, under a lock    | slot 17: 9 872 guards |  ──────┘   the last of them takes the shared pin back
//! ```
//!
//! So the protocol of the word knows nothing of them: it sees one more pin, which goes when the
//! last of these guards does. The lock is a leaf, held for a few instructions, and only readers of
//! objects with more than `MAX_PINS` guards take it.

use zpool_core::PoolError;
use zpool_core::internal::sync::Mutex;

use crate::slot::{Pinned, Slot, Unpinned};

/// The shared pins of a pool.
#[derive(Debug, Default)]
pub struct Overflow {
    shared: Mutex<Vec<Shared>>,
}

/// One object's shared pin.
#[derive(Debug)]
struct Shared {
    /// Number of the handle's slot. The table is sorted by it.
    index: u32,
    /// Guards that share the pin: at least one.
    guards: usize,
}

impl Overflow {
    /// An empty table.
    pub fn new() -> Overflow {
        Overflow::default()
    }

    /// Adds a guard of the object behind handle slot `index` to those that share a pin. `grown` is
    /// told the bytes that the table grew by.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`]; [`PoolError::TooManyReaders`] if the heap refuses room for one
    /// more object.
    pub fn add(
        &self,
        slot: &Slot,
        (index, generation): (u32, u16),
        grown: impl FnOnce(usize),
    ) -> Result<Pinned, PoolError> {
        let mut shared = self.shared.lock();
        match shared.binary_search_by_key(&index, |shared| shared.index) {
            Ok(at) => {
                let content = slot.share(generation)?;
                shared[at].guards += 1;
                Ok(Pinned { content, first: false })
            }
            Err(at) => {
                let before = shared.capacity();
                shared.try_reserve(1).map_err(|_| PoolError::TooManyReaders)?;
                grown((shared.capacity() - before) * size_of::<Shared>());
                let pinned = slot.pin_shared(generation)?;
                shared.insert(at, Shared { index, guards: 1 });
                Ok(pinned)
            }
        }
    }

    /// Takes a guard away. Returns what the unpin left, if this was the last guard that shared the
    /// pin.
    pub fn remove(&self, slot: &Slot, index: u32) -> Option<Unpinned> {
        let mut shared = self.shared.lock();
        let at = shared.binary_search_by_key(&index, |shared| shared.index).ok()?;
        shared[at].guards -= 1;
        if shared[at].guards > 0 {
            return None;
        }
        shared.remove(at);
        // Under the lock, so that there is never more than one shared pin.
        Some(slot.unpin())
    }

    /// Frees the room of a table that is empty. Returns its bytes.
    pub(crate) fn trim(&self) -> usize {
        let mut shared = self.shared.lock();
        if !shared.is_empty() {
            return 0;
        }
        let room = core::mem::take(&mut *shared);
        drop(shared);
        room.capacity() * size_of::<Shared>()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::readers::Readers;
    use crate::slot::{Content, Freed, MAX_PINS};

    /// Guards beyond the limit share one pin, whatever their number, and the last of all guards
    /// takes the object down.
    #[test]
    fn overflow_pin_is_taken_back_once() {
        let (slot, overflow) = (Slot::default(), Overflow::new());
        let generation = slot.publish(Content(7));
        for _ in 0..MAX_PINS {
            slot.pin(generation).unwrap();
        }
        assert_eq!(slot.pin(generation), Err(PoolError::TooManyReaders));
        let mut bytes = 0;
        for _ in 0..10_000 {
            let pinned = overflow.add(&slot, (3, generation), |grown| bytes += grown).unwrap();
            assert_eq!(pinned, Pinned { content: Content(7), first: false });
        }
        assert_eq!(slot.free(generation, 3, &Readers::new()), Ok(Freed::Later));
        assert_eq!(overflow.add(&slot, (3, generation), |_| ()), Err(PoolError::StaleHandle));
        for _ in 0..MAX_PINS {
            assert_eq!(slot.unpin().dead, None);
        }
        for _ in 1..10_000 {
            assert_eq!(overflow.remove(&slot, 3), None);
            assert_eq!(overflow.trim(), 0, "in use");
        }
        assert_eq!(
            overflow.remove(&slot, 3),
            Some(Unpinned { dead: Some(Content(7)), last: true })
        );
        assert_eq!((overflow.remove(&slot, 3), overflow.trim()), (None, bytes));
    }

    /// Objects in the table do not get in each other's way.
    #[test]
    fn overflow_keeps_objects_apart() {
        let overflow = Overflow::new();
        let slots: Vec<_> = (0..40).map(|_| Slot::default()).collect();
        for (index, slot) in slots.iter().enumerate().rev() {
            let generation = slot.publish(Content(index as u64));
            for _ in 0..=index % 3 {
                let pinned = overflow.add(slot, (index as u32, generation), |_| ()).unwrap();
                assert_eq!(pinned.content, Content(index as u64));
            }
        }
        for (index, slot) in slots.iter().enumerate() {
            for _ in 0..index % 3 {
                assert_eq!(overflow.remove(slot, index as u32), None);
            }
            assert_eq!(
                overflow.remove(slot, index as u32),
                Some(Unpinned { dead: None, last: true })
            );
        }
    }
}
