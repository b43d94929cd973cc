//! What compaction is going to move: chosen from counts and bitmaps, before anything is touched.
//!
//! ```text
//!   the fullest, as many as are needed      the last of them        the others
//!   [####.#]   [#####.]   [###.##]          [##.#|.#....|#..]       [#.....]   [..#...]
//!        ▲          ▲         ▲                ▲     └───┬────┘          │          │
//!        └──────────┴─────────┴────────────────┴─────────┴───────────────┴──────────┘
//! ```
//!
//! So the frame is the unit of gain, not the zspage. A plan is a mark on each zspage it takes objects from: compaction moves away the slots from there on.

use crate::class::state::ClassState;
use crate::collections::fallible::try_with_capacity;
use crate::geometry::size_class::ClassIndex;
use crate::pool::core::{Class, PoolCore};
use crate::reclaim::compact::ReclaimScope;

/// The marks of one round, which are taken away when it is dropped.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pool: &'a PoolCore,
    /// Zspages that are evacuated, from a slot on or (isolated) whole.
    pub(crate) sources: Vec<Source>,
    /// Objects that lie in the marked slots.
    pub(crate) objects: usize,
    /// The budget ended the plan.
    pub(crate) cut_short: bool,
}

/// A marked zspage.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) class: ClassIndex,
    pub(crate) zspage: u32,
    pub(crate) isolated: bool,
}

impl<'a> Plan<'a> {
    /// Without marks.
    pub(crate) fn new(pool: &'a PoolCore) -> Plan<'a> {
        Plan { pool, sources: Vec::new(), objects: 0, cut_short: false }
    }

    /// Adds what packs `class` to the front, or if it is not to be thorough, to what it needed of late; moving at most `limit` objects in the whole plan.
    pub(crate) fn pack(&mut self, class: &Class, scope: ReclaimScope, limit: usize) {
        let pool = self.pool;
        let members = pool.locked(class, |state| {
            if pool.surplus_of(state, scope) > 0 { state.members().len() } else { 0 }
        });
        if members == 0 {
            return;
        }
        // Space for the copy, made outside the lock. Without memory for it, the class stays as it
        // is.
        let Some(mut partial) = try_with_capacity::<(u16, u32)>(members) else { return };
        let (per_zspage, spread) = pool.locked(class, |state| {
            let all = state
                .members()
                .iter()
                .filter(|m| !m.isolated && m.inuse > 0 && m.inuse < state.slot_map.objects);
            partial.extend(all.map(|member| (member.inuse, member.id)).take(members));
            let spread =
                if scope == ReclaimScope::All { 0 } else { state.peak() - state.objects() };
            (usize::from(state.slot_map.objects), spread)
        });
        partial.sort_unstable_by(|a, b| b.cmp(a));
        // As if there were as many as there were of late.
        let objects = partial.iter().map(|&(inuse, _)| usize::from(inuse)).sum::<usize>() + spread;
        let kept = objects.div_ceil(per_zspage);
        if kept > partial.len() {
            return;
        }
        for &(inuse, zspage) in partial[kept..].iter().rev() {
            if self.is_full(limit) {
                return;
            }
            self.cut_short |= self.objects + usize::from(inuse) > limit;
            self.mark(class, zspage, 0);
        }
        if let Some(&(_, last)) = kept.checked_sub(1).and_then(|at| partial.get(at))
            && !self.is_full(limit)
        {
            let rest = objects - (kept - 1) * per_zspage;
            let frames = pool.table.frames_needed(pool.table.get(class.index), rest);
            let first = pool.locked(class, |state| state.slot_map.slots_within(frames));
            self.mark(class, last, first);
        }
    }

    pub(crate) fn is_full(&mut self, limit: usize) -> bool {
        self.cut_short |= self.objects >= limit;
        self.objects >= limit
    }

    /// Marks the slots of a zspage from `first` on. False if there is nothing in them, if another
    /// thread is at it, or if the heap refuses.
    pub(crate) fn mark(&mut self, class: &Class, id: u32, first: u16) -> bool {
        let pool = self.pool;
        // Before there is a mark that has to be remembered.
        if self.sources.try_reserve(1).is_err() {
            return false;
        }
        let zspage = pool.zspages.get(id).expect("it was a member");
        let count = pool.locked(class, |state| {
            let local = zspage.local();
            if !is_member(state, local, id) || state.member(local).isolated {
                return 0;
            }
            let count = state.count_from(local, first);
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
            self.sources.push(Source { class: class.index, zspage: id, isolated: first == 0 });
        }
        count > 0
    }
}

impl Drop for Plan<'_> {
    /// Takes all marks away, and gives each isolated zspage back to its class.
    fn drop(&mut self) {
        let pool = self.pool;
        for source in self.sources.drain(..) {
            let zspage = pool.zspages.get(source.zspage).expect("it was a member");
            pool.locked(pool.class(source.class), |state| {
                if !is_member(state, zspage.local(), source.zspage) {
                    return;
                }
                zspage.evacuate_from(None);
                if source.isolated {
                    state.rejoin(zspage.local());
                }
            });
        }
    }
}

/// Is `local` still the index of zspage `id` in this class? It may have been given back since.
fn is_member(state: &ClassState, local: u32, id: u32) -> bool {
    state.members().get(local as usize).is_some_and(|member| member.id == id)
}
