//! Room for copies below a store's limit.

use std::hash::{BuildHasher, Hash};

use zpool_core::CompactionBudget;
use zpool_core::internal::catch;
use zpool_manager::PoolRef;

use crate::moving::batch::{ChosenEntry, SourcePools, batch_bytes};
use crate::store::Store;

/// Bytes by which a copied object may grow its pool beyond its own length: a frame of its size
/// class, of the pool's tables and of the index.
const GROWTH: usize = 16 << 10;

/// A pool that is emptied is compacted when the holes in it are 1/16 of what it holds, but at least
/// and at most so many bytes.
const HOLES_SHARE: usize = 16;
const HOLES: std::ops::RangeInclusive<usize> = 64 << 10..=16 << 20;

/// Knowledge about the room for the copies of a batch.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// All of them fit.
    measured: bool,
    /// The pools that they come from were compacted.
    compacted: bool,
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Measures the room for a whole batch. Where that is too little, each entry asks for its own.
    pub(crate) fn room_for(&self, batch: &[ChosenEntry<'_, K>]) -> Room {
        Room { measured: self.has_room_for_copies(batch_bytes(batch)), compacted: false }
    }

    /// Whether a copy of so many bytes may be made without passing the limit.
    fn has_room_for_copies(&self, bytes: usize) -> bool {
        let Some(max) = self.limit().bytes() else { return true };
        let wanted = bytes.saturating_add(GROWTH);
        // An allocator that panics when it is asked is at its limit.
        self.measure_held().is_ok_and(|held| held.saturating_add(wanted) <= max)
    }

    /// Whether there is room for one more copy. Compacts the pools that are emptied, once per
    /// batch, if there is not.
    pub(crate) fn makes_room(&self, room: &mut Room, bytes: usize, sources: &SourcePools) -> bool {
        if room.measured || self.has_room_for_copies(bytes) {
            return true;
        }
        if std::mem::replace(&mut room.compacted, true) {
            return false;
        }
        compact(sources);
        self.has_room_for_copies(bytes)
    }

    /// Compacts the pools that are emptied, each time that a part of them has moved: entries leave
    /// in the order of their hashes, which empties no frame until late.
    pub(crate) fn compact_emptied(&self, sources: &SourcePools, moved_bytes: usize) {
        let held = |pool: &PoolRef| catch(|| pool.zpool().bytes_held()).unwrap_or(0);
        let holes = self.drain_state().add_holes(moved_bytes);
        let enough = sources.iter().map(held).sum::<usize>() / HOLES_SHARE;
        if holes >= enough.clamp(*HOLES.start(), *HOLES.end()) {
            self.drain_state().reset_holes();
            compact(sources);
        }
    }
}

/// Moves the objects of these pools together, and releases the frames that become empty. A pool
/// that panics releases nothing.
fn compact(sources: &SourcePools) {
    for pool in sources.iter() {
        catch(|| {
            pool.zpool().compact(CompactionBudget::UNLIMITED).freed_bytes + pool.zpool().trim()
        });
    }
}
