//! Pages are emptied with the help of the objects' owner.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool_core::page::PageSource;
use zpool_core::{Evict, HandleId, NotEvicted, PoolError, ZPool};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, assert_contents};
use crate::rng::SplitMix;

/// An owner of objects, which it finds by the names that a pool asks for.
pub(super) struct Owner<'a> {
    pub(super) pool: &'a dyn ZPool,
    pub(super) objects: HashMap<HandleId, StoredObject>,
    pub(super) asked: Vec<HandleId>,
}

impl<'a> Owner<'a> {
    pub(super) fn of(harness: &'a PoolHarness<'_>, objects: Vec<StoredObject>) -> Owner<'a> {
        let objects = objects.into_iter().map(|object| (object.handle.id(), object)).collect();
        Owner { pool: &*harness.pool, objects, asked: Vec::new() }
    }

    /// Notes the request and frees the object.
    pub(super) fn give_up(&mut self, id: HandleId) {
        self.asked.push(id);
        let object = self
            .objects
            .remove(&id)
            .unwrap_or_else(|| panic!("E1: asked for {id:?}, which is not live"));
        self.pool.free(object.handle).unwrap_or_else(|e| panic!("E1: {e}"));
    }

    pub(super) fn left(self) -> Vec<StoredObject> {
        self.objects.into_values().collect()
    }
}

/// An owner, with its reaction to a request.
pub(super) struct EvictWith<'o, 'a, F>(pub(super) &'o mut Owner<'a>, pub(super) F);

impl<'a, F: FnMut(&mut Owner<'a>, HandleId) -> Result<(), NotEvicted>> Evict
    for EvictWith<'_, 'a, F>
{
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
        (self.1)(self.0, id)
    }
}

pub(super) fn agree(owner: &mut Owner<'_>, id: HandleId) -> Result<(), NotEvicted> {
    owner.give_up(id);
    Ok(())
}

fn refuse(owner: &mut Owner<'_>, id: HandleId) -> Result<(), NotEvicted> {
    owner.asked.push(id);
    Err(NotEvicted)
}

pub(super) fn filled(harness: &PoolHarness<'_>, n: usize) -> Vec<StoredObject> {
    let mut rng = SplitMix::new(0x2EC1A13);
    (0..scaled(n) as u64).map(|fill| harness.put(fill, harness.len(&mut rng))).collect()
}

/// E3: the error names the missing capability, and no object is asked for.
pub fn a_pool_that_cannot_reclaim_says_so(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, filled(&harness, 20));
    let error = harness.pool.reclaim(1, &mut EvictWith(&mut owner, agree)).expect_err("E3");
    assert_eq!((error.error, error.report.pages), (PoolError::Unsupported("reclaim"), 0), "E3");
    assert_eq!(owner.asked, [], "E3: objects that their owner was asked for");
    harness.balance(&owner.left());
}

/// E1, E2: if the owner gives up all objects it is asked for, it gets the pages it wants, and their
/// frames are uncharged at once. The other objects stay whole.
pub fn reclaim_releases_the_pages_it_reports(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let objects = filled(&harness, 300);
    harness.pool.trim();
    let mut owner = Owner::of(&harness, objects);
    for pages in [1, 1, 2, 5, 13] {
        let before = harness.source.charged_frames();
        let report = harness
            .pool
            .reclaim(pages, &mut EvictWith(&mut owner, agree))
            .expect("E2: there are pages left");
        assert!(report.pages >= pages, "E2: {report:?} for {pages} pages");
        let given = before - harness.source.charged_frames();
        assert!(given >= report.pages, "E2: {given} frames went back, {report:?}");
    }
    // The oldest first: no object of the newest 1/10 was asked for.
    let newest = scaled(300) as u64 * 9 / 10;
    assert!(
        owner.objects.values().filter(|o| o.fill >= newest).count() as u64
            >= scaled(300) as u64 - newest
    );
    let everything = harness
        .pool
        .reclaim(usize::MAX, &mut EvictWith(&mut owner, agree))
        .expect_err("E2: fewer pages than requested are left");
    assert!(everything.report.pages > 0 && owner.objects.is_empty(), "E2: {everything:?}");
    assert_eq!(everything.error, PoolError::NothingToReclaim, "E3: all pages were released");
    assert_eq!(
        harness.source.charged_frames(),
        0,
        "E2: {everything:?}, and frames without objects are left"
    );
    harness.assert_releases_all_frames();
}

