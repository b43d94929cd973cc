//! Giving memory back: empty zspages whole, and frames that are empty inside zspages that are not.
//!
//! Both take what they give back out of reach under the class's lock, a bounded number at a time, and call the page source outside.

use zpool_core::might_block;

use crate::class::ClassIndex;
use crate::class_state::{ClassState, Room};
use crate::compact::Thorough;
use crate::fullness::Group::Empty;
use crate::inner::{Class, Inner};
use crate::memory::{Charged, OwnedRun, discard_all, release_all};
use crate::shape::runs;

/// Zspages handled under one hold of a class's lock, and given back by one call.
const BATCH: usize = 32;

impl Inner {
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
        self.take_back_spares(None);
        let hollow = self.discard_hollow_frames(self.existing_classes(), Thorough::Yes);
        let frames = hollow + self.release_empty_zspages(0);
        self.existing_classes().for_each(|class| self.fit_room(class));
        self.counters.metadata_changed(self.overflow.trim(), 0);
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
        thorough: Thorough,
    ) -> usize {
        self.release_empty(classes, |state| {
            let needless = |&local: &u32| {
                let frames = state.member(local).resident.count_ones() as usize;
                thorough == Thorough::Yes || frames <= self.surplus_of(state, thorough)
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
        // Space made outside the locks.
        let mut gone = Gone { pool: self, zspages: Vec::with_capacity(BATCH), resident: 0 };
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
    pub(crate) fn discard_hollow_frames<'c>(
        &self,
        classes: impl Iterator<Item = &'c Class>,
        thorough: Thorough,
    ) -> usize {
        let mut hollow = Hollow { pool: self, thorough, zspages: Vec::with_capacity(BATCH), of_class: 0 };
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

    /// Gives back most of the room of a class that has shrunk.
    fn fit_room(&self, class: &Class) {
        let Some((shape, members)) = self.locked(class, |state| state.spare_room()) else { return };
        let new = Room::with_capacity(&shape, members);
        let new_bytes = new.bytes();
        let old = self.locked(class, |state| state.refit(new));
        self.counters.metadata_changed(old.bytes(), new_bytes);
    }

    /// Gives back everything, objects and all. Only when nobody uses the pool any more.
    pub(crate) fn tear_down(&self) {
        let mut runs = Vec::new();
        let mut charged = Charged::none(&*self.source);
        for class in self.existing_classes() {
            let len = usize::from(self.table.get(class.index).frames) * self.source.frame_size();
            self.locked(class, |state| {
                for member in state.members() {
                    let zspage = self.zspages.get(member.id).expect("a member's entry exists");
                    // SAFETY: `take_out` (1): no handle, guard or job reaches the pool any more, and the state is cleared below;
                    // (2): as computed from its class.
                    runs.push(unsafe { zspage.take_out(len, &self.source) });
                }
                *charged.credit() += state.resident();
                *state = ClassState::new(state.shape);
            });
        }
        release_all(&self.source, runs);
    }
}

/// Zspages of any classes that were removed, up to [`BATCH`], and their frames that are resident.
///
/// When the source panics, they are off the books, as they would be if it had not: what memory it has not taken back by then is its own loss.
struct Gone<'a> {
    pool: &'a Inner,
    zspages: Vec<(ClassIndex, u32)>,
    resident: usize,
}

impl Gone<'_> {
    /// Removes empty zspages of a class as long as `surplus` names one. True: the batch is full, go on with this class.
    fn remove(
        &mut self,
        class: &Class,
        state: &mut ClassState,
        surplus: impl Fn(&ClassState) -> Option<u32>,
    ) -> bool {
        while self.zspages.len() < BATCH {
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
        let resident = core::mem::take(&mut self.resident);
        let charged = Charged::taken_out(&*pool.source, resident);
        let take_out = |&(class, id): &(ClassIndex, u32)| -> OwnedRun {
            let zspage = pool.zspages.get(id).expect("it was a member");
            let len = usize::from(pool.table.get(class).frames) * pool.source.frame_size();
            // SAFETY: `take_out` (1): removed while empty, once; (2): as computed from its class.
            unsafe { zspage.take_out(len, &pool.source) }
        };
        let owned = self.zspages.iter().map(take_out).collect();
        for (_, id) in self.zspages.drain(..) {
            pool.zspages.put(id);
        }
        release_all(&pool.source, owned);
        drop(charged);
        resident
    }
}

/// Isolated zspages with the frames of theirs that are hollow. Those that are left when it is dropped keep their frames: the source has panicked.
struct Hollow<'a> {
    pool: &'a Inner,
    thorough: Thorough,
    zspages: Vec<(ClassIndex, u32, u64)>,
    /// Frames among them that belong to the class that is looked at: still counted as resident there.
    of_class: usize,
}

impl Hollow<'_> {
    /// Isolates zspages from `cursor` on that have hollow frames. True: the batch is full, go on from there.
    fn isolate(&mut self, class: &Class, state: &mut ClassState, cursor: &mut u32) -> bool {
        while (*cursor as usize) < state.members().len() {
            if self.zspages.len() == BATCH {
                return true;
            }
            let local = *cursor;
            *cursor += 1;
            let member = state.member(local);
            // The empty ones are given back whole.
            if member.inuse == 0 || member.isolated {
                continue;
            }
            let id = member.id;
            let hollow = match self.thorough {
                Thorough::Yes => state.hollow(local),
                Thorough::No => {
                    let surplus = self.pool.surplus_of(state, Thorough::No).saturating_sub(self.of_class);
                    if surplus == 0 {
                        return false;
                    }
                    last_bits(state.hollow(local), surplus)
                }
            };
            if hollow != 0 {
                self.of_class += hollow.count_ones() as usize;
                state.isolate(local);
                self.zspages.push((class.index, id, hollow));
            }
        }
        false
    }

    /// Gives the frames back and strikes them off. Returns how many.
    fn give_back(&mut self) -> usize {
        let pool = self.pool;
        if self.zspages.is_empty() {
            return 0;
        }
        let frames = self.zspages.iter().flat_map(|&(class, id, frames)| {
            let len = usize::from(pool.table.get(class).frames) * pool.source.frame_size();
            let zspage = pool.zspages.get(id).expect("an isolated zspage stays");
            runs(frames).map(move |run| (zspage, len, run.start as usize..run.end as usize))
        });
        // SAFETY: `discard_all` (1): isolated by `isolate`, and no claimed slot reached into these frames then; (2): as computed from their classes.
        let mut entries = unsafe { discard_all(&pool.source, frames) };
        let mut total = 0;
        self.of_class = 0;
        while let Some((class, id, mut frames)) = self.zspages.pop() {
            // Entries stand in the order of the zspages. What the system kept stays resident and on the books.
            for _ in runs(frames) {
                let entry = entries.pop().expect("an entry for each range");
                if !entry.is_given_back() {
                    frames &= entry.frames().fold(!0, |mask, frame| mask & !(1 << frame));
                }
            }
            self.rejoin(class, id, frames);
            let count = frames.count_ones() as usize;
            drop(Charged::taken_out(&*pool.source, count));
            total += count;
        }
        total
    }

    fn rejoin(&self, class: ClassIndex, id: u32, gone: u64) {
        let local = || self.pool.zspages.get(id).expect("an isolated zspage stays").local();
        self.pool.locked(self.pool.class(class), |state| {
            state.strike(local(), gone);
            state.rejoin(local());
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

impl Drop for Hollow<'_> {
    fn drop(&mut self) {
        while let Some((class, id, _)) = self.zspages.pop() {
            self.rejoin(class, id, 0);
        }
    }
}
