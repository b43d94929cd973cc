//! Exchanging the objects of two handles. A pool may decline, which is equally correct.

use std::thread;

use zpool_core::internal::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zpool_core::page::FaultPlan;
use zpool_core::{CompactionBudget, NoBlock};

use super::errors::another_tag;
use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, assert_contents, contents};
use crate::rng::SplitMix;

/// Exchanges that a pool declines in a row before readers get a turn.
const MOST_DECLINED: usize = 100;

/// Exchanges the objects of two handles, if the pool does so. Returns whether it did, and updates
/// what the handles name.
fn exchange(harness: &PoolHarness<'_>, kept: &mut StoredObject, other: &mut StoredObject) -> bool {
    let done = harness.pool.exchange(&kept.handle, &mut other.handle);
    if done {
        std::mem::swap(&mut kept.fill, &mut other.fill);
        std::mem::swap(&mut kept.len, &mut other.len);
    }
    done
}

/// H1, H2, H3: after an exchange, each handle names the other's object, or its own if the pool
/// declined. This holds for any lengths and either order of freeing, and the accounting stays as it
/// was.
pub fn exchanged_handles_name_each_others_objects(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let max = harness.max();
    for (fill, lens) in
        [(1, 1), (64, 64), (64, 3000), (3000, 64), (1, max), (max, max)].into_iter().enumerate()
    {
        for kept_goes_first in [false, true] {
            let mut kept = harness.put(10 * fill as u64, lens.0.min(max));
            let mut other = harness.put(10 * fill as u64 + 1, lens.1.min(max));
            let bystander = harness.put(10 * fill as u64 + 2, 100.min(max));
            let accounts = harness.pool.stats();
            let ids = (kept.handle.id(), other.handle.id());
            for _ in 0..3 {
                exchange(&harness, &mut kept, &mut other);
                assert_eq!(harness.pool.stats(), accounts, "H2: the accounts");
                assert_eq!((kept.handle.id(), other.handle.id()), ids, "H2: the handles");
                [&kept, &other, &bystander].into_iter().for_each(|object| harness.check(object));
            }
            let (first, second) = if kept_goes_first { (kept, other) } else { (other, kept) };
            harness.free_checked(first);
            harness.check(&second);
            harness.free_checked(second);
            harness.balance(std::slice::from_ref(&bystander));
            harness.free_checked(bystander);
        }
    }
    harness.assert_releases_all_frames();
}

/// H1, H2: as in a store, objects are replaced under lasting handles, or under new ones if the pool
/// declines, with compactions between.
pub fn objects_are_replaced_under_handles_that_stay(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xE8C4);
    let mut live: Vec<_> =
        (0..scaled(100) as u64).map(|fill| harness.put(fill, harness.len(&mut rng))).collect();
    for step in 0..scaled(2000) as u64 {
        let nth = rng.below(live.len());
        let mut new = harness.put(1000 + step, harness.len(&mut rng));
        if !exchange(&harness, &mut live[nth], &mut new) {
            std::mem::swap(&mut live[nth], &mut new);
        }
        harness.free_checked(new);
        harness.check(&live[nth]);
        if step % 256 == 255 {
            harness.pool.compact(CompactionBudget::UNLIMITED);
            harness.balance(&live);
        }
    }
    harness.finish(live);
}

/// H3: while guards hold one object or both, nothing is exchanged. Guards keep their bytes, and
/// handles keep their objects. Without the guards, the pool behaves as before.
pub fn an_object_under_a_guard_keeps_its_handle(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let len = harness.max().min(500);
    let (mut kept, mut other) = (harness.put(1, len), harness.put(2, len));
    let without = exchange(&harness, &mut kept, &mut other);
    for (on_kept, on_other) in [(1, 0), (0, 1), (1, 1), (6, 0), (0, 6)] {
        let guards: Vec<_> = [(&kept, on_kept), (&other, on_other)]
            .into_iter()
            .flat_map(|(object, count)| (0..count).map(|_| (object.fill, harness.guard(object))))
            .collect();
        assert!(!harness.pool.exchange(&kept.handle, &mut other.handle), "H3: under a guard");
        for (fill, guard) in &guards {
            assert_contents(guard, *fill, len);
        }
        harness.check(&kept);
        harness.check(&other);
        drop(guards);
        assert_eq!(
            exchange(&harness, &mut kept, &mut other),
            without,
            "H3: after the guards have gone"
        );
    }
    harness.finish(vec![kept, other]);
}

