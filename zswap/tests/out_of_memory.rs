//! An exhausted heap: calls return an error, and nothing has changed. A program of its own, because
//! it replaces the allocator.
#![cfg(not(zpool_loom))]

mod common;

use std::sync::Arc;

use common::{Constant, Look, block, builder, check_books, spec};
use zpool_testing::heap::{CountingAllocator, Refusal, refusing};
use zswap::plugin::Manual;
use zswap::{Error, Store, StoreBuilder};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Builds a store without a worker, so that no other thread allocates meanwhile.
fn alone() -> StoreBuilder<u64> {
    builder().executor(Arc::new(Manual::new())).max_value_len(1 << 20)
}

/// A load without memory for its buffer fails and what is stored stays.
#[test]
fn load_without_memory_keeps_value() {
    let store = alone().build().unwrap();
    let value = vec![7; 1 << 20];
    store.store(1, &value).unwrap();
    let refused = Refusal::AtLeast(1 << 20);
    let no_memory = Error::BufferOutOfMemory { needed: 1 << 20 };
    assert!(no_memory.to_string().starts_with("no memory for a buffer of 1048576 bytes: "));
    assert_eq!(refusing(refused, || store.load_vec(&1)), Err(no_memory.clone()));
    assert_eq!(refusing(refused, || store.peek_vec(&1)), Err(no_memory.clone()));
    assert_eq!(refusing(refused, || store.take_vec(&1)), Err(no_memory.clone()));
    assert_eq!(refusing(refused, || store.load_with(&1, <[u8]>::len)), Err(no_memory));
    // A load into a buffer needs no memory.
    let mut buffer = vec![0; 1 << 20];
    assert_eq!(refusing(Refusal::All, || store.load(&1, &mut buffer)), Ok(Some(1 << 20)));
    assert_eq!(store.load_with(&1, |bytes| bytes == value), Ok(Some(true)));
    let stats = store.stats();
    assert_eq!(
        (stats.entries, stats.taken, stats.read_failed, stats.decompress_failed),
        (1, 0, 0, 0)
    );
    assert_eq!(store.take_vec(&1), Ok(Some(value)));
}

/// A table that cannot grow refuses the block at whichever request it is.
#[test]
fn table_that_cannot_grow_refuses_block() {
    let store = alone().checksums(true).build().unwrap();
    let (mut key, mut most, mut failures) = (0u64, 0, 0);
    // In the end one growth makes four requests: hashes, slots and checksums, and homes, which only
    // long tables need.
    while most < 4 {
        let mut nth = 0;
        while let Err(error) = refusing(Refusal::Nth(nth), || store.store(key, key.to_le_bytes())) {
            assert_eq!(error, Error::IndexOutOfMemory);
            assert!(!store.contains(&key));
            (nth, failures) = (nth + 1, failures + 1);
        }
        most = most.max(nth);
        key += 1;
        assert!(key < 10_000_000, "at most {most} requests");
    }
    assert!((0..key).all(|key| store.len_of(&key) == Some(8)));
    let stats = store.stats();
    assert_eq!(
        (stats.entries as u64, stats.stores, stats.rejected.alloc_failed),
        (key, key, failures)
    );
    check_books(&store);
}

/// A list of values that cannot grow refuses the value, and removing values needs no memory.
#[test]
fn value_list_that_cannot_grow_refuses_value() {
    let store = alone().build().unwrap();
    let empty = store.stats().index_bytes;
    let (mut key, mut failures) = (0u64, 0);
    while failures < 100 {
        let value = key.to_le_bytes().repeat(1024);
        let mut nth = 0;
        // The first to grow is the list itself, the second is the list of free numbers, which
        // removals need.
        while let Err(error) = refusing(Refusal::NthGrowth(nth), || store.store(key, &value)) {
            assert_eq!(error, Error::IndexOutOfMemory);
            assert!(!store.contains(&key));
            (nth, failures) = (nth + 1, failures + 1);
            assert!(nth <= 2);
        }
        key += 1;
        assert!(key < 1_000_000, "{failures} failures");
    }
    assert_eq!(store.stats().large_values as u64, key);
    check_books(&store);
    let full = store.stats().index_bytes;
    assert!(refusing(Refusal::All, || (0..key).all(|key| store.invalidate(&key))));
    // The values' lists of blocks are freed. The lists of the shard are still there.
    let emptied = store.stats().index_bytes;
    assert!(
        emptied > empty && full - emptied >= key as usize * 2 * 24,
        "{empty}, {full}, {emptied}"
    );
    (0..key).for_each(|key| store.store(key, [3; 8192]).unwrap());
    assert_eq!(store.stats().rejected.alloc_failed, failures);
    store.clear();
    assert_eq!(store.stats().index_bytes, empty, "all of it was counted");
}

/// A block whose pool finds no room in the shard's list of pools is kept with a reference of its
/// own.
#[test]
fn list_of_pools_that_cannot_grow_loses_no_block() {
    let store: Store<u64, Constant> = alone().hasher(Constant).max_pending(64).build().unwrap();
    let empty = store.stats().index_bytes;
    for key in 0..40 {
        store.switch(&spec(&format!("zsmalloc+rle(n={key})"))).unwrap();
        // Makes the pool's tables, so that it makes no request itself.
        let pool = store.manager().current().unwrap();
        pool.zpool().free(pool.zpool().insert(&block(key, 4096, Look::Noise)).unwrap()).unwrap();
        let (noise, mut nth) = (block(key, 4096, Look::Noise), 0);
        while let Err(error) = refusing(Refusal::NthGrowth(nth), || store.store(key, &noise)) {
            assert_ne!(error, Error::IndexOutOfMemory);
            assert_eq!(pool.zpool().stats().objects, 0);
            nth += 1;
        }
    }
    assert!(store.stats().large_values > 0, "a list has refused to grow");
    assert!(
        (0..40).all(|key| store.load_vec(&key).unwrap().unwrap() == block(key, 4096, Look::Noise))
    );
    check_books(&store);
    store.clear();
    assert_eq!(store.stats().index_bytes, empty, "all of it was counted");
}
