//! A guard keeps its object, and nothing else.

use std::thread;

use zpool_core::page::PageSource;
use zpool_core::{CompactionBudget, PoolError};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, assert_contents};
use crate::rng::SplitMix;

/// R1, R2, F1, F2: freeing an object under guards succeeds and makes its handle stale. Its bytes
/// and address stay until the last guard is dropped, and count as held. Then they are released.
pub fn a_guard_outlives_the_free_of_its_object(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    for len in [1, 64, 1000, 2048, 3900, usize::MAX] {
        let len = len.min(harness.max());
        let (object, other) = (harness.put(1, len), harness.put(2, len));
        let id = object.handle.id();
        let (first, second) = (harness.guard(&object), harness.guard(&object));
        let address = second.as_ptr();
        harness.pool.free(object.handle).expect("F2: free under a guard");

        assert_eq!(
            harness.pool.read(&id.forge()).err(),
            Some(PoolError::StaleHandle),
            "F1: read after free"
        );
        let again = harness.pool.free(id.forge()).expect_err("F1: a second free");
        assert_eq!(*again.error(), PoolError::StaleHandle, "F1");
        drop(first);
        assert_contents(&second, 1, len);
        assert_eq!(second.as_ptr(), address, "R2: the object's address");
        harness.balance_with_zombies(std::slice::from_ref(&other), 1, len);
        drop(second);
        harness.balance(std::slice::from_ref(&other));
        harness.free_checked(other);
        harness.assert_releases_all_frames();
    }
}

/// R1, F2: inserts, compaction and trim do not touch the bytes of freed objects under guards.
pub fn bytes_under_a_guard_are_not_used_again(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0x6A12D);
    let held: Vec<_> =
        (0..scaled(100) as u64).map(|fill| harness.put(fill, harness.len(&mut rng))).collect();
    let (mut guards, mut bytes) = (Vec::new(), 0);
    for object in held {
        let guard = harness.guard(&object);
        guards.push((guard.as_ptr(), object.fill, object.len, guard));
        bytes += object.len;
        harness.pool.free(object.handle).expect("F2: free under a guard");
    }
    let fresh: Vec<_> =
        (1000..1000 + scaled(300) as u64).map(|i| harness.put(i, harness.len(&mut rng))).collect();
    harness.pool.compact(CompactionBudget::UNLIMITED);
    harness.pool.trim();
    harness.balance_with_zombies(&fresh, guards.len(), bytes);
    for (address, fill, len, guard) in &guards {
        assert_eq!(guard.as_ptr(), *address, "R2: the address of a pinned object");
        assert_contents(guard, *fill, *len);
    }
    drop(guards);
    harness.finish(fresh);
}

/// R3, R4: at least 255 guards can hold an object. If there is a limit, the next read is refused,
/// and succeeds after a guard is dropped.
pub fn many_guards_hold_one_object(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let (object, other) =
        (harness.put(1, harness.max().min(200)), harness.put(2, harness.max().min(200)));
    let mut guards = Vec::new();
    // More than any 16-bit counter can count.
    for n in 0..70_000 {
        match harness.pool.read(&object.handle) {
            Ok(guard) => guards.push(guard),
            Err(error) => {
                assert_eq!(error, PoolError::TooManyReaders, "R4: read number {n}");
                assert!(n >= 255, "R3: only {n} guards");
                guards.pop();
                guards.push(harness.guard(&object));
                assert!(
                    harness.pool.read(&object.handle).is_err(),
                    "R3: the limit is where it was"
                );
                break;
            }
        }
    }
    let (len, count) = (object.len, guards.len());
    harness.check(&other);
    harness.pool.free(object.handle).expect("F2: free under all these guards");
    for (left, guard) in (0..count).rev().zip(guards) {
        assert_contents(&guard, 1, len);
        drop(guard);
        if left == 1 {
            harness.balance_with_zombies(std::slice::from_ref(&other), 1, len);
        }
    }
    harness.balance(std::slice::from_ref(&other));
    harness.free_checked(other);
    harness.assert_releases_all_frames();
}

/// R1, F2: a guard may be read and dropped on another thread than the one that made it.
pub fn guards_go_to_other_threads(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let objects: Vec<_> = (0..16).map(|fill| harness.put(fill, harness.max().min(700))).collect();
    thread::scope(|scope| {
        for object in &objects {
            let guard = harness.guard(object);
            scope.spawn(move || assert_contents(&guard, object.fill, object.len));
        }
    });
    thread::scope(|scope| {
        for object in objects {
            let guard = harness.guard(&object);
            scope.spawn(move || assert_contents(&guard, object.fill, object.len));
            harness.pool.free(object.handle).expect("F2: free under a guard");
        }
    });
    harness.assert_releases_all_frames();
}

/// R5: a thread that holds guards on objects of every size class, page and slot can do everything
/// else. A pool that fails this hangs.
pub fn guards_do_not_block_other_calls(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0xB10C);
    let objects: Vec<_> =
        (0..scaled(200) as u64).map(|fill| harness.put(fill, harness.len(&mut rng))).collect();
    let guards: Vec<_> = objects.iter().map(|object| (object, harness.guard(object))).collect();
    let work = || {
        let mut rng = SplitMix::new(0xB10D);
        for fill in 1000..1000 + scaled(100) as u64 {
            let object = harness.put(fill, harness.len(&mut rng));
            harness.pool.compact(CompactionBudget::moves(10));
            harness.free_checked(object);
            harness.pool.trim();
        }
        harness.pool.validate().unwrap_or_else(|violation| panic!("V1: {violation}"));
    };
    // On this thread and on others, one of which reads the same objects.
    work();
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(|| harness.check_all(&objects));
    });
    for (object, guard) in &guards {
        assert_contents(guard, object.fill, object.len);
    }
    drop(guards);
    harness.finish(objects);
}

/// R1, F2 (B9: early exits forgot to unmap): a leaked guard pins its object for ever. Everything
/// else goes on, and dropping the pool still releases every frame.
pub fn b9_a_leaked_guard_costs_its_bytes_only(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let len = harness.max().min(900);
    let (leaked, other) = (harness.put(1, len), harness.put(2, len));
    std::mem::forget(harness.guard(&leaked));
    harness.pool.free(leaked.handle).expect("F2: free under a guard");
    harness.pool.compact(CompactionBudget::UNLIMITED);
    harness.balance_with_zombies(std::slice::from_ref(&other), 1, len);
    harness.free_checked(other);
    harness.pool.trim();
    harness.balance_with_zombies(&[], 1, len);
    let PoolHarness { pool, source, .. } = harness;
    drop(pool);
    assert_eq!(source.charged_frames(), 0, "frames charged after the pool was dropped");
}
