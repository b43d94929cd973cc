//! Removals: each reported once with its cause; pins, and their share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use zpool_testing::random::TestRng;
use zswap::EvictionDecision;
use zswap_cache::{Cache, CacheBuilder, CacheError, EntryOptions, RemovalCause};

type Seen = Arc<Mutex<Vec<(u64, usize, RemovalCause)>>>;

fn recording() -> (CacheBuilder<u64>, Seen) {
    let seen = Seen::default();
    let list = seen.clone();
    let builder = Cache::builder()
        .on_removal(move |key, len, cause| list.lock().unwrap().push((*key, len, cause)));
    (builder, seen)
}

fn noise(seed: u64) -> Vec<u8> {
    let mut rng = TestRng::new(seed);
    (0..4096).map(|_| rng.next() as u8).collect()
}

/// Every way to lose an entry is reported with its cause, key and length.
#[test]
fn each_removal_has_its_cause() {
    use RemovalCause::{Cleared, Invalidated, Replaced};
    let (builder, seen) = recording();
    let cache = builder.max_value_len(1 << 16).build().unwrap();
    cache.insert(1, "a").unwrap();
    cache.insert(1, "bb").unwrap();
    cache.remove(&1);
    cache.insert(2, "ccc").unwrap();
    cache.remove_if(&2, |_| true).unwrap();
    cache.insert(3, "dddd").unwrap();
    cache.retain(|_, _| false);
    cache.insert(4, "eeeee").unwrap();
    cache.retain_keys(|_| false);
    cache.insert(5, "ffffff").unwrap();
    cache.insert(5, vec![0; 1 << 17]).unwrap_err();
    cache.insert(6, vec![6; 50_000]).unwrap();
    cache.clear();
    let expected = [
        (1, 1, Replaced),
        (1, 2, Invalidated),
        (2, 3, Invalidated),
        (3, 4, Invalidated),
        (4, 5, Invalidated),
        (5, 6, Invalidated),
        (6, 50_000, Cleared),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    let stats = cache.stats();
    assert_eq!((stats.replaced, stats.invalidated, stats.cleared), (1, 5, 1));
}

/// A listener of the store below may keep entries. Only those that it lets go are reported.
#[test]
fn deciding_listener_below_keeps_entries() {
    let (builder, seen) = recording();
    let kept = |key: u64| key.is_multiple_of(100);
    let cache = builder
        .limit_bytes(2 << 20)
        .configure_store(|store| {
            store.on_evict_with(move |key, value| match kept(*key.key()) || value.len() != 4096 {
                true => EvictionDecision::Keep,
                false => EvictionDecision::Evict,
            })
        })
        .build()
        .unwrap();
    (0..2_000).for_each(|key| cache.insert(key, noise(key)).unwrap());
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 1_000 && seen.len() as u64 == cache.stats().evicted);
    assert!(seen.iter().all(|(key, _, cause)| !kept(*key) && *cause == RemovalCause::Evicted));
    assert!((0..2_000).step_by(100).all(|key| cache.get(&key).unwrap() == Some(noise(key))));
}

/// Each value that is inserted is there, or was reported as gone, once: under eviction from several
/// threads.
#[test]
fn reported_and_present_add_up() {
    let (builder, seen) = recording();
    let cache = builder.limit_bytes(2 << 20).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                let mut rng = TestRng::new(thread);
                for _ in 0..600 {
                    let key = rng.next() % 1000;
                    match rng.next() % 4 {
                        0 => drop(cache.remove(&key)),
                        _ => cache.insert(key, noise(rng.next())).unwrap(),
                    }
                }
            });
        }
    });
    let (stats, seen) = (cache.stats(), seen.lock().unwrap());
    assert!(stats.evicted > 0);
    let gone = stats.evicted + stats.replaced + stats.invalidated;
    assert_eq!((stats.inserts, seen.len() as u64), (gone + stats.entries as u64, gone));
}

