//! The second half of compaction: last frames with few objects are emptied into open slots of classes a little larger.
//!
//! ```text
//!   class of 1440 bytes  [####|####|#   ]           the last frame holds one object ...
//!                                   │
//!   class of 1456 bytes  [####|##.#|##  ]           ... which wastes 16 bytes here, and there a frame
//!                                ▲
//! ```
//!
//! A packed class keeps half a frame open on average, which is little in a large pool and much in a small one. An object never goes further than
//! [`ClassTable::reach`](crate::ClassTable) above its own class, and a frame is emptied whole or not at all.

use crate::class::fullness::Group;
use crate::class::state::{ClaimedSlot, ClassState};
use crate::collections::fallible::{try_boxed_defaults, try_with_capacity};
use crate::geometry::size_class::ClassIndex;
use crate::geometry::slot_map::SlotMap;
use crate::handle::entry::EntrySnapshot;
use crate::pool::core::{Class, PoolCore};
use crate::reclaim::compact::{Compaction, Marked};
use crate::reclaim::plan::Plan;
use crate::reclaim::relocate::Outcome;

/// Rounds at most. A round finds all merges that do not depend on each other; few need a third.
pub(crate) const ROUNDS: usize = 64;

/// Of a frame, the part that emptying it may waste in larger slots.
const WORTHWHILE: (usize, usize) = (3, 4);

