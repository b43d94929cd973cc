//! Statistics from counts that are kept up to date, read class by class.
//!
//! ```text
//!   slots claimed = payload + rounding     without the parts of slots in frames that are not
//!                                          resident, because their objects end before them
//!   resident      = slots claimed + tails + fragmentation
//! ```
//!
//! The time does not depend on the number of objects or zspages. `survey` counts the same by
//! walking over all of them.

use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::{GroupStats, PoolStats};

use super::core::PoolCore;
use crate::class::{Class, ClassCounts, ClassState};
use crate::geometry::size_class::ClassIndex;
use crate::handle::entry::EntrySnapshot;

/// Counts of one class, kept or counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClassFigures {
    /// Objects, zombies included.
    pub(super) objects: usize,
    /// Objects that a guard holds.
    pub(super) pinned: usize,
    /// Counts over its zspages.
    pub(super) counts: ClassCounts,
}

impl PoolCore {
    /// See `ZPool::stats`.
    pub(crate) fn stats(&self) -> PoolStats {
        let _draining = self.drain_and_lock(None);
        let protected = self.protected_classes();
        let magazines = self.classes.magazines();
        let mut builder = StatsBuilder::default();
        builder.stats.groups.reserve(self.table().classes().len());
        let mut classes = Vec::with_capacity(self.table().classes().len());
        // All of them at once, for a moment, so that those in transit are known and each object
        // counts once.
        self.classes.lock_all(&mut classes);
        // In all claimed slots. Wraps until all classes are added.
        let mut payload = magazines.payload_delta();
        for (class, state) in &classes {
            let protected = protected.iter().filter(|&&index| index == class.index()).count();
            payload = payload.wrapping_add(state.payload());
            // Less those that were cached since the magazines were drained.
            let objects = state.objects().saturating_sub(magazines.cached(class.index()));
            let pinned = class.pinned() + protected;
            let figures = ClassFigures { objects, pinned, counts: state.counts() };
            self.add_class(class, state, figures, &mut builder);
        }
        builder.stats.objects -= self.classes.in_transit().min(builder.stats.objects);
        drop(classes);
        self.finish_stats(builder, payload)
    }

    /// Returns the classes of objects that hazards protect and no reader has pinned, once for each
    /// object.
    fn protected_classes(&self) -> Vec<ClassIndex> {
        let mut indices = self.handles.protected();
        indices.sort_unstable();
        indices.dedup();
        let class = |index| match self.handles.snapshot(index)? {
            EntrySnapshot::Live { location, pins: 0 }
            | EntrySnapshot::Dead { location, pins: 0 } => {
                let (at, _) = self.handles.unpack(location);
                Some(self.zspages.get(at.zspage)?.class())
            }
            _ => None,
        };
        indices.into_iter().filter_map(class).collect()
    }

    /// Adds a class. Under its lock.
    pub(super) fn add_class(
        &self,
        class: &Class,
        state: &ClassState,
        figures: ClassFigures,
        builder: &mut StatsBuilder,
    ) {
        let ClassFigures { objects, pinned, counts } = figures;
        let (geometry, frame_size) = (self.table().get(class.index()), self.zspages.frame_size());
        let slots = state.objects() * geometry.slot_bytes as usize - counts.absent;
        builder.slots += slots;
        let stats = &mut builder.stats;
        stats.objects += objects;
        stats.tail_bytes += counts.tail;
        stats.fragmentation_bytes += state.resident() * frame_size - slots - counts.tail;
        stats.resident_frames += state.resident();
        let mut group = GroupStats::default();
        group.slot_bytes = geometry.slot_bytes as usize;
        group.frames_per_page = usize::from(geometry.frames);
        group.slots_per_page = usize::from(geometry.slots);
        group.pages = state.zspages();
        group.pages_by_fullness = counts.by_fullness;
        group.objects = objects;
        group.pinned = pinned.min(objects);
        group.resident_frames = state.resident();
        group.reclaimable_bytes = state.gain() * frame_size;
        stats.groups.push(group);
    }

    /// Adds pool-wide counts.
    pub(super) fn finish_stats(&self, builder: StatsBuilder, payload: usize) -> PoolStats {
        let StatsBuilder { mut stats, slots } = builder;
        // The parts always sum to the bytes held, whatever came and went meanwhile. A count below 0
        // is a large number for a moment, here and for zombies.
        stats.payload_bytes = (payload as isize).max(0).cast_unsigned().min(slots);
        stats.rounding_bytes = slots - stats.payload_bytes;
        let zombies = self.counters.zombies.load(Ordering::Relaxed);
        stats.zombies = (zombies as isize).max(0).cast_unsigned();
        stats.objects = stats.objects.saturating_sub(stats.zombies);
        stats.metadata_bytes = self.metadata_bytes();
        stats.failed_inserts = self.counters.failed_inserts.load(Ordering::Relaxed);
        stats.moved_objects = self.counters.moved_objects.load(Ordering::Relaxed);
        stats
    }
}

/// Statistics under construction.
#[derive(Debug, Default)]
pub(super) struct StatsBuilder {
    stats: PoolStats,
    /// Bytes of claimed slots in resident frames.
    slots: usize,
}
