//! Exchanging the objects of two handles. The protocol is in `handle::entry::exchange`.

use zpool_core::Handle;

use super::core::PoolCore;
use crate::handle::entry::Exchanged;

impl PoolCore {
    /// See `ZPool::exchange`.
    pub(crate) fn exchange(&self, kept: &Handle, other: &Handle) -> bool {
        let (Ok(kept), Ok(other)) = (self.handles.open(kept), self.handles.open(other)) else {
            return false;
        };
        match self.handles.exchange(kept, other) {
            Exchanged::Yes => true,
            Exchanged::No => false,
            // A second copy of the handle was freed meanwhile: finish that free here.
            Exchanged::Freed(location) => {
                self.finish_zombie(kept.index, location);
                false
            }
        }
    }
}
