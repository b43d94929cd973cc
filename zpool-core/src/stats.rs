//! The accounts of a pool: the use of every byte it holds.

/// A snapshot of a pool's accounts, in bytes unless the name says otherwise.
///
/// The parts sum to the whole:
///
/// ```text
///  pool_bytes = payload + rounding + tail + fragmentation + metadata
///               \_____ bytes of live objects' slots      |        |
///                          |         |     |             |        heap: tables, bitmaps, lists
///                          |         |     free slots and empty frames that are still resident
///                          |         end of a zspage or page where no further object fits
///                          slot or chunk sizes less the objects' lengths
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Objects that have a handle.
    pub objects: usize,
    /// Freed objects whose bytes a guard still holds.
    pub zombies: usize,
    /// The sum of the lengths of all objects, zombies included.
    pub payload_bytes: usize,
    /// Lost to rounding lengths up to slots or chunks.
    pub rounding_bytes: usize,
    /// Lost at the ends of zspages.
    pub tail_bytes: usize,
    /// Resident, but neither object nor tail: free slots, empty frames.
    pub fragmentation_bytes: usize,
    /// The pool's tables on the heap.
    pub metadata_bytes: usize,
    /// Frames that are resident, in frames of the page source.
    pub resident_frames: usize,
    /// Inserts that failed for want of memory or pages.
    pub failed_inserts: u64,
    /// Objects that compaction has moved so far.
    pub moved_objects: u64,
    /// One row per size class (zsmalloc) or per kind of page (zbud).
    pub groups: Vec<GroupStats>,
}

impl PoolStats {
    /// Returns the bytes that the pool holds: the sum of the parts.
    pub fn pool_bytes(&self) -> usize {
        self.payload_bytes
            + self.rounding_bytes
            + self.tail_bytes
            + self.fragmentation_bytes
            + self.metadata_bytes
    }
}

/// One row of a pool's accounts: a size class, or a kind of page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Bytes of a slot; 0 if the pool has no fixed slots.
    pub slot_bytes: usize,
    /// Frames of a zspage or page.
    pub frames_per_page: usize,
    /// Slots of a zspage or page.
    pub slots_per_page: usize,
    /// Zspages or pages.
    pub pages: usize,
    /// Zspages by fullness: empty, up to 1/4, 1/2, 3/4, less than full, full.
    pub pages_by_fullness: [usize; 6],
    /// Objects, zombies included.
    pub objects: usize,
    /// Objects that a guard holds now; part of `objects`. 0 if the pool does not count them (zbud).
    pub pinned: usize,
    /// Frames resident.
    pub resident_frames: usize,
    /// Bytes that an ideal packing of this group would release.
    pub reclaimable_bytes: usize,
}
