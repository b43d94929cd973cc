//! Exchanging the objects of two handles. The protocol is the slots': see [`slot`](crate::slot).

use zpool_core::Handle;

use crate::handle::entry::{Exchanged, exchange};
use crate::pool::core::PoolCore;

impl PoolCore {
    /// See `ZPool::exchange`.
    pub(crate) fn exchange(&self, kept: &Handle, other: &Handle) -> bool {
        let (Ok(kept), Ok(other)) = (self.named(kept), self.named(other)) else { return false };
        match exchange(kept, other, &self.hazards) {
            Exchanged::Yes => true,
            Exchanged::No => false,
            // It takes a second handle of that name, and ends as that one's free would have.
            Exchanged::Freed(content) => {
                self.finish_zombie(kept.index, content);
                false
            }
        }
    }
}
