//! A page source without memory.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::page::{
    BudgetedSource, FaultPlan, FaultySource, ObservedSource, PageSource, SourceCall,
};
use zpool_core::{CompactionBudget, CreateError, PoolError};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, fresh_source, source_of_16_kib};
use crate::rng::SplitMix;

/// N3, N5, S1, D3, D4: if any single call of the page source fails, its insert or creation is an
/// error that changes nothing but the count of failed inserts. The same insert succeeds when
/// repeated.
pub fn one_refusal_at_every_call_of_the_page_source(maker: &PoolMaker) {
    refuse_everywhere(maker, fresh_source, FaultPlan::Nth, 40);
}

/// N3, N5, F5: if all calls of the page source fail from some call on, all objects stay readable
/// and can be freed.
pub fn no_memory_from_every_call_on(maker: &PoolMaker) {
    refuse_everywhere(maker, fresh_source, FaultPlan::From, 40);
}

/// N3, N5, D3, D4, F5: both hold over a source with frames of 16 KiB.
pub fn refusals_with_frames_of_16_kib(maker: &PoolMaker) {
    refuse_everywhere(maker, source_of_16_kib, FaultPlan::Nth, 20);
    refuse_everywhere(maker, source_of_16_kib, FaultPlan::From, 20);
}

/// N5, F2: a pool at its budget refuses objects, and takes them again after a free.
pub fn a_full_pool_goes_on_after_a_free(maker: &PoolMaker) {
    let unlimited = PoolHarness::new(maker);
    // Room for 12 of the longest objects, because a pool may take pages for several of them.
    let frames = 24.max(12 * unlimited.max().div_ceil(unlimited.source.frame_size()));
    let budget = Arc::new(BudgetedSource::new(fresh_source(), frames));
    let harness = PoolHarness::over(maker, budget.clone());
    let len = harness.max().min(3000);
    let mut live = Vec::new();
    for fill in 0..scaled(400) as u64 {
        match harness.try_put(fill, len) {
            Ok(object) => live.push(object),
            Err(error) => {
                assert_eq!(error, PoolError::OutOfMemory, "N5: an insert over the budget");
                harness.balance(&live);
                harness.free_checked(live.swap_remove(live.len() / 2));
                live.push(harness.put(fill, len));
            }
        }
        assert!(
            budget.charged_frames() <= frames,
            "A2: {} frames of {frames}",
            budget.charged_frames()
        );
    }
    harness.finish(live);
}

