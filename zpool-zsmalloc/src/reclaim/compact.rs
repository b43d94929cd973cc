//! Compaction: in rounds, each of which plans, finds the handles of what it moves, moves, and
//! releases what became empty.
//!
//! ```text
//!   plan ── marks on zspages ──► one walk over the handle table ──► entries of marked objects,
//!                                   by zspage ──► relocate each ──► unmark
//! ```
//!
//! Zspages do not know the handles of their objects. A reverse table would be 4 bytes of metadata
//! more per object, all the time, for something that is rarely needed. The walk holds no lock, and
//! it covers the whole table, whatever the budget.

use core::cmp::Reverse;

use zpool_core::internal::sync::atomic::{AtomicBool, Ordering};
use zpool_core::{CompactionBudget, CompactionReport, might_block};

use super::merge::ROUNDS;
use super::plan::CompactionPlan;
use super::policy::ReclaimScope;
use super::reclaimer::Reclaimer;
use super::release;
use super::relocate::{MoveOutcome, relocate};
use crate::class::{ClaimedSlot, Class, ClassState};
use crate::collections::fallible::{try_boxed_defaults, try_with_capacity};
use crate::geometry::size_class::ClassIndex;
use crate::handle::Location;
use crate::handle::entry::EntrySnapshot;
use crate::pool::PoolCore;

/// A round is planned for 1/32 of all objects. It keeps 12 bytes for each on the heap, whose
/// allocator may hold on to them for good, and its walk looks at 32 entries for each move.
const ROUND_SHARE: usize = 32;

/// Bounds of that number. A round may exceed it by the objects of one zspage.
const ROUND: core::ops::RangeInclusive<usize> = 256..=4096;

/// The most bytes charged ahead: compaction charges a frame before it can empty another one, so a
/// pool at its limit exceeds it by these. With long objects it is twice the frames that one may lie
/// in.
const AHEAD_BYTES: usize = 128 << 10;

impl Reclaimer {
    /// See `ZPool::compact`.
    pub(crate) fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        might_block("Zsmalloc::compact");
        self.compact_in(budget, ReclaimScope::All)
    }

    /// Compacts what is in this scope. Returns an empty report if another thread compacts.
    pub(super) fn compact_in(
        &self,
        budget: CompactionBudget,
        scope: ReclaimScope,
    ) -> CompactionReport {
        let Some(_permit) = CompactionPermit::acquire(&self.compacting) else {
            return CompactionReport::default();
        };
        let (pool, classes) = (&self.pool, self.pool.classes());
        let frame_size = pool.zspages().frame_size();
        let mut compaction = Compaction::new(pool, scope, budget);
        pool.drain_magazines(None);
        compaction.report.estimated_bytes = classes.estimate() * frame_size;
        compaction.release(classes.iter());
        for _ in 0..ROUNDS {
            compaction.pack();
            // Merging may leave the last object of a class across two frames, so another packing
            // follows it.
            if scope == ReclaimScope::Surplus
                || compaction.report.exhausted
                || !compaction.merge_tails()
            {
                break;
            }
        }
        classes.estimate();
        let Compaction { mut report, charged, .. } = compaction;
        report.freed_bytes = report.freed_bytes.saturating_sub(charged * frame_size);
        report
    }
}

/// The right to compact, which one thread at a time has. A flag instead of a lock, because the page
/// source is called meanwhile.
struct CompactionPermit<'a>(&'a AtomicBool);

impl<'a> CompactionPermit<'a> {
    fn acquire(flag: &'a AtomicBool) -> Option<CompactionPermit<'a>> {
        // Acquire: pairs with the Release in `drop`, so that the marks of the compaction before are
        // seen to be gone. Constructed only on success: the drop of another one would end the
        // compaction that is under way.
        (!flag.swap(true, Ordering::Acquire)).then(|| CompactionPermit(flag))
    }
}

impl Drop for CompactionPermit<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// One call of `compact`.
pub(super) struct Compaction<'a> {
    pub(super) pool: &'a PoolCore,
    scope: ReclaimScope,
    /// Moves left.
    left: usize,
    /// Frames charged on the way.
    charged: usize,
    /// Frames charged in this round and not yet made up for by frames that were released.
    ahead: usize,
    pub(super) report: CompactionReport,
}

/// An object in a marked slot, as a walk over the handle table saw it. Sorted in the order of
/// moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MarkedObject {
    pub(super) zspage: u32,
    /// From the last slot down.
    pub(super) slot: Reverse<u16>,
    /// Length of the slot less that of the object.
    pub(super) slack: u16,
    /// Index of its entry.
    pub(super) index: u32,
}
const _: () = assert!(size_of::<MarkedObject>() == 12, "counts into the heap of a compaction");

