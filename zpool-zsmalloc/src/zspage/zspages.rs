//! [`Zspages`]: the one way to zspages and the page source for the rest of the crate.

use core::ops::Range;
use std::sync::Arc;

use zpool_core::PoolError;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::page::{PageSource, Run};

use super::memory::{ChargedFrames, OwnedRun, SlotRef, discard_all, release_all};
use super::table::{NoZspage, Zspage, ZspageTable};
use crate::geometry::size_class::{ClassIndex, ClassTable};
use crate::handle::Location;

/// All zspages of a pool, with the page source that their frames come from.
#[derive(Debug)]
pub(crate) struct Zspages {
    entries: ZspageTable,
    source: Arc<dyn PageSource>,
    table: Arc<ClassTable>,
    /// Bytes on the heap.
    metadata: AtomicUsize,
}

impl Zspages {
    /// Returns an empty table. A handle can name `limit` zspages.
    pub(crate) fn new(source: Arc<dyn PageSource>, table: Arc<ClassTable>, limit: u32) -> Zspages {
        Zspages { entries: ZspageTable::new(limit), source, table, metadata: AtomicUsize::new(0) }
    }

    /// Returns how many zspages there can be.
    pub(crate) fn limit(&self) -> u32 {
        self.entries.limit()
    }

    pub(crate) fn frame_size(&self) -> usize {
        self.table.config().frame_size
    }

    pub(crate) fn source(&self) -> &dyn PageSource {
        &*self.source
    }

    /// Returns the bytes on the heap.
    pub(crate) fn metadata_bytes(&self) -> usize {
        // Relaxed: statistics only; so below.
        self.metadata.load(Ordering::Relaxed)
    }

    /// Returns the zspage, if its entry was ever allocated.
    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&Zspage> {
        self.entries.get(id)
    }

    /// Returns a zspage that is known to exist: one with a claimed slot, or a member of a class.
    ///
    /// # Panics
    ///
    /// If there never was one.
    #[inline]
    pub(crate) fn existing(&self, id: u32) -> &Zspage {
        self.get(id).expect("a zspage with a claimed slot has an entry")
    }

    /// Returns a slot that is claimed, or that a pinned object lies in.
    #[inline]
    pub(crate) fn slot(&self, at: Location) -> SlotRef<'_> {
        let zspage = self.existing(at.zspage);
        self.slot_in_class(zspage, at.slot, zspage.class())
    }

    /// Returns a slot of a zspage whose class is known.
    #[inline]
    pub(crate) fn slot_in_class<'z>(
        &self,
        zspage: &'z Zspage,
        slot: u16,
        class: ClassIndex,
    ) -> SlotRef<'z> {
        debug_assert_eq!(zspage.class(), class, "the slot's length depends on it");
        let class = self.table.get(class);
        let bytes = usize::from(class.frames) * self.table.config().frame_size;
        SlotRef::new(zspage, bytes, slot, class.slot_bytes)
    }

    /// Returns frames that the caller charges and uses, none at first.
    pub(crate) fn no_frames(&self) -> ChargedFrames<'_> {
        ChargedFrames::new(&*self.source, 0)
    }

    /// Takes over frames that a class counted until now.
    pub(crate) fn uncounted(&self, frames: usize) -> ChargedFrames<'_> {
        ChargedFrames::new(&*self.source, frames)
    }

    /// Reserves a zspage of a class. Calls the page source.
    pub(crate) fn reserve(&self, class: ClassIndex) -> Result<NewZspage<'_>, PoolError> {
        // First the run: the source may panic, and an id has no drop that would release it.
        let run = OwnedRun::reserve(&self.source, usize::from(self.table.get(class).frames))?;
        let grown = |bytes| {
            self.metadata.fetch_add(bytes, Ordering::Relaxed);
        };
        let id = self.entries.allocate(grown).map_err(|none| match none {
            NoZspage::Full => PoolError::TooManyPages,
            NoZspage::Refused => PoolError::OutOfMemory,
        })?;
        Ok(NewZspage { zspages: self, id, class, run: Some(run) })
    }

    /// Takes the frames of a zspage out and frees its id.
    ///
    /// # Safety
    ///
    /// 1. The zspage was removed from its class, under the class lock, while none of its slots was
    ///    claimed. This happens once.
    pub(crate) unsafe fn remove(&self, id: u32) -> OwnedRun {
        // SAFETY: `take_out` (1): (1).
        let run = unsafe { self.take_out(id) };
        self.entries.release(id);
        run
    }

    /// Takes the frames of a zspage out, and keeps its id.
    ///
    /// # Safety
    ///
    /// 1. As for [`remove`](Self::remove).
    pub(crate) unsafe fn take_out(&self, id: u32) -> OwnedRun {
        let zspage = self.existing(id);
        let bytes = self.table.zspage_bytes(zspage.class());
        // SAFETY: `take_out` (1): (1); (2): the length is that of its class.
        unsafe { zspage.take_out(bytes, &self.source) }
    }

    /// Releases many runs with one call of the source.
    pub(crate) fn release_all(&self, runs: impl Iterator<Item = Run>) {
        release_all(&self.source, runs);
    }

    /// Returns frames of zspages to the operating system: of each its id, and the frames as bits.
    /// Calls `kept` with the frames that the system did not take, and the position of their zspage
    /// in the given order. Makes no heap call.
    ///
    /// # Safety
    ///
    /// 1. The caller has isolated each zspage, it lives, and no claimed slot reaches into these
    ///    frames. None comes twice.
    pub(crate) unsafe fn discard(
        &self,
        zspages: impl Iterator<Item = (u32, u64)>,
        kept: impl FnMut(usize, Range<usize>),
    ) {
        let zspages = zspages.map(|(id, frames)| {
            let zspage = self.existing(id);
            (zspage, self.table.zspage_bytes(zspage.class()), frames)
        });
        // SAFETY: `discard_all` (1): (1); (2): the lengths are those of their classes.
        unsafe { discard_all(&self.source, zspages, kept) };
    }
}

/// A reserved zspage that no class has yet. Released when dropped.
#[derive(Debug)]
pub(crate) struct NewZspage<'a> {
    zspages: &'a Zspages,
    id: u32,
    class: ClassIndex,
    /// `None` only once it is installed.
    run: Option<OwnedRun>,
}

impl NewZspage<'_> {
    /// Sets the frames of the zspage and returns its id. The class that it was reserved for adopts
    /// it, under its lock.
    pub(crate) fn install(mut self) -> u32 {
        if let Some(run) = self.run.take() {
            let zspage = self.zspages.existing(self.id);
            zspage.begin(self.class);
            zspage.install(run);
        }
        self.id
    }
}

impl Drop for NewZspage<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.zspages.entries.release(self.id);
            drop(run);
        }
    }
}
