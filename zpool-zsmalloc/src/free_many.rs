//! Frees many objects: in batches, so that memory accesses overlap and locks are taken once for
//! many.
//!
//! ```text
//!   handles ─► named, entry prefetched ─► killed, zspage prefetched ─► sorted by class ─► slots released ─► entries freed
//!              └ a batch of them ┘        └ one look at all readers ┘   └ one lock a class ┘  └ one lock ┘
//! ```
//!
//! A free on its own waits for memory twice, for the handle's entry and for the zspage. With a
//! batch of them these waits overlap. Nothing here blocks or allocates, and the background job is
//! requested once, at the end.

use zpool_core::Handle;
use zpool_core::internal::prefetch;

use crate::class::ClassIndex;
use crate::inner::Inner;
use crate::slot::{Content, Named, Slot};

/// Objects that are freed together. The batch lies on the caller's stack, at 16 bytes an object.
const BATCH: usize = 128;

/// One handle of a batch.
#[derive(Debug, Clone, Copy)]
struct Doomed {
    /// Its entry in the handle table.
    index: u32,
    generation: u16,
    class: ClassIndex,
    content: Content,
}

impl Inner {
    /// See `ZPool::free_many`.
    pub(crate) fn free_many(&self, handles: &mut dyn Iterator<Item = Handle>) -> usize {
        let mut batch = Batch::new(self);
        for handle in handles {
            match self.named(&handle) {
                Ok(named) => batch.push(named),
                Err(_) => batch.refused += 1,
            }
        }
        batch.flush();
        batch.refused
    }
}

/// Handles on their way out. Whatever is in it is freed when it is dropped, also when the caller's
/// iterator panics.
struct Batch<'a> {
    pool: &'a Inner,
    doomed: [Doomed; BATCH],
    len: usize,
    /// Handles that named no object.
    refused: usize,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.flush();
        self.pool.kick_if_worthwhile();
    }
}

impl<'a> Batch<'a> {
    fn new(pool: &'a Inner) -> Batch<'a> {
        let none = Doomed { index: 0, generation: 0, class: ClassIndex(0), content: Content(0) };
        Batch { pool, doomed: [none; BATCH], len: 0, refused: 0 }
    }

    #[inline]
    fn push(&mut self, Named { slot, index, generation }: Named<'_>) {
        prefetch(core::slice::from_ref(slot), 1);
        self.doomed[self.len] =
            Doomed { index, generation, class: ClassIndex(0), content: Content(0) };
        self.len += 1;
        if self.len == BATCH {
            self.flush();
        }
    }

    /// Frees what is in the batch.
    fn flush(&mut self) {
        self.kill();
        self.settle();
        let pool = self.pool;
        let doomed = &mut self.doomed[..core::mem::take(&mut self.len)];
        doomed.sort_unstable_by_key(|doomed| doomed.class.0);
        for of_class in doomed.chunk_by(|a, b| a.class == b.class) {
            pool.release_slots(of_class);
        }
        pool.handles.put_many(doomed.iter().map(|doomed| doomed.index));
    }

    /// Ends the lives of the objects, and drops what has none from the batch.
    fn kill(&mut self) {
        let pool = self.pool;
        let kill = |doomed: &mut Doomed| {
            let Ok(content) = pool.kill_slot(pool.entry(doomed.index), doomed.generation) else {
                return false;
            };
            doomed.content = content;
            if let Some(zspage) = pool.zspages.get(pool.layout.unpack(content).0.zspage) {
                prefetch(core::slice::from_ref(zspage), 1);
            }
            true
        };
        self.refused += self.retain(kill);
    }

    /// Leaves those that guards hold to their guards, and looks up the classes of the others.
    fn settle(&mut self) {
        let pool = self.pool;
        // One look for all of them, after the last of them was killed. Mostly no reader is there.
        let quiet = pool.readers.is_quiet();
        let settle = |doomed: &mut Doomed| {
            let entry = pool.entry(doomed.index);
            if !quiet {
                pool.readers.turn_into_pins(doomed.index, entry);
            }
            let ours = pool.settle(entry, doomed.content);
            if ours {
                doomed.class = pool.end_content(doomed.content);
            }
            ours
        };
        self.retain(settle);
    }

    /// Keeps those of the batch that `keep` says yes to. Returns how many it dropped.
    fn retain(&mut self, mut keep: impl FnMut(&mut Doomed) -> bool) -> usize {
        let before = core::mem::take(&mut self.len);
        for at in 0..before {
            if keep(&mut self.doomed[at]) {
                self.doomed[self.len] = self.doomed[at];
                self.len += 1;
            }
        }
        before - self.len
    }
}

impl Inner {
    fn entry(&self, index: u32) -> &Slot {
        self.handles.get(index).expect("named before, and the table only grows")
    }

    /// Settles the account of an object that is gone. Returns the class of its slot.
    fn end_content(&self, content: Content) -> ClassIndex {
        let (at, slack) = self.layout.unpack(content);
        let class = self.zspages.get(at.zspage).expect("an object's zspage exists").class();
        let len = self.table.get(class).slot_bytes - slack;
        self.settle_debt(class, len);
        self.wipe_if_asked(at, len);
        class
    }

    /// Clears claimed slots of one class under one hold of its lock.
    fn release_slots(&self, doomed: &[Doomed]) {
        let Some(first) = doomed.first() else { return };
        let slot_bytes = self.table.get(first.class).slot_bytes;
        self.locked(self.class(first.class), |state| {
            for doomed in doomed {
                let (at, slack) = self.layout.unpack(doomed.content);
                let entry = self.zspages.get(at.zspage).expect("a claimed slot's zspage exists");
                state.release(entry.local(), at.object, slot_bytes - slack);
            }
            self.note_releases(state, doomed.len());
        });
    }
}
