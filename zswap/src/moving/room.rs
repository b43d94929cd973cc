//! Room for copies below a store's limit.

use std::hash::{BuildHasher, Hash};

use zpool_core::CompactionBudget;
use zpool_core::internal::catch;

use crate::moving::batch::{ChosenEntry, SourcePools, batch_bytes};
use crate::store::Store;

/// Bytes by which a copied object may grow its pool beyond its own length: a frame of its size
/// class, of the pool's tables and of the index.
const GROWTH: usize = 16 << 10;

/// A store that is drained may hold 1/9 more than before. If it holds more, the pools that are
/// emptied are compacted. Held bytes are measured after each 1/64 that has moved.
const GROWTH_SHARE: usize = 9;
const HOLES_SHARE: usize = 64;

/// Knowledge about the room for the copies of a batch.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Whether all of them are known to fit.
    measured: bool,
    /// Whether the pools that they come from were compacted.
    compacted: bool,
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Measures the room for a whole batch. Where that is too little, each entry asks for its own.
    pub(crate) fn room_for(&self, batch: &[ChosenEntry<'_, K>]) -> Room {
        Room { measured: self.has_room_for_copies(batch_bytes(batch)), compacted: false }
    }

    /// Returns whether a copy of this many bytes may be made without passing the limit.
    fn has_room_for_copies(&self, bytes: usize) -> bool {
        let Some(max) = self.limit().bytes() else { return true };
        let wanted = bytes.saturating_add(GROWTH);
        // If an allocator panics here, there is no room.
        self.measure_held().is_ok_and(|held| held.saturating_add(wanted) <= max)
    }

    /// Returns whether there is room for one more copy. Compacts the pools that are emptied, once
    /// per batch, if there is not.
    pub(crate) fn makes_room(&self, room: &mut Room, bytes: usize, sources: &SourcePools) -> bool {
        if room.measured || self.has_room_for_copies(bytes) {
            return true;
        }
        if std::mem::replace(&mut room.compacted, true) {
            return false;
        }
        compact(sources, CompactionBudget::UNLIMITED);
        self.has_room_for_copies(bytes)
    }

    /// Compacts the pools that are emptied, if the store holds a part more than before the drain.
    ///
    /// Entries leave in the order of their hashes, which empties few frames until late. Compacting
    /// earlier than needed would move most objects twice: the frames become sparser over time. It
    /// moves at most one object for each entry that has left. Twice as many do not lower the peak
    /// that `--bin cold` measures, and mostly take longer.
    pub(crate) fn compact_emptied(&self, sources: &SourcePools, moved_bytes: usize, moved: usize) {
        let state = self.drain_state();
        let base = state.held_before();
        let Some(moved) = state.take_holes(moved_bytes, moved, base / HOLES_SHARE) else { return };
        if self.measure_held().is_ok_and(|held| held > base + base / GROWTH_SHARE) {
            compact(sources, CompactionBudget::moves(moved));
        }
    }
}

/// Moves the objects of these pools together, and releases the frames that become empty. A pool
/// that panics releases nothing.
fn compact(sources: &SourcePools, budget: CompactionBudget) {
    for pool in sources.iter() {
        catch(|| pool.zpool().compact(budget).freed_bytes + pool.zpool().trim());
    }
}