impl<'a> Compaction<'a> {
    pub(super) fn new(
        pool: &'a PoolCore,
        scope: ReclaimScope,
        budget: CompactionBudget,
    ) -> Compaction<'a> {
        let report = CompactionReport::default();
        Compaction { pool, scope, left: budget.max_moves, charged: 0, ahead: 0, report }
    }

    /// Packs every class to the front.
    fn pack(&mut self) {
        loop {
            let mut plan = CompactionPlan::new(self.pool);
            let limit = self.left.min(self.round());
            for class in self.pool.classes().iter() {
                plan.pack(class, self.scope, limit);
            }
            let cut_short = plan.cut_short;
            let moved = self.carry_out(plan, Compaction::move_to_gaps);
            self.report.exhausted = cut_short && self.is_over();
            if moved == 0 || !cut_short || self.is_over() {
                return;
            }
        }
    }

    /// Moves marked objects to gaps of their classes. Releases what that leaves empty before too
    /// much is charged ahead.
    fn move_to_gaps(&mut self, plan: &CompactionPlan<'_>, marked: &[MarkedObject]) {
        let (most, longest) = (self.charge_ahead(), self.longest_in_frames());
        // Start of the zspages from which nothing was released yet, the present one included.
        let (mut begun, mut stuck) = (0, false);
        for (at, object) in marked.iter().enumerate() {
            if self.is_over() {
                return;
            }
            if self.ahead + longest > most && !stuck {
                // If this frees nothing once, because objects are pinned or the system keeps the
                // frames, it frees nothing later in this round.
                stuck = self.catch_up(plan, &marked[begun..at]) == 0;
                begun = marked[..at]
                    .iter()
                    .rposition(|other| other.zspage != object.zspage)
                    .map_or(0, |at| at + 1);
            }
            let (pool, before) = (self.pool, self.charged);
            let (charged, room) = (&mut self.charged, most.saturating_sub(self.ahead));
            let claim = |class, len| {
                claim_gap(pool, class, len, room, charged).map(|claimed| (class, claimed))
            };
            let outcome = relocate(pool, object.index, claim);
            self.ahead += self.charged - before;
            self.note(outcome);
        }
    }

    /// Discards the empty frames of the zspages that these objects have left. Returns how many.
    fn catch_up(&mut self, plan: &CompactionPlan<'_>, left: &[MarkedObject]) -> usize {
        let zspages = left.chunk_by(|a, b| a.zspage == b.zspage).filter_map(|of_one| {
            let source = plan.sources.iter().find(|source| source.zspage == of_one[0].zspage)?;
            Some((source.zspage, source.isolated))
        });
        let freed = release::discard_evacuated(self.pool, zspages);
        self.report.freed_bytes += freed * self.pool.zspages().frame_size();
        self.ahead = self.ahead.saturating_sub(freed);
        freed
    }

    /// Finds the entries of what the plan has marked, lets `work` move the objects, and removes the
    /// marks. Returns how many objects moved. Without memory for the entries it moves none.
    pub(super) fn carry_out(
        &mut self,
        plan: CompactionPlan<'_>,
        work: impl FnOnce(&mut Self, &CompactionPlan<'_>, &[MarkedObject]),
    ) -> usize {
        let before = self.report.moved_objects;
        let touched = try_with_capacity(plan.sources.len()).map(|mut touched: Vec<ClassIndex>| {
            touched.extend(plan.sources.iter().map(|source| source.class));
            touched.dedup();
            touched
        });
        if plan.objects > 0
            && let Some(marked) = self.find_marked(&plan)
        {
            work(self, &plan, &marked);
        }
        drop(plan);
        let classes = self.pool.classes();
        match touched {
            Some(touched) => self.release(touched.iter().map(|&class| classes.get(class))),
            None => self.release(classes.iter()),
        }
        self.ahead = 0;
        self.report.moved_objects - before
    }

    /// Returns whether there are no moves left.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Counts an outcome in the report.
    pub(super) fn note(&mut self, outcome: MoveOutcome) {
        match outcome {
            MoveOutcome::Moved => {
                self.report.moved_objects += 1;
                self.left -= 1;
            }
            MoveOutcome::Pinned => self.report.pinned_objects += 1,
            MoveOutcome::Gone | MoveOutcome::NoPlace => {}
        }
    }

    /// Releases what is empty now in these classes.
    fn release<'c>(&mut self, classes: impl Iterator<Item = &'c Class> + Clone) {
        let zspages = release::release_unneeded_zspages(self.pool, classes.clone(), self.scope);
        let frames = release::discard_empty_frames(self.pool, classes, self.scope);
        self.report.freed_bytes += (zspages + frames) * self.pool.zspages().frame_size();
    }

    /// Returns the objects in marked slots, by zspage, or `None` if the heap refuses.
    fn find_marked(&self, plan: &CompactionPlan<'_>) -> Option<Vec<MarkedObject>> {
        let pool = self.pool;
        let mut found = try_with_capacity(plan.objects)?;
        // Most objects are in zspages without a mark: a bit is found faster than an entry.
        let last = plan.sources.iter().map(|source| source.zspage).max().unwrap_or(0);
        let mut touched = try_boxed_defaults::<u64>(last as usize / 64 + 1)?;
        for source in &plan.sources {
            touched[source.zspage as usize / 64] |= 1 << (source.zspage % 64);
        }
        for (index, snapshot) in pool.handles().walk() {
            let EntrySnapshot::Live { location, .. } = snapshot else { continue };
            let (Location { zspage, slot }, slack) = pool.handles().unpack(location);
            if touched.get(zspage as usize / 64).is_none_or(|word| word >> (zspage % 64) & 1 == 0) {
                continue;
            }
            // A guess: `relocate` looks again once it has pinned the object.
            let marked = pool.zspages().get(zspage).is_some_and(|entry| entry.is_evacuated(slot));
            // There may be more than were counted, because inserts go on.
            if marked && found.len() < found.capacity() {
                let slack = u16::try_from(slack).unwrap_or(u16::MAX);
                found.push(MarkedObject { zspage, slot: Reverse(slot), slack, index });
            }
        }
        found.sort_unstable();
        Some(found)
    }

    /// Returns how many objects a round is planned for: see [`ROUND_SHARE`].
    pub(super) fn round(&self) -> usize {
        (self.pool.handles().used() / ROUND_SHARE).clamp(*ROUND.start(), *ROUND.end())
    }

    /// Returns how many frames are charged at most before some are released: see [`AHEAD_BYTES`].
    fn charge_ahead(&self) -> usize {
        (AHEAD_BYTES / self.pool.zspages().frame_size()).max(2 * self.longest_in_frames())
    }

    /// Returns how many frames the longest object may lie in.
    fn longest_in_frames(&self) -> usize {
        let longest = self.pool.table().config().max_object_len;
        longest.div_ceil(self.pool.zspages().frame_size()) + 1
    }
}

