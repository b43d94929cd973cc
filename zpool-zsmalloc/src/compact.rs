//! Compaction: in rounds, each of which plans, finds the handles of what it moves, moves, and gives back what became empty.
//!
//! ```text
//!   plan ── marks on zspages ──► one walk over the handle table ──► handles of marked objects, by class ──► relocate each ──► unmark
//! ```
//!
//! Zspages do not know the handles of their objects: a reverse table would be 4 bytes of metadata more an object, all the time, for something that
//! is needed now and then. The walk holds no lock and its length is that of the table, whatever the budget: a call that finds nothing to move takes about 1 ms
//! in a pool of 97 000 objects, all its walks over classes and handles included.

use core::cmp::Reverse;

use zpool_core::internal::sync::atomic::{AtomicBool, Ordering};
use zpool_core::{CompactionBudget, CompactionReport, might_block};

use crate::class::ClassIndex;
use crate::class_state::Claimed;
use crate::few::{boxed_defaults, with_room};
use crate::inner::{Class, Inner};
use crate::memory::Charged;
use crate::merge::ROUNDS;
use crate::plan::Plan;
use crate::relocate::Outcome;
use crate::slot::{Location, Peeked};

/// Of all objects, a round moves one in so many at most: it keeps where they are, 12 bytes each, on the heap of whoever compacts, whose allocator may keep that
/// for good. A walk over the handle table looks at so many for each that is moved.
const ROUND_SHARE: usize = 32;

/// Objects that a round may move in any case, and the most that it ever does.
const ROUND: core::ops::RangeInclusive<usize> = 256..=4096;

/// Compaction charges a frame before it can empty another, so a pool at its limit goes over it by
/// so much: by these bytes, or with long objects by twice the frames that one may lie in.
const AHEAD_BYTES: usize = 128 << 10;

impl Inner {
    /// See `ZPool::compact`.
    pub(crate) fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        might_block("Zsmalloc::compact");
        self.compact_as(budget, Thorough::Yes)
    }

    /// Compaction by our own job is not thorough: what merging saves a pool that is in use, its next objects take back; and so they do with frames that were needed
    /// a moment ago.
    pub(crate) fn compact_as(
        &self,
        budget: CompactionBudget,
        thorough: Thorough,
    ) -> CompactionReport {
        let Some(_only) = Only::begin(&self.compacting) else { return CompactionReport::default() };
        let frame_size = self.source.frame_size();
        let mut run = Run {
            pool: self,
            thorough,
            left: budget.max_moves,
            charged: 0,
            ahead: 0,
            report: CompactionReport::default(),
        };
        self.take_back_spares(None);
        run.report.estimated_bytes = self.estimate() * frame_size;
        run.give_back(self.existing_classes());
        for _ in 0..ROUNDS {
            run.pack();
            // Merging may leave the last object of a class across two frames, so it is followed by another packing.
            if thorough == Thorough::No || run.report.exhausted || !run.merge_tails() {
                break;
            }
        }
        self.estimate();
        run.report.freed_bytes = run.report.freed_bytes.saturating_sub(run.charged * frame_size);
        run.report
    }

    /// Frames that compaction charges at most before it gives some back: see [`AHEAD_BYTES`].
    fn charge_ahead(&self) -> usize {
        (AHEAD_BYTES / self.source.frame_size()).max(2 * self.longest_in_frames())
    }

    /// Frames that the longest object may lie in.
    fn longest_in_frames(&self) -> usize {
        self.table.config().max_object_len.div_ceil(self.source.frame_size()) + 1
    }

    /// Objects that a round moves at most.
    pub(crate) fn round(&self) -> usize {
        (self.handles.used() / ROUND_SHARE).clamp(*ROUND.start(), *ROUND.end())
    }
}

/// Does compaction also empty last frames into larger classes, and give back what was needed only just now?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thorough {
    Yes,
    No,
}

/// The right to compact, which one thread at a time has. A flag rather than a lock: the page source is called meanwhile.
struct Only<'a>(&'a AtomicBool);

