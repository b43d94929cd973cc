//! Calls that must not block, and calls that report that they may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use zpool_core::page::{FaultPlan, PageSource};
use zpool_core::{NoBlock, PoolError};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, assert_contents};
use crate::rng::SplitMix;

/// R5, F5, A3: in a no-block section without memory, objects can be read, held and freed, and
/// guards dropped. Then a trim releases the freed memory.
pub fn reading_and_freeing_never_block(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0x0B10C);
    for round in 0..3 {
        let objects: Vec<_> = (0..scaled(300) as u64)
            .map(|i| harness.put(round << 16 | i, harness.len(&mut rng)))
            .collect();
        harness.source.plan(FaultPlan::From(0));
        {
            let _section = NoBlock::enter();
            let mut held = Vec::new();
            for (i, object) in objects.into_iter().enumerate() {
                let guard = harness.guard(&object);
                if i % 2 == 0 {
                    drop(guard);
                } else {
                    held.push((object.fill, object.len, guard));
                }
                harness.pool.free(object.handle).expect("F5: a free in a no-block section");
                harness.pool.bytes_held();
            }
            for (fill, len, guard) in held {
                assert_contents(&guard, fill, len);
            }
        }
        harness.source.plan(FaultPlan::Never);
        harness.assert_releases_all_frames();
    }
}

/// F5, R5, A3: reads, frees, drops of guards and calls of `bytes_held` make no heap call, including
/// refused frees and the last guard of a freed object. This holds inside and outside of a no-block
/// section, on a thread that inserted and on a new one, with memory and without. Copies made by a
/// read do not count.
pub fn reading_and_freeing_make_no_heap_call(maker: &PoolMaker) {
    let heap_calls = maker.heap_calls.as_ref().expect("the suite's line has a counter");
    let before = heap_calls();
    let harness = PoolHarness::new(maker);
    assert!(
        heap_calls() > before,
        "the counter of the suite's line does not see this thread's heap calls"
    );
    let frees = Counter(heap_calls);
    let reads = if maker.copies() { Counter(&|| 0) } else { frees };
    let mut rng = SplitMix::new(0xA110C);
    for round in 0..3 {
        let mut objects: Vec<_> = (0..scaled(300) as u64)
            .map(|i| harness.put(round << 16 | i, harness.len(&mut rng)))
            .collect();
        let elsewhere = objects.split_off(objects.len() / 2);
        let plan = if round == 2 { FaultPlan::From(0) } else { FaultPlan::Never };
        harness.source.plan(plan);
        free_counted(&harness, objects, round > 0, (reads, frees));
        thread::scope(|scope| {
            scope.spawn(|| free_counted(&harness, elsewhere, round > 0, (reads, frees))).join()
        })
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        harness.source.plan(FaultPlan::Never);
        harness.assert_releases_all_frames();
    }
}

/// Frees every object: without a guard, under a guard that is dropped at once, and under two of
/// which one is dropped later, in rotation.
fn free_counted(
    harness: &PoolHarness<'_>,
    objects: Vec<StoredObject>,
    no_block: bool,
    (reads, frees): (Counter<'_>, Counter<'_>),
) {
    let mut held = Vec::with_capacity(objects.len());
    let _section = no_block.then(NoBlock::enter);
    for (i, StoredObject { handle, fill, len }) in objects.into_iter().enumerate() {
        let id = handle.id();
        let read =
            || harness.pool.read(&handle).unwrap_or_else(|e| panic!("read of a live object: {e}"));
        let (guard, other) = (reads.none("R5: a read", read), reads.none("R5: another read", read));
        assert_contents(&guard, fill, len);
        frees.none("R5: dropping a guard of a live object", || drop(other));
        let guard = if i % 3 == 0 {
            frees.none("R5: dropping the only guard of a live object", || drop(guard));
            None
        } else {
            Some((guard, (i % 3 == 2).then(read)))
        };
        frees.none("F5: a free", || harness.pool.free(handle)).unwrap_or_else(|e| panic!("{e}"));
        if let Some((guard, later)) = guard {
            frees.none("R5, F5: dropping a guard of a freed object", || drop(guard));
            held.extend(later.map(|later| (fill, len, later)));
        }
        frees.none("A3: a look at the bytes held", || harness.pool.bytes_held());
        let again = id.forge();
        frees.none("R5: a read of a freed object", || harness.pool.read(&again).is_err());
        let refused = frees.none("F5: a free that is refused", || harness.pool.free(again));
        assert!(refused.is_err(), "F1: a second free");
    }
    for (fill, len, guard) in held {
        assert_contents(&guard, fill, len);
        frees.none("R5, F5: dropping the last guard of a freed object", || drop(guard));
    }
}

/// Counts the heap calls of this thread.
#[derive(Clone, Copy)]
struct Counter<'a>(&'a (dyn Fn() -> u64 + Send + Sync));

impl Counter<'_> {
    /// Does `work`, which must make no heap call.
    fn none<T>(self, what: &str, work: impl FnOnce() -> T) -> T {
        let before = (self.0)();
        let outcome = work();
        assert_eq!((self.0)() - before, 0, "{what}: heap calls");
        outcome
    }
}

/// N6, N3: an insert in a no-block section needs no memory of its source, or reports that it may
/// block before it has changed anything.
pub fn blocking_insert_is_reported_and_harmless(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let (mut live, mut found) = (Vec::new(), 0);
    for fill in 0..scaled(300) as u64 {
        let len = harness.max().min(1500);
        let calls = harness.source.calls();
        let outcome = {
            let _section = NoBlock::enter();
            catch_unwind(AssertUnwindSafe(|| harness.try_put(fill, len)))
        };
        match outcome {
            Ok(inserted) => {
                assert_eq!(
                    harness.source.calls(),
                    calls,
                    "N6: calls of the page source in a no-block section, with no report"
                );
                live.push(inserted.unwrap_or_else(|e: PoolError| panic!("N2: {e}")));
            }
            // Reported. Outside of the section the same insert is legal.
            Err(_) => {
                found += 1;
                harness.balance(&live);
                live.push(harness.put(fill, len));
            }
        }
    }
    assert!(
        found > 0 || harness.source.charged_frames() == 0,
        "N6: {} frames were charged and no insert said that it may block",
        harness.source.charged_frames()
    );
    harness.finish(live);
}

/// G3: dropping a pool may block, and reports it in a no-block section. (This check exists for B1,
/// a pool that was destroyed in a no-block section.)
pub fn drop_in_no_block_is_reported(maker: &PoolMaker) {
    for objects in [0, 3] {
        let harness = PoolHarness::new(maker);
        for fill in 0..objects {
            let _ = harness.put(fill, harness.max().min(64)).handle;
        }
        let pool = harness.pool;
        let outcome = {
            let _section = NoBlock::enter();
            catch_unwind(AssertUnwindSafe(|| drop(pool)))
        };
        assert!(
            outcome.is_err(),
            "a pool with {objects} objects was dropped in a no-block section, unnoticed"
        );
    }
}
