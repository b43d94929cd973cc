//! An exhausted heap: calls return an error, and everything is as it was. A program of its own,
//! because it replaces the allocator.

use std::sync::Arc;

use zpool_testing::heap::{CountingAllocator, Heap, Refusal, refusing};
use zswap::plugin::Manual;
use zswap_cache::{Cache, CacheError};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Builds a cache without a worker, so that no other thread allocates meanwhile.
fn cache() -> Cache<u64> {
    let executor = Arc::new(Manual::new());
    Cache::builder().configure_store(|store| store.executor(executor)).build().unwrap()
}

/// A look-up without memory for its value fails, and the value stays.
#[test]
fn get_without_memory_keeps_value() {
    let cache = cache();
    let value = vec![7; 1 << 20];
    cache.insert(1, &value).unwrap();
    let refused = Refusal::AtLeast(1 << 20);
    let error = CacheError::Store(zswap::Error::BufferOutOfMemory { needed: 1 << 20 });
    assert_eq!(refusing(refused, || cache.get(&1)), Err(error.clone()));
    assert_eq!(refusing(refused, || cache.get_with(&1, <[u8]>::len)), Err(error.clone()));
    assert_eq!(refusing(refused, || cache.update(&1, |_| ())), Err(error.clone()));
    assert_eq!(refusing(refused, || cache.remove_if(&1, |_| true)), Err(error));
    let mut buffer = vec![0; 1 << 20];
    assert_eq!(refusing(Refusal::All, || cache.get_into(&1, &mut buffer)), Ok(Some(1 << 20)));
    assert_eq!(cache.get(&1).unwrap(), Some(value));
}

/// An insert that is refused memory at any point removes what was there, or has succeeded.
#[test]
fn insert_refused_anywhere_leaves_nothing_older() {
    let (value, newer) = (vec![1; 100_000], b"newer text ".repeat(10_000));
    let mut failures = 0;
    for nth in 0.. {
        let cache = cache();
        cache.insert(1, &value).unwrap();
        match refusing(Refusal::Nth(nth), || cache.insert(1, &newer)) {
            Ok(()) => {
                assert_eq!(cache.get(&1).unwrap().as_ref(), Some(&newer));
                break;
            }
            Err(_) => {
                assert!(cache.is_empty());
                failures += 1;
            }
        }
    }
    assert!(failures > 0);
}

/// A computed value that cannot be stored is returned, and so is one whose flight cannot be noted.
#[test]
fn computed_value_is_returned_without_memory() {
    let cache = cache();
    let mut not_stored = 0;
    for nth in 0..40 {
        let mut value = vec![nth as u8; 50_000];
        value[0] = 1;
        let expected = value.clone();
        let load = || std::mem::take(&mut value);
        let found = refusing(Refusal::Nth(nth), || cache.get_or_insert_with(&nth, load));
        assert_eq!(found, Ok(expected));
        not_stored += u64::from(!cache.contains(&nth));
    }
    assert!(not_stored > 0 && !cache.is_empty());
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.loads_not_stored), (40, not_stored));
}

/// Removing, expiring and clearing need no memory, and hits make no heap call.
#[test]
fn removals_and_hits_need_no_memory() {
    let cache = cache();
    for key in 0..100 {
        cache.insert(key, key.to_le_bytes().repeat(1000)).unwrap();
    }
    let mut buffer = vec![0; 8000];
    cache.get_with(&7, <[u8]>::len).unwrap();
    let before = Heap::now();
    for key in 0..100 {
        assert_eq!(cache.get_into(&key, &mut buffer).unwrap(), Some(8000));
        assert_eq!(cache.get_with(&key, |value| value == buffer).unwrap(), Some(true));
    }
    assert_eq!(Heap::since(before).allocations, 0);
    refusing(Refusal::All, || {
        assert!(cache.remove(&1) && !cache.remove(&1));
        assert_eq!(cache.retain_keys(|key| key % 2 == 0), 49);
        assert_eq!(cache.remove_expired(), 0);
        cache.clear();
    });
    assert!(cache.is_empty());
}
