//! Moving one object: pin, claim a place, copy, exchange the handle's word, give the old place back.
//!
//! ```text
//!   word:   (old, no pin) ──► (old, 1 pin) ─── copy the bytes ───► (new, no pin)      the exchange is the move
//!                                  └─ pinned or freed meanwhile ──► the new place is given back; nothing has happened
//! ```
//!
//! The object is copied under compaction's own pin, so no lock is held while bytes are copied, and neither readers nor the owner wait.

use zpool_core::internal::sync::atomic::Ordering;

use crate::class::ClassIndex;
use crate::class_state::Claimed;
use crate::inner::Inner;
use crate::slot::{Location, NotIdle, Slot};

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Moved,
    /// A guard holds it.
    Pinned,
    /// It was freed, or is not where it was.
    Gone,
    /// There is no open slot for it.
    NoPlace,
}

/// Compaction's pin on an object. Taken back when dropped, also where `claim` panics: it calls the page source.
struct Held<'a> {
    pool: &'a Inner,
    slot: &'a Slot,
    index: u32,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Freed while we held it: then it is ours to take down.
        if let Some(content) = self.slot.unpin_mover() {
            self.pool.bury(self.index, content);
        }
    }
}

impl Inner {
    /// Moves the object of handle slot `index`, if it lies in slots marked for evacuation, to a slot that `claim`, given its class and its length as
    /// they are now, finds for it.
    pub(crate) fn relocate(
        &self,
        index: u32,
        claim: impl FnOnce(ClassIndex, u32) -> Option<(ClassIndex, Claimed)>,
    ) -> Outcome {
        let Some(slot) = self.handles.get(index) else { return Outcome::Gone };
        let content = match slot.pin_idle(None) {
            Ok(content) => content,
            Err(NotIdle::Pinned) => return Outcome::Pinned,
            Err(NotIdle::Gone) => return Outcome::Gone,
        };
        let (from, slack) = self.layout.unpack(content);
        let source = self.zspages.get(from.zspage).expect("a pinned object's zspage exists");
        let old_class = source.class();
        let old = self.table.get(old_class);
        let len = old.slot_bytes - slack;
        let held = Held { pool: self, slot, index };
        // After the pin: readers that come from now on pin, too.
        if self.readers.is_announced(index) {
            return Outcome::Pinned;
        }
        if !source.is_evacuated(from.object) {
            return Outcome::Gone;
        }
        let Some((new_class, claimed)) = claim(old_class, len) else { return Outcome::NoPlace };
        let target = self.zspages.get(claimed.zspage).expect("a claimed slot's zspage exists");
        if target.is_evacuated(claimed.object) {
            self.release_slot((claimed.zspage, claimed.object), len);
            return Outcome::NoPlace;
        }
        let new = self.table.get(new_class);
        // What the copy below rests on.
        assert!(len <= new.slot_bytes, "{len} bytes do not go into a slot of {}", new.slot_bytes);
        let frame_size = self.table.config().frame_size;
        let (old_len, new_len) =
            (usize::from(old.frames) * frame_size, usize::from(new.frames) * frame_size);
        let old_offset = usize::from(from.object) * old.slot_bytes as usize;
        let new_offset = usize::from(claimed.object) * new.slot_bytes as usize;
        // SAFETY: `copy_from` (1): claimed above, named below or not at all; (2): pinned above; (3): as computed from the classes.
        unsafe {
            target.copy_from(new_len, new_offset, (source, old_len, old_offset), len as usize)
        };
        let at = Location { zspage: claimed.zspage, object: claimed.object };
        self.shift_debt(old_class, new_class, len);
        if !slot.relocate(content, self.layout.pack(at, new.slot_bytes - len)) {
            self.shift_debt(new_class, old_class, len);
            self.wipe_if_asked(at, len);
            self.release_slot((claimed.zspage, claimed.object), len);
            return Outcome::Pinned;
        }
        // The exchange took the pin too.
        core::mem::forget(held);
        // Relaxed: statistics only.
        self.counters.moved_objects.fetch_add(1, Ordering::Relaxed);
        self.wipe_if_asked(from, len);
        self.release_slot((from.zspage, from.object), len);
        Outcome::Moved
    }

    /// An object of `len` bytes moves from a slot of one class to one of another: its own class's debt changes by the difference.
    fn shift_debt(&self, from: ClassIndex, to: ClassIndex, len: u32) {
        if from != to {
            let home = self.class(self.table.class_of(len as usize));
            let size = |class| self.table.get(class).slot_bytes;
            // Relaxed: an account. Wrapping, since `to` may be smaller.
            home.debt.fetch_add(size(to).wrapping_sub(size(from)), Ordering::Relaxed);
        }
    }
}
