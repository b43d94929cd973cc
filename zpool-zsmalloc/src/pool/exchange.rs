//! Exchanging the objects of two handles. The protocol is in `handle::entry::exchange`.

use zpool_core::Handle;

use super::core::PoolCore;
use crate::handle::entry::ExchangeOutcome;

impl PoolCore {
    /// See `ZPool::exchange`.
    pub(crate) fn exchange(&self, kept: &Handle, other: &Handle) -> bool {
        let (Ok(kept), Ok(other)) = (self.handles.open(kept), self.handles.open(other)) else {
            return false;
        };
        match self.handles.exchange(kept, other) {
            ExchangeOutcome::Yes => true,
            ExchangeOutcome::No => false,
            // A second copy of the handle was freed meanwhile: finish that free here.
            ExchangeOutcome::Freed(location) => {
                self.finish_zombie(kept.index, location);
                false
            }
        }
    }
}