/// A listener that panics harms nothing, and one that changes the cache does not recurse.
#[test]
fn listener_may_panic_and_use_the_cache() {
    let cell: Arc<Mutex<Option<Cache<u64>>>> = Arc::default();
    let (inner, calls) = (cell.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let cache: Cache<u64> = Cache::builder()
        .on_removal(move |&key, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let cache = inner.lock().unwrap().clone().expect("set before the first removal");
            cache.insert(key, "again").unwrap();
            cache.insert(key, "and again").unwrap();
            assert!(key != 13, "a listener's panic");
        })
        .build()
        .unwrap();
    *cell.lock().unwrap() = Some(cache.clone());
    for key in [7, 13] {
        cache.insert(key, "first").unwrap();
        assert!(cache.remove(&key));
        assert_eq!(cache.get(&key).unwrap().as_deref(), Some(&b"and again"[..]));
    }
    let stats = cache.stats();
    assert_eq!((calls.load(Ordering::Relaxed), stats.listeners_panicked), (2, 1));
    assert_eq!((stats.invalidated, stats.replaced), (2, 2));
    *cell.lock().unwrap() = None;
}

/// Pinned entries outlive any number of others, and their bytes are a bounded share.
#[test]
fn pinned_entries_are_not_evicted() {
    let (builder, seen) = recording();
    let cache = builder.limit_bytes(4 << 20).pinned_percent(10).build().unwrap();
    let mut pinned = 0;
    let full = loop {
        match cache.insert_with(pinned, noise(pinned), EntryOptions::new().pinned()) {
            Ok(()) => pinned += 1,
            Err(error) => break error,
        }
    };
    let share = (4 << 20) / 10;
    assert_eq!(pinned as usize, share / 4096);
    let used = pinned as usize * 4096;
    assert_eq!(full, CacheError::PinnedFull { len: 4096, pinned: used, share });
    for key in 1000..4000 {
        cache.insert(key, noise(key)).unwrap();
    }
    assert!(cache.stats().evicted > 1000);
    for key in 0..pinned {
        assert_eq!(cache.get(&key).unwrap(), Some(noise(key)));
    }
    assert!(seen.lock().unwrap().iter().all(|(key, ..)| *key >= 1000));
    // What is unpinned is like any other, and makes room for another pin.
    assert!(cache.unpin(&0) && !cache.unpin(&0) && !cache.is_pinned(&0));
    let last = cache.keys().find(|key| *key >= 1000).unwrap();
    assert_eq!(
        (cache.pin(&last), cache.pin(&last), cache.pin(&999_999)),
        (Ok(true), Ok(true), Ok(false))
    );
    assert!(matches!(cache.pin(&0), Err(CacheError::PinnedFull { .. })));
    assert_eq!(cache.stats().pinned_bytes, used);
    cache.clear();
    assert_eq!((cache.stats().pinned_bytes, cache.len()), (0, 0));
}

/// If nothing but pinned entries is left, an insert fails instead of searching for ever.
#[test]
fn all_pinned_refuses_instead_of_looping() {
    let cache: Cache<u64> =
        Cache::builder().limit_bytes(8 << 20).pinned_percent(100).build().unwrap();
    let mut key = 0;
    while cache.stats().pinned_bytes < 4 << 20 {
        cache.insert_with(key, noise(key), EntryOptions::new().pinned()).unwrap();
        key += 1;
    }
    let lowered = cache.set_limit(Some(2 << 20));
    assert!(matches!(lowered, Err(CacheError::Store(zswap::Error::Full { .. }))), "{lowered:?}");
    assert!(matches!(cache.insert(key, noise(key)), Err(CacheError::Store(_))));
    assert!((0..key).all(|key| cache.contains(&key)));
    (0..key).for_each(|key| assert!(cache.unpin(&key)));
    cache.insert(key, noise(key)).unwrap();
    assert!(cache.stats().evicted > 0);
}

/// A pinned value that outgrows the share loses its pin, and the account stays right.
#[test]
fn pinned_value_that_grows_keeps_account() {
    let cache: Cache<u64> =
        Cache::builder().limit_bytes(4 << 20).pinned_percent(1).build().unwrap();
    let share = (4 << 20) / 100;
    cache.insert_with(1, vec![1; 10_000], EntryOptions::new().pinned()).unwrap();
    cache.update(&1, |value| value.resize(20_000, 2)).unwrap();
    assert_eq!((cache.is_pinned(&1), cache.stats().pinned_bytes), (true, 20_000));
    cache.update(&1, |value| value.resize(share + 1, 3)).unwrap();
    assert_eq!((cache.is_pinned(&1), cache.stats().pinned_bytes), (false, 0));
    cache.insert_with(2, vec![1; share + 1], EntryOptions::new().pinned()).unwrap_err();
    assert!(!cache.contains(&2) && cache.stats().pinned_bytes == 0);
}
