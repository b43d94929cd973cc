//! Helpers that several tests of this crate use.

use zpool_core::GroupStats;

/// A reproducible random generator: xorshift, whose seed must not be 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// Returns the frames that the objects of a class need if its zspages are filled from the front,
/// one after the other. Computed from the geometry in the statistics.
#[allow(dead_code, reason = "some tests want only numbers")]
pub(crate) fn ideal_frames(group: &GroupStats, frame_size: usize) -> usize {
    let frames = |slots: usize| (slots * group.slot_bytes).div_ceil(frame_size);
    let (full, rest) = (group.objects / group.slots_per_page, group.objects % group.slots_per_page);
    full * frames(group.slots_per_page) + frames(rest)
}
