//! Release: empty zspages go back whole, and empty frames inside zspages that are in use.
//!
//! Both remove or isolate a bounded number of zspages under the class's lock, and then call the
//! page source without it.

use zpool_core::might_block;
use zpool_core::page::Run;

use super::policy::ReclaimScope;
use super::reclaimer::Reclaimer;
use crate::class::{Class, ClassState, MemberStorage};
use crate::collections::fallible::InlineList;
use crate::geometry::size_class::ClassIndex;
use crate::pool::PoolCore;
use crate::zspage::OwnedRun;

/// Zspages handled under one hold of a class's lock, and released by one call of the source.
const BATCH: usize = 32;

impl Reclaimer {
    /// See `ZPool::trim`.
    pub(crate) fn trim(&self) -> usize {
        might_block("Zsmalloc::trim");
        // A job that runs meanwhile has isolated what this thread does not see, and does not see
        // what this thread frees. So trim once more, and the statistics are exact afterwards. Twice
        // at most: a pool in use is never done.
        let jobs = self.pool.jobs();
        let before = jobs.wait_for_runs();
        let freed = trim_once(&self.pool);
        if jobs.wait_for_runs() == before {
            return freed;
        }
        let rest = trim_once(&self.pool);
        jobs.wait_for_runs();
        freed + rest
    }
}

fn trim_once(pool: &PoolCore) -> usize {
    let classes = pool.classes();
    pool.drain_magazines(None);
    let discarded = discard_empty_frames(pool, classes.iter(), ReclaimScope::All);
    let frames = discarded + release_empty_zspages(pool, 0);
    classes.iter().for_each(|class| shrink_storage(pool, class));
    pool.handles().trim();
    classes.estimate();
    frames * pool.zspages().frame_size()
}

/// Shrinks the storage of a class that has lost most of its zspages.
fn shrink_storage(pool: &PoolCore, class: &Class) {
    let classes = pool.classes();
    let Some(members) = classes.locked(class, |state| state.excess_storage()) else { return };
    let slot_map = classes.slot_map(class.index());
    // Without memory for the smaller storage, the larger one stays.
    let Some(new) = MemberStorage::with_capacity(&slot_map, members) else { return };
    let new_bytes = new.bytes();
    let old = classes.locked(class, |state| state.refit(new));
    classes.metadata_changed(old.bytes(), new_bytes);
}

/// Releases all empty zspages but the first `keep` of each class. Returns frames that were
/// resident.
pub(super) fn release_empty_zspages(pool: &PoolCore, keep: usize) -> usize {
    release_zspages(pool, pool.classes().iter(), |state| state.nth_empty(keep))
}

/// Releases empty zspages of these classes, as far as they are in this scope. Returns frames that
/// were resident.
pub(super) fn release_unneeded_zspages<'c>(
    pool: &PoolCore,
    classes: impl Iterator<Item = &'c Class>,
    scope: ReclaimScope,
) -> usize {
    release_zspages(pool, classes, |state| {
        let unneeded = |&local: &u32| match scope {
            ReclaimScope::All => true,
            ReclaimScope::Surplus => state.resident_of(local) <= scope.frames_of(state),
        };
        state.nth_empty(0).filter(unneeded)
    })
}

/// Releases empty zspages as long as `choose` names one of a class: [`BATCH`] of any classes by one
/// call of the source. Returns frames that were resident.
fn release_zspages<'c>(
    pool: &PoolCore,
    classes: impl Iterator<Item = &'c Class>,
    choose: impl Fn(&ClassState) -> Option<u32>,
) -> usize {
    let mut removed = RemovedZspages { pool, ids: InlineList::new(), resident: 0 };
    let mut frames = 0;
    for class in classes {
        while removed.fill_from(class, &choose) {
            frames += removed.release();
        }
    }
    frames + removed.release()
}

/// Discards empty frames of zspages that are not empty: many by one call of the source, as far as
/// they are in this scope. Returns how many.
pub(super) fn discard_empty_frames<'c>(
    pool: &PoolCore,
    classes: impl Iterator<Item = &'c Class>,
    scope: ReclaimScope,
) -> usize {
    let mut empty = EmptyFrames::new(pool, scope);
    let mut total = 0;
    for class in classes {
        empty.of_class = 0;
        let mut cursor = 0;
        while empty.fill_from(class, &mut cursor) {
            total += empty.discard();
        }
    }
    total + empty.discard()
}

