//! [`PoolCore`]: the components of a pool.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use zpool_core::PoolConfig;
use zpool_core::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zpool_core::internal::sync::{Mutex, MutexGuard};

use super::job_slot::{JobReason, JobSlot};
use crate::class::{Classes, Figures};
use crate::geometry::size_class::{ClassIndex, ClassTable};
use crate::handle::Handles;
use crate::zspage::Zspages;

/// The components of a pool. Each keeps its own invariants; the operations in this folder and in
/// `reclaim` only combine them.
#[derive(Debug)]
pub(crate) struct PoolCore {
    pub(super) handles: Handles,
    pub(super) zspages: Zspages,
    pub(super) classes: Classes,
    // On a cache line apart from what every insert and free reads.
    pub(super) counters: CachePadded<PoolCounters>,
    jobs: CachePadded<JobSlot>,
    /// Held while cached slots return to their classes.
    draining: Mutex<()>,
    /// Whether freed objects are overwritten.
    pub(super) wipe: bool,
    /// Bytes of the allocation that this value is a part of.
    own_bytes: usize,
}

/// Pool-wide statistics. Relaxed throughout: nothing is published through them.
#[derive(Debug, Default)]
pub(super) struct PoolCounters {
    /// Objects freed that a guard still holds. Wraps below 0 for a moment if the last unpin is
    /// counted before the free.
    pub(super) zombies: AtomicUsize,
    pub(super) failed_inserts: AtomicU64,
    pub(super) moved_objects: AtomicU64,
}

impl PoolCore {
    /// Creates a pool. `own_bytes`: size of the allocation that it lies in.
    pub(crate) fn new(config: &PoolConfig, table: Arc<ClassTable>, own_bytes: usize) -> PoolCore {
        PoolCore::with_zspage_limit(config, table, own_bytes, u32::MAX)
    }

    /// Creates a pool that has at most `limit` zspages, and no more than handles can name.
    pub(crate) fn with_zspage_limit(
        config: &PoolConfig,
        table: Arc<ClassTable>,
        own_bytes: usize,
        limit: u32,
    ) -> PoolCore {
        let handles = Handles::new(&table);
        let limit = handles.nameable_zspages().min(limit);
        PoolCore {
            zspages: Zspages::new(config.source.clone(), table.clone(), limit),
            classes: Classes::new(table),
            handles,
            counters: CachePadded::default(),
            jobs: CachePadded::new(JobSlot::new(config.executor.clone())),
            draining: Mutex::new(()),
            wipe: config.wipe_on_free,
            own_bytes,
        }
    }

    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    pub(crate) fn zspages(&self) -> &Zspages {
        &self.zspages
    }

    pub(crate) fn classes(&self) -> &Classes {
        &self.classes
    }

    pub(crate) fn jobs(&self) -> &JobSlot {
        &self.jobs
    }

    /// Returns the geometry of the classes.
    #[inline]
    pub(crate) fn table(&self) -> &ClassTable {
        self.classes.table()
    }

    /// See `ZPool::bytes_held`.
    pub(crate) fn bytes_held(&self) -> usize {
        self.classes.resident_frames() * self.zspages.frame_size() + self.metadata_bytes()
    }

    /// Returns the bytes on the heap.
    pub(super) fn metadata_bytes(&self) -> usize {
        self.own_bytes
            + self.handles.metadata_bytes()
            + self.zspages.metadata_bytes()
            + self.classes.metadata_bytes()
    }

    /// Returns the figures that decide when to release memory.
    pub(crate) fn figures(&self) -> Figures {
        self.classes.figures(self.handles.used())
    }

    /// Submits the background job if there is enough to do. Never blocks or allocates.
    pub(crate) fn request_background_work_if_due(&self) {
        // Checked first, because during a cooldown every free would find work to do and no job.
        if self.jobs.reason() != JobReason::Requested || !self.jobs.is_usable() {
            return;
        }
        let figures = self.figures();
        if figures.idle_is_large() || figures.compaction_is_due() {
            self.jobs.submit(None);
        }
    }

    /// Counts an object that compaction has moved.
    pub(crate) fn count_moved(&self) {
        self.counters.moved_objects.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the cached slots of a class, or of all classes, to their classes.
    pub(crate) fn drain_magazines(&self, class: Option<ClassIndex>) {
        drop(self.drain_and_lock(class));
    }

    /// As [`drain_magazines`](Self::drain_magazines). Until the guard is dropped, no other thread
    /// drains. So no slot is on its way from a magazine to its class, where it would count as an
    /// object.
    pub(super) fn drain_and_lock(&self, class: Option<ClassIndex>) -> MutexGuard<'_, ()> {
        let draining = self.draining.lock();
        for index in self.classes.magazines().drain(class) {
            if let Some(entry) = self.handles.entry(index) {
                self.release_cached(index, entry);
            }
        }
        draining
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use zpool_core::page::HeapSource;

    use super::*;
    use crate::geometry::size_class::ClassConfig;

    fn pool() -> PoolCore {
        let config = PoolConfig::new(Arc::new(HeapSource::new(4096)), 4096);
        let table = ClassTable::new(ClassConfig::new(4096, 4096)).unwrap();
        PoolCore::new(&config, Arc::new(table), 0)
    }

    /// A new pool has no frame, gain or free, and as many objects as its handle table may name.
    #[test]
    fn new_pool_has_no_figures() {
        let pool = pool();
        let classes = pool.classes();
        assert_eq!(classes.figures(7), Figures { objects: 7, ..Figures::default() });
        assert_eq!(
            (classes.estimate(), classes.resident_frames(), classes.take_freed()),
            (0, 0, 0)
        );
        assert_eq!(classes.figures(7), Figures::default(), "now it is known that there are none");
    }

    /// The figures count frames, idle ones, objects, and frees in steps.
    #[test]
    fn figures_count_frames_objects_and_frees() {
        let pool = pool();
        let classes = pool.classes();
        let mut handles: Vec<_> = (0..12).map(|_| pool.insert(&[1; 4096]).unwrap()).collect();
        assert_eq!(classes.estimate(), 0, "there are no gaps");
        let full = Figures { frames: 12, objects: 12, ..Figures::default() };
        assert_eq!(classes.figures(100), full);
        assert_eq!(classes.figures(5), Figures { objects: 5, ..full }, "entries bound the objects");
        // Into magazines first, which keep the slots claimed. Releases are noted in steps of 4.
        handles.drain(..9).for_each(|handle| pool.free(handle).unwrap());
        pool.drain_magazines(None);
        let freed = classes.figures(100).freed;
        assert!((9 - 4..=9).contains(&freed) && freed.is_multiple_of(4));
        assert_eq!(classes.estimate(), 9);
        let figures = classes.figures(100);
        assert_eq!((figures.frames, figures.gain, figures.objects), (12, 9, 3));
        classes.forget_freed(freed - 1);
        assert_eq!(classes.figures(0).freed, 1, "a free since then stays counted");
        assert_eq!((classes.take_freed(), classes.take_freed()), (1, 0));
        classes.forget_freed(1);
        assert_eq!(classes.figures(0).freed, 0);
    }
}