/// Claims a slot for an object of `len` bytes in a gap of `class`, and charges up to `room` frames
/// that are not resident there. Adds them to `charged`.
fn claim_gap(
    pool: &PoolCore,
    class: ClassIndex,
    len: u32,
    room: usize,
    charged: &mut usize,
) -> Option<ClaimedSlot> {
    let (classes, zspages) = (pool.classes(), pool.zspages());
    let class = classes.get(class);
    let evacuated = |id, slot| zspages.get(id).is_none_or(|zspage| zspage.is_evacuated(slot));
    let mut supply = zspages.no_frames();
    loop {
        let had = *supply.credit();
        let gap = |state: &mut ClassState| state.claim_gap(len, supply.credit(), evacuated);
        match classes.claim_second_slot(class, gap) {
            Ok(claimed) => {
                *charged += had - *supply.credit();
                return claimed;
            }
            Err(frames) if frames > room => return None,
            Err(frames) => supply.fill_up(frames).ok()?,
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_core::PoolConfig;
    use zpool_core::page::{HeapSource, PageSource};

    use super::*;
    use crate::geometry::size_class::{ClassConfig, ClassTable};

    /// Only a compaction of all merges last frames of classes: the pool's own job would move
    /// objects for what the next inserts take back.
    #[test]
    fn surplus_is_compacted_without_merging() {
        let source = Arc::new(HeapSource::new(4096));
        let config = PoolConfig::new(source.clone(), 4096);
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        let home = table.class_of(1200);
        let (larger, _) = table.overflow_targets(home).next().expect("there is a larger class");
        let len = table.get(larger).slot_bytes as usize;
        let reclaimer = Reclaimer::of(PoolCore::new(&config, table, 0), false);
        let pool = reclaimer.pool();
        // The short one first: otherwise it would overflow by itself.
        let short = pool.insert(&[1; 1200]).unwrap();
        let mut long: Vec<_> = (0..3).map(|_| pool.insert(&vec![2; len]).unwrap()).collect();
        pool.free(long.remove(0)).unwrap();
        pool.drain_magazines(None);
        let before = source.charged_frames();
        let surplus = reclaimer.compact_in(CompactionBudget::UNLIMITED, ReclaimScope::Surplus);
        assert_eq!((surplus.moved_objects, source.charged_frames()), (0, before));
        let all = reclaimer.compact_in(CompactionBudget::UNLIMITED, ReclaimScope::All);
        assert_eq!((all.moved_objects, source.charged_frames()), (1, before - 1));
        assert!(pool.read(&short).unwrap().iter().all(|&byte| byte == 1));
        pool.validate().unwrap();
        reclaimer.close();
    }
}