/// Discards the empty frames of zspages that compaction is still evacuating: of each the id, and
/// whether compaction has isolated it. Returns how many.
pub(super) fn discard_evacuated(
    pool: &PoolCore,
    zspages: impl Iterator<Item = (u32, bool)>,
) -> usize {
    let mut empty = EmptyFrames::new(pool, ReclaimScope::All);
    let mut total = 0;
    for (id, isolated) in zspages {
        let Some(zspage) = pool.zspages().get(id) else { continue };
        let class = pool.classes().get(zspage.class());
        pool.classes().locked(class, |state| {
            // Another thread may have isolated it, for the same frames.
            let ours = |&local: &u32| state.is_isolated(local) == isolated;
            if let Some(local) = state.local_of(zspage, id).filter(ours) {
                empty.add(class, state, local, state.empty_frames(local));
            }
        });
        if empty.zspages.is_full() {
            total += empty.discard();
        }
    }
    total + empty.discard()
}

/// Releases everything, live objects included, without a heap call. The caller is the last user of
/// the pool.
pub(super) fn tear_down(pool: &PoolCore) {
    let (classes, zspages) = (pool.classes(), pool.zspages());
    let mut charged = zspages.uncounted(0);
    let runs = classes.iter().flat_map(|class| {
        let state = classes.locked(class, ClassState::take);
        *charged.credit() += state.resident();
        // SAFETY: `take_out` (1): no handle, guard or job reaches the pool any more, and the state
        // was taken out above.
        state.into_ids().map(|id| unsafe { zspages.take_out(id) })
    });
    zspages.release_all(runs.filter_map(OwnedRun::into_run));
}

/// Zspages of any classes that were removed, up to [`BATCH`], and their resident frames.
///
/// If the source panics, their frames are uncharged all the same. The source leaks the memory that
/// it has not taken back by then.
struct RemovedZspages<'a> {
    pool: &'a PoolCore,
    ids: InlineList<u32, BATCH>,
    resident: usize,
}

impl RemovedZspages<'_> {
    /// Removes empty zspages of a class as long as `choose` names one. Returns whether the batch is
    /// full, so that there may be more in this class.
    fn fill_from(&mut self, class: &Class, choose: &impl Fn(&ClassState) -> Option<u32>) -> bool {
        self.pool.classes().locked_and_estimated(class, |state| {
            while !self.ids.is_full() {
                let Some(local) = choose(state) else { return false };
                let (id, frames) = state.remove(local, self.pool.zspages());
                self.ids.push(id);
                self.resident += frames;
            }
            true
        })
    }

    /// Releases them. Returns frames that were resident.
    fn release(&mut self) -> usize {
        let zspages = self.pool.zspages();
        if self.ids.is_empty() {
            return 0;
        }
        let resident = core::mem::take(&mut self.resident);
        let charged = zspages.uncounted(resident);
        // All of them before the source is called, which may panic.
        let mut runs = InlineList::<Run, BATCH>::new();
        while let Some(id) = self.ids.pop() {
            // SAFETY: `remove` (1): removed while empty, once.
            let run = unsafe { zspages.remove(id) };
            run.into_run().into_iter().for_each(|run| runs.push(run));
        }
        zspages.release_all(core::iter::from_fn(|| runs.pop()));
        drop(charged);
        resident
    }
}

/// Isolated zspages, each with its empty frames. If the source panics, those that are left keep
/// their frames.
struct EmptyFrames<'a> {
    pool: &'a PoolCore,
    scope: ReclaimScope,
    zspages: InlineList<IsolatedZspage, BATCH>,
    /// Frames among them of the current class, which still counts them as resident.
    of_class: usize,
}

#[derive(Debug, Clone, Copy)]
struct IsolatedZspage {
    class: ClassIndex,
    id: u32,
    /// The empty frames.
    frames: u64,
    /// Whether compaction has isolated it and continues with it.
    stays_isolated: bool,
}

