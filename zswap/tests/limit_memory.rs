//! Making room needs no memory, because a program makes room when it has none. A binary of its own,
//! because it replaces the allocator.
#![cfg(not(zpool_loom))]

mod common;

use std::sync::Arc;

use common::{Look, block, builder, check_books, spec};
use zpool_testing::heap::{CountingAllocator, Refusal, refusing};
use zswap::plugin::Manual;
use zswap::{AtLimit, Store};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MIB: usize = 1 << 20;

/// Builds a store at its limit, with blocks, same-filled ones and long values in two pools.
fn full() -> Store<u64> {
    let store = builder()
        .spec(spec("zbud+rle"))
        .executor(Arc::new(Manual::new()))
        .limit_bytes(4 * MIB)
        .at_limit(AtLimit::Evict)
        .max_value_len(MIB)
        .build()
        .unwrap();
    for key in 0..2_000u64 {
        if key == 1_000 {
            store.switch(&spec("zbud+lz4")).unwrap();
        }
        let len = if key % 100 == 0 { 40_000 } else { 4_096 };
        let look =
            [Look::Noise, Look::Noise, Look::SameFilled, Look::Noise, Look::Runs][key as usize % 5];
        store.store(key, block(key, len, look)).unwrap();
    }
    assert!(store.stats().evicted > 0 && store.stats().large_values > 0);
    store
}

/// A lowered limit evicts without a single heap call that could fail. One that cannot fail aborts
/// this program.
#[test]
fn evicting_needs_no_memory() {
    let store = full();
    let before = store.stats();
    refusing(Refusal::All, || store.set_limit(Some(2 * MIB))).unwrap();
    let after = store.stats();
    assert!(store.bytes_held() < 2 * MIB && after.evicted > before.evicted + 300, "{after}");
    check_books(&store);
}

/// A store under pressure needs no memory either: a block that needs none itself replaces another
/// one, and evicts for it.
#[test]
fn paying_needs_no_memory() {
    let store = full();
    let keys: Vec<_> = store.keys().filter(|key| key % 5 == 2 && key % 100 != 0).collect();
    let evicted = store.stats().evicted;
    for (n, key) in keys.iter().enumerate() {
        let same = (n as u64).to_le_bytes().repeat(512);
        refusing(Refusal::All, || store.store(*key, &same)).unwrap();
        assert_eq!(refusing(Refusal::All, || store.bytes_held()), store.stats().bytes_held());
    }
    assert!(store.stats().evicted >= evicted);
    check_books(&store);
}

/// Releasing memory on request needs none either.
#[test]
fn trimming_needs_no_memory() {
    let store = full();
    let keys: Vec<_> = store.keys().collect();
    keys.iter().for_each(|key| assert!(store.invalidate(key)));
    let contexts = store.stats().context_bytes;
    let freed = refusing(Refusal::All, || store.trim());
    assert!(contexts > 0 && freed >= contexts, "{freed} of {contexts}");
    assert_eq!(store.stats().context_bytes, 0);
}