/// E2: if no page is asked for or there is none, no object is asked for.
pub fn reclaim_of_nothing_asks_no_owner(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, Vec::new());
    let error = harness
        .pool
        .reclaim(1, &mut EvictWith(&mut owner, agree))
        .expect_err("E2: an empty pool has no page to give");
    assert_eq!((error.error, error.report.pages), (PoolError::NothingToReclaim, 0), "E2, E3");
    let mut owner = Owner::of(&harness, filled(&harness, 10));
    assert_eq!(
        harness
            .pool
            .reclaim(0, &mut EvictWith(&mut owner, agree))
            .expect("E2: no page was wanted")
            .pages,
        0
    );
    assert_eq!(owner.asked, [], "E2");
    harness.balance(&owner.left());
}

/// E1, E2 (B41: a retry worked on the page before): if an owner refuses some pages, nothing of them
/// is lost and others are tried. If it refuses all, the call ends.
pub fn b41_an_owner_that_keeps_some_loses_nothing(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, filled(&harness, 200));
    let error = harness
        .pool
        .reclaim(3, &mut EvictWith(&mut owner, refuse))
        .expect_err("E2: nothing was given up");
    assert_eq!(
        (&error.error, error.report.pages),
        (&PoolError::NothingToReclaim, 0),
        "E2, E3: {error:?}"
    );
    assert!(!owner.asked.is_empty(), "E1: the owner was not asked");
    // The first request is refused, so another page is tried.
    let mut first = true;
    let after_the_first = |owner: &mut Owner<'_>, id| {
        if std::mem::take(&mut first) { refuse(owner, id) } else { agree(owner, id) }
    };
    let report = harness
        .pool
        .reclaim(1, &mut EvictWith(&mut owner, after_the_first))
        .expect("E1: there are others");
    assert!(report.pages >= 1, "E2: {report:?}");
    let mut round = 0;
    let every_third = |owner: &mut Owner<'_>, id| {
        round += 1;
        if round % 3 == 0 { agree(owner, id) } else { refuse(owner, id) }
    };
    let before = harness.source.charged_frames();
    let report = match harness.pool.reclaim(20, &mut EvictWith(&mut owner, every_third)) {
        Ok(report) => report,
        Err(error) => error.report,
    };
    harness.pool.validate().unwrap_or_else(|violation| panic!("V1: {violation}"));
    assert!(before - harness.source.charged_frames() >= report.pages, "E2: {report:?}");
    harness.finish(owner.left());
}

/// E2 (B43): an owner that agrees and frees nothing is detected, and the call ends.
pub fn b43_reclaim_lying_owner_ends(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, filled(&harness, 50));
    let lie = |owner: &mut Owner<'_>, id| {
        owner.asked.push(id);
        Ok(())
    };
    let before = harness.source.charged_frames();
    let error = harness
        .pool
        .reclaim(2, &mut EvictWith(&mut owner, lie))
        .expect_err("E2: nothing was freed");
    assert_eq!(error.report.pages, 0, "E2: {error:?}");
    assert!(!owner.asked.is_empty(), "E1: the owner was not asked");
    let left = owner.left();
    assert_eq!(harness.source.charged_frames(), before, "E2: frames that hold live objects");
    harness.balance(&left);
    harness.free_all_checked(left);
}

/// E1, E4 (B43): what the owner inserts while it is asked goes to another page and stays.
pub fn b43_owner_may_insert_during_eviction(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    // Small enough for the hole, if the page were not isolated.
    swap_during_eviction(&harness, filled(&harness, 100), 1);
    let harness = PoolHarness::new(maker);
    let len = harness.max() / 2;
    // As long as the object that leaves, with all other pages full.
    swap_during_eviction(&harness, (0..100).map(|fill| harness.put(fill, len)).collect(), len);
}

