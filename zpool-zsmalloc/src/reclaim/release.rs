//! Giving memory back: empty zspages whole, and frames that are empty inside zspages that are not.
//!
//! Both take what they give back out of reach under the class's lock, a bounded number at a time, and call the page source outside.

use zpool_core::might_block;
use zpool_core::page::Run;

use crate::class::fullness::Group::Empty;
use crate::class::state::{ClassState, MemberStorage, Occupancy};
use crate::collections::fallible::InlineList;
use crate::geometry::size_class::ClassIndex;
use crate::pool::core::{Class, PoolCore};
use crate::reclaim::compact::ReclaimScope;
use crate::zspage::memory::{ChargedFrames, OwnedRun, discard_all, release_all};

/// Zspages handled under one hold of a class's lock, and given back by one call.
const BATCH: usize = 32;

impl PoolCore {
    /// See `ZPool::trim`.
    pub(crate) fn trim(&self) -> usize {
        might_block("Zsmalloc::trim");
        // A job of our own that runs meanwhile has taken out what we do not see, and will not see what we free: so once more, and when we return
        // the books are right. Twice at most: a pool that is in use is never done.
        let before = self.jobs_run();
        let freed = self.trim_once();
        if self.jobs_run() == before {
            return freed;
        }
        let rest = self.trim_once();
        self.jobs_run();
        freed + rest
    }

    fn trim_once(&self) -> usize {
        self.drain_magazines(None);
        let hollow = self.discard_empty_frames(self.existing_classes(), ReclaimScope::All);
        let frames = hollow + self.release_empty_zspages(0);
        self.existing_classes().for_each(|class| self.shrink_storage(class));
        self.counters.metadata_changed(self.shared_pins.trim(), 0);
        self.estimate();
        frames * self.source.frame_size()
    }

    /// Gives back all empty zspages but `keep` a class, 0 or 1. Returns frames that were resident.
    pub(crate) fn release_empty_zspages(&self, keep: usize) -> usize {
        self.release_empty(self.existing_classes(), |state| match keep {
            0 => state.head(Empty),
            _ => state.head(Empty).and_then(|kept| state.next(kept)),
        })
    }

