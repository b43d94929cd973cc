//! Planning: what compaction is going to move, chosen from counts before anything is touched.
//!
//! ```text
//!   the fullest, as many as needed       the last of them        the others
//!   [####.#]   [#####.]   [###.##]       [##.#|.#....|#..]       [#.....]   [..#...]
//!        ▲          ▲         ▲             ▲     └───┬────┘          │          │
//!        └──────────┴─────────┴─────────────┴─────────┴───────────────┴──────────┘
//! ```
//!
//! Keeps the fullest zspages, cuts the last of them at a slot, and evacuates all later slots. The
//! unit of gain is therefore a frame, not a zspage. A plan is a mark on each zspage that objects
//! are taken from: compaction moves away the slots from there on.

use super::policy::ReclaimScope;
use crate::class::{Class, PartialZspage};
use crate::collections::fallible::try_with_capacity;
use crate::geometry::size_class::ClassIndex;
use crate::pool::PoolCore;

/// The marks of one round. They are removed when it is dropped.
#[derive(Debug)]
pub(super) struct CompactionPlan<'a> {
    pool: &'a PoolCore,
    /// Zspages that are evacuated, from a slot on or (isolated) whole.
    pub(super) sources: Vec<MarkedZspage>,
    /// Objects that lie in the marked slots.
    pub(super) objects: usize,
    /// The budget ended the plan.
    pub(super) cut_short: bool,
}

/// A marked zspage.
#[derive(Debug)]
pub(super) struct MarkedZspage {
    pub(super) class: ClassIndex,
    pub(super) zspage: u32,
    pub(super) isolated: bool,
}

impl<'a> CompactionPlan<'a> {
    /// Returns a plan without marks.
    pub(super) fn new(pool: &'a PoolCore) -> CompactionPlan<'a> {
        CompactionPlan { pool, sources: Vec::new(), objects: 0, cut_short: false }
    }

    /// Adds what packs `class` to the front, or in the scope of the surplus, into the frames of its
    /// recent peak. Marks no further zspage once the plan has `limit` objects, so it may exceed the
    /// limit by those of one zspage.
    pub(super) fn pack(&mut self, class: &Class, scope: ReclaimScope, limit: usize) {
        let classes = self.pool.classes();
        let members = classes
            .locked(class, |state| if scope.frames_of(state) > 0 { state.zspages() } else { 0 });
        if members == 0 {
            return;
        }
        // Allocated outside the lock. Without memory for the copy, the class stays as it is.
        let Some(mut partial) = try_with_capacity::<PartialZspage>(members) else { return };
        let extra = classes.locked(class, |state| {
            partial.extend(state.partial_zspages().take(members));
            match scope {
                ReclaimScope::All => 0,
                ReclaimScope::Surplus => state.peak() - state.objects(),
            }
        });
        let slot_map = classes.slot_map(class.index());
        let per_zspage = usize::from(slot_map.slots);
        // The fullest first.
        partial.sort_unstable_by(|a, b| b.cmp(a));
        // As if there were as many objects as at the peak.
        let inuse = partial.iter().map(|zspage| usize::from(zspage.inuse));
        let objects = inuse.sum::<usize>() + extra;
        let kept = objects.div_ceil(per_zspage);
        if kept > partial.len() {
            return;
        }
        for &PartialZspage { inuse, id } in partial[kept..].iter().rev() {
            if self.is_full(limit) {
                return;
            }
            self.cut_short |= self.objects + usize::from(inuse) > limit;
            self.mark(class, id, 0);
        }
        if let Some(last) = kept.checked_sub(1).and_then(|at| partial.get(at))
            && !self.is_full(limit)
        {
            let frames = slot_map.frames_needed(objects - (kept - 1) * per_zspage);
            self.mark(class, last.id, slot_map.slots_within(frames));
        }
    }

    pub(super) fn is_full(&mut self, limit: usize) -> bool {
        self.cut_short |= self.objects >= limit;
        self.objects >= limit
    }

    /// Marks the slots of a zspage from `first` on. Returns `false` if there is no object in them,
    /// if another thread works on the zspage, or if the heap refuses.
    pub(super) fn mark(&mut self, class: &Class, id: u32, first: u16) -> bool {
        // Before there is a mark that has to be remembered.
        if self.sources.try_reserve(1).is_err() {
            return false;
        }
        let zspage = self.pool.zspages().existing(id);
        let count = self.pool.classes().locked(class, |state| {
            let Some(local) = state.local_of(zspage, id) else { return 0 };
            if state.is_isolated(local) {
                return 0;
            }
            let count = state.count_claimed_from(local, first);
            if count > 0 {
                zspage.evacuate_from(Some(first));
                if first == 0 {
                    state.isolate(local);
                }
            }
            count
        });
        if count > 0 {
            self.objects += count;
            self.sources.push(MarkedZspage {
                class: class.index(),
                zspage: id,
                isolated: first == 0,
            });
        }
        count > 0
    }
}

impl Drop for CompactionPlan<'_> {
    /// Removes all marks, and lets each isolated zspage rejoin its class.
    fn drop(&mut self) {
        let (classes, zspages) = (self.pool.classes(), self.pool.zspages());
        for source in self.sources.drain(..) {
            let zspage = zspages.existing(source.zspage);
            classes.locked(classes.get(source.class), |state| {
                // It may have been released since.
                let Some(local) = state.local_of(zspage, source.zspage) else { return };
                zspage.evacuate_from(None);
                if source.isolated {
                    state.rejoin(local);
                }
            });
        }
    }
}
