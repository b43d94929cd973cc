//! Moving one object: pin, claim a place, copy, exchange the entry's word, release the old place.
//!
//! ```text
//!   word:   (old, no pin) ──► (old, 1 pin) ─── copy the bytes ───► (new, no pin)   this exchange
//!                                  │                                               is the move
//!                                  └─ pinned or freed meanwhile ──► the new place is released;
//!                                                                   nothing has changed
//! ```
//!
//! The object is copied under compaction's own pin. So no lock is held while bytes are copied, and
//! neither readers nor the owner wait.

use crate::class::ClaimedSlot;
use crate::geometry::size_class::ClassIndex;
use crate::handle::entry::NotIdle;
use crate::handle::{Location, MovePin};
use crate::pool::PoolCore;

/// Result for one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MoveOutcome {
    Moved,
    /// A guard holds it.
    Pinned,
    /// It was freed, or is not where it was.
    Gone,
    /// There is no slot for it.
    NoPlace,
}

/// Compaction's pin on an object. Taken back when dropped, even if `claim` panics: it calls the
/// page source.
struct MovedObject<'a> {
    pool: &'a PoolCore,
    pin: MovePin<'a>,
}

impl Drop for MovedObject<'_> {
    fn drop(&mut self) {
        // If it was freed meanwhile, the free is finished here.
        if let Some(location) = self.pin.release() {
            self.pool.finish_zombie(self.pin.index(), location);
        }
    }
}

/// Moves the object of entry `index`, if it lies in a slot marked for evacuation. `claim` finds a
/// slot for it, given its class and its length as they are now.
pub(super) fn relocate(
    pool: &PoolCore,
    index: u32,
    claim: impl FnOnce(ClassIndex, u32) -> Option<(ClassIndex, ClaimedSlot)>,
) -> MoveOutcome {
    let pin = match pool.handles().pin_for_move(index) {
        Ok(pin) => pin,
        Err(NotIdle::Pinned) => return MoveOutcome::Pinned,
        Err(NotIdle::Gone) => return MoveOutcome::Gone,
    };
    let pinned = MovedObject { pool, pin };
    if pinned.pin.is_protected() {
        return MoveOutcome::Pinned;
    }
    let (from, slack) = pool.handles().unpack(pinned.pin.location());
    let source = pool.zspages().slot(from);
    if !source.zspage().is_evacuated(from.slot) {
        return MoveOutcome::Gone;
    }
    let (old_class, len) = (source.zspage().class(), source.slot_bytes() - slack);
    let Some((new_class, claimed)) = claim(old_class, len) else { return MoveOutcome::NoPlace };
    let to = Location { zspage: claimed.zspage, slot: claimed.slot };
    let target = pool.zspages().slot(to);
    if target.zspage().is_evacuated(to.slot) {
        end_transit(pool, to, len);
        return MoveOutcome::NoPlace;
    }
    // The copy below relies on this.
    let room = target.slot_bytes();
    assert!(len <= room, "an object of {len} bytes does not fit a slot of {room}");
    // SAFETY: `copy_from` (1): claimed above, and named below or not at all; (2): pinned above.
    unsafe { target.copy_from(source, len as usize) };
    let classes = pool.classes();
    classes.move_waste(old_class, new_class, len);
    if !pinned.pin.relocate(pool.handles().pack(to, room - len)) {
        classes.move_waste(new_class, old_class, len);
        pool.wipe_if_configured(target, len);
        end_transit(pool, to, len);
        return MoveOutcome::Pinned;
    }
    // The exchange took the pin as well.
    core::mem::forget(pinned);
    pool.count_moved();
    pool.wipe_if_configured(source, len);
    end_transit(pool, from, len);
    MoveOutcome::Moved
}

/// Releases one of the two slots of an object of `len` bytes: see `Classes::end_transit`.
fn end_transit(pool: &PoolCore, at: Location, len: u32) {
    pool.classes().end_transit(pool.zspages().existing(at.zspage), at.slot, len);
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_core::PoolConfig;
    use zpool_core::page::HeapSource;

    use super::*;
    use crate::geometry::size_class::{ClassConfig, ClassTable};
    use crate::handle::entry::EntrySnapshot;

    /// Statistics in the middle of a move count the object once, whether the move succeeds or not.
    /// A move that fails wipes its copy.
    #[test]
    fn stats_count_moving_object_once() {
        let config = PoolConfig::new(Arc::new(HeapSource::new(4096)), 4096).with_wipe_on_free(true);
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        let pool = PoolCore::new(&config, table, 0);
        let mut handles: Vec<_> = (0..4).map(|n| pool.insert(&[n; 1200]).unwrap()).collect();
        // Leaves a gap in front.
        pool.free(handles.remove(0)).unwrap();
        pool.drain_magazines(None);
        let (class, last) = (pool.table().class_of(1200), pool.handles().open(&handles[2]));
        let last = last.unwrap().index;
        for (pinned, expected) in [(true, MoveOutcome::Pinned), (false, MoveOutcome::Moved)] {
            let entry = pool.handles().snapshot(last).unwrap();
            let EntrySnapshot::Live { location, .. } = entry else { panic!("{entry:?}") };
            let (from, _) = pool.handles().unpack(location);
            let zspage = pool.zspages().existing(from.zspage);
            zspage.evacuate_from(Some(from.slot));
            let (mut guard, mut to) = (None, None);
            let outcome = relocate(&pool, last, |of, len| {
                assert_eq!(of, class);
                let claimed = pool.classes().claim_open_second(of, len);
                assert_eq!(pool.stats().objects, 3);
                guard = pinned.then(|| pool.read(&handles[2]).unwrap());
                let claimed = claimed?;
                to = Some(Location { zspage: claimed.zspage, slot: claimed.slot });
                Some((of, claimed))
            });
            zspage.evacuate_from(None);
            assert_eq!((outcome, pool.stats().objects), (expected, 3));
            // SAFETY: `slice` (1): `relocate` has copied the object there. The zspage lives, since
            // it has another object. Only this thread uses the pool, and it neither writes nor
            // frees while `copy` is in use.
            let copy = unsafe { pool.zspages().slot(to.unwrap()).slice(1200) };
            assert_eq!(copy, [if pinned { 0 } else { 3 }; 1200]);
        }
        pool.validate().unwrap();
    }
}
