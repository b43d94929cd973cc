//! The books: counts that are kept up to date, read class by class.
//!
//! ```text
//!   slots claimed = payload + rounding       a slot may reach into a frame that is not resident, where its object does not: not counted
//!   resident      = slots claimed + tails + fragmentation
//! ```
//!
//! What it takes does not depend on the number of objects or zspages. [`survey`](crate::survey)
//! counts the same by walking over all of them.

use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::{GroupStats, PoolStats};

use crate::class::ClassIndex;
use crate::class_state::{ClassState, Counted};
use crate::inner::{Class, Inner};
use crate::slot::Peeked;

/// What is counted of a class, by whatever way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Objects, zombies included.
    pub(crate) objects: usize,
    /// Objects that a guard holds.
    pub(crate) pinned: usize,
    /// What its zspages come to.
    pub(crate) counted: Counted,
}

impl Inner {
    /// See `ZPool::stats`.
    pub(crate) fn stats(&self) -> PoolStats {
        self.take_back_spares(None);
        let announced = self.announced_classes();
        let mut books = Books::default();
        books.stats.groups.reserve(self.table.classes().len());
        let mut classes = Vec::with_capacity(self.table.classes().len());
        // All of them at once, in order of size, for a moment: an object that goes from one class
        // to another while we look is not counted twice.
        classes.extend(self.existing_classes().map(|class| (class, class.lock())));
        // In all claimed slots. Wraps until all classes are added.
        let mut payload = self.spares.payload_shift();
        for (class, state) in &classes {
            let announced = announced.iter().filter(|&&index| index == class.index).count();
            payload = payload.wrapping_add(state.payload());
            // Those that were parked since we took the spares back.
            let objects = state.objects().saturating_sub(self.spares.parked(class.index));
            let figures =
                Figures { objects, pinned: pinned(class) + announced, counted: state.counted() };
            self.add_class(class, state, figures, &mut books);
        }
        drop(classes);
        self.close_books(books, payload)
    }

    /// The classes of objects that readers have announced and not pinned, once for each object.
    fn announced_classes(&self) -> Vec<ClassIndex> {
        let mut indices = self.readers.announced();
        indices.sort_unstable();
        indices.dedup();
        let class = |index| match self.handles.get(index)?.peek() {
            Peeked::Live { content, pins: 0 } | Peeked::Dead { content, pins: 0 } => {
                let (at, _) = self.layout.unpack(content);
                Some(self.zspages.get(at.zspage)?.class())
            }
            _ => None,
        };
        indices.into_iter().filter_map(class).collect()
    }

    /// Adds a class. Under its lock.
    pub(crate) fn add_class(
        &self,
        class: &Class,
        state: &ClassState,
        figures: Figures,
        books: &mut Books,
    ) {
        let Figures { objects, pinned, counted } = figures;
        let (geometry, frame_size) = (self.table.get(class.index), state.shape.frame_size());
        let slots = state.objects() * geometry.slot_bytes as usize - counted.absent;
        books.slots += slots;
        let stats = &mut books.stats;
        stats.objects += objects;
        stats.tail_bytes += counted.tail;
        stats.fragmentation_bytes += state.resident() * frame_size - slots - counted.tail;
        stats.resident_frames += state.resident();
        let mut group = GroupStats::default();
        group.slot_bytes = geometry.slot_bytes as usize;
        group.frames_per_page = usize::from(geometry.frames);
        group.slots_per_page = usize::from(geometry.objects);
        group.pages = state.members().len();
        group.pages_by_fullness = counted.by_fullness;
        group.objects = objects;
        group.pinned = pinned.min(objects);
        group.resident_frames = state.resident();
        group.reclaimable_bytes = self.gain_of(state) * frame_size;
        stats.groups.push(group);
    }

    /// Adds what is not a class's.
    pub(crate) fn close_books(&self, books: Books, payload: usize) -> PoolStats {
        let Books { mut stats, slots } = books;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        // What came and went meanwhile must not unbalance the books: the parts always sum to what
        // is held. Less than nothing is a large number, like the count of zombies for a moment.
        stats.payload_bytes = (payload as isize).max(0).cast_unsigned().min(slots);
        stats.rounding_bytes = slots - stats.payload_bytes;
        stats.zombies = (count(&self.counters.zombies) as isize).max(0).cast_unsigned();
        stats.objects = stats.objects.saturating_sub(stats.zombies);
        stats.metadata_bytes = count(&self.counters.metadata);
        stats.failed_inserts = self.counters.failed_inserts.load(Ordering::Relaxed);
        stats.moved_objects = self.counters.moved_objects.load(Ordering::Relaxed);
        stats
    }
}

/// Books that are not closed.
#[derive(Debug, Default)]
pub(crate) struct Books {
    stats: PoolStats,
    /// Bytes of claimed slots in resident frames.
    slots: usize,
}

/// Objects of a class that readers have pinned in their words.
fn pinned(class: &Class) -> usize {
    // Relaxed: for the books. Below 0 for a moment.
    class.pinned.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned() as usize
}
