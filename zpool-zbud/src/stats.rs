//! The books in the form that every pool gives them.

use zpool_core::{GroupStats, PoolStats};

use crate::geometry::SIDES;
use crate::shared::Shared;

/// A snapshot. While inserts are under way their objects are counted and their frames may not be yet; hence the saturating difference.
pub(crate) fn snapshot(shared: &Shared) -> PoolStats {
    let books = shared.lock();
    let geometry = shared.geometry;
    let in_chunks = books.chunks * geometry.chunk();
    let mut stats = PoolStats::default();
    stats.objects = books.objects;
    stats.zombies = books.zombies;
    stats.payload_bytes = books.payload;
    stats.rounding_bytes = in_chunks - books.payload;
    stats.fragmentation_bytes = (books.resident * geometry.frame()).saturating_sub(in_chunks);
    stats.metadata_bytes = shared.metadata();
    stats.resident_frames = books.resident;
    stats.failed_inserts = books.failed_inserts;
    // If the heap refuses, there are no rows: better than to abort a program that looks why.
    if stats.groups.try_reserve_exact(books.rows.len()).is_err() {
        return stats;
    }
    for (buddies, row) in books.rows.iter().enumerate() {
        let mut group = GroupStats::default();
        group.frames_per_page = geometry.frames_per_page();
        group.slots_per_page = SIDES.len();
        group.pages = row.pages;
        group.objects = row.pages * buddies;
        group.resident_frames = row.frames;
        if buddies == 0 {
            group.pages_by_fullness[0] = row.pages;
            group.reclaimable_bytes = row.frames * geometry.frame();
        }
        stats.groups.push(group);
    }
    stats
}