/// The owner gives up each object and stores another of `len` bytes.
fn swap_during_eviction(harness: &PoolHarness<'_>, objects: Vec<StoredObject>, len: usize) {
    let mut owner = Owner::of(harness, objects);
    let mut fresh = Vec::new();
    let swap = |owner: &mut Owner<'_>, id| {
        owner.give_up(id);
        fresh.push(harness.put(10_000 + fresh.len() as u64, len));
        Ok(())
    };
    let report = harness
        .pool
        .reclaim(5, &mut EvictWith(&mut owner, swap))
        .expect("E2: pages that were emptied");
    assert!(report.pages >= 5, "E2: {report:?}");
    fresh.extend(owner.left());
    harness.finish(fresh);
}

/// E1, E2 (B42: a thread dropped the last reference under locks; B17: a freed object's slot was
/// read after its choice): whatever the owner frees while it is asked, the pool keeps its
/// accounting right and asks for what is left.
pub fn b42_objects_freed_by_others_during_eviction(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, filled(&harness, 120));
    let mut rng = SplitMix::new(42);
    let free_many = |owner: &mut Owner<'_>, id: HandleId| {
        // This callback may have freed it, and an unknown id is not an error.
        let mut ids: Vec<_> = owner.objects.keys().copied().collect();
        ids.sort_unstable();
        for _ in 0..3.min(ids.len()) {
            let other = ids.swap_remove(rng.below(ids.len()));
            let object = owner.objects.remove(&other).expect("it was listed");
            owner.pool.free(object.handle).expect("F1");
        }
        if owner.objects.contains_key(&id) {
            owner.give_up(id);
        }
        Ok(())
    };
    let outcome = harness.pool.reclaim(10, &mut EvictWith(&mut owner, free_many));
    assert!(outcome.is_ok() || owner.objects.is_empty(), "E2: {outcome:?} with objects left");
    harness.finish(owner.left());
}

/// E1: a panic of the owner propagates, and the pool keeps all its objects.
pub fn an_owner_that_panics_leaves_the_pool_whole(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, filled(&harness, 60));
    for free_first in [false, true] {
        let burst = |owner: &mut Owner<'_>, id| {
            if free_first {
                owner.give_up(id);
            }
            panic!("on purpose")
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            harness.pool.reclaim(1, &mut EvictWith(&mut owner, burst))
        }));
        assert!(outcome.is_err(), "E1: the owner was not asked, or its panic was swallowed");
        harness.pool.validate().unwrap_or_else(|violation| panic!("V1: {violation}"));
    }
    let report = harness
        .pool
        .reclaim(2, &mut EvictWith(&mut owner, agree))
        .expect("E2: the pages are still there");
    assert!(report.pages >= 2, "E2: {report:?}");
    harness.finish(owner.left());
}

/// E2, R1: a page with an object under a guard is not released before the guard is dropped, and not
/// reported. Whether its owner is asked for it is the pool's choice.
pub fn a_held_object_keeps_its_page(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let first = harness.put(1, harness.max().min(983));
    let (fill, len, guard) = (first.fill, first.len, harness.guard(&first));
    let mut owner = Owner::of(&harness, vec![first]);
    let before = harness.source.charged_frames();
    let outcome = harness.pool.reclaim(1, &mut EvictWith(&mut owner, agree));
    // A guard that is a copy keeps nothing.
    if !maker.copies() {
        let error = outcome.expect_err("E2: the only page is held");
        assert_eq!(error.report.pages, 0, "E2: {error:?}");
        assert_eq!(harness.source.charged_frames(), before, "E2: frames under a guard");
    }
    assert_contents(&guard, fill, len);
    let left = owner.left();
    let zombies = 1 - left.len();
    harness.balance_with_zombies(&left, zombies, zombies * len);
    drop(guard);
    harness.finish(left);
}
