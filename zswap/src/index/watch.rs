//! Watches: entries that are recognized later although no guard holds their objects.
//!
//! A handle's id says which object an entry names only while a guard pins that object. Without a
//! guard the allocator may give the same id out again after enough replacements, so comparing ids
//! is not enough (the ABA problem). A watch notes, under the shard's lock, that the block it was
//! made for has left the index.

use crate::value::ValueId;

/// The watches of a shard. Nearly always none.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    list: Vec<Watch>,
    /// The number of the next watch.
    next: u64,
}

#[derive(Debug)]
struct Watch {
    number: u64,
    id: ValueId,
    left: bool,
}

impl Watches {
    /// Watches for the block that `id` names to leave. Returns the watch's number, or `None` if
    /// memory is refused.
    pub(crate) fn begin(&mut self, id: ValueId) -> Option<u64> {
        self.list.try_reserve(1).ok()?;
        let number = self.next;
        self.next += 1;
        self.list.push(Watch { number, id, left: false });
        Some(number)
    }

    /// Ends a watch. The last one returns the list's memory.
    pub(crate) fn end(&mut self, number: u64) {
        self.list.retain(|watch| watch.number != number);
        if self.list.is_empty() {
            self.list = Vec::new();
        }
    }

    /// Returns whether there are no watches.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notes that the block of this id has left the index.
    pub(crate) fn left(&mut self, id: ValueId) {
        for watch in self.list.iter_mut().filter(|watch| watch.id == id) {
            watch.left = true;
        }
    }

    /// Notes that all blocks have left the index.
    pub(crate) fn all_left(&mut self) {
        self.list.iter_mut().for_each(|watch| watch.left = true);
    }

    /// Returns whether the block has been in the index since the watch began.
    pub(crate) fn stayed(&self, number: u64) -> bool {
        self.list.iter().any(|watch| watch.number == number && !watch.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_after_same_id_again_says_left() {
        let id = |word| ValueId::SameFilled { word, len: 8 };
        let mut watches = Watches::default();
        let (first, other) = (watches.begin(id(1)).unwrap(), watches.begin(id(2)).unwrap());
        assert!(watches.stayed(first) && watches.stayed(other));
        watches.left(id(1));
        // A later block of the same id is another one.
        let again = watches.begin(id(1)).unwrap();
        let stayed = [first, other, again].map(|number| watches.stayed(number));
        assert_eq!(stayed, [false, true, true]);
        [first, other, again].into_iter().for_each(|number| watches.end(number));
        assert!(watches.is_empty() && !watches.stayed(other) && watches.list.capacity() == 0);
    }
}
