//! Two handles whose objects are exchanged, by pools that do that; others decline, which is as good.

use std::thread;

use zpool_core::internal::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zpool_core::page::FaultPlan;
use zpool_core::{CompactionBudget, NoBlock};

use super::errors::another_tag;
use crate::pool::PoolMaker;
use crate::pool::rig::{Object, Rig, assert_contents, contents, scaled};
use crate::rng::Rng;

/// Exchanges the objects of two handles, or not. Each is then what its handle names. Says whether it was done.
fn exchange(rig: &Rig<'_>, kept: &mut Object, other: &mut Object) -> bool {
    let done = rig.pool.exchange(&kept.handle, &mut other.handle);
    if done {
        std::mem::swap(&mut kept.fill, &mut other.fill);
        std::mem::swap(&mut kept.len, &mut other.len);
    }
    done
}

/// H1, H2, H3: after an exchange each handle names what the other did, or both what they did before, as the pool says; whatever their lengths, and whichever is
/// freed first. The books stay as they are.
pub fn exchanged_handles_name_each_others_objects(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let max = rig.max();
    for (fill, lens) in
        [(1, 1), (64, 64), (64, 3000), (3000, 64), (1, max), (max, max)].into_iter().enumerate()
    {
        for kept_goes_first in [false, true] {
            let mut kept = rig.put(10 * fill as u64, lens.0.min(max));
            let mut other = rig.put(10 * fill as u64 + 1, lens.1.min(max));
            let bystander = rig.put(10 * fill as u64 + 2, 100.min(max));
            let books = rig.pool.stats();
            let ids = (kept.handle.id(), other.handle.id());
            for _ in 0..3 {
                exchange(&rig, &mut kept, &mut other);
                assert_eq!(rig.pool.stats(), books, "H2: the books");
                assert_eq!((kept.handle.id(), other.handle.id()), ids, "H2: the handles");
                [&kept, &other, &bystander].into_iter().for_each(|object| rig.check(object));
            }
            let (first, second) = if kept_goes_first { (kept, other) } else { (other, kept) };
            rig.take(first);
            rig.check(&second);
            rig.take(second);
            rig.balance(std::slice::from_ref(&bystander));
            rig.take(bystander);
        }
    }
    rig.assert_gives_all_back();
}

/// H1, H2: as a store does it: objects are replaced under handles that stay, or under new ones where the pool declines, with compaction now and then.
pub fn objects_are_replaced_under_handles_that_stay(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let mut rng = Rng::new(0xE8C4);
    let mut live: Vec<_> =
        (0..scaled(100) as u64).map(|fill| rig.put(fill, rig.len(&mut rng))).collect();
    for step in 0..scaled(2000) as u64 {
        let nth = rng.below(live.len());
        let mut new = rig.put(1000 + step, rig.len(&mut rng));
        if !exchange(&rig, &mut live[nth], &mut new) {
            std::mem::swap(&mut live[nth], &mut new);
        }
        rig.take(new);
        rig.check(&live[nth]);
        if step % 256 == 255 {
            rig.pool.compact(CompactionBudget::UNLIMITED);
            rig.balance(&live);
        }
    }
    rig.end(live);
}

/// H3: with a guard on one of the objects or on both, nothing is exchanged: guards keep their bytes and both handles their objects. Once the guards are gone it is as if they
/// had never been there.
pub fn an_object_under_a_guard_keeps_its_handle(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let len = rig.max().min(500);
    let (mut kept, mut other) = (rig.put(1, len), rig.put(2, len));
    let without = exchange(&rig, &mut kept, &mut other);
    for (on_kept, on_other) in [(1, 0), (0, 1), (1, 1), (6, 0), (0, 6)] {
        let guards: Vec<_> = [(&kept, on_kept), (&other, on_other)]
            .into_iter()
            .flat_map(|(object, count)| (0..count).map(|_| (object.fill, rig.guard(object))))
            .collect();
        assert!(!rig.pool.exchange(&kept.handle, &mut other.handle), "H3: under a guard");
        for (fill, guard) in &guards {
            assert_contents(guard, *fill, len);
        }
        rig.check(&kept);
        rig.check(&other);
        drop(guards);
        assert_eq!(
            exchange(&rig, &mut kept, &mut other),
            without,
            "H3: after the guards have gone"
        );
    }
    rig.end(vec![kept, other]);
}

