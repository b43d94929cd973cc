//! Merging: last frames with few objects are emptied into open slots of classes a little larger.
//!
//! ```text
//!   class of 1440 bytes  [####|####|#   ]           the last frame holds one object ...
//!                                   │
//!   class of 1456 bytes  [####|##.#|##  ]           ... which wastes 16 bytes here, and a frame
//!                                ▲                  there
//! ```
//!
//! A packed class keeps half a frame open on average. That is little in a large pool and much in a
//! small one. An object never goes further than
//! [`overflow_reach`](crate::ClassTable::overflow_reach) above its own class, and a frame is chosen
//! only if all of its objects fit elsewhere.

use super::compact::{Compaction, MarkedObject};
use super::plan::CompactionPlan;
use super::relocate::{MoveOutcome, relocate};
use crate::class::Class;
use crate::collections::fallible::{try_boxed_defaults, try_with_capacity};
use crate::geometry::size_class::ClassIndex;
use crate::geometry::slot_map::SlotMap;
use crate::pool::PoolCore;

/// The most rounds. A round finds all merges that do not depend on each other; a third round is
/// rarely needed.
pub(super) const ROUNDS: usize = 64;

/// Emptying a frame may waste at most 3/4 of a frame in larger slots.
const WORTHWHILE: (usize, usize) = (3, 4);

impl Compaction<'_> {
    /// Empties last frames into larger classes until there is no more to do. Returns whether it
    /// moved anything.
    pub(super) fn merge_tails(&mut self) -> bool {
        let before = self.report.moved_objects;
        for _ in 0..ROUNDS {
            let (pool, classes) = (self.pool, self.pool.classes());
            let Some(mut open) = try_boxed_defaults::<usize>(pool.table().classes().len()) else {
                break;
            };
            for class in classes.iter() {
                open[usize::from(class.index().0)] = class.open_hint();
            }
            // Not limited to the moves that are left: if there are none, a round finds out whether
            // there would be something to do.
            let Some(plan) = plan(pool, &mut open, self.round()) else { break };
            let moved = self.carry_out(plan, |run, _, marked| {
                for zspage in marked.chunk_by(|a, b| a.zspage == b.zspage) {
                    run.merge_zspage(zspage, &mut open);
                }
            });
            if moved == 0 {
                break;
            }
        }
        self.report.moved_objects > before
    }

    /// Empties the frames of one zspage from the last one on, as long as all objects of a frame
    /// fit. `marked`: its objects from the last slot down.
    fn merge_zspage(&mut self, marked: &[MarkedObject], open: &mut [usize]) {
        let pool = self.pool;
        let Some(first) = marked.first() else { return };
        // A guess, as all that is known of the objects: the zspage may have been released since.
        // `relocate` looks again.
        let class = pool.zspages().existing(first.zspage).class();
        let slot_map = pool.classes().slot_map(class);
        let found = FoundClass { class, slot_map };
        if marked.iter().any(|object| object.slot.0 >= slot_map.slots) {
            return;
        }
        let last_frame = |object: &MarkedObject| slot_map.frames_of_slot(object.slot.0).ilog2();
        for frame in marked.chunk_by(|a, b| last_frame(a) == last_frame(b)) {
            let Some(targets) = fit(pool, &found, frame, open) else { return };
            for (object, target) in frame.iter().zip(targets) {
                if self.is_over() {
                    self.report.exhausted = true;
                    return;
                }
                // Its entry may have been freed since, and be used for an object that `target` is
                // not for.
                let expected = (class, found.len(object));
                let claim = |class, len| {
                    let claimed = || pool.classes().claim_open_second(target, len);
                    let same = (class, len) == expected;
                    same.then(claimed).flatten().map(|claimed| (target, claimed))
                };
                let outcome = relocate(pool, object.index, claim);
                self.note(outcome);
                if outcome == MoveOutcome::Moved {
                    open[usize::from(target.0)] -= 1;
                }
            }
        }
    }
}

