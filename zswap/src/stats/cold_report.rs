//! Reports about the cold pool.

/// The result of a turn of the [heat clock](crate::Store::turn_heat_clock).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ColdReport {
    /// Entries moved to the cold pool.
    pub made_cold: usize,
    /// Entries returned to the current pool, because they were loaded often.
    pub returned: usize,
    /// Entries moved to the cold pool from one that was the cold pool before.
    pub moved_over: usize,
    /// Entries that stay in the current pool although they are cold, because they would not become
    /// smaller by 1/8. They are tried again once they have been used, or once there is another
    /// cold pool.
    pub stayed: usize,
    /// Entries that were replaced or removed while they were copied.
    pub changed: usize,
    /// Entries that could not be copied: unreadable, refused by the other pool, or with too many
    /// readers.
    pub failed: usize,
    /// Bytes of the objects of entries made cold, before the move.
    pub object_bytes_before: usize,
    /// Bytes of those objects after the move.
    pub object_bytes_after: usize,
    /// Whether the turn moved less than it could have, because the store is at its limit or has no
    /// memory.
    pub no_room: bool,
}

/// Statistics of the cold pool of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ColdStats {
    /// Blocks in that pool.
    pub blocks: usize,
    /// Bytes that its allocator holds.
    pub pool_bytes: usize,
    /// Entries moved there so far.
    pub made_cold: u64,
    /// Entries returned to the current pool so far.
    pub returned: u64,
    /// Cold entries that stayed, because they would not become smaller by 1/8.
    pub stayed: u64,
}
