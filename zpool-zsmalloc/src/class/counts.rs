//! Counts of a class for statistics: kept up to date, or made by a walk over its zspages.

use super::fullness::{ROWS, row};
use super::state::ClassState;
use crate::geometry::bits::{bit, runs};

/// Counts over the zspages of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClassCounts {
    /// Bytes of claimed slots in frames that are not resident.
    pub(crate) absent: usize,
    /// Bytes of tails in resident frames.
    pub(crate) tail: usize,
    /// Zspages by fullness.
    pub(crate) by_fullness: [usize; ROWS],
}

impl ClassState {
    /// Counts by a walk over the zspages: the result agrees with [`counts`](Self::counts).
    pub(crate) fn recount(&self) -> ClassCounts {
        #[cfg(all(test, not(zpool_loom)))]
        crate::collections::walk_counter::count_walk();
        let mut counts = ClassCounts::default();
        for local in 0..self.zspages() as u32 {
            counts.absent += self.absent_bytes(local);
            counts.tail += self.tail_bytes(local);
            let row = row(self.member(local).inuse, self.slot_map().slots);
            counts.by_fullness[usize::from(row)] += 1;
        }
        counts
    }

    /// Counts the bytes of claimed slots in frames that are not resident. There are some if a slot
    /// is longer than its object.
    fn absent_bytes(&self, local: u32) -> usize {
        let (map, bits) = (self.slot_map(), self.bits(local));
        let all = u64::MAX >> (64 - map.frames);
        let mut bytes = 0;
        for frame in runs(!self.member(local).resident & all).flatten() {
            let (from, to) =
                (frame as usize * map.frame_size(), (frame as usize + 1) * map.frame_size());
            for slot in map.slots_in(frame..frame + 1).filter(|&slot| bit(bits, slot)) {
                let start = map.offset(slot);
                bytes += (start + map.slot_bytes as usize).min(to) - start.max(from);
            }
        }
        bytes
    }

    /// Counts the bytes of the tail that are resident.
    fn tail_bytes(&self, local: u32) -> usize {
        let map = self.slot_map();
        let tail = map.offset(map.slots);
        let frames = runs(self.member(local).resident).flatten();
        frames
            .map(|frame| {
                let (from, to) =
                    (frame as usize * map.frame_size(), (frame as usize + 1) * map.frame_size());
                to - tail.clamp(from, to)
            })
            .sum()
    }
}
