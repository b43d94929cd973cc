//! Reading: announce, look up, slice. No lock; one exchange here and one when the guard goes, both in a cache line of this processor.
//!
//! ```text
//!   handle ─► announce ─► slot word: live, no pins? ──► zspage, object, slack ─► entry: base, class ─► base + object * slot size, slot size - slack
//!                 └ no place, or pins ─► pin ─────────────┘
//!   guard dropped ─► withdraw, or unpin
//! ```
//!
//! The protocol and its orderings are in `readers` and `slot`, what the bytes may and may not do meanwhile in `memory`.

use zpool_core::{Handle, Pins, PoolError, ReadGuard};

use crate::inner::Inner;
use crate::readers::Place;
use crate::slot::{Content, Named};

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
    fn hold(&self, Named { slot, index, generation }: Named<'_>) -> Result<(Content, u32), PoolError> {
        if let Some(place) = self.readers.announce(index) {
            if let Some(content) = slot.look(generation) {
                return Ok((content, place.to_number()));
            }
            self.withdraw(place, index);
        }
        Ok((slot.pin(generation)?, 0))
    }

    #[inline]
    fn withdraw(&self, place: Place, index: u32) {
        if !self.readers.withdraw(place) {
            self.take_back_pin(index);
        }
    }

    fn take_back_pin(&self, index: u32) {
        let Some(slot) = self.handles.get(index) else { return };
        if let Some(content) = slot.unpin() {
            self.bury(index, content);
        }
    }
}

impl Pins for Inner {
    #[inline]
    fn unpin(&self, token: u64) {
        let index = token as u32;
        match Place::from_number((token >> u32::BITS) as u32) {
            Some(place) => self.withdraw(place, index),
            None => self.take_back_pin(index),
        }
    }
}