/// The class of some objects, as far as a walk over the handle table could tell.
struct FoundClass {
    class: ClassIndex,
    slot_map: SlotMap,
}

impl FoundClass {
    fn len(&self, object: &MarkedObject) -> u32 {
        self.slot_map.slot_bytes.saturating_sub(u32::from(object.slack)).max(1)
    }
}

/// Marks the last objects of each class, as many as larger classes may have open slots for. A class
/// that others move into is not marked itself, and a marked class has no open slots left in `open`.
/// Returns `None` if the heap refuses.
fn plan<'a>(pool: &'a PoolCore, open: &mut [usize], limit: usize) -> Option<CompactionPlan<'a>> {
    let mut plan = CompactionPlan::new(pool);
    let mut left = try_with_capacity(open.len())?;
    left.extend_from_slice(open);
    for class in pool.classes().iter() {
        let at = usize::from(class.index().0);
        // Objects move into this one: wait for the next round.
        if left[at] != open[at] || plan.is_full(limit) {
            continue;
        }
        let Some((zspage, first)) = tail(pool, class, &mut left) else { continue };
        if plan.mark(class, zspage, first) {
            open[at] = 0;
            left[at] = 0;
        }
    }
    Some(plan)
}

/// Returns the zspage of a class with the fewest objects, and the first of its last slots that
/// could be emptied into the slots `left` open in larger classes. Takes these.
fn tail(pool: &PoolCore, class: &Class, left: &mut [usize]) -> Option<(u32, u16)> {
    let larger = || pool.table().overflow_targets(class.index()).map(|(to, _)| usize::from(to.0));
    if larger().all(|to| left[to] == 0) {
        return None;
    }
    pool.classes().locked(class, |state| {
        let local = state.emptiest()?;
        let mut frames = state.occupied_frames(local);
        let mut end = state.slot_map().slots;
        let mut first = None;
        while frames != 0 && end > 0 {
            let frame = frames.ilog2();
            frames &= !(1 << frame);
            let from = state.slot_map().slots_in(frame..frame + 1).start.min(end);
            let mut count =
                state.count_claimed_from(local, from) - state.count_claimed_from(local, end);
            if larger().map(|to| left[to]).sum::<usize>() < count {
                break;
            }
            for to in larger() {
                let here = count.min(left[to]);
                left[to] -= here;
                count -= here;
            }
            (first, end) = (Some(from), from);
        }
        Some((state.id(local), first?))
    })
}

