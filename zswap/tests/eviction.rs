//! Eviction at the limit: which blocks are evicted and which stay, the listener, and how far the
//! limit is exceeded.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::common::{Look, TestRng, block, builder, check_books, spec};
use zswap::conditional::EvictionAdvice;
use zswap::plugin::Manual;
use zswap::{AtLimit, Error, MAX_BLOCK_SIZE, Store, StoreBuilder};

const MIB: usize = 1 << 20;

/// Bytes that a store in flight may add beyond the limit, by `AtLimit`: its object, and a share of
/// tables that grow.
const IN_FLIGHT: usize = 256 << 10;

fn evicting(text: &str, limit: usize) -> StoreBuilder<u64> {
    builder().spec(spec(text)).limit_bytes(limit).at_limit(AtLimit::Evict)
}

/// A store that evicts never fails and stays within its limit (B7).
#[test]
fn b7_evicting_store_stays_within_limit() {
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4"] {
        let store = evicting(text, 4 * MIB).build().unwrap();
        let mut rng = TestRng::new(1);
        for key in 0..6_000u64 {
            let look = [Look::Noise, Look::Runs, Look::Noise, Look::SameFilled][rng.below(4)];
            store.store(key, block(key, 1 + rng.below(4096), look)).unwrap();
            let held = store.bytes_held();
            assert!(held < 4 * MIB + IN_FLIGHT, "{text}: {held} held");
        }
        let stats = store.stats();
        assert!(stats.evicted > 1000 && stats.rejected.total() == 0, "{text}: {stats}");
        assert_eq!(stats.entries as u64, stats.stores - stats.evicted, "{text}");
        assert!(
            stats.payload_bytes > 2 * MIB,
            "{text}: it does not throw away more than it has to: {stats}"
        );
        check_books(&store);
    }
}

/// Between two jobs of the allocator, frames that became empty are held, and each call evicts as
/// much as it adds: with new blocks of any length, and with longer and shorter ones under the same
/// keys. If it evicted more, even by half a block each time, in the end nothing would be left.
#[test]
fn store_without_jobs_evicts_what_it_adds() {
    for keys in [u64::MAX, 1_500] {
        let manual = Arc::new(Manual::new());
        let store = evicting("zsmalloc+lz4", 4 * MIB).executor(manual).build().unwrap();
        let mut rng = TestRng::new(3);
        for n in 0..8_000u64 {
            store.store(n % keys, block(n, 1 + rng.below(4096), Look::Noise)).unwrap();
            if n % 100 == 99 {
                let stats = store.stats();
                assert!(
                    stats.evicted == 0 || stats.payload_bytes > 2 * MIB,
                    "{keys} keys, {n}: {stats}"
                );
            }
        }
        assert!(store.stats().evicted > 50, "{}", store.stats());
        check_books(&store);
    }
}

/// A removal of any kind is credited to the eviction debt, and so pays for later stores.
#[test]
fn what_comes_and_goes_by_turns_evicts_nothing_else() {
    /// The key of what comes and goes.
    const GUEST: u64 = u64::MAX;
    type Remove = fn(&Store<u64>, u64);
    let ways: [Remove; 4] = [
        |store, key| assert!(store.take_vec(&key).unwrap().is_some()),
        |store, key| assert!(store.invalidate(&key)),
        |store, key| assert_eq!(store.retain(|&other, _| other != key), 1),
        // The replacement costs next to nothing.
        |store, key| store.store(key, [7; 4096]).unwrap(),
    ];
    for (way, remove) in ways.into_iter().enumerate() {
        let manual = Arc::new(Manual::new());
        // Its block is pinned: the clock may evict any block that is cold, even the newest.
        let advice = |key: &u64| match *key {
            GUEST => EvictionAdvice::Never,
            _ => EvictionAdvice::ByUse,
        };
        let store = evicting("zsmalloc+lz4", 4 * MIB).eviction_advice(advice);
        let store = store.executor(manual).build().unwrap();
        let mut key = 0;
        while store.stats().evicted < 50 {
            store.store(key, block(key, 4096, Look::Noise)).unwrap();
            key += 1;
        }
        let before = store.stats();
        let turns = if way == 2 { 50 } else { 2_000 };
        for turn in 0..turns {
            // Few different lengths: a frame for each of many lengths would fill the store again.
            store
                .store(GUEST, block(turn, 2048 + 1024 * (turn as usize % 3), Look::Noise))
                .unwrap();
            remove(&store, GUEST);
        }
        let after = store.stats();
        // One block is evicted for one that is stored, and its cost is credited when that one is
        // removed.
        assert!(
            after.evicted - before.evicted <= 2,
            "way {way}: {} of {}",
            after.evicted,
            before.evicted
        );
        assert!(before.payload_bytes - after.payload_bytes <= 2 * 4096, "way {way}: {after}");
        check_books(&store);
    }
}

