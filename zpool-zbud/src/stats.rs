//! Statistics in the form that all pools share.

use zpool_core::{GroupStats, PoolStats};

use crate::geometry::SIDES;
use crate::pool_core::ZbudCore;

/// Returns the current statistics. Objects of inserts under way are counted, and their frames may
/// not be yet; hence the saturating difference.
pub(crate) fn snapshot(core: &ZbudCore) -> PoolStats {
    let counts = core.lock().counts();
    let geometry = core.geometry;
    let in_chunks = counts.chunks * geometry.chunk();
    let mut stats = PoolStats::default();
    stats.objects = counts.objects;
    stats.zombies = counts.zombies;
    stats.payload_bytes = counts.payload;
    stats.rounding_bytes = in_chunks - counts.payload;
    stats.fragmentation_bytes = (counts.resident * geometry.frame()).saturating_sub(in_chunks);
    stats.metadata_bytes = core.metadata();
    stats.resident_frames = counts.resident;
    stats.failed_inserts = counts.failed_inserts;
    // If the heap refuses, there are no groups. That is better than an abort of a program that asks
    // why memory is short.
    if stats.groups.try_reserve_exact(counts.rows.len()).is_err() {
        return stats;
    }
    for (buddies, row) in counts.rows.iter().enumerate() {
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
