//! Bulk operations: many objects in one call, and a pool with all its objects.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zpool_core::page::{FaultPlan, ObservedSource, PageSource};
use zpool_core::{Handle, NoBlock};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, assert_contents, fresh_source};
use crate::rng::SplitMix;

/// L1, F1, F2: objects freed by `free_many` are gone, whatever the length of the iterator and the
/// order of its handles. Objects under guards stay until the guards are dropped.
pub fn many_objects_are_freed_at_once(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xB01C);
    for count in [0, 1, 2, 63, 64, 65, 127, 128, 129, scaled(1500)] {
        let mut live = shuffled(&harness, count + 10, &mut rng);
        let going = live.split_off(10);
        let ids: Vec<_> = going.iter().map(|object| object.handle.id()).collect();
        let held: Vec<_> = going
            .iter()
            .step_by(7)
            .map(|object| (object.fill, object.len, harness.guard(object)))
            .collect();
        let zombies = (held.len(), held.iter().map(|(_, len, _)| len).sum());
        let refused = harness.pool.free_many(&mut going.into_iter().map(|object| object.handle));
        assert_eq!(refused, 0, "L1: handles of live objects that could not be freed");
        harness.balance_with_zombies(&live, zombies.0, zombies.1);
        for id in ids {
            assert!(
                harness.pool.read(&id.forge()).is_err(),
                "F1: a read of an object that was freed"
            );
        }
        for (fill, len, guard) in held {
            assert_contents(&guard, fill, len);
        }
        harness.balance(&live);
        harness.free_all_checked(live);
    }
    harness.assert_releases_all_frames();
}

/// L2: foreign and stale handles are counted, and all others are freed, wherever they stand.
pub fn free_many_counts_what_it_refuses(maker: &PoolMaker) {
    let (harness, other) = (PoolHarness::new(maker), PoolHarness::new(maker));
    let mut rng = SplitMix::new(0xB02C);
    let (mut handles, mut stale, mut foreign) = (Vec::new(), 0, Vec::new());
    for StoredObject { handle, fill, .. } in shuffled(&harness, scaled(400), &mut rng) {
        let id = handle.id();
        handles.push(handle);
        if fill % 3 == 0 {
            // A second handle of one name. Either may free the object first.
            handles.push(id.forge());
            stale += 1;
        }
        if fill % 5 == 0 {
            let theirs = other.put(fill, 1);
            handles.push(theirs.handle.id().forge());
            foreign.push(theirs);
        }
    }
    let refused = harness.pool.free_many(&mut handles.into_iter());
    assert_eq!(
        refused,
        stale + foreign.len(),
        "L2: {stale} stale and {} foreign handles",
        foreign.len()
    );
    harness.assert_releases_all_frames();
    other.finish(foreign);
}

/// L1: if the iterator panics, all objects that it yielded before are freed.
pub fn free_many_frees_what_came_before_a_panic(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xB03C);
    for after in [0, 1, 70, scaled(300)] {
        let mut live = shuffled(&harness, after + 5, &mut rng);
        let left = live.split_off(after);
        let mut going = live.into_iter();
        let mut handles = std::iter::from_fn(|| {
            Some(going.next().expect("a planned panic of the iterator").handle)
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| harness.pool.free_many(&mut handles)));
        assert!(outcome.is_err(), "the panic of the iterator was lost");
        harness.balance(&left);
        harness.free_all_checked(left);
    }
    harness.assert_releases_all_frames();
}

/// L3: it works in a no-block section without memory, and the iterator may read, free, and free
/// many.
pub fn free_many_never_blocks(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xB04C);
    let live = shuffled(&harness, scaled(600), &mut rng);
    let mut others = shuffled(&harness, scaled(600), &mut rng);
    harness.source.plan(FaultPlan::From(0));
    {
        let _section = NoBlock::enter();
        let mut handles = live.into_iter().map(|object| {
            harness.check(&object);
            if let Some(StoredObject { handle, .. }) = others.pop() {
                harness.pool.free(handle).expect("L3: a free while many are freed");
            }
            if let Some(StoredObject { handle, .. }) = others.pop() {
                assert_eq!(
                    harness.pool.free_many(&mut std::iter::once(handle)),
                    0,
                    "L3: within itself"
                );
            }
            object.handle
        });
        assert_eq!(harness.pool.free_many(&mut handles), 0, "L3: handles that could not be freed");
    }
    harness.source.plan(FaultPlan::Never);
    harness.free_all_checked(others);
    harness.assert_releases_all_frames();
}

/// L3, F5: it makes no heap call.
pub fn free_many_makes_no_heap_call(maker: &PoolMaker) {
    let heap_calls = maker.heap_calls.as_ref().expect("the suite's line has a counter");
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xB05C);
    let mut handles: Vec<_> =
        shuffled(&harness, scaled(600), &mut rng).into_iter().map(|o| o.handle).collect();
    handles.push(handles[0].id().forge());
    let before = heap_calls();
    let refused = harness.pool.free_many(&mut handles.drain(..));
    assert_eq!(heap_calls() - before, 0, "L3: heap calls");
    assert_eq!(refused, 1, "L2: one handle came twice");
    harness.assert_releases_all_frames();
}

/// G1, G2: although handles and guards are leaked, dropping the pool releases all frames, with at
/// most 8 more calls of its page source than it had frames.
pub fn dropping_a_pool_drops_its_objects(maker: &PoolMaker) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let source = Arc::new(ObservedSource::new(fresh_source(), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    let harness = PoolHarness::over(maker, source);
    for fill in 0..scaled(3000) as u64 {
        let len = if fill % 20 == 0 { harness.max() } else { 8.min(harness.max()) };
        let object = harness.put(fill, len);
        match fill % 4 {
            0 => forget(harness.guard(&object)),
            1 => {
                forget(harness.guard(&object));
                harness.pool.free(object.handle).expect("F2: a free under a guard");
                continue;
            }
            2 if fill % 3 == 0 => {
                harness.free_checked(object);
                continue;
            }
            _ => {}
        }
        // Leaked on purpose.
        let _: Handle = object.handle;
    }
    let PoolHarness { pool, source, .. } = harness;
    let (frames, before) = (source.charged_frames(), calls.load(Ordering::Relaxed));
    drop(pool);
    let after = calls.load(Ordering::Relaxed);
    assert_eq!(source.charged_frames(), 0, "G2: frames charged after the pool was dropped");
    assert!(
        after - before <= frames + 8,
        "G2: {} calls of the page source for {frames} frames",
        after - before
    );
}

/// Stores objects of all lengths, in an order unrelated to that of their inserts.
fn shuffled(harness: &PoolHarness<'_>, count: usize, rng: &mut SplitMix) -> Vec<StoredObject> {
    let mut live: Vec<_> =
        (0..count as u64).map(|fill| harness.put(fill, harness.len(rng))).collect();
    for at in (1..live.len()).rev() {
        live.swap(at, rng.below(at + 1));
    }
    live
}