impl<'a> EmptyFrames<'a> {
    fn new(pool: &'a PoolCore, scope: ReclaimScope) -> EmptyFrames<'a> {
        EmptyFrames { pool, scope, zspages: InlineList::new(), of_class: 0 }
    }

    /// Isolates zspages from `cursor` on that have empty frames. Returns whether the batch is full,
    /// so that there may be more from there on.
    fn fill_from(&mut self, class: &Class, cursor: &mut u32) -> bool {
        self.pool.classes().locked(class, |state| {
            while (*cursor as usize) < state.zspages() {
                if self.zspages.is_full() {
                    return true;
                }
                let local = *cursor;
                *cursor += 1;
                // Empty zspages are released whole.
                if state.is_empty_or_isolated(local) {
                    continue;
                }
                let frames = match self.scope {
                    ReclaimScope::All => state.empty_frames(local),
                    ReclaimScope::Surplus => {
                        let surplus = state.surplus().saturating_sub(self.of_class);
                        if surplus == 0 {
                            return false;
                        }
                        highest_bits(state.empty_frames(local), surplus)
                    }
                };
                self.add(class, state, local, frames);
            }
            false
        })
    }

    /// Isolates a zspage for the sake of some empty frames.
    fn add(&mut self, class: &Class, state: &mut ClassState, local: u32, frames: u64) {
        if frames == 0 {
            return;
        }
        self.of_class += frames.count_ones() as usize;
        let (id, stays_isolated) = (state.id(local), state.is_isolated(local));
        if !stays_isolated {
            state.isolate(local);
        }
        self.zspages.push(IsolatedZspage { class: class.index(), id, frames, stays_isolated });
    }

    /// Discards the frames, and marks those absent that the system took. Returns how many.
    fn discard(&mut self) -> usize {
        let zspages = self.pool.zspages();
        if self.zspages.is_empty() {
            return 0;
        }
        let frames = self.zspages.iter().map(|zspage| (zspage.id, zspage.frames));
        let mut kept = [0u64; BATCH];
        // SAFETY: `discard` (1): isolated by `add`, and no claimed slot reached into these frames
        // then.
        unsafe {
            zspages.discard(frames, |nth, frames| {
                kept[nth] |= frames.fold(0, |mask, frame| mask | 1 << frame);
            });
        }
        for (zspage, kept) in self.zspages.iter_mut().zip(kept) {
            zspage.frames &= !kept;
        }
        let mut total = 0;
        self.of_class = 0;
        while let Some(zspage) = self.zspages.pop() {
            self.rejoin(zspage);
            let count = zspage.frames.count_ones() as usize;
            drop(zspages.uncounted(count));
            total += count;
        }
        total
    }

    /// Marks the frames of a zspage absent, and ends its isolation.
    fn rejoin(&self, IsolatedZspage { class, id, frames, stays_isolated }: IsolatedZspage) {
        let (classes, zspage) = (self.pool.classes(), self.pool.zspages().existing(id));
        classes.locked_and_estimated(classes.get(class), |state| {
            // Under the lock: the index may have changed.
            let local = zspage.local();
            state.mark_absent(local, frames);
            if !stays_isolated {
                state.rejoin(local);
            }
        });
    }
}

/// Returns the highest bits of `mask`, at most `count`.
fn highest_bits(mut mask: u64, count: usize) -> u64 {
    while mask.count_ones() as usize > count {
        mask &= mask - 1;
    }
    mask
}

impl Drop for EmptyFrames<'_> {
    fn drop(&mut self) {
        while let Some(zspage) = self.zspages.pop() {
            self.rejoin(IsolatedZspage { frames: 0, ..zspage });
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_core::page::{HeapSource, PageSource};
    use zpool_core::{PoolConfig, PoolError};

    use super::*;
    use crate::geometry::size_class::{ClassConfig, ClassTable};

    /// Storage shrinks once more than a fifth of it is unused, not for the spare of a full class.
    #[test]
    fn storage_shrinks_only_if_much_is_unused() {
        let config = PoolConfig::new(Arc::new(HeapSource::new(4096)), 4096);
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        let pool = PoolCore::new(&config, table, 0);
        let mut handles: Vec<_> = (0..100).map(|_| pool.insert(&[1; 4096]).unwrap()).collect();
        let class = pool.classes().existing(pool.table().class_of(4096)).unwrap();
        let excess = || pool.classes().locked(class, |state| state.excess_storage());
        assert_eq!(excess(), None);
        handles.drain(10..).for_each(|handle| pool.free(handle).unwrap());
        pool.drain_magazines(None);
        assert!(release_empty_zspages(&pool, 0) >= 90);
        assert_eq!(excess(), Some(10));
        shrink_storage(&pool, class);
        assert_eq!(excess(), None);
        pool.validate().unwrap();
    }

    /// At the limit of zspages an insert that needs one more says so, leaves nothing behind, and
    /// succeeds again once one is free. Objects that fit into existing zspages are not affected.
    #[test]
    fn insert_beyond_the_last_zspage_is_an_error() {
        let source = Arc::new(HeapSource::new(4096));
        let config = PoolConfig::new(source.clone(), 4096);
        let table = Arc::new(ClassTable::new(ClassConfig::new(4096, 4096)).unwrap());
        let reclaimer = Reclaimer::of(PoolCore::with_zspage_limit(&config, table, 0, 3), false);
        let pool = reclaimer.pool();
        let small = pool.insert(&[1; 100]).unwrap();
        let pages = [pool.insert(&[2; 4096]).unwrap(), pool.insert(&[3; 4096]).unwrap()];
        let charged = source.charged_frames();
        for _ in 0..3 {
            assert_eq!(pool.insert(&[4; 4096]).err(), Some(PoolError::TooManyPages));
        }
        assert_eq!(source.charged_frames(), charged);
        pool.free(pool.insert(&[5; 100]).unwrap()).unwrap();
        let [first, second] = pages;
        pool.free(first).unwrap();
        reclaimer.trim();
        let again = pool.insert(&[6; 4096]).unwrap();
        pool.validate().unwrap();
        for handle in [small, second, again] {
            pool.free(handle).unwrap();
        }
        reclaimer.trim();
        assert_eq!(source.charged_frames(), 0);
    }
}
