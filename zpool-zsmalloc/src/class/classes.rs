//! [`Classes`]: all size classes of a pool, each behind its own lock.

use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;
use zpool_core::internal::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use zpool_core::internal::sync::{Mutex, MutexGuard};

use super::magazines::MagazineSet;
use super::pressure::Pressure;
use super::state::ClassState;
use crate::collections::fallible::try_with_capacity;
use crate::geometry::size_class::{ClassIndex, ClassTable};
use crate::geometry::slot_map::SlotMap;
use crate::zspage::Zspage;

/// The classes of a pool.
#[derive(Debug)]
pub(crate) struct Classes {
    pub(super) table: Arc<ClassTable>,
    /// A class is created with its first object: most pools use a part of their classes, and pools
    /// come and go.
    classes: Box<[OnceLock<BoxedClass>]>,
    magazines: MagazineSet,
    /// On a cache line apart from what every insert and free reads.
    pub(super) pressure: CachePadded<Pressure>,
    /// Bytes on the heap.
    metadata: AtomicUsize,
    /// Objects that have two slots, because compaction moves them.
    pub(super) in_transit: AtomicUsize,
}

/// A box of one class, which can be allocated fallibly.
type BoxedClass = Box<[Class; 1]>;

/// One size class.
#[derive(Debug)]
pub(crate) struct Class {
    index: ClassIndex,
    state: Mutex<ClassState>,
    /// Open slots when the lock was last held: a hint for classes that look for one.
    open: AtomicU32,
    /// Bytes by which slots of larger classes exceed this class's slots, summed over its objects
    /// that overflowed into one.
    pub(super) overflow_waste: AtomicU32,
    /// Objects that readers have pinned in their words. Wraps below 0 for a moment if the last
    /// unpin is counted before the first pin.
    pinned: AtomicU32,
}

impl Classes {
    pub(crate) fn new(table: Arc<ClassTable>) -> Classes {
        let classes: Box<[_]> = table.classes().iter().map(|_| OnceLock::new()).collect();
        let metadata = AtomicUsize::new(size_of_val::<[_]>(&classes));
        let magazines = MagazineSet::new(classes.len());
        let (pressure, in_transit) = (CachePadded::default(), AtomicUsize::new(0));
        Classes { table, classes, magazines, pressure, metadata, in_transit }
    }

    /// Returns the geometry of the classes.
    #[inline]
    pub(crate) fn table(&self) -> &ClassTable {
        &self.table
    }

    pub(crate) fn magazines(&self) -> &MagazineSet {
        &self.magazines
    }

    /// Returns the bytes on the heap.
    pub(crate) fn metadata_bytes(&self) -> usize {
        // Relaxed: statistics only; so below.
        self.metadata.load(Ordering::Relaxed)
    }

    /// Counts that heap memory of a class was replaced by other memory.
    pub(crate) fn metadata_changed(&self, before: usize, after: usize) {
        self.metadata.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Allocates the magazines, if they are not.
    pub(crate) fn ensure_magazines(&self) {
        self.magazines.ensure_allocated(|bytes| self.metadata_changed(0, bytes));
    }

    /// Returns the class of this index, which has had an object.
    #[inline]
    pub(crate) fn get(&self, index: ClassIndex) -> &Class {
        self.existing(index).expect("a class that has had an object exists")
    }

    /// Returns the class of this index, and creates it if needed. Returns `None` if the heap
    /// refuses.
    #[inline]
    pub(crate) fn get_or_create(&self, index: ClassIndex) -> Option<&Class> {
        self.existing(index).or_else(|| self.create(index))
    }

    #[cold]
    fn create(&self, index: ClassIndex) -> Option<&Class> {
        let mut one = try_with_capacity(1)?;
        one.push(Class {
            index,
            state: Mutex::new(ClassState::new(self.slot_map(index))),
            open: AtomicU32::new(0),
            overflow_waste: AtomicU32::new(0),
            pinned: AtomicU32::new(0),
        });
        let class = BoxedClass::try_from(one.into_boxed_slice()).ok()?;
        // If another thread was faster, this one is dropped.
        if self.classes[usize::from(index.0)].set(class).is_ok() {
            self.metadata_changed(0, size_of::<Class>());
        }
        self.existing(index)
    }

    /// Returns the class of this index, if it ever had an object.
    pub(crate) fn existing(&self, index: ClassIndex) -> Option<&Class> {
        self.classes.get(usize::from(index.0))?.get().map(|class| &class[0])
    }

    /// Iterates over the classes that ever had an object, smallest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Class> + Clone {
        self.classes.iter().filter_map(|class| class.get().map(|class| &class[0]))
    }