/// N3, F3: if the page source panics instead of providing memory, only that insert fails. Stored
/// objects stay, the accounting is right, the same insert succeeds when repeated, and no frame
/// stays charged.
pub fn a_page_source_that_panics_leaves_the_pool_whole(maker: &PoolMaker) {
    for nth in 0..scaled(40) {
        let (left, panics) =
            (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let (counter, seen) = (left.clone(), panics.clone());
        let source = ObservedSource::new(fresh_source(), move |call| {
            let asks = matches!(call, SourceCall::Reserve(_) | SourceCall::Charge(_));
            // Relaxed: one thread.
            if asks && counter.fetch_sub(1, Ordering::Relaxed) == 0 {
                seen.fetch_add(1, Ordering::Relaxed);
                // Unlike `panic!`, this does not call the hook, which would print it.
                resume_unwind(Box::new("the page source panics"));
            }
        });
        let harness = PoolHarness::over(maker, Arc::new(source));
        let (mut rng, mut live) = (SplitMix::new(nth as u64), Vec::new());
        left.store(nth, Ordering::Relaxed);
        for fill in 0..60 {
            let len = harness.len(&mut rng);
            let tried = catch_unwind(AssertUnwindSafe(|| harness.put(fill, len)));
            live.push(tried.unwrap_or_else(|_| {
                harness.check_all(&live);
                harness.balance(&live);
                harness.put(fill, len)
            }));
        }
        harness.balance(&live);
        harness.free_all_checked(live);
        harness.assert_releases_all_frames();
        // Stop after the last call that can fail.
        if panics.load(Ordering::Relaxed) == 0 {
            break;
        }
    }
}

/// A2, T1, M1: frames that the system does not take back stay accounted to the pool and the source.
/// They are used again, and are released when the system takes frames again.
pub fn frames_the_system_keeps_stay_counted(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let (mut rng, mut live) = (SplitMix::new(0x5_7A45), Vec::new());
    let put = |rng: &mut SplitMix, live: &mut Vec<StoredObject>, count| {
        live.extend((0..count).map(|fill| harness.put(fill, harness.len(rng))));
    };
    put(&mut rng, &mut live, scaled(300) as u64);
    harness.source.keep_frames(true);
    for _ in 0..3 {
        let left = live.split_off(live.len() / 3 * 2);
        harness.free_all_checked(std::mem::replace(&mut live, left));
        harness.pool.compact(CompactionBudget::UNLIMITED);
        harness.pool.trim();
        harness.balance(&live);
        harness.check_all(&live);
        put(&mut rng, &mut live, scaled(200) as u64);
        harness.balance(&live);
        let lost = harness.source.wrongly_uncharged_frames();
        assert_eq!(lost, 0, "A2: frames that the system kept are not charged any more");
    }
    harness.free_all_checked(live);
    harness.pool.trim();
    harness.balance(&[]);
    assert_eq!(
        harness.source.wrongly_uncharged_frames(),
        0,
        "A2: frames of the empty pool that the system kept"
    );
    harness.source.keep_frames(false);
    harness.assert_releases_all_frames();
}

/// Runs a workload without a fault, to count the calls that can fail, and then once with each of
/// them failing.
fn refuse_everywhere(
    maker: &PoolMaker,
    source: fn() -> Arc<dyn PageSource>,
    plan: fn(u64) -> FaultPlan,
    inserts: usize,
) {
    let calls = workload(maker, source(), FaultPlan::Never, inserts);
    assert!(calls < 1000, "{calls} calls of the page source for {inserts} inserts");
    for n in 0..if cfg!(miri) { calls.min(4) } else { calls } {
        workload(maker, source(), plan(n), inserts);
    }
}

/// Runs the workload and returns the number of calls that could have failed.
fn workload(
    maker: &PoolMaker,
    source: Arc<dyn PageSource>,
    plan: FaultPlan,
    inserts: usize,
) -> u64 {
    let source = Arc::new(FaultySource::new(source, plan));
    let pool = match maker.try_make(source.clone()) {
        Ok(pool) => pool,
        Err(error) => {
            assert_eq!(error, CreateError::OutOfMemory, "D4: a refusal during creation");
            assert_eq!(source.charged_frames(), 0, "D3: charged after a failed creation");
            return source.calls();
        }
    };
    let harness = PoolHarness::of(maker, pool, source);
    let (mut rng, mut live, mut refused) = (SplitMix::new(0xFA_117), Vec::new(), 0_u64);
    for fill in 0..inserts as u64 {
        let len = harness.len(&mut rng);
        match insert_or_change_nothing(&harness, fill, len, &live) {
            Some(object) => live.push(object),
            None => {
                refused += 1;
                if let FaultPlan::Nth(_) = plan {
                    assert_eq!(refused, 1, "N5: one call failed, but a second insert too");
                    live.push(harness.put(fill, len));
                }
            }
        }
        if fill % 4 == 3 && !live.is_empty() {
            harness.free_checked(live.swap_remove(rng.below(live.len())));
        }
    }
    assert_eq!(
        harness.source.failures() > 0,
        refused > 0,
        "N5: inserts refused: {refused}, of calls of the source: {}",
        harness.source.failures()
    );
    assert_eq!(harness.pool.stats().failed_inserts, refused, "S1: failed inserts");
    harness.check_all(&live);
    harness.balance(&live);
    let calls = harness.source.calls();
    harness.free_all_checked(live);
    harness.assert_releases_all_frames();
    calls
}

/// Inserts an object. If there is no memory, checks that the pool is as before.
fn insert_or_change_nothing(
    harness: &PoolHarness<'_>,
    fill: u64,
    len: usize,
    live: &[StoredObject],
) -> Option<StoredObject> {
    harness.pool.trim();
    let before = (harness.source.charged_frames(), harness.pool.stats().objects);
    match harness.try_put(fill, len) {
        Ok(object) => Some(object),
        Err(error) => {
            assert_eq!(
                error,
                PoolError::OutOfMemory,
                "N5: an insert of {len} bytes without memory"
            );
            harness.balance(live);
            harness.check_all(live);
            harness.pool.trim();
            let after = (harness.source.charged_frames(), harness.pool.stats().objects);
            assert_eq!(
                after, before,
                "N3: frames charged and objects, after a failed insert and a trim"
            );
            None
        }
    }
}
