//! What a pool consists of, and the two ways in: to a class under its lock, and to the pool-wide counts.

use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use zpool_core::page::PageSource;
use zpool_core::{Handle, HandleMint, PoolConfig, PoolError};

use crate::class::{ClassIndex, ClassTable};
use crate::class_state::ClassState;
use crate::few::with_room;
use crate::handles::HandleTable;
use crate::housekeeping::Housekeeping;
use crate::overflow::Overflow;
use crate::readers::Readers;
use crate::shape::Shape;
use crate::slot::{Layout, Named};
use crate::spares::Spares;
use crate::zspages::ZspageTable;

/// A pool, shared with its own jobs.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) mint: HandleMint,
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) table: Arc<ClassTable>,
    pub(crate) layout: Layout,
    pub(crate) handles: HandleTable,
    pub(crate) zspages: ZspageTable,
    /// Made when the first object comes: most pools use a part of their classes, and pools come and go.
    classes: Box<[OnceLock<BoxedClass>]>,
    pub(crate) spares: Spares,
    pub(crate) readers: Readers,
    pub(crate) overflow: Overflow,
    // Apart from what every insert and free reads.
    pub(crate) counters: CachePadded<Counters>,
    pub(crate) housekeeping: CachePadded<Housekeeping>,
    /// Somebody compacts.
    pub(crate) compacting: AtomicBool,
    /// Objects that are gone are overwritten.
    pub(crate) wipe: bool,
}

/// A box of one class, as it can be made fallibly.
type BoxedClass = Box<[Class; 1]>;

/// One size class.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) index: ClassIndex,
    state: Mutex<ClassState>,
    /// Open slots, as of the last time the lock was held: a hint for classes that look for one.
    open: AtomicU32,
    /// Bytes by which slots of larger classes exceed this class's, over all its objects that lie in one.
    pub(crate) debt: AtomicU32,
    /// Objects that readers have pinned in their words. Wraps below 0 for a moment where the last
    /// unpin overtakes the account of the first pin.
    pub(crate) pinned: AtomicU32,
}

/// Pool-wide counts. Relaxed throughout: nothing is published through them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Resident frames.
    pub(crate) frames: AtomicUsize,
    /// Of these, in empty zspages.
    pub(crate) idle: AtomicUsize,
    /// Bytes on the heap.
    pub(crate) metadata: AtomicUsize,
    /// Objects freed that a guard still holds. Wraps below 0 for a moment where the last unpin overtakes the free.
    pub(crate) zombies: AtomicUsize,
    pub(crate) failed_inserts: AtomicU64,
    pub(crate) moved_objects: AtomicU64,
}

impl Counters {
    /// Adds `after - before`, wrapping.
    fn shift(counter: &AtomicUsize, before: usize, after: usize) {
        if before != after {
            counter.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    pub(crate) fn metadata_changed(&self, before: usize, after: usize) {
        Counters::shift(&self.metadata, before, after);
    }
}

impl Inner {
    /// The slot of a handle of this pool, if it was ever taken.
    #[inline]
    pub(crate) fn named(&self, handle: &Handle) -> Result<Named<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let slot = self.handles.get(opened.index).ok_or(PoolError::StaleHandle)?;
        Ok(Named { slot, index: opened.index, generation: opened.generation })
    }

    pub(crate) fn new(config: &PoolConfig, table: Arc<ClassTable>, compact: bool) -> Inner {
        let layout = Layout::of(&table);
        let inner = Inner {
            mint: HandleMint::new(),
            source: config.source.clone(),
            layout,
            handles: HandleTable::new(),
            zspages: ZspageTable::new(layout.zspages()),
            classes: table.classes().iter().map(|_| OnceLock::new()).collect(),
            spares: Spares::new(table.classes().len()),
            readers: Readers::new(),
            overflow: Overflow::new(),
            table,
            counters: CachePadded::default(),
            housekeeping: CachePadded::new(Housekeeping::new(config.executor.clone(), compact)),
            compacting: AtomicBool::new(false),
            wipe: config.wipe_on_free,
        };
        let bytes = size_of::<Inner>()
            + size_of_val::<[_]>(&inner.classes)
            + inner.handles.base_bytes()
            + inner.readers.bytes();
        inner.counters.metadata.store(bytes, Ordering::Relaxed);
        inner
    }

    /// The class of this index, which has had an object.
    #[inline]
    pub(crate) fn class(&self, index: ClassIndex) -> &Class {
        self.existing_class(index).expect("a class that has had an object was made")
    }

    /// The class of this index, made if need be. `None` if the heap refuses.
    #[inline]
    pub(crate) fn class_or_new(&self, index: ClassIndex) -> Option<&Class> {
        self.existing_class(index).or_else(|| self.make_class(index))
    }

    #[cold]
    fn make_class(&self, index: ClassIndex) -> Option<&Class> {
        let shape = Shape::of(&self.table, self.table.get(index));
        let mut one = with_room(1)?;
        one.push(Class {
            index,
            state: Mutex::new(ClassState::new(shape)),
            open: AtomicU32::new(0),
            debt: AtomicU32::new(0),
            pinned: AtomicU32::new(0),
        });
        let class = BoxedClass::try_from(one.into_boxed_slice()).ok()?;
        // Another thread may have been faster: then ours is dropped.
        if self.classes[usize::from(index.0)].set(class).is_ok() {
            self.counters.metadata_changed(0, size_of::<Class>());
        }
        self.existing_class(index)
    }

    /// The class of this index, if it ever had an object.
    pub(crate) fn existing_class(&self, index: ClassIndex) -> Option<&Class> {
        self.classes.get(usize::from(index.0))?.get().map(|class| &class[0])
    }

    /// The classes that ever had an object, smallest first.
    pub(crate) fn existing_classes(&self) -> impl Iterator<Item = &Class> + Clone {
        self.classes.iter().filter_map(|class| class.get().map(|class| &class[0]))
    }

    /// Runs `work` under the lock of a class, and keeps the pool-wide counts in step. `work` calls nobody outside this crate and is short.
    #[inline]
    pub(crate) fn locked<R>(&self, class: &Class, work: impl FnOnce(&mut ClassState) -> R) -> R {
        let mut state = class.state.lock();
        let before = (state.resident(), state.idle());
        let result = work(&mut state);
        Counters::shift(&self.counters.frames, before.0, state.resident());
        Counters::shift(&self.counters.idle, before.1, state.idle());
        // Relaxed: a hint.
        class.open.store(state.open() as u32, Ordering::Relaxed);
        result
    }

    /// Bytes held: see `ZPool::bytes_held`.
    pub(crate) fn bytes_held(&self) -> usize {
        let frames = self.counters.frames.load(Ordering::Relaxed);
        frames * self.source.frame_size() + self.counters.metadata.load(Ordering::Relaxed)
    }
}

impl Class {
    /// The lock itself, for walks that hold all of them, in order of size.
    pub(crate) fn lock(&self) -> zpool_core::internal::sync::MutexGuard<'_, ClassState> {
        self.state.lock()
    }

    /// Open slots, a moment ago.
    pub(crate) fn open_hint(&self) -> usize {
        self.open.load(Ordering::Relaxed) as usize
    }
}