    /// Gives back empty zspages that their classes have not needed of late, or all. Returns frames that were resident.
    pub(crate) fn release_unneeded_zspages<'c>(
        &self,
        classes: impl Iterator<Item = &'c Class>,
        scope: ReclaimScope,
    ) -> usize {
        self.release_empty(classes, |state| {
            let needless = |&local: &u32| {
                let frames = state.member(local).resident.count_ones() as usize;
                scope == ReclaimScope::All || frames <= self.surplus_of(state, scope)
            };
            state.head(Empty).filter(needless)
        })
    }

    /// Gives back empty zspages as long as `surplus` names one of a class: [`BATCH`] by one call of the source, of whatever classes. Returns frames that were resident.
    fn release_empty<'c>(
        &self,
        classes: impl Iterator<Item = &'c Class>,
        surplus: impl Fn(&ClassState) -> Option<u32>,
    ) -> usize {
        let mut gone = RemovedZspages { pool: self, zspages: InlineList::new(), resident: 0 };
        let mut frames = 0;
        for class in classes {
            while self.locked(class, |state| gone.remove(class, state, &surplus)) {
                frames += gone.release();
            }
        }
        frames + gone.release()
    }

    /// Gives back frames that are resident although no object lies in them, where their zspage is not empty: many by one call of the source. If it is not to be
    /// thorough, only as many as the class has not needed of late. Returns how many.
    pub(crate) fn discard_empty_frames<'c>(
        &self,
        classes: impl Iterator<Item = &'c Class>,
        scope: ReclaimScope,
    ) -> usize {
        let mut hollow = EmptyFrames { pool: self, scope, zspages: InlineList::new(), of_class: 0 };
        let mut total = 0;
        for class in classes {
            hollow.of_class = 0;
            let mut cursor = 0;
            while self.locked(class, |state| hollow.isolate(class, state, &mut cursor)) {
                total += hollow.give_back();
            }
        }
        total + hollow.give_back()
    }

    /// Returns the hollow frames of zspages that compaction is evacuating, isolated or not,
    /// before it has done with them: of each the id, and whether it has isolated it. Returns how
    /// many.
    pub(crate) fn discard_evacuated(&self, zspages: impl Iterator<Item = (u32, bool)>) -> usize {
        let mut hollow = EmptyFrames {
            pool: self,
            scope: ReclaimScope::All,
            zspages: InlineList::new(),
            of_class: 0,
        };
        let mut total = 0;
        for (id, isolated) in zspages {
            let Some(entry) = self.zspages.get(id) else { continue };
            let class = self.class(entry.class());
            self.locked(class, |state| {
                let local = entry.local();
                // Another thread may have isolated it, for the same frames.
                let ours = |member: &Occupancy| member.id == id && member.isolated == isolated;
                if state.members().get(local as usize).is_some_and(ours) {
                    hollow.add(class, state, local, state.empty_frames(local));
                }
            });
            if hollow.zspages.is_full() {
                total += hollow.give_back();
            }
        }
        total + hollow.give_back()
    }

    /// Gives back most of the room of a class that has shrunk.
    fn shrink_storage(&self, class: &Class) {
        let Some((slot_map, members)) = self.locked(class, |state| state.excess_storage()) else {
            return;
        };
        // Without memory for the smaller room, the larger one stays.
        let Some(new) = MemberStorage::with_capacity(&slot_map, members) else { return };
        let new_bytes = new.bytes();
        let old = self.locked(class, |state| state.refit(new));
        self.counters.metadata_changed(old.bytes(), new_bytes);
    }

    /// Releases everything, objects and all, without a heap call. Only when nothing uses the pool
    /// any more.
    pub(crate) fn tear_down(&self) {
        let mut charged = ChargedFrames::none(&*self.source);
        let runs = self.existing_classes().flat_map(|class| {
            let len = usize::from(self.table.get(class.index).frames) * self.source.frame_size();
            let state = self
                .locked(class, |state| core::mem::replace(state, ClassState::new(state.slot_map)));
            *charged.credit() += state.resident();
            (0..state.members().len() as u32).map(move |local| {
                let zspage =
                    self.zspages.get(state.member(local).id).expect("a member's entry exists");
                // SAFETY: `take_out` (1): no handle, guard or job reaches the pool any more, and
                // the state was taken out above; (2): as computed from its class.
                unsafe { zspage.take_out(len, &self.source) }
            })
        });
        release_all(&self.source, runs.filter_map(OwnedRun::into_run));
    }
}

/// Zspages of any classes that were removed, up to [`BATCH`], and their frames that are resident.
///
/// When the source panics, they are off the books, as they would be if it had not: what memory it has not taken back by then is its own loss.
struct RemovedZspages<'a> {
    pool: &'a PoolCore,
    zspages: InlineList<(ClassIndex, u32), BATCH>,
    resident: usize,
}

impl RemovedZspages<'_> {
    /// Removes empty zspages of a class as long as `surplus` names one. True: the batch is full, go on with this class.
    fn remove(
        &mut self,
        class: &Class,
        state: &mut ClassState,
        surplus: impl Fn(&ClassState) -> Option<u32>,
    ) -> bool {
        while !self.zspages.is_full() {
            let Some(local) = surplus(state) else {
                self.pool.note_gain(state);
                return false;
            };
            let (id, frames) = state.remove(local, &self.pool.zspages);
            self.zspages.push((class.index, id));
            self.resident += frames;
        }
        self.pool.note_gain(state);
        true
    }

    /// Gives them back. Returns frames that were resident.
    fn release(&mut self) -> usize {
        let pool = self.pool;
        if self.zspages.is_empty() {
            return 0;
        }
        let resident = core::mem::take(&mut self.resident);
        let charged = ChargedFrames::taken_out(&*pool.source, resident);
        let take_out = |&(class, id): &(ClassIndex, u32)| -> OwnedRun {
            let zspage = pool.zspages.get(id).expect("it was a member");
            let len = usize::from(pool.table.get(class).frames) * pool.source.frame_size();
            // SAFETY: `take_out` (1): removed while empty, once; (2): as computed from its class.
            unsafe { zspage.take_out(len, &pool.source) }
        };
        // All of them before the source is called, which may panic.
        let mut runs = InlineList::<Run, BATCH>::new();
        while let Some(gone) = self.zspages.pop() {
            take_out(&gone).into_run().into_iter().for_each(|run| runs.push(run));
            pool.zspages.put(gone.1);
        }
        release_all(&pool.source, core::iter::from_fn(|| runs.pop()));
        drop(charged);
        resident
    }
}