/// H3: a foreign handle, a stale handle, and a handle with itself change nothing.
pub fn foreign_and_stale_handles_are_not_exchanged(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let elsewhere = another_tag(maker, &harness);
    let len = harness.max().min(200);
    let (mut mine, mut theirs) = (harness.put(1, len), elsewhere.put(2, len));
    let gone = harness.put(3, len);
    let stale = gone.handle.id();
    harness.free_checked(gone);
    assert!(!harness.pool.exchange(&mine.handle, &mut theirs.handle), "H3: with a foreign handle");
    assert!(!harness.pool.exchange(&theirs.handle, &mut mine.handle), "H3: a foreign one kept");
    assert!(!harness.pool.exchange(&mine.handle, &mut stale.forge()), "H3: with a stale handle");
    assert!(!harness.pool.exchange(&stale.forge(), &mut mine.handle), "H3: a stale one kept");
    let mut again = mine.handle.id().forge();
    harness.pool.exchange(&mine.handle, &mut again);
    harness.finish(vec![mine]);
    elsewhere.finish(vec![theirs]);
}

/// H1: threads that read a handle during repeated exchanges find one object or the other, whole,
/// and never an error. The object exchanged for it is freed at once, and its memory reused.
pub fn readers_find_one_object_or_the_other(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let longest = harness.max().min(320);
    let lens = [longest / 2 + 1, longest];
    let objects = [contents(0, lens[0]), contents(1, lens[1])];
    let mut kept = harness.put(0, lens[0]);
    let (id, over, reads) = (kept.handle.id(), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let reader = || {
            // Relaxed, here and below: it only says when to begin and to end.
            while !over.load(Ordering::Relaxed) {
                let guard = harness.pool.read(&id.forge()).expect("H1: a handle that stays good");
                assert!(
                    objects.iter().any(|object| **object == *guard),
                    "R1, H1: neither the one nor the other"
                );
                drop(guard);
                reads.fetch_add(1, Ordering::Relaxed);
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let _ends = OnDrop(|| over.store(true, Ordering::Relaxed));
        let (mut turn, mut declined) = (0, 0);
        // Until reads and exchanges have overlapped, or a reader has failed.
        while (turn < scaled(20_000) || reads.load(Ordering::Relaxed) < 100)
            && !readers.iter().any(|reader| reader.is_finished())
        {
            turn += 1;
            let next = 1 - kept.fill;
            let mut new = harness.put(next, lens[next as usize]);
            // A reader that is suspended with its guard makes the pool decline until it runs again.
            declined = if exchange(&harness, &mut kept, &mut new) { 0 } else { declined + 1 };
            if declined == MOST_DECLINED {
                declined = 0;
                thread::yield_now();
            }
            // This is the exchanged object or the new one.
            harness.pool.free(new.handle).expect("H2: the other handle is good");
        }
    });
    harness.finish(vec![kept]);
}

/// H4: it works in a no-block section without memory, and makes no call of the page source.
pub fn an_exchange_never_blocks(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xE8C5);
    let mut live: Vec<_> =
        (0..scaled(300) as u64).map(|fill| harness.put(fill, harness.len(&mut rng))).collect();
    harness.source.plan(FaultPlan::From(0));
    let calls = harness.source.calls();
    {
        let _section = NoBlock::enter();
        exchange_pairs(&harness, &mut live);
    }
    assert_eq!(harness.source.calls(), calls, "H4: calls of the page source");
    harness.source.plan(FaultPlan::Never);
    harness.finish(live);
}

/// H4: it makes no heap call, whether the pool exchanges or declines.
pub fn an_exchange_makes_no_heap_call(maker: &PoolMaker) {
    let heap_calls = maker.heap_calls.as_ref().expect("the suite's line has a counter");
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xE8C6);
    let mut live: Vec<_> =
        (0..scaled(300) as u64).map(|fill| harness.put(fill, harness.len(&mut rng))).collect();
    let held = harness.put(1000, 1);
    let guard = harness.guard(&held);
    let before = heap_calls();
    exchange_pairs(&harness, &mut live);
    let declined = !harness.pool.exchange(&held.handle, &mut live[0].handle);
    assert_eq!(heap_calls() - before, 0, "H4: heap calls");
    assert!(declined, "H3: under a guard");
    drop(guard);
    live.push(held);
    harness.finish(live);
}

fn exchange_pairs(harness: &PoolHarness<'_>, live: &mut [StoredObject]) {
    for pair in live.chunks_exact_mut(2) {
        let [kept, other] = pair else { continue };
        exchange(harness, kept, other);
    }
}

/// Does something however a scope is left, so that waiting threads end.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
