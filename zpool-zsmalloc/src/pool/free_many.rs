//! Frees many objects in batches, so that memory accesses overlap and one lock serves many.
//!
//! ```text
//!   handles ─► opened, ─► killed,  ─► settled ─► sorted   ─► slots    ─► entries
//!              entry      zspage      one scan   by class    released    freed
//!              prefetched prefetched  of hazards             one lock    one lock
//!                                                            per class
//! ```
//!
//! A single free waits for memory twice: for the handle's entry and for the zspage. In a batch
//! these waits overlap. Nothing here blocks or allocates, and the background job is requested once,
//! at the end.

use zpool_core::Handle;
use zpool_core::internal::prefetch;

use super::core::PoolCore;
use crate::geometry::size_class::ClassIndex;
use crate::handle::entry::{EntryRef, HandleEntry, PackedLocation};

/// Objects that are freed together. The batch lies on the caller's stack, at 16 bytes per object.
const BATCH: usize = 128;

/// One object of a batch.
#[derive(Debug, Clone, Copy)]
struct DyingObject {
    /// Its entry in the handle table.
    index: u32,
    generation: u16,
    class: ClassIndex,
    location: PackedLocation,
}

impl PoolCore {
    /// See `ZPool::free_many`.
    pub(crate) fn free_many(&self, handles: &mut dyn Iterator<Item = Handle>) -> usize {
        let mut batch = FreeBatch::new(self);
        for handle in handles {
            match self.handles.open(&handle) {
                Ok(entry) => batch.push(entry),
                Err(_) => batch.refused += 1,
            }
        }
        batch.flush();
        batch.refused
    }
}

/// Objects being freed. Dropping the batch frees its objects, even if the caller's iterator panics.
struct FreeBatch<'a> {
    pool: &'a PoolCore,
    objects: [DyingObject; BATCH],
    len: usize,
    /// Handles that named no object.
    refused: usize,
}

impl Drop for FreeBatch<'_> {
    fn drop(&mut self) {
        self.flush();
        self.pool.request_background_work_if_due();
    }
}

impl<'a> FreeBatch<'a> {
    fn new(pool: &'a PoolCore) -> FreeBatch<'a> {
        let location = PackedLocation(0);
        let none = DyingObject { index: 0, generation: 0, class: ClassIndex(0), location };
        FreeBatch { pool, objects: [none; BATCH], len: 0, refused: 0 }
    }

    #[inline]
    fn push(&mut self, EntryRef { entry, index, generation }: EntryRef<'_>) {
        prefetch(core::slice::from_ref(entry), 1);
        let location = PackedLocation(0);
        self.objects[self.len] = DyingObject { index, generation, class: ClassIndex(0), location };
        self.len += 1;
        if self.len == BATCH {
            self.flush();
        }
    }

    /// Frees the objects of the batch.
    fn flush(&mut self) {
        self.kill();
        self.settle();
        let pool = self.pool;
        let objects = &mut self.objects[..core::mem::take(&mut self.len)];
        objects.sort_unstable_by_key(|object| object.class.0);
        for of_class in objects.chunk_by(|a, b| a.class == b.class) {
            pool.release_slots(of_class);
        }
        pool.handles.release_many(objects.iter().map(|object| object.index));
    }

    /// Ends the lives of the objects. Drops handles that name none.
    fn kill(&mut self) {
        let pool = self.pool;
        let kill = |object: &mut DyingObject| {
            let DyingObject { index, generation, .. } = *object;
            let entry = EntryRef { entry: pool.entry(index), index, generation };
            let Ok(location) = pool.kill(entry) else { return false };
            object.location = location;
            if let Some(zspage) = pool.zspages.get(pool.handles.unpack(location).0.zspage) {
                prefetch(core::slice::from_ref(zspage), 1);
            }
            true
        };
        self.refused += self.retain(kill);
    }

    /// Leaves objects that guards hold to their guards, and looks up the classes of the others.
    fn settle(&mut self) {
        let pool = self.pool;
        // One scan for all of them, after the last was killed. Mostly there is no reader.
        let no_hazards = pool.handles.no_hazards();
        let settle = |object: &mut DyingObject| {
            let entry = pool.entry(object.index);
            if !no_hazards {
                pool.handles.convert_hazards(object.index, entry);
            }
            let ours = pool.settle(entry, object.location);
            if ours {
                object.class = pool.end_object(object.location);
            }
            ours
        };
        self.retain(settle);
    }

    /// Keeps the objects for which `keep` returns `true`. Returns how many it dropped.
    fn retain(&mut self, mut keep: impl FnMut(&mut DyingObject) -> bool) -> usize {
        let before = core::mem::take(&mut self.len);
        for at in 0..before {
            if keep(&mut self.objects[at]) {
                self.objects[self.len] = self.objects[at];
                self.len += 1;
            }
        }
        before - self.len
    }
}

impl PoolCore {
    fn entry(&self, index: u32) -> &HandleEntry {
        self.handles.entry(index).expect("opened before, and the table only grows")
    }

    /// Uncounts and wipes an object that is gone. Returns the class of its slot.
    fn end_object(&self, location: PackedLocation) -> ClassIndex {
        let (at, slack) = self.handles.unpack(location);
        let slot = self.zspages.slot(at);
        let (class, len) = (slot.zspage().class(), slot.slot_bytes() - slack);
        self.classes.uncount_waste(class, len);
        self.wipe_if_configured(slot, len);
        class
    }

    /// Releases the slots of objects of one class.
    fn release_slots(&self, objects: &[DyingObject]) {
        let Some(first) = objects.first() else { return };
        let slot_bytes = self.table().get(first.class).slot_bytes;
        let slots = objects.iter().map(|object| {
            let (at, slack) = self.handles.unpack(object.location);
            (self.zspages.existing(at.zspage), at.slot, slot_bytes - slack)
        });
        self.classes.release_slots(first.class, slots);
    }
}