/// H3: a handle of another pool, one whose object is gone, and a handle with itself: nothing happens to anybody.
pub fn foreign_and_stale_handles_are_not_exchanged(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let elsewhere = another_tag(maker, &rig);
    let len = rig.max().min(200);
    let (mut mine, mut theirs) = (rig.put(1, len), elsewhere.put(2, len));
    let gone = rig.put(3, len);
    let stale = gone.handle.id();
    rig.take(gone);
    assert!(!rig.pool.exchange(&mine.handle, &mut theirs.handle), "H3: with a foreign handle");
    assert!(!rig.pool.exchange(&theirs.handle, &mut mine.handle), "H3: a foreign one kept");
    assert!(!rig.pool.exchange(&mine.handle, &mut stale.forge()), "H3: with a stale handle");
    assert!(!rig.pool.exchange(&stale.forge(), &mut mine.handle), "H3: a stale one kept");
    let mut again = mine.handle.id().forge();
    rig.pool.exchange(&mine.handle, &mut again);
    rig.end(vec![mine]);
    elsewhere.end(vec![theirs]);
}

/// H1: threads that read a handle while its object is exchanged again and again find one object or the other, whole, and never an error; what was exchanged for it is
/// freed at once, and its bytes used again.
pub fn readers_find_one_object_or_the_other(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let longest = rig.max().min(320);
    let lens = [longest / 2 + 1, longest];
    let objects = [contents(0, lens[0]), contents(1, lens[1])];
    let mut kept = rig.put(0, lens[0]);
    let (id, over, reads) = (kept.handle.id(), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let reader = || {
            // Relaxed, here and below: only when to begin and to end.
            while !over.load(Ordering::Relaxed) {
                let guard = rig.pool.read(&id.forge()).expect("H1: a handle that stays good");
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
        let mut turn = 0;
        // Until they have met, or one has failed.
        while (turn < scaled(20_000) || reads.load(Ordering::Relaxed) < 100)
            && !readers.iter().any(|reader| reader.is_finished())
        {
            turn += 1;
            let next = 1 - kept.fill;
            let mut new = rig.put(next, lens[next as usize]);
            exchange(&rig, &mut kept, &mut new);
            // The one that was exchanged for it, or the new one.
            rig.pool.free(new.handle).expect("H2: the other handle is good");
        }
    });
    rig.end(vec![kept]);
}

/// H4: in a no-block section, without any memory to be had, and with no call of the page source.
pub fn an_exchange_never_blocks(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let mut rng = Rng::new(0xE8C5);
    let mut live: Vec<_> =
        (0..scaled(300) as u64).map(|fill| rig.put(fill, rig.len(&mut rng))).collect();
    rig.source.plan(FaultPlan::From(0));
    let calls = rig.source.calls();
    {
        let _section = NoBlock::enter();
        exchange_pairs(&rig, &mut live);
    }
    assert_eq!(rig.source.calls(), calls, "H4: calls of the page source");
    rig.source.plan(FaultPlan::Never);
    rig.end(live);
}

/// H4: no heap call, whether it is done or not.
pub fn an_exchange_makes_no_heap_call(maker: &PoolMaker) {
    let heap_calls = maker.heap_calls.as_ref().expect("the suite's line has a counter");
    let rig = Rig::new(maker);
    let mut rng = Rng::new(0xE8C6);
    let mut live: Vec<_> =
        (0..scaled(300) as u64).map(|fill| rig.put(fill, rig.len(&mut rng))).collect();
    let held = rig.put(1000, 1);
    let guard = rig.guard(&held);
    let before = heap_calls();
    exchange_pairs(&rig, &mut live);
    let declined = !rig.pool.exchange(&held.handle, &mut live[0].handle);
    assert_eq!(heap_calls() - before, 0, "H4: heap calls");
    assert!(declined, "H3: under a guard");
    drop(guard);
    live.push(held);
    rig.end(live);
}

fn exchange_pairs(rig: &Rig<'_>, live: &mut [Object]) {
    for pair in live.chunks_exact_mut(2) {
        let [kept, other] = pair else { continue };
        exchange(rig, kept, other);
    }
}

/// Does something however a scope is left, so that threads that wait for it end.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