    /// Returns the geometry of a class, for hot paths.
    pub(crate) fn slot_map(&self, index: ClassIndex) -> SlotMap {
        SlotMap::of(&self.table, self.table.get(index))
    }

    /// Runs `work` under the lock of a class, and keeps the pool-wide figures in step. `work` is
    /// short and calls nothing outside this crate.
    #[inline]
    pub(crate) fn locked<R>(&self, class: &Class, work: impl FnOnce(&mut ClassState) -> R) -> R {
        let mut state = class.state.lock();
        let before = (state.resident(), state.idle());
        let result = work(&mut state);
        self.pressure.frames_changed(before.0, state.resident());
        self.pressure.idle_changed(before.1, state.idle());
        // Relaxed: a hint.
        class.open.store(state.open() as u32, Ordering::Relaxed);
        result
    }

    /// Runs `work` as [`locked`](Self::locked) does, and then brings the estimate of what the class
    /// has to gain up to date.
    pub(crate) fn locked_and_estimated<R>(
        &self,
        class: &Class,
        work: impl FnOnce(&mut ClassState) -> R,
    ) -> R {
        self.locked(class, |state| {
            let result = work(state);
            self.pressure.note_gain(state);
            result
        })
    }

    /// Locks all classes that exist, in order of size. The caller only reads them.
    pub(crate) fn lock_all<'c>(
        &'c self,
        locked: &mut Vec<(&'c Class, MutexGuard<'c, ClassState>)>,
    ) {
        locked.extend(self.iter().map(|class| (class, class.state.lock())));
    }

    /// Releases the claimed slot of an object of `len` bytes. Returns whether the caller should
    /// check if background work is due.
    #[inline]
    pub(crate) fn release_slot(&self, zspage: &Zspage, slot: u16, len: u32) -> bool {
        self.locked(self.get(zspage.class()), |state| {
            // Read under the lock, because the zspage's index among the members changes under it.
            state.release(zspage.local(), slot, len);
            self.pressure.note_release(state)
        })
    }

    /// Clears claimed slots of one class under one hold of its lock. `slots` has the zspage, the
    /// slot and the length of the object of each.
    pub(crate) fn release_slots<'z>(
        &self,
        class: ClassIndex,
        slots: impl ExactSizeIterator<Item = (&'z Zspage, u16, u32)>,
    ) {
        let count = slots.len();
        self.locked(self.get(class), |state| {
            for (zspage, slot, len) in slots {
                state.release(zspage.local(), slot, len);
            }
            self.pressure.note_releases(state, count);
        });
    }

    /// Adds to the count of objects of a class that readers have pinned. Wraps.
    pub(crate) fn note_pinned(&self, class: ClassIndex, count: i32) {
        // Relaxed: statistics only.
        self.get(class).pinned.fetch_add(count.cast_unsigned(), Ordering::Relaxed);
    }
}

impl Class {
    pub(crate) fn index(&self) -> ClassIndex {
        self.index
    }

    /// Returns how many slots were open when the lock was last held.
    pub(crate) fn open_hint(&self) -> usize {
        // Relaxed: a hint.
        self.open.load(Ordering::Relaxed) as usize
    }

    /// Returns how many objects readers have pinned in their words.
    pub(crate) fn pinned(&self) -> usize {
        // Relaxed: statistics only. Below 0 for a moment.
        self.pinned.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned() as usize
    }
}
