//! Giving memory back: empty zspages whole, and frames that are empty inside zspages that are not.
//!
//! Both take what they give back out of reach under the class's lock, a bounded number at a time, and call the page source outside.

use zpool_core::might_block;

use crate::class_state::{ClassState, Room};
use crate::inner::{Class, Inner};
use crate::memory::{OwnedRun, release_all};
use crate::shape::runs;

/// Zspages handled under one hold of a class's lock.
const BATCH: usize = 32;

impl Inner {
    /// See `ZPool::trim`.
    pub(crate) fn trim(&self) -> usize {
        might_block("Zsmalloc::trim");
        let hollow: usize = self.existing_classes().map(|class| self.discard_hollow_frames(class)).sum();
        let frames = hollow + self.release_empty_zspages(0);
        self.existing_classes().for_each(|class| self.fit_room(class));
        frames * self.source.frame_size()
    }

    /// Gives back all empty zspages but `keep` a class, 0 or 1. Returns frames that were resident.
    pub(crate) fn release_empty_zspages(&self, keep: usize) -> usize {
        use crate::fullness::Group::Empty;
        let surplus = |state: &ClassState| match keep {
            0 => state.head(Empty),
            _ => state.head(Empty).and_then(|kept| state.next(kept)),
        };
        let mut frames = 0;
        let mut gone = Vec::with_capacity(BATCH);
        for class in self.existing_classes() {
            loop {
                let resident = self.locked(class, |state| {
                    let mut resident = 0;
                    while gone.len() < BATCH
                        && let Some(local) = surplus(state)
                    {
                        let (id, frames) = state.remove(local, &self.zspages);
                        gone.push(id);
                        resident += frames;
                    }
                    self.note_gain(state);
                    resident
                });
                if gone.is_empty() {
                    break;
                }
                self.release_zspages(class, &mut gone);
                self.source.uncharge(resident);
                frames += resident;
            }
        }
        frames
    }

    /// Gives back zspages that were removed from their class.
    fn release_zspages(&self, class: &Class, gone: &mut Vec<u32>) {
        let frames = usize::from(self.table.get(class.index).frames);
        let len = frames * self.source.frame_size();
        let take_out = |&id: &u32| -> OwnedRun {
            let zspage = self.zspages.get(id).expect("it was a member");
            // SAFETY: `take_out` (1): removed while empty by our caller, once; (2): as computed from its class.
            unsafe { zspage.take_out(len, &self.source) }
        };
        let owned = gone.iter().map(take_out).collect();
        for id in gone.drain(..) {
            self.zspages.put(id);
        }
        release_all(&self.source, owned);
    }

    /// Gives back the frames of a class that are resident although no object lies in them, where their zspage is not empty. Returns how many.
    pub(crate) fn discard_hollow_frames(&self, class: &Class) -> usize {
        let len = usize::from(self.table.get(class.index).frames) * self.source.frame_size();
        let (mut cursor, mut total) = (0, 0);
        let mut batch: Vec<(u32, u64)> = Vec::with_capacity(BATCH);
        loop {
            let more = self.locked(class, |state| isolate_hollow(state, &mut cursor, &mut batch));
            for &(id, frames) in &batch {
                let zspage = self.zspages.get(id).expect("an isolated zspage stays");
                for run in runs(frames) {
                    let run = run.start as usize..run.end as usize;
                    // SAFETY: `discard` (1): isolated above, and no claimed slot reached into these frames then; (2): as computed from its class.
                    unsafe { zspage.discard(len, &self.source, run) };
                }
                self.source.uncharge(frames.count_ones() as usize);
                total += frames.count_ones() as usize;
                self.locked(class, |state| {
                    state.rejoin(zspage.local());
                    self.note_gain(state);
                });
            }
            batch.clear();
            if !more {
                return total;
            }
        }
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
        let (mut runs, mut frames) = (Vec::new(), 0);
        for class in self.existing_classes() {
            let len = usize::from(self.table.get(class.index).frames) * self.source.frame_size();
            self.locked(class, |state| {
                for member in state.members() {
                    let zspage = self.zspages.get(member.id).expect("a member's entry exists");
                    // SAFETY: `take_out` (1): no handle, guard or job reaches the pool any more, and the state is cleared below;
                    // (2): as computed from its class.
                    runs.push(unsafe { zspage.take_out(len, &self.source) });
                }
                frames += state.resident;
                *state = ClassState::new(state.shape);
            });
        }
        release_all(&self.source, runs);
        self.source.uncharge(frames);
    }
}

/// Isolates zspages from `cursor` on that have hollow frames, and strikes those off. False: there are no more.
fn isolate_hollow(state: &mut ClassState, cursor: &mut u32, batch: &mut Vec<(u32, u64)>) -> bool {
    while (*cursor as usize) < state.members().len() {
        if batch.len() == BATCH {
            return true;
        }
        let local = *cursor;
        *cursor += 1;
        let member = state.member(local);
        // The empty ones are given back whole.
        if member.inuse == 0 || member.isolated {
            continue;
        }
        let (id, hollow) = (member.id, state.hollow(local));
        if hollow != 0 {
            state.isolate(local);
            state.strike(local, hollow);
            batch.push((id, hollow));
        }
    }
    false
}
