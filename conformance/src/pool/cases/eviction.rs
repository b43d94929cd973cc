//! Owners that act while a reclaim asks them, and other threads meanwhile.

use std::collections::HashMap;
use std::thread;

use zpool_core::internal::sync::Mutex;
use zpool_core::page::PageSource;
use zpool_core::{CompactionBudget, Evict, HandleId, NotEvicted, PoolError};

use super::reclaim::{EvictWith, Owner, agree, filled};
use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, assert_contents};
use crate::rng::SplitMix;

/// E2, F2: an owner may read what it gives up and keep the guard, for instance to write it
/// elsewhere. The reclaim does not wait, and the page stays and is not reported.
pub fn an_object_given_up_under_a_guard_keeps_its_page(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let len = harness.max().min(983);
    let mut owner = Owner::of(&harness, vec![harness.put(1, len)]);
    let mut kept = Vec::new();
    let read_and_free = |owner: &mut Owner<'_>, id: HandleId| {
        kept.push(harness.guard(&owner.objects[&id]));
        owner.give_up(id);
        Ok(())
    };
    let outcome = harness.pool.reclaim(1, &mut EvictWith(&mut owner, read_and_free));
    assert_eq!(kept.len(), 1, "E1: asked once for the only object");
    // A pool that hands out copies has released the page.
    let pages = outcome.map_or_else(|error| error.report.pages, |report| report.pages);
    assert_eq!(pages == 0, !maker.copies(), "E2: {pages} pages, under a guard");
    for guard in &kept {
        assert_contents(guard, 1, len);
    }
    harness.balance_with_zombies(&[], 1, len);
    drop(kept);
    harness.assert_releases_all_frames();
}

/// E1 (B42, B43): the owner waits while another thread frees the object it is asked for and its
/// neighbours. If the pool held a lock here, this would hang. The pages are still released.
pub fn b42_another_thread_frees_during_eviction(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, filled(&harness, 120));
    let elsewhere = |owner: &mut Owner<'_>, id: HandleId| {
        owner.asked.push(id);
        // The object and the next three by age, which probably include the page's other one.
        let fill = owner.objects.get(&id).map_or(0, |object| object.fill);
        let near: Vec<_> =
            owner.objects.iter().filter(|(_, o)| (fill..fill + 4).contains(&o.fill)).collect();
        let ids: Vec<_> = near.into_iter().map(|(id, _)| *id).collect();
        let objects: Vec<_> = ids.into_iter().filter_map(|id| owner.objects.remove(&id)).collect();
        thread::scope(|scope| drop(scope.spawn(|| harness.free_all_checked(objects))));
        Ok(())
    };
    let before = harness.source.charged_frames();
    let report = harness
        .pool
        .reclaim(6, &mut EvictWith(&mut owner, elsewhere))
        .expect("E2: there are pages left");
    assert!(report.pages >= 6, "E2: {report:?}");
    assert!(before - harness.source.charged_frames() >= report.pages, "E2: {report:?}");
    harness.finish(owner.left());
}

/// E4: while it is asked, the owner may call every other method of the pool.
pub fn an_owner_may_call_every_other_method(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut owner = Owner::of(&harness, filled(&harness, 80));
    let mut fresh: Vec<StoredObject> = Vec::new();
    let busy = |owner: &mut Owner<'_>, id: HandleId| {
        harness.check(&owner.objects[&id]);
        owner.give_up(id);
        fresh.push(harness.put(20_000 + fresh.len() as u64, harness.max()));
        harness.pool.compact(CompactionBudget::UNLIMITED);
        harness.pool.trim();
        harness
            .pool
            .validate()
            .unwrap_or_else(|violation| panic!("V1: found during eviction: {violation}"));
        assert_eq!(
            harness.pool.stats().objects,
            owner.objects.len() + fresh.len(),
            "S1: objects, during eviction"
        );
        assert!(harness.pool.bytes_held() > 0 && harness.pool.capabilities().can_reclaim, "C1");
        Ok(())
    };
    let report = harness
        .pool
        .reclaim(4, &mut EvictWith(&mut owner, busy))
        .expect("E2: there are pages left");
    assert!(report.pages >= 4, "E2: {report:?}");
    fresh.extend(owner.left());
    harness.finish(fresh);
}

/// Objects that several threads own together.
type SharedObjects = Mutex<HashMap<HandleId, StoredObject>>;

/// Evicts shared objects.
struct EvictShared<'a>(&'a PoolHarness<'a>, &'a SharedObjects);

impl Evict for EvictShared<'_> {
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
        let taken = self.1.lock().remove(&id);
        // If another thread has freed it already, that is not an error.
        taken.into_iter().for_each(|object| self.0.free_checked(object));
        Ok(())
    }
}

/// Inserts an object. Holds the lock of the map meanwhile, so that no reclaim asks for an object
/// that is not in it yet.
fn put_shared(harness: &PoolHarness<'_>, shared: &SharedObjects, fill: u64, len: usize) {
    let mut shared = shared.lock();
    let object = harness.put(fill, len);
    shared.insert(object.handle.id(), object);
}

/// Frees any object, if there is one.
fn free_any_shared(harness: &PoolHarness<'_>, shared: &SharedObjects) {
    let mut shared = shared.lock();
    let id = shared.keys().next().copied();
    let object = id.and_then(|id| shared.remove(&id));
    drop(shared);
    object.into_iter().for_each(|object| harness.free_checked(object));
}

fn reclaim_often(harness: &PoolHarness<'_>, shared: &SharedObjects) {
    for _ in 0..scaled(100) {
        let outcome = harness.pool.reclaim(2, &mut EvictShared(harness, shared));
        let error = outcome.err().map(|e| e.error);
        assert!(matches!(error, None | Some(PoolError::NothingToReclaim)), "E3: {error:?}");
    }
}

fn insert_free_and_trim(harness: &PoolHarness<'_>, shared: &SharedObjects, thread: u64) {
    let mut rng = SplitMix::new(thread);
    for step in 0..scaled(600) as u64 {
        if rng.percent(60) {
            put_shared(harness, shared, thread << 32 | step, harness.len(&mut rng));
        } else {
            free_any_shared(harness, shared);
        }
        if step % 64 == 63 {
            harness.pool.trim();
        }
    }
}

/// E1, E2 (B42): reclaims race with inserts, reads, frees and trims of other threads, and with each
/// other. No object is lost or freed twice, and the accounting is right at the end.
pub fn b42_reclaims_race_with_everything(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let shared: SharedObjects = Mutex::new(HashMap::new());
    for fill in 0..scaled(200) as u64 {
        put_shared(&harness, &shared, fill, harness.len(&mut SplitMix::new(fill)));
    }
    thread::scope(|scope| {
        let (harness, shared) = (&harness, &shared);
        for thread in 1..3 {
            scope.spawn(move || reclaim_often(harness, shared));
            scope.spawn(move || insert_free_and_trim(harness, shared, thread));
        }
    });
    let left: Vec<_> = shared.into_inner().into_values().collect();
    harness.check_all(&left);
    harness.balance(&left);
    let mut owner = Owner::of(&harness, left);
    let all = harness
        .pool
        .reclaim(usize::MAX, &mut EvictWith(&mut owner, agree))
        .expect_err("E2: fewer pages than requested are left");
    assert!(
        owner.objects.is_empty(),
        "E2: {all:?}, and objects are left although no page was kept"
    );
    harness.assert_releases_all_frames();
}