/// A store of blocks of the largest size stays within its limit too (B7).
#[test]
fn b7_longest_blocks_stay_within_limit() {
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4"] {
        let store = evicting(text, 16 * MIB).block_size(MAX_BLOCK_SIZE).build().unwrap();
        let mut rng = TestRng::new(2);
        for key in 0..400u64 {
            let look = [Look::Noise, Look::Runs][rng.below(2)];
            store.store(key % 300, block(key, MAX_BLOCK_SIZE - rng.below(100_000), look)).unwrap();
            // The first one makes the context: its scratch, and the codec's tables.
            let context = store.stats().context_bytes;
            let held = store.bytes_held();
            assert!(held < 16 * MIB + 2 * IN_FLIGHT + context, "{text}: {held} held");
        }
        assert!(store.stats().evicted > 100, "{text}");
        check_books(&store);
    }
}

/// Concurrent stores overshoot by no more than what is in flight (B7).
#[test]
fn b7_overshoot_is_what_is_in_flight() {
    let store = evicting("zsmalloc+lz4", 4 * MIB).build().unwrap();
    let worst = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (store, worst) = (&store, &worst);
            scope.spawn(move || {
                for n in 0..1_500 {
                    let key = (thread << 32) | n;
                    store.store(key, block(key, 4096, Look::Noise)).unwrap();
                    worst.fetch_max(store.bytes_held(), Ordering::Relaxed);
                }
            });
        }
    });
    let worst = worst.into_inner();
    assert!(worst < 4 * MIB + 4 * IN_FLIGHT, "{worst}");
    assert!(store.stats().evicted > 4_000);
    check_books(&store);
}

/// Blocks in use stay, and the listener receives the others.
#[test]
fn used_blocks_stay_and_listener_gets_the_rest() {
    let gone: Arc<Mutex<HashSet<u64>>> = Arc::default();
    let told = gone.clone();
    let store = evicting("zsmalloc+lz4", 4 * MIB)
        .on_evict(move |&key, len| {
            assert_eq!(len, 1000 + key as usize % 1000);
            assert!(told.lock().unwrap().insert(key), "evicted twice");
        })
        .build()
        .unwrap();
    let len = |key: u64| 1000 + key as usize % 1000;
    for key in 0..20_000u64 {
        store.store(key, block(key, len(key), Look::Noise)).unwrap();
        // A hundred blocks are loaded all the time.
        let hot = key % 100;
        if hot < key {
            assert!(store.load_vec(&hot).unwrap().is_some(), "key {hot} was used a moment ago");
        }
    }
    let gone = gone.lock().unwrap();
    assert!(
        (0..20_000).all(|key| store.contains(&key) != gone.contains(&key)),
        "there, or told of"
    );
    assert_eq!(gone.len() as u64, store.stats().evicted);
    assert!((0..100).all(|key| store.contains(&key)));
}

#[test]
fn peeks_do_not_keep_a_block_and_loads_do() {
    let store = evicting("reference+rle", 2 * MIB).build().unwrap();
    for key in 0..3_000u64 {
        store.store(key, block(key, 2000, Look::Noise)).unwrap();
        store.load_vec(&(key % 50)).unwrap();
        if key >= 100 {
            store.peek_vec(&(50 + key % 50)).unwrap();
        }
    }
    let there = |range: std::ops::Range<u64>| range.filter(|key| store.contains(key)).count();
    assert_eq!((there(0..50), there(50..100)), (50, 0));
}

