//! A guard keeps its object, and nothing else.

use std::thread;

use zpool_core::page::PageSource;
use zpool_core::{CompactionBudget, PoolError};

use crate::pool::PoolMaker;
use crate::pool::rig::{Rig, assert_contents, scaled};
use crate::rng::Rng;

/// R1, R2, F1, F2: the free of an object under guards succeeds and makes its handle stale; bytes and address stay until the last guard goes, and count as
/// held; then they are given back.
pub fn a_guard_outlives_the_free_of_its_object(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    for len in [1, 64, 1000, 2048, 3900, usize::MAX] {
        let len = len.min(rig.max());
        let (object, other) = (rig.put(1, len), rig.put(2, len));
        let id = object.handle.id();
        let (first, second) = (rig.guard(&object), rig.guard(&object));
        let address = second.as_ptr();
        rig.pool.free(object.handle).expect("F2: free under a guard");

        assert_eq!(
            rig.pool.read(&id.forge()).err(),
            Some(PoolError::StaleHandle),
            "F1: read after free"
        );
        let again = rig.pool.free(id.forge()).expect_err("F1: a second free");
        assert_eq!(*again.error(), PoolError::StaleHandle, "F1");
        drop(first);
        assert_contents(&second, 1, len);
        assert_eq!(second.as_ptr(), address, "R2: the object's address");
        rig.balance_with_zombies(std::slice::from_ref(&other), 1, len);
        drop(second);
        rig.balance(std::slice::from_ref(&other));
        rig.take(other);
        rig.assert_gives_all_back();
    }
}

/// R1, F2: inserts, compaction and trim leave the bytes of freed objects alone while guards hold them.
pub fn bytes_under_a_guard_are_not_used_again(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let mut rng = Rng::new(0x6A12D);
    let held: Vec<_> =
        (0..scaled(100) as u64).map(|fill| rig.put(fill, rig.len(&mut rng))).collect();
    let (mut guards, mut bytes) = (Vec::new(), 0);
    for object in held {
        let guard = rig.guard(&object);
        guards.push((guard.as_ptr(), object.fill, object.len, guard));
        bytes += object.len;
        rig.pool.free(object.handle).expect("F2: free under a guard");
    }
    let fresh: Vec<_> =
        (1000..1000 + scaled(300) as u64).map(|i| rig.put(i, rig.len(&mut rng))).collect();
    rig.pool.compact(CompactionBudget::UNLIMITED);
    rig.pool.trim();
    rig.balance_with_zombies(&fresh, guards.len(), bytes);
    for (address, fill, len, guard) in &guards {
        assert_eq!(guard.as_ptr(), *address, "R2: the address of a pinned object");
        assert_contents(guard, *fill, *len);
    }
    drop(guards);
    rig.end(fresh);
}

/// R3, R4: at least 255 guards hold an object at once. Where there is a limit, the next read is refused and succeeds after a guard has gone.
pub fn many_guards_hold_one_object(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let (object, other) = (rig.put(1, rig.max().min(200)), rig.put(2, rig.max().min(200)));
    let mut guards = Vec::new();
    // Past any counter of 16 bits.
    for n in 0..70_000 {
        match rig.pool.read(&object.handle) {
            Ok(guard) => guards.push(guard),
            Err(error) => {
                assert_eq!(error, PoolError::TooManyReaders, "R4: read number {n}");
                assert!(n >= 255, "R3: only {n} guards");
                guards.pop();
                guards.push(rig.guard(&object));
                assert!(rig.pool.read(&object.handle).is_err(), "R3: the limit is where it was");
                break;
            }
        }
    }
    let (len, count) = (object.len, guards.len());
    rig.check(&other);
    rig.pool.free(object.handle).expect("F2: free under all these guards");
    for (left, guard) in (0..count).rev().zip(guards) {
        assert_contents(&guard, 1, len);
        drop(guard);
        if left == 1 {
            rig.balance_with_zombies(std::slice::from_ref(&other), 1, len);
        }
    }
    rig.balance(std::slice::from_ref(&other));
    rig.take(other);
    rig.assert_gives_all_back();
}

/// R1, F2: a guard may be read and dropped on another thread than made it.
pub fn guards_go_to_other_threads(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let objects: Vec<_> = (0..16).map(|fill| rig.put(fill, rig.max().min(700))).collect();
    thread::scope(|scope| {
        for object in &objects {
            let guard = rig.guard(object);
            scope.spawn(move || assert_contents(&guard, object.fill, object.len));
        }
    });
    thread::scope(|scope| {
        for object in objects {
            let guard = rig.guard(&object);
            scope.spawn(move || assert_contents(&guard, object.fill, object.len));
            rig.pool.free(object.handle).expect("F2: free under a guard");
        }
    });
    rig.assert_gives_all_back();
}

/// R5: a thread that holds guards on every object (of every size class, page and slot) can do everything else. A pool that fails this hangs.
pub fn holding_guards_blocks_nobody(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let mut rng = Rng::new(0xB10C);
    let objects: Vec<_> =
        (0..scaled(200) as u64).map(|fill| rig.put(fill, rig.len(&mut rng))).collect();
    let guards: Vec<_> = objects.iter().map(|object| (object, rig.guard(object))).collect();
    let work = || {
        let mut rng = Rng::new(0xB10D);
        for fill in 1000..1000 + scaled(100) as u64 {
            let object = rig.put(fill, rig.len(&mut rng));
            rig.pool.compact(CompactionBudget::moves(10));
            rig.take(object);
            rig.pool.trim();
        }
        rig.pool.validate().unwrap_or_else(|violation| panic!("V1: {violation}"));
    };
    // On this thread and on others, one of which reads the same objects.
    work();
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(|| rig.check_all(&objects));
    });
    for (object, guard) in &guards {
        assert_contents(guard, object.fill, object.len);
    }
    drop(guards);
    rig.end(objects);
}

/// R1, F2 (B9: early exits forgot to unmap): a guard that is leaked pins its object for ever; everything else goes on, and the drop of the pool still gives every
/// frame back.
pub fn b9_a_leaked_guard_costs_its_bytes_only(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let len = rig.max().min(900);
    let (leaked, other) = (rig.put(1, len), rig.put(2, len));
    std::mem::forget(rig.guard(&leaked));
    rig.pool.free(leaked.handle).expect("F2: free under a guard");
    rig.pool.compact(CompactionBudget::UNLIMITED);
    rig.balance_with_zombies(std::slice::from_ref(&other), 1, len);
    rig.take(other);
    rig.pool.trim();
    rig.balance_with_zombies(&[], 1, len);
    let Rig { pool, source, .. } = rig;
    drop(pool);
    assert_eq!(source.charged_frames(), 0, "frames charged after the pool was dropped");
}