/// Isolated zspages with the frames of theirs that are hollow. Those that are left when it is dropped keep their frames: the source has panicked.
struct EmptyFrames<'a> {
    pool: &'a PoolCore,
    scope: ReclaimScope,
    zspages: InlineList<WithEmptyFrames, BATCH>,
    /// Frames among them that belong to the class that is looked at: still counted as resident there.
    of_class: usize,
}

#[derive(Debug, Clone, Copy)]
struct WithEmptyFrames {
    class: ClassIndex,
    id: u32,
    /// The hollow frames.
    frames: u64,
    /// Compaction has isolated it and goes on with it.
    stays_isolated: bool,
}

impl EmptyFrames<'_> {
    /// Isolates zspages from `cursor` on that have hollow frames. True: the batch is full, go on from there.
    fn isolate(&mut self, class: &Class, state: &mut ClassState, cursor: &mut u32) -> bool {
        while (*cursor as usize) < state.members().len() {
            if self.zspages.is_full() {
                return true;
            }
            let local = *cursor;
            *cursor += 1;
            let member = state.member(local);
            // The empty ones are given back whole.
            if member.inuse == 0 || member.isolated {
                continue;
            }
            let hollow = match self.scope {
                ReclaimScope::All => state.empty_frames(local),
                ReclaimScope::Surplus => {
                    let surplus = self
                        .pool
                        .surplus_of(state, ReclaimScope::Surplus)
                        .saturating_sub(self.of_class);
                    if surplus == 0 {
                        return false;
                    }
                    last_bits(state.empty_frames(local), surplus)
                }
            };
            self.add(class, state, local, hollow);
        }
        false
    }

    /// Isolates a zspage for the sake of some frames that are hollow.
    fn add(&mut self, class: &Class, state: &mut ClassState, local: u32, frames: u64) {
        if frames == 0 {
            return;
        }
        self.of_class += frames.count_ones() as usize;
        let (id, stays_isolated) = (state.member(local).id, state.member(local).isolated);
        if !stays_isolated {
            state.isolate(local);
        }
        self.zspages.push(WithEmptyFrames { class: class.index, id, frames, stays_isolated });
    }

    /// Returns the frames, and strikes off those that the system took. Returns how many.
    fn give_back(&mut self) -> usize {
        let pool = self.pool;
        if self.zspages.is_empty() {
            return 0;
        }
        let zspages = self.zspages.iter().map(|hollow| {
            let len = usize::from(pool.table.get(hollow.class).frames) * pool.source.frame_size();
            let zspage = pool.zspages.get(hollow.id).expect("an isolated zspage stays");
            (zspage, len, hollow.frames)
        });
        let mut kept = [0u64; BATCH];
        // SAFETY: `discard_all` (1): isolated by `add`, and no claimed slot reached into these
        // frames then; (2): as computed from their classes.
        unsafe {
            discard_all(&pool.source, zspages, |nth, frames| {
                kept[nth] |= frames.fold(0, |mask, frame| mask | 1 << frame);
            });
        }
        for (hollow, kept) in self.zspages.iter_mut().zip(kept) {
            hollow.frames &= !kept;
        }
        let mut total = 0;
        self.of_class = 0;
        while let Some(hollow) = self.zspages.pop() {
            self.rejoin(hollow);
            let count = hollow.frames.count_ones() as usize;
            drop(ChargedFrames::taken_out(&*pool.source, count));
            total += count;
        }
        total
    }

    /// Strikes the frames of a zspage off, and ends its isolation.
    fn rejoin(&self, hollow: WithEmptyFrames) {
        let local = || self.pool.zspages.get(hollow.id).expect("an isolated zspage stays").local();
        self.pool.locked(self.pool.class(hollow.class), |state| {
            state.mark_absent(local(), hollow.frames);
            if !hollow.stays_isolated {
                state.rejoin(local());
            }
            self.pool.note_gain(state);
        });
    }
}

/// The highest bits of `mask`, `count` at most.
fn last_bits(mut mask: u64, count: usize) -> u64 {
    while mask.count_ones() as usize > count {
        mask &= mask - 1;
    }
    mask
}

impl Drop for EmptyFrames<'_> {
    fn drop(&mut self) {
        while let Some(hollow) = self.zspages.pop() {
            self.rejoin(WithEmptyFrames { frames: 0, ..hollow });
        }
    }
}
