//! Reading: announce, look up, slice. No lock; one exchange here and one when the guard goes, both in a cache line of this processor.
//!
//! ```text
//!   handle ─► announce ─► slot word: live, no pins? ──► zspage, object, slack ─► entry: base, class ─► base + object * slot size, slot size - slack
//!                 └ no place, or pins ─► pin ─────────────┘
//!   guard dropped ─► withdraw, or unpin
//! ```
//!
//! The protocol and its orderings are in `readers` and `slot`, what the bytes may and may not do meanwhile in `memory`.

use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::{Handle, Pins, PoolError, ReadGuard};

use crate::class::ClassIndex;
use crate::inner::Inner;
use crate::readers::Place;
use crate::slot::{Content, Named, Slot, Unpinned};

/// In the stead of a place's number: the guard shares a pin. There are not so many places.
const SHARED: u32 = u32::MAX;

impl Inner {
    /// See `ZPool::read`.
    #[inline]
    pub(crate) fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let named = self.named(handle)?;
        let (content, place) = self.hold(named)?;
        let (at, slack) = self.layout.unpack(content);
        let zspage = self.zspages.get(at.zspage).expect("a pinned object's zspage exists");
        let class = self.table.get(zspage.class());
        let run_len = usize::from(class.frames) * self.table.config().frame_size;
        let offset = usize::from(at.object) * class.slot_bytes as usize;
        // SAFETY: `slice` (1): announced or pinned above, and the guard takes that back when it is dropped, after its last use of the bytes; it borrows the pool, which gives
        // its zspages up only when it is dropped; (2): as computed from its class.
        let bytes = unsafe { zspage.slice(run_len, offset, (class.slot_bytes - slack) as usize) };
        let token = u64::from(place) << u32::BITS | u64::from(named.index);
        Ok(ReadGuard::pinned(bytes, self, token))
    }

    /// Keeps an object where it is, until [`Pins::unpin`]. Gives the number of the place where that is announced, or 0 for a pin.
    #[inline]
    fn hold(
        &self,
        Named { slot, index, generation }: Named<'_>,
    ) -> Result<(Content, u32), PoolError> {
        if let Some(place) = self.readers.announce(index) {
            if let Some(content) = slot.look(generation) {
                return Ok((content, place.to_number()));
            }
            self.withdraw(place, index);
        }
        self.pin(Named { slot, index, generation })
    }

    /// Pins the word: with a pin of this reader's own, or with the one that readers beyond the
    /// limit share.
    #[inline]
    fn pin(
        &self,
        Named { slot, index, generation }: Named<'_>,
    ) -> Result<(Content, u32), PoolError> {
        let (pinned, place) = match slot.pin(generation) {
            Ok(pinned) => (pinned, 0),
            Err(PoolError::TooManyReaders) => {
                let grown = |bytes| self.counters.metadata_changed(0, bytes);
                (self.overflow.add(slot, (index, generation), grown)?, SHARED)
            }
            Err(error) => return Err(error),
        };
        if pinned.first {
            self.note_pinned(self.class_at(pinned.content), 1);
        }
        Ok((pinned.content, place))
    }

    #[inline]
    fn withdraw(&self, place: Place, index: u32) {
        if !self.readers.withdraw(place) {
            self.take_back_pin(index);
        }
    }

    /// Takes a pin of the word back that is not announced: the reader's own, or its share.
    fn unpin_word(&self, index: u32, number: u32) {
        if number == SHARED {
            self.unpin_with(index, |slot| self.overflow.remove(slot, index));
        } else {
            self.take_back_pin(index);
        }
    }

    #[cold]
    fn take_back_pin(&self, index: u32) {
        self.unpin_with(index, |slot| Some(slot.unpin()));
    }

    /// Takes a pin back with `unpin`, which returns nothing if the pin stays.
    #[inline]
    fn unpin_with(&self, index: u32, unpin: impl FnOnce(&Slot) -> Option<Unpinned>) {
        let Some(slot) = self.handles.get(index) else { return };
        // Before the unpin: once that is done, the object may be moved or freed, and its zspage may
        // go.
        let class = self.class_at(slot.content());
        let Some(Unpinned { dead, last }) = unpin(slot) else { return };
        if last {
            self.note_pinned(class, 1_u32.wrapping_neg());
        }
        if let Some(content) = dead {
            self.bury(index, content);
        }
    }

    /// Adds to the count of objects of a class that readers have pinned.
    pub(crate) fn note_pinned(&self, class: ClassIndex, count: u32) {
        // Relaxed: for the books. Wrapping.
        self.class(class).pinned.fetch_add(count, Ordering::Relaxed);
    }

    /// The class of the slot where an object is that the caller keeps there.
    #[inline]
    pub(crate) fn class_at(&self, content: Content) -> ClassIndex {
        let (at, _) = self.layout.unpack(content);
        self.zspages.get(at.zspage).expect("a pinned object's zspage exists").class()
    }
}

impl Pins for Inner {
    #[inline]
    fn unpin(&self, token: u64) {
        let (index, number) = (token as u32, (token >> u32::BITS) as u32);
        match Place::from_number(number).filter(|_| number != SHARED) {
            Some(place) => self.withdraw(place, index),
            None => self.unpin_word(index, number),
        }
    }
}