impl<'a> Only<'a> {
    fn begin(flag: &'a AtomicBool) -> Option<Only<'a>> {
        // Acquire: pairs with the Release in `drop`, so that the marks of the compaction before are seen to be gone.
        // Made only if it is ours: the drop of another would end the compaction that goes on.
        (!flag.swap(true, Ordering::Acquire)).then(|| Only(flag))
    }
}

impl Drop for Only<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// One call of `compact`.
pub(crate) struct Run<'a> {
    pub(crate) pool: &'a Inner,
    pub(crate) thorough: Thorough,
    /// Moves left.
    pub(crate) left: usize,
    /// Frames charged on the way.
    pub(crate) charged: usize,
    /// Frames charged in this round for which none was returned yet.
    pub(crate) ahead: usize,
    pub(crate) report: CompactionReport,
}

/// An object that lies in a marked slot, as a walk over the handle table saw it. In the order of moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Marked {
    pub(crate) zspage: u32,
    /// Its slot of the zspage: from the last one down.
    pub(crate) object: Reverse<u16>,
    /// What its slot is longer than the object.
    pub(crate) slack: u16,
    /// Its handle's slot.
    pub(crate) index: u32,
}
const _: () =
    assert!(size_of::<Marked>() == 12, "counts into what a process holds after it has compacted");