/// Returns the class that each object of a frame goes to, nearest first. Returns `None` if one has
/// nowhere to go or is pinned, if all together waste too much, or if the heap refuses.
fn fit(
    pool: &PoolCore,
    found: &FoundClass,
    frame: &[MarkedObject],
    open: &[usize],
) -> Option<Vec<ClassIndex>> {
    let table = pool.table();
    let mut taken: Vec<(ClassIndex, usize)> = try_with_capacity(frame.len())?;
    let mut waste = 0;
    let mut targets = try_with_capacity(frame.len())?;
    for object in frame {
        if !pool.handles().is_idle(object.index) {
            return None;
        }
        let home = table.class_of(found.len(object) as usize);
        let mut larger =
            table.overflow_targets(home).map(|(to, _)| to).filter(|&to| to > found.class);
        let used = |to: ClassIndex| taken.iter().find(|&&(at, _)| at == to).map_or(0, |&(_, n)| n);
        let to = larger.find(|&to| open[usize::from(to.0)] > used(to))?;
        match taken.iter_mut().find(|(at, _)| *at == to) {
            Some((_, n)) => *n += 1,
            None => taken.push((to, 1)),
        }
        waste += (table.get(to).slot_bytes - found.slot_map.slot_bytes) as usize;
        targets.push(to);
    }
    (waste * WORTHWHILE.1 <= table.config().frame_size * WORTHWHILE.0).then_some(targets)
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use core::cmp::Reverse;
    use std::sync::Arc;

    use zpool_core::page::HeapSource;
    use zpool_core::{CompactionBudget, Handle, PoolConfig};

    use super::*;
    use crate::geometry::size_class::{ClassConfig, ClassTable};
    use crate::handle::entry::EntrySnapshot;
    use crate::reclaim::policy::ReclaimScope;
    use crate::reclaim::reclaimer::Reclaimer;

    fn reclaimer() -> Reclaimer {
        let config = PoolConfig::new(Arc::new(HeapSource::new(4096)), 4096);
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        Reclaimer::of(PoolCore::new(&config, table, 0), false)
    }

    /// A tail reaches over as many last frames as larger classes have open slots for, counts each
    /// object once, and takes these slots.
    #[test]
    fn tail_takes_open_slots_once() {
        let reclaimer = reclaimer();
        let pool = reclaimer.pool();
        let handles: Vec<_> = (0..9).map(|_| pool.insert(&[1; 1200]).unwrap()).collect();
        let home = pool.table().class_of(1200);
        let to: Vec<_> =
            pool.table().overflow_targets(home).map(|(to, _)| usize::from(to.0)).collect();
        let class = pool.classes().get(home);
        let slot_map = pool.classes().slot_map(home);
        assert!(slot_map.slots > 9 && slot_map.frames_needed(9) == 3, "{slot_map:?}");
        for open in 0..=12 {
            let mut left = vec![0; pool.table().classes().len()];
            // In two classes, if there are two.
            left[to[0]] = open.min(4);
            left[*to.last().unwrap()] += open - open.min(4);
            let first = tail(pool, class, &mut left).map(|(_, first)| first);
            // From the back, a frame with all slots that reach into it.
            let starts = (0..3).rev().map(|frame| slot_map.slots_in(frame..frame + 1).start);
            let expected = starts.take_while(|&start| 9 - usize::from(start) <= open).last();
            assert_eq!(first, expected, "{open} open");
            let taken = first.map_or(0, |first| 9 - usize::from(first));
            assert_eq!(left.iter().sum::<usize>(), open - taken, "{open} open");
        }
        drop(handles);
        reclaimer.close();
    }

    /// Between the walk that found an object and its turn, its entry may have been freed and used
    /// again for a longer object, which must stay where it is.
    #[test]
    fn merge_of_reused_entry_moves_nothing() {
        let reclaimer = reclaimer();
        let pool = reclaimer.pool();
        // The short one first: otherwise it would take a slot next to the target.
        let short = pool.insert(&[3; 1000]).unwrap();
        let target = pool.insert(&[1; 1020]).unwrap();
        let long = pool.insert(&[2; 3000]).unwrap();
        let mut plan = CompactionPlan::new(pool);
        let mut mark = |handle: &Handle, len: usize| {
            let index = pool.handles().open(handle).unwrap().index;
            let Some(EntrySnapshot::Live { location, .. }) = pool.handles().snapshot(index) else {
                panic!("live")
            };
            let (at, slack) = pool.handles().unpack(location);
            let class = pool.classes().get(pool.table().class_of(len));
            assert!(plan.mark(class, at.zspage, 0));
            let (slot, slack) = (Reverse(at.slot), slack as u16);
            MarkedObject { zspage: at.zspage, slot, slack, index }
        };
        let (found, later) = (mark(&short, 1000), mark(&long, 3000));
        let mut open: Vec<usize> = vec![0; pool.table().classes().len()];
        open[usize::from(pool.table().class_of(1020).0)] = 1;
        let found = MarkedObject { index: later.index, ..found };
        let mut run = Compaction::new(pool, ReclaimScope::All, CompactionBudget::moves(9));
        run.merge_zspage(&[found], &mut open);
        assert_eq!(run.report.moved_objects, 0);
        drop(plan);
        pool.validate().unwrap();
        assert!(pool.read(&long).unwrap().iter().all(|&byte| byte == 2));
        assert!(pool.read(&target).unwrap().iter().all(|&byte| byte == 1));
        assert!(pool.read(&short).unwrap().iter().all(|&byte| byte == 3));
        reclaimer.close();
    }
}
