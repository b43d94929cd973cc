//! Many threads on one store: what is loaded is whole and was stored under its key, and nothing is
//! freed twice or never.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::codec::CodecScript;
use crate::common::pool::PoolScript;
use crate::common::{
    Look, SPECS, TestRng, block, builder, check_books, scripted, spec, stamped, store_of, unstamp,
};
use zswap::AtLimit;

/// Ends the loops of other threads when a thread ends, even if it fails.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two threads that store the same key leave one object (B44).
#[test]
fn b44_two_stores_of_one_key_leave_one_object() {
    let pool = PoolScript::new();
    let store = scripted(pool.clone(), CodecScript::new()).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let store = store.clone();
            scope.spawn(move || {
                for n in 0..2_000 {
                    store.store(n % 3, stamped(n % 3, thread << 32 | n, 400)).unwrap();
                }
            });
        }
    });
    assert_eq!((store.len(), pool.live()), (3, 3));
    (0..3).for_each(|key| assert_eq!(unstamp(&store.load_vec(&key).unwrap().unwrap()).0, key));
    (0..3).for_each(|key| assert!(store.invalidate(&key)));
    assert_eq!(pool.live(), 0);
}

/// A store never fails for want of a pool while pools are switched (B50).
#[test]
fn b50_stores_during_switches_never_fail() {
    let store = store_of("reference+rle");
    let done = [AtomicBool::new(false), AtomicBool::new(false)];
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (store, done) = (store.clone(), &done[thread as usize]);
            scope.spawn(move || {
                let _done = SetWhenDropped(done);
                for n in 0..3_000 {
                    let key = (thread << 32) | (n % 16);
                    store.store(key, stamped(key, n, 300)).unwrap();
                    assert_eq!(unstamp(&store.load_vec(&key).unwrap().unwrap()), (key, n));
                }
            });
        }
        let mut n = 0;
        while n < 50 || !done.iter().all(|done| done.load(Ordering::Relaxed)) {
            n += 1;
            store.switch(&spec(SPECS[n % SPECS.len()])).unwrap();
        }
    });
    check_books(&store);
    store.clear();
    store.manager().flush().unwrap();
    let stats = store.stats();
    assert_eq!((stats.rejected.total(), stats.manager.pools_alive), (0, 1));
}

#[test]
fn b25_of_several_takers_of_a_block_one_gets_it() {
    let pool = PoolScript::new();
    let store = scripted(pool.clone(), CodecScript::new()).build().unwrap();
    let keys = 3_000u64;
    for key in 0..keys {
        let look = if key % 3 == 0 { Look::SameFilled } else { Look::Runs };
        store.store(key, block(key, 200, look)).unwrap();
    }
    let (taken, invalidated) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let gate = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, taken, invalidated, gate) = (&store, &taken, &invalidated, &gate);
            scope.spawn(move || {
                gate.wait();
                for key in 0..keys {
                    if thread == 2 && key % 2 == 0 {
                        invalidated
                            .fetch_add(usize::from(store.invalidate(&key)), Ordering::Relaxed);
                    } else if let Some(bytes) = store.take_vec(&key).unwrap() {
                        assert_eq!(bytes.len(), 200);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (taken, invalidated) = (taken.into_inner(), invalidated.into_inner());
    assert_eq!((taken + invalidated) as u64, keys);
    let stats = store.stats();
    assert_eq!((stats.taken, stats.invalidated), (taken as u64, invalidated as u64));
    assert_eq!((store.len(), pool.live()), (0, 0));
}

#[test]
fn b26_a_take_gets_the_newest_block_or_leaves_it() {
    let store = store_of("reference+rle");
    let (key, done) = (5, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _done = SetWhenDropped(&done);
            for version in 1..=4_000 {
                store.store(key, stamped(key, version, 100)).unwrap();
                // Ours is the only thread that stores: what it takes is what it stored.
                if version % 2 == 0
                    && let Some(bytes) = store.take_vec(&key).unwrap()
                {
                    assert_eq!(unstamp(&bytes), (key, version));
                }
            }
        });
        scope.spawn(|| {
            let mut before = 0;
            while !done.load(Ordering::Relaxed) {
                if let Some(bytes) = store.take_vec(&key).unwrap() {
                    let (_, version) = unstamp(&bytes);
                    assert!(
                        version > before,
                        "{version} after {before}: taken twice or out of order"
                    );
                    before = version;
                }
            }
        });
    });
    store.invalidate(&key);
    check_books(&store);
}