impl Run<'_> {
    /// Packs every class to the front.
    fn pack(&mut self) {
        loop {
            let mut plan = Plan::new(self.pool);
            for class in self.pool.existing_classes() {
                plan.pack(class, self.thorough, self.round_limit());
            }
            let cut_short = plan.cut_short;
            let moved = self.carry_out(plan, Run::move_to_gaps);
            self.report.exhausted = cut_short && self.is_over();
            if moved == 0 || !cut_short || self.is_over() {
                return;
            }
        }
    }

    /// Moves marked objects to gaps of their classes, and gives back what that leaves empty before
    /// too much is charged ahead.
    fn move_to_gaps(&mut self, plan: &Plan<'_>, marked: &[Marked]) {
        let (most, longest) = (self.pool.charge_ahead(), self.pool.longest_in_frames());
        // Where the zspages begin that were not given back from yet, the present one included.
        let (mut begun, mut stuck) = (0, false);
        for (at, object) in marked.iter().enumerate() {
            if self.is_over() {
                return;
            }
            if self.ahead + longest > most && !stuck {
                // Once it is to no avail, since objects are pinned or the system keeps the frames,
                // it stays so.
                stuck = self.catch_up(plan, &marked[begun..at]) == 0;
                begun = marked[..at]
                    .iter()
                    .rposition(|other| other.zspage != object.zspage)
                    .map_or(0, |at| at + 1);
            }
            let (pool, before) = (self.pool, self.charged);
            let (charged, room) = (&mut self.charged, most.saturating_sub(self.ahead));
            let claim = |class, len| {
                claim_gap(pool, pool.class(class), len, room, charged)
                    .map(|claimed| (class, claimed))
            };
            let outcome = pool.relocate(object.index, claim);
            self.ahead += self.charged - before;
            self.note(outcome);
        }
    }

    /// Returns the hollow frames of the zspages that these objects have left. Returns how many.
    fn catch_up(&mut self, plan: &Plan<'_>, left: &[Marked]) -> usize {
        let zspages = left.chunk_by(|a, b| a.zspage == b.zspage).filter_map(|of_one| {
            let source = plan.sources.iter().find(|source| source.zspage == of_one[0].zspage)?;
            Some((source.zspage, source.isolated))
        });
        let freed = self.pool.discard_evacuated(zspages);
        self.report.freed_bytes += freed * self.pool.source.frame_size();
        self.ahead = self.ahead.saturating_sub(freed);
        freed
    }

    /// Finds the handles of what the plan has marked, lets `work` move them, and takes the marks
    /// away. Returns how many objects moved. Without memory for the handles it moves nothing.
    pub(crate) fn carry_out(
        &mut self,
        plan: Plan<'_>,
        work: impl FnOnce(&mut Self, &Plan<'_>, &[Marked]),
    ) -> usize {
        let before = self.report.moved_objects;
        let classes = with_room(plan.sources.len()).map(|mut classes: Vec<ClassIndex>| {
            classes.extend(plan.sources.iter().map(|source| source.class));
            classes.dedup();
            classes
        });
        if plan.objects > 0
            && let Some(marked) = self.marked(&plan)
        {
            work(self, &plan, &marked);
        }
        drop(plan);
        match classes {
            Some(classes) => self.give_back(classes.iter().map(|&class| self.pool.class(class))),
            None => self.give_back(self.pool.existing_classes()),
        }
        self.ahead = 0;
        self.report.moved_objects - before
    }

    /// Objects that a round may move.
    pub(crate) fn round_limit(&self) -> usize {
        self.left.min(self.pool.round())
    }

    /// Are there no moves left?
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Keeps the report.
    pub(crate) fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Moved => {
                self.report.moved_objects += 1;
                self.left -= 1;
            }
            Outcome::Pinned => self.report.pinned_objects += 1,
            Outcome::Gone | Outcome::NoPlace => {}
        }
    }

    /// Gives back what is empty now in these classes.
    fn give_back<'c>(&mut self, classes: impl Iterator<Item = &'c Class> + Clone) {
        let (pool, thorough) = (self.pool, self.thorough);
        let empty = pool.release_unneeded_zspages(classes.clone(), thorough);
        let hollow = pool.discard_hollow_frames(classes, thorough);
        self.report.freed_bytes += (empty + hollow) * pool.source.frame_size();
    }

    /// The objects that lie in marked slots, zspage by zspage. `None` if the heap refuses.
    fn marked(&self, plan: &Plan<'_>) -> Option<Vec<Marked>> {
        let pool = self.pool;
        let mut found = with_room(plan.objects)?;
        // Most objects are in zspages without a mark: a bit is found faster than an entry.
        let last = plan.sources.iter().map(|source| source.zspage).max().unwrap_or(0);
        let mut touched = boxed_defaults::<u64>(last as usize / 64 + 1)?;
        for source in &plan.sources {
            touched[source.zspage as usize / 64] |= 1 << (source.zspage % 64);
        }
        for (index, slot) in pool.handles.iter() {
            let Peeked::Live { content, .. } = slot.peek() else { continue };
            let (Location { zspage, object }, slack) = pool.layout.unpack(content);
            if touched.get(zspage as usize / 64).is_none_or(|word| word >> (zspage % 64) & 1 == 0) {
                continue;
            }
            // A guess: `relocate` looks again once it has pinned the object.
            let entry = pool.zspages.get(zspage);
            // There may be more than were counted: inserts go on.
            if found.len() < found.capacity()
                && entry.is_some_and(|entry| entry.is_evacuated(object))
            {
                let slack = u16::try_from(slack).unwrap_or(u16::MAX);
                found.push(Marked { zspage, object: Reverse(object), slack, index });
            }
        }
        found.sort_unstable();
        Some(found)
    }
}

/// Claims a slot for an object of `len` bytes in a gap of `class`, charging up to `room` frames
/// where that is not resident; they are added to `charged`.
fn claim_gap(
    pool: &Inner,
    class: &Class,
    len: u32,
    room: usize,
    charged: &mut usize,
) -> Option<Claimed> {
    let evacuated =
        |id, object| pool.zspages.get(id).is_none_or(|zspage| zspage.is_evacuated(object));
    let mut supply = Charged::none(&*pool.source);
    loop {
        let had = *supply.credit();
        match pool.locked(class, |state| state.claim_gap(len, supply.credit(), evacuated)) {
            Ok(claimed) => {
                *charged += had - *supply.credit();
                return claimed;
            }
            Err(frames) if frames > room => return None,
            Err(frames) => supply.fill_up(frames).ok()?,
        }
    }
}
