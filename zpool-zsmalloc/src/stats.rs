//! The books: what every byte of a pool is used for.

use zpool_core::sync::atomic::Ordering;
use zpool_core::{GroupStats, PoolStats};

use crate::class::SizeClass;
use crate::class_state::ClassState;
use crate::inner::Inner;
use crate::shape::{bit, runs};
use crate::slot::Peeked;

impl Inner {
    /// See `ZPool::stats`.
    pub(crate) fn stats(&self) -> PoolStats {
        let mut stats = PoolStats::default();
        self.take_back_spares(None);
        let tallies = self.tallies();
        for class in self.existing_classes() {
            let geometry = self.table.get(class.index);
            let tally = &tallies[usize::from(class.index.0)];
            self.locked(class, |state| self.add_class(geometry, state, tally, &mut stats));
        }
        let count = |counter: &zpool_core::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
        // The count of zombies may be below 0 for a moment.
        stats.zombies = (count(&self.counters.zombies) as isize).max(0) as usize;
        stats.objects = stats.objects.saturating_sub(stats.zombies);
        stats.metadata_bytes = count(&self.counters.metadata);
        stats.failed_inserts = self.counters.failed_inserts.load(Ordering::Relaxed);
        stats.moved_objects = self.counters.moved_objects.load(Ordering::Relaxed);
        stats
    }

    /// What nobody counts as it comes and goes, by class: a walk over the handle table.
    fn tallies(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.table.classes().len()];
        let announced = self.readers.announced();
        for (index, slot) in self.handles.iter() {
            if let Peeked::Live { content, pins } | Peeked::Dead { content, pins } = slot.peek()
                && let (at, slack) = self.layout.unpack(content)
                && let Some(zspage) = self.zspages.get(at.zspage)
            {
                let class = usize::from(zspage.class().0);
                tallies[class].objects += 1;
                tallies[class].pinned += usize::from(pins > 0 || announced.contains(&index));
                tallies[class].payload +=
                    self.table.classes()[class].slot_bytes.saturating_sub(slack) as usize;
            }
        }
        tallies
    }

    /// Adds a class. `stats.objects` counts zombies too. Under the lock of the class.
    fn add_class(&self, class: &SizeClass, state: &ClassState, tally: &Tally, stats: &mut PoolStats) {
        let frame_size = state.shape.frame_size();
        let (mut absent, mut tail, mut by_fullness) = (0, 0, [0; 6]);
        for local in 0..state.members().len() as u32 {
            absent += absent_bytes(state, local);
            tail += tail_bytes(state, local);
            by_fullness[fullness(state.member(local).inuse, class.objects)] += 1;
        }
        let slots = state.objects * class.slot_bytes as usize - absent;
        // A claimed slot may be a spare again by now, and the walk may have met an object that moved twice.
        let objects = tally.objects.min(state.objects);
        stats.objects += objects;
        // What came and went between the walk and this lock must not unbalance the books: the parts always sum to what is held.
        let payload = tally.payload.min(slots);
        stats.payload_bytes += payload;
        stats.rounding_bytes += slots - payload;
        stats.tail_bytes += tail;
        stats.fragmentation_bytes += state.resident * frame_size - slots - tail;
        stats.resident_frames += state.resident;
        let mut group = GroupStats::default();
        group.slot_bytes = class.slot_bytes as usize;
        group.frames_per_page = usize::from(class.frames);
        group.slots_per_page = usize::from(class.objects);
        group.pages = state.members().len();
        group.pages_by_fullness = by_fullness;
        group.objects = objects;
        group.pinned = tally.pinned;
        group.resident_frames = state.resident;
        group.reclaimable_bytes = self.gain_of(state) * frame_size;
        stats.groups.push(group);
    }
}

/// What a walk over the handle table finds of a class.
#[derive(Debug, Clone, Default)]
struct Tally {
    objects: usize,
    /// Of these, that a guard holds.
    pinned: usize,
    /// Bytes of all objects.
    payload: usize,
}

/// Bytes of claimed slots in frames that are not resident: an object's slot is longer than the object.
fn absent_bytes(state: &ClassState, local: u32) -> usize {
    let (shape, bits) = (&state.shape, state.bits(local));
    let all = u64::MAX >> (64 - shape.frames);
    let mut bytes = 0;
    for frame in runs(!state.member(local).resident & all).flatten() {
        let (from, to) = (frame as usize * shape.frame_size(), (frame as usize + 1) * shape.frame_size());
        for object in shape.slots_in(frame..frame + 1).filter(|&object| bit(bits, object)) {
            let start = shape.offset(object);
            bytes += (start + shape.slot as usize).min(to) - start.max(from);
        }
    }
    bytes
}

/// Bytes of the tail that are resident.
fn tail_bytes(state: &ClassState, local: u32) -> usize {
    let shape = &state.shape;
    let tail = shape.offset(shape.objects);
    let frames = runs(state.member(local).resident).flatten();
    frames
        .map(|frame| {
            (frame as usize + 1) * shape.frame_size()
                - tail.clamp(frame as usize * shape.frame_size(), (frame as usize + 1) * shape.frame_size())
        })
        .sum()
}

/// The row of `pages_by_fullness`.
fn fullness(inuse: u16, objects: u16) -> usize {
    match inuse {
        0 => 0,
        _ if inuse == objects => 5,
        // Up to a quarter, a half, three quarters, less than full.
        _ => (usize::from(inuse) * 4).div_ceil(usize::from(objects)),
    }
}