/// A store cannot be replaced while other threads use it. Clearing it is the closest operation
/// (B46).
#[test]
fn b46_clear_during_use_is_consistent() {
    let empty =
        builder().max_value_len(1 << 14).checksums(true).build().unwrap().stats().index_bytes;
    let store = builder().max_value_len(1 << 14).checksums(true).build().unwrap();
    let done = [AtomicBool::new(false), AtomicBool::new(false)];
    let over = || done.iter().all(|done| done.load(Ordering::Relaxed));
    let gone = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (store, done, gone) = (&store, &done[thread as usize], &gone);
            scope.spawn(move || {
                let _done = SetWhenDropped(done);
                let mut rng = TestRng::new(thread + 1);
                for version in 0..4_000 {
                    let key = thread << 32 | rng.below(100) as u64;
                    // Some are values of several blocks.
                    let len = 16 + rng.below(if version % 8 == 0 { 12_000 } else { 1_000 });
                    store.store(key, stamped(key, version, len)).unwrap();
                    let found = match version % 3 {
                        0 => store.load_vec(&key).unwrap(),
                        1 => store.take_vec(&key).unwrap(),
                        _ => store.load_with(&key, <[u8]>::to_vec).unwrap(),
                    };
                    match found {
                        Some(bytes) => assert_eq!(unstamp(&bytes), (key, version)),
                        None => _ = gone.fetch_add(1, Ordering::Relaxed),
                    }
                }
            });
        }
        scope.spawn(|| {
            while !over() {
                store.clear();
                store.retain(|key, len| (key ^ len as u64).is_multiple_of(2));
                std::thread::yield_now();
            }
        });
        let mut n = 0;
        while !over() {
            n += 1;
            store.switch(&spec(SPECS[n % SPECS.len()])).unwrap();
            assert!(store.len() <= 200 && store.stats().bytes_held() >= empty);
            std::thread::yield_now();
        }
    });
    let stats = store.stats();
    assert_eq!((stats.stores, stats.rejected.total(), stats.free_failed), (8_000, 0, 0));
    assert_eq!((stats.decompress_failed, stats.read_failed), (0, 0));
    assert_eq!((stats.loads_missed + stats.takes_missed) as usize, gone.into_inner());
    check_books(&store);
    // The store continues as if it had never been cleared, and can be cleared again.
    (0..100).for_each(|key| store.store(key, stamped(key, 9, 9_000)).unwrap());
    (0..100).for_each(|key| assert_eq!(unstamp(&store.load_vec(&key).unwrap().unwrap()), (key, 9)));
    check_books(&store);
    store.clear();
    store.manager().flush().unwrap();
    let stats = store.stats();
    assert_eq!(
        (stats.entries, stats.stored_bytes, stats.payload_bytes, stats.index_bytes),
        (0, 0, 0, empty)
    );
    assert_eq!((stats.manager.pools_alive, stats.current.objects), (1, 0));
}

/// A decompressor that waits holds up no other call, and nothing is lost (B8).
#[test]
fn b8_waiting_decompressor_blocks_no_other_call() {
    let codec = CodecScript::new();
    let store =
        scripted(PoolScript::new(), codec.clone()).spec(spec("zsmalloc+rle")).build().unwrap();
    (0..200).for_each(|key| store.store(key, stamped(key, 1, 2000)).unwrap());
    std::thread::scope(|scope| {
        let closed = codec.gate.write().unwrap();
        let loader = scope.spawn(|| store.load_vec(&7).unwrap());
        codec.wait_for_arrivals(1);
        // All other calls proceed: on the same key, in the same shard, in the same zspage.
        assert_eq!(store.len_of(&7), Some(2000));
        store.store(7, stamped(7, 2, 2000)).unwrap();
        (0..200).for_each(|key| assert!(store.invalidate(&key)));
        let pool = store.manager().current().unwrap();
        pool.zpool().compact(zswap::CompactionBudget::UNLIMITED);
        pool.zpool().trim();
        assert_eq!((pool.zpool().stats().objects, pool.zpool().stats().zombies), (0, 1));
        (0..200).for_each(|key| store.store(key, stamped(key, 3, 2000)).unwrap());
        drop(closed);
        let loaded = loader.join().unwrap().expect("it was there");
        assert_eq!(unstamp(&loaded), (7, 1));
    });
    check_books(&store);
}

