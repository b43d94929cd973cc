//! Reading: pin, look up, slice. No lock; one exchange here and one subtraction when the guard goes.
//!
//! ```text
//!   handle ─► slot word ── pin (Acquire) ──► zspage, object, slack ─► entry: base, class ─► base + object * slot size, slot size - slack
//!   guard dropped ──────── unpin (Release)
//! ```
//!
//! The orderings are in `slot`, what the bytes may and may not do meanwhile in `memory`.

use zpool_core::{Handle, Pins, PoolError, ReadGuard};

use crate::inner::Inner;

impl Inner {
    /// See `ZPool::read`.
    #[inline]
    pub(crate) fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let slot = self.handles.get(opened.index).ok_or(PoolError::StaleHandle)?;
        let (at, slack) = self.layout.unpack(slot.pin(opened.generation)?);
        let zspage = self.zspages.get(at.zspage).expect("a pinned object's zspage exists");
        let class = self.table.get(zspage.class());
        let run_len = usize::from(class.frames) * self.table.config().frame_size;
        let offset = usize::from(at.object) * class.slot_bytes as usize;
        // SAFETY: `slice` (1): pinned above, and the guard unpins when it is dropped, after its last use of the bytes; it borrows the pool, which gives
        // its zspages up only when it is dropped; (2): as computed from its class.
        let bytes = unsafe { zspage.slice(run_len, offset, (class.slot_bytes - slack) as usize) };
        Ok(ReadGuard::pinned(bytes, self, u64::from(opened.index)))
    }
}

impl Pins for Inner {
    #[inline]
    fn unpin(&self, token: u64) {
        let index = token as u32;
        let Some(slot) = self.handles.get(index) else { return };
        if let Some(content) = slot.unpin() {
            self.bury(index, content);
        }
    }
}