/// The clock passes shards without entries and reaches the others (B30).
#[test]
fn b30_clock_passes_empty_shards() {
    // Three keys in 64 shards, and warm entries: the hand goes round until one is cold.
    let store = evicting("reference+rle", usize::MAX).build().unwrap();
    for key in 0..3u64 {
        store.store(key, block(key, 4096, Look::Noise)).unwrap();
        (0..10).for_each(|_| drop(store.load_vec(&key).unwrap()));
    }
    let empty = builder().build().unwrap().bytes_held();
    let error = store.set_limit(Some(empty / 2)).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "the shards alone are more: {error}");
    assert_eq!((store.len(), store.stats().evicted), (0, 3));
    store.set_limit(None).unwrap();
    store.store(1, b"and there is room again").unwrap();
}

/// After an eviction no reference to a pool is left (B27).
#[test]
fn b27_eviction_leaves_no_pool_reference() {
    let manual = Arc::new(Manual::new());
    let store = evicting("zsmalloc+lz4", 2 * MIB).executor(manual.clone()).build().unwrap();
    (0..2_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    store.switch(&spec("reference+lz4")).unwrap();
    // The executor is blocked meanwhile. Stores evict from the retired pool until it is empty.
    // Three turns of the hand and more: hashes are random, so turns differ in length.
    (2_000..8_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    assert!((0..2_000).all(|key| !store.contains(&key)));
    manual.run_all();
    let stats = store.stats();
    assert_eq!((stats.manager.pools_alive, stats.objects_by_pool.len()), (1, 1));
    check_books(&store);
}

/// Same-filled blocks are evicted too, and the index gets smaller.
#[test]
fn same_filled_blocks_are_evicted() {
    let store = evicting("reference+rle", MIB).build().unwrap();
    (0..200_000u64).for_each(|key| store.store(key, key.to_le_bytes()).unwrap());
    assert!(store.bytes_held() < MIB + IN_FLIGHT);
    assert!(store.len() > 10_000, "{}", store.len());
    store.set_limit(Some(MIB / 2)).unwrap();
    assert!(store.bytes_held() < MIB / 2, "{}", store.stats());
    assert!(store.len() > 1_000, "{}", store.len());
}

#[test]
fn a_limit_is_changed_at_run_time() {
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        let store = builder()
            .spec(spec("zsmalloc+lz4"))
            .limit_bytes(usize::MAX)
            .at_limit(at_limit)
            .build()
            .unwrap();
        assert_eq!(store.limit_bytes(), None);
        (0..2_000).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
        store.set_limit(Some(4 * MIB)).unwrap();
        assert_eq!(
            (store.limit_bytes(), store.stats().limit_bytes),
            (Some(4 * MIB), Some(4 * MIB))
        );
        if at_limit == AtLimit::Evict {
            assert!(store.bytes_held() < 4 * MIB && store.len() > 500, "{}", store.stats());
            store.store(9_999, block(1, 4096, Look::Noise)).unwrap();
        } else {
            assert_eq!(store.len(), 2_000);
            let refused = store.store(9_999, block(1, 4096, Look::Noise)).unwrap_err();
            assert!(matches!(refused, Error::Full { limit, .. } if limit == 4 * MIB));
        }
        store.set_limit(Some(64 * MIB)).unwrap();
        (3_000..5_000).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
        assert!(store.bytes_held() > 8 * MIB);
        check_books(&store);
    }
}

#[test]
fn what_compresses_well_is_spared_longer_when_asked() {
    let survivors = |spare: bool| {
        let store = evicting("zsmalloc+lz4", 4 * MIB).keep_compressible(spare).build().unwrap();
        for key in 0..8_000u64 {
            let look = if key % 2 == 0 { Look::Noise } else { Look::Runs };
            store.store(key, block(key, 3000, look)).unwrap();
        }
        let there =
            |odd| (0..8_000).filter(|key| key % 2 == odd && store.contains(key)).count() as f64;
        there(1) / there(0)
    };
    let (plain, sparing) = (survivors(false), survivors(true));
    assert!((0.8..1.25).contains(&plain), "{plain}: the kind does not matter");
    assert!(sparing > 1.4, "{sparing}");
}

/// A listener that panics is counted and changes nothing.
#[test]
fn panicking_listener_is_counted() {
    let store = evicting("zsmalloc+lz4", 2 * MIB)
        .on_evict(|_, _| panic!("a listener that panics"))
        .build()
        .unwrap();
    (0..2_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    let stats = store.stats();
    assert!(
        stats.listeners_panicked > 1_000 && stats.listeners_panicked == stats.evicted,
        "{stats}"
    );
    check_books(&store);
}

/// A listener whose panic panics again when dropped is contained as well.
#[test]
fn listener_panic_that_panics_on_drop_is_contained() {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a payload that panics");
        }
    }
    let store = evicting("zsmalloc+lz4", MIB)
        .on_evict(|_, _| std::panic::panic_any(Again))
        .build()
        .unwrap();
    (0..600).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    let stats = store.stats();
    assert!(stats.listeners_panicked > 200 && stats.listeners_panicked == stats.evicted, "{stats}");
    check_books(&store);
}