/// If a block is replaced while it is taken, the newer one is taken (B26).
#[test]
fn b26_take_during_replacement_takes_newer() {
    let codec = CodecScript::new();
    let store = scripted(PoolScript::new(), codec.clone()).build().unwrap();
    store.store(7, stamped(7, 1, 2000)).unwrap();
    std::thread::scope(|scope| {
        let closed = codec.gate.write().unwrap();
        let taker = scope.spawn(|| store.take_vec(&7).unwrap());
        codec.wait_for_arrivals(1);
        store.store(7, stamped(7, 2, 1500)).unwrap();
        drop(closed);
        let taken = taker.join().unwrap().expect("there was always one");
        assert_eq!((unstamp(&taken), taken.len()), ((7, 2), 1500));
    });
    assert!(store.is_empty());

    // Removed meanwhile: nothing is left to take.
    store.store(7, stamped(7, 3, 2000)).unwrap();
    std::thread::scope(|scope| {
        let closed = codec.gate.write().unwrap();
        let taker = scope.spawn(|| store.take_vec(&7).unwrap());
        codec.wait_for_arrivals(3);
        assert!(store.invalidate(&7));
        drop(closed);
        assert_eq!(taker.join().unwrap(), None);
    });
    assert_eq!((store.stats().taken, store.stats().invalidated), (1, 1));
}

/// Each key has one thread that stores and removes it; all threads load all keys, while pools are
/// switched.
#[test]
fn i7_storm_of_calls_and_switches() {
    for limit in [None, Some(600 << 10)] {
        let mut builder = builder().spec(spec("reference+rle"));
        if let Some(limit) = limit {
            builder = builder.limit_bytes(limit).at_limit(AtLimit::Refuse);
        }
        let store = builder.build().unwrap();
        let done = [AtomicBool::new(false), AtomicBool::new(false)];
        std::thread::scope(|scope| {
            for thread in 0..2u64 {
                let (store, done) = (store.clone(), &done[thread as usize]);
                scope.spawn(move || {
                    let _done = SetWhenDropped(done);
                    storm(&store, thread, limit.is_some());
                });
            }
            let mut n = 0;
            while !done.iter().all(|done| done.load(Ordering::Relaxed)) {
                store.switch(&spec(SPECS[n % SPECS.len()])).unwrap();
                n += 1;
                std::thread::yield_now();
            }
        });
        check_books(&store);
        store.clear();
        store.manager().flush().unwrap();
        let stats = store.stats();
        assert_eq!(
            (stats.manager.pools_alive, stats.decompress_failed, stats.free_failed),
            (1, 0, 0)
        );
        assert_eq!(stats.rejected.total(), stats.rejected.full, "nothing else fails");
    }
}

fn storm(store: &zswap::Store<u64>, thread: u64, may_be_full: bool) {
    let mut rng = TestRng::new(thread + 1);
    let mut mine = [None; 200];
    let mut buffer = vec![0; 4096];
    for version in 1..6_000u64 {
        let slot = rng.below(mine.len());
        let key = (thread << 32) | slot as u64;
        match rng.below(10) {
            0..4 => {
                let len = 16 + rng.below(4080);
                match store.store(key, stamped(key, version, len)) {
                    Ok(()) => mine[slot] = Some(version),
                    Err(error) => {
                        assert!(may_be_full, "{error}");
                        mine[slot] = None;
                    }
                }
            }
            4..7 => {
                let found = store.load(&key, &mut buffer).unwrap();
                assert_eq!(
                    found.map(|len| unstamp(&buffer[..len])),
                    mine[slot].map(|version| (key, version))
                );
            }
            7 => {
                // A block of another thread: any version, but whole and of that key.
                let other = ((1 - thread) << 32) | slot as u64;
                if let Some(bytes) = store.load_vec(&other).unwrap() {
                    assert_eq!(unstamp(&bytes).0, other);
                }
            }
            8 => assert_eq!(store.invalidate(&key), mine[slot].take().is_some()),
            _ => {
                let taken = store.take_vec(&key).unwrap();
                assert_eq!(taken.map(|bytes| unstamp(&bytes).1), mine[slot].take());
            }
        }
    }
}