impl Compaction<'_> {
    /// Empties last frames into larger classes until no more can be. True: it has moved something.
    pub(crate) fn merge_tails(&mut self) -> bool {
        let before = self.report.moved_objects;
        for _ in 0..ROUNDS {
            let pool = self.pool;
            let Some(mut open) = try_boxed_defaults::<usize>(pool.table.classes().len()) else {
                break;
            };
            for class in pool.existing_classes() {
                open[usize::from(class.index.0)] = class.open_hint();
            }
            // Not cut to the moves that are left: with none left, a round says whether there would be something to do.
            let Some(plan) = plan(pool, &mut open, pool.round()) else { break };
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

    /// Empties the frames of one zspage from the last one on, as long as the objects of a whole frame fit. `marked`: from the last slot down.
    fn merge_zspage(&mut self, marked: &[Marked], open: &mut [usize]) {
        let pool = self.pool;
        let Some(first) = marked.first() else { return };
        let zspage = pool.zspages.get(first.zspage).expect("a walk found it");
        // A guess, as all that is known of the objects: the zspage may have been given back since. `relocate` looks again.
        let class = zspage.class();
        let slot_map = SlotMap::of(&pool.table, pool.table.get(class));
        let found = Found { class, slot_map };
        if marked.iter().any(|object| object.object.0 >= slot_map.objects) {
            return;
        }
        let last_frame = |m: &Marked| slot_map.frames_of_slot(m.object.0).ilog2();
        for frame in marked.chunk_by(|a, b| last_frame(a) == last_frame(b)) {
            let Some(targets) = fit(pool, &found, frame, open) else { return };
            for (object, target) in frame.iter().zip(targets) {
                if self.is_over() {
                    self.report.exhausted = true;
                    return;
                }
                // Its handle's slot may have been freed since, and taken for an object that `target` is not for.
                let expected = (class, found.len(object));
                let claim = |class, len| {
                    let same = (class, len) == expected;
                    same.then(|| claim_in(pool, target, len)).flatten()
                };
                let outcome = pool.relocate(object.index, claim);
                self.note(outcome);
                if outcome == Outcome::Moved {
                    open[usize::from(target.0)] -= 1;
                }
            }
        }
    }
}

/// What a walk over the handle table could tell of the class of some objects.
struct Found {
    class: ClassIndex,
    slot_map: SlotMap,
}

impl Found {
    fn len(&self, object: &Marked) -> u32 {
        self.slot_map.slot.saturating_sub(u32::from(object.slack)).max(1)
    }
}

/// Marks the last objects of each class, as many as larger classes may have room for. A class that others move into is not marked itself; a class that is
/// marked is left without open slots in `open`.
/// `None` if the heap refuses.
fn plan<'a>(pool: &'a PoolCore, open: &mut [usize], limit: usize) -> Option<Plan<'a>> {
    let mut plan = Plan::new(pool);
    let mut left = try_with_capacity(open.len())?;
    left.extend_from_slice(open);
    for class in pool.existing_classes() {
        let at = usize::from(class.index.0);
        // Somebody moves into this one: next round.
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

/// The zspage of a class with the fewest objects, and the first of its last slots that could be emptied into what is `left` open in larger classes, which is taken.
fn tail(pool: &PoolCore, class: &Class, left: &mut [usize]) -> Option<(u32, u16)> {
    let larger = || within_reach(pool, class.index).map(|(to, _)| to);
    if larger().all(|to| left[to] == 0) {
        return None;
    }
    pool.locked(class, |state| {
        let local = emptiest(state)?;
        let mut frames = state.member(local).resident & !state.empty_frames(local);
        let mut end = state.slot_map.objects;
        let mut first = None;
        while frames != 0 && end > 0 {
            let frame = frames.ilog2();
            frames &= !(1 << frame);
            let from = state.slot_map.slots_in(frame..frame + 1).start.min(end);
            let mut count = state.count_from(local, from) - state.count_from(local, end);
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
        Some((state.member(local).id, first?))
    })
}

/// The class that each object of a frame goes to, nearest first; `None` if one has nowhere to go,
/// is pinned, all together waste too much, or the heap refuses.
fn fit(
    pool: &PoolCore,
    found: &Found,
    frame: &[Marked],
    open: &[usize],
) -> Option<Vec<ClassIndex>> {
    let mut taken: Vec<(usize, usize)> = try_with_capacity(frame.len())?;
    let mut waste = 0;
    let mut targets = try_with_capacity(frame.len())?;
    for object in frame {
        let slot = pool.handles.get(object.index)?;
        if !matches!(slot.snapshot(), EntrySnapshot::Live { pins: 0, .. })
            || pool.hazards.is_protected(object.index)
        {
            return None;
        }
        let home = pool.table.class_of(found.len(object) as usize);
        let own = pool.table.get(found.class).slot_bytes;
        let mut larger = within_reach(pool, home)
            .map(|(to, _)| to)
            .filter(|&to| to > usize::from(found.class.0));
        let used = |to: usize| taken.iter().find(|&&(at, _)| at == to).map_or(0, |&(_, n)| n);
        let to = larger.find(|&to| open[to] > used(to))?;
        match taken.iter_mut().find(|(at, _)| *at == to) {
            Some((_, n)) => *n += 1,
            None => taken.push((to, 1)),
        }
        let to = ClassIndex(to as u16);
        waste += (pool.table.get(to).slot_bytes - own) as usize;
        targets.push(to);
    }
    (waste * WORTHWHILE.1 <= pool.table.config().frame_size * WORTHWHILE.0).then_some(targets)
}

fn claim_in(pool: &PoolCore, class: ClassIndex, len: u32) -> Option<(ClassIndex, ClaimedSlot)> {
    let claimed = pool.locked(pool.existing_class(class)?, |state| state.claim_open(len))?;
    Some((class, claimed))
}

/// The classes whose slots objects of `class` may take, nearest first, with what that wastes.
fn within_reach(pool: &PoolCore, class: ClassIndex) -> impl Iterator<Item = (usize, usize)> {
    let (classes, at) = (pool.table.classes(), usize::from(class.0));
    let size = classes[at].slot_bytes;
    let larger = classes.iter().enumerate().skip(at + 1);
    larger
        .map(move |(to, larger)| (to, (larger.slot_bytes - size) as usize))
        .take_while(|&(_, waste)| waste <= pool.table.reach())
}

/// The zspage of a class with the fewest objects, but at least one, and a free slot; as the groups know it.
fn emptiest(state: &ClassState) -> Option<u32> {
    let groups =
        [Group::Growing, Group::Quarter, Group::Half, Group::ThreeQuarters, Group::AlmostFull];
    let heads = groups.into_iter().filter_map(|group| state.head(group));
    heads.min_by_key(|&local| state.member(local).inuse)
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use core::cmp::Reverse;
    use std::sync::Arc;

    use zpool_core::page::HeapSource;
    use zpool_core::{CompactionReport, Handle, PoolConfig};

    use super::*;
    use crate::geometry::size_class::{ClassConfig, ClassTable};
    use crate::pool::core::PoolCore;
    use crate::reclaim::compact::ReclaimScope;

    fn pool() -> PoolCore {
        let config = PoolConfig::new(Arc::new(HeapSource::new(4096)), 4096);
        PoolCore::new(
            &config,
            Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap()),
            false,
        )
    }

    /// Between the walk that found an object and its turn, its handle's slot may have been freed and taken again for a longer one.
    #[test]
    fn an_object_that_is_not_the_one_found_stays_where_it_is() {
        let pool = pool();
        // The short one first: else it would take a slot beside the target.
        let short = pool.insert(&[3; 1000]).unwrap();
        let target = pool.insert(&[1; 1020]).unwrap();
        let long = pool.insert(&[2; 3000]).unwrap();
        let mut plan = Plan::new(&pool);
        let mut mark = |handle: &Handle, len: usize| {
            let index = pool.mint.open(handle).unwrap().index;
            let EntrySnapshot::Live { content, .. } = pool.handles.get(index).unwrap().snapshot()
            else {
                panic!("live")
            };
            let (at, slack) = pool.layout.unpack(content);
            assert!(plan.mark(pool.class(pool.table.class_of(len)), at.zspage, 0));
            Marked { zspage: at.zspage, object: Reverse(at.object), slack: slack as u16, index }
        };
        let (found, later) = (mark(&short, 1000), mark(&long, 3000));
        let mut open: Vec<usize> = vec![0; pool.table.classes().len()];
        open[usize::from(pool.table.class_of(1020).0)] = 1;
        let found = Marked { index: later.index, ..found };
        let mut run = Compaction {
            pool: &pool,
            scope: ReclaimScope::All,
            left: 9,
            charged: 0,
            ahead: 0,
            report: CompactionReport::default(),
        };
        run.merge_zspage(&[found], &mut open);
        assert_eq!(run.report.moved_objects, 0);
        drop(plan);
        pool.validate().unwrap();
        assert!(pool.read(&long).unwrap().iter().all(|&byte| byte == 2));
        assert!(pool.read(&target).unwrap().iter().all(|&byte| byte == 1));
        assert!(pool.read(&short).unwrap().iter().all(|&byte| byte == 3));
    }
}