/// A listener may use the store, and what it stores evicts nothing.
#[test]
fn listener_store_does_not_evict() {
    let itself: Arc<OnceLock<Store<u64>>> = Arc::default();
    let again = itself.clone();
    let (depth, told) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let counted = told.clone();
    let store = evicting("zsmalloc+lz4", 2 * MIB)
        .on_evict(move |&key, len| {
            let store = again.get().expect("set before anything is stored");
            assert_eq!(depth.fetch_add(1, Ordering::Relaxed), 0, "what it stores evicts nothing");
            assert!(!store.contains(&key));
            // If there is no room yet, the block is refused, as by a store that does not evict.
            if let Err(error) = store.store(key | 1 << 32, len.to_le_bytes()) {
                assert!(matches!(error, Error::Full { .. }), "{error}");
            }
            counted.fetch_add(1, Ordering::Relaxed);
            depth.fetch_sub(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    itself.set(store.clone()).unwrap();
    (0..2_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    let stats = store.stats();
    assert_eq!((stats.listeners_panicked, stats.evicted), (0, told.load(Ordering::Relaxed) as u64));
    assert!(stats.evicted > 1_000, "{stats}");
    check_books(&store);
}

/// A listener may fill another store, which evicts on its own.
#[test]
fn listener_may_fill_second_tier() {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    let count = move |_: &u64, _| _ = counted.fetch_add(1, Ordering::Relaxed);
    let second = evicting("zsmalloc+lz4", 2 * MIB).on_evict(count).build().unwrap();
    let behind = second.clone();
    let first = evicting("zsmalloc+lz4", MIB)
        .on_evict(move |&key, len| behind.store(key, block(key, len, Look::Noise)).unwrap())
        .build()
        .unwrap();
    (0..2_000).for_each(|key| first.store(key, block(key, 4000, Look::Noise)).unwrap());
    let (first, second) = (first.stats(), second.stats());
    assert_eq!(first.listeners_panicked, 0);
    assert_eq!(
        (first.evicted, second.evicted),
        (second.stores, told.load(Ordering::Relaxed) as u64)
    );
    assert!(second.evicted > 500, "{second}");
}

/// A store without a limit or without entries evicts nothing (B31).
#[test]
fn b31_without_limit_or_entries_nothing_is_evicted() {
    let store = builder().limit_bytes(usize::MAX).at_limit(AtLimit::Evict).build().unwrap();
    (0..1_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    assert_eq!((store.len(), store.stats().evicted), (1_000, 0));
    let nothing = evicting("reference+rle", MIB).build().unwrap();
    nothing.set_limit(Some(0)).unwrap_err();
    let error = nothing.store(1, b"not a byte of it").unwrap_err();
    assert!(matches!(error, Error::Full { limit: 0, held, .. } if held > 0));
}
