//! Pools that await destruction count against the limit. A full store destroys them itself, before
//! it evicts or refuses.

use std::sync::Arc;

use crate::common::{Look, block, builder, check_books, spec};
use zpool_core::CompactionBudget;
use zswap::plugin::Manual;
use zswap::{AtLimit, Store};

const MIB: usize = 1 << 20;
const OTHERS: [&str; 2] = ["zbud+lz4", "zsmalloc(chain=2)+lz4"];

fn noise(key: u64) -> Vec<u8> {
    block(key, 3000, Look::Noise)
}

/// Builds a store whose executor never runs a job.
fn store(at_limit: AtLimit) -> Store<u64> {
    let manual = Arc::new(Manual::new());
    let store = builder().spec(spec("zsmalloc+lz4")).executor(manual);
    store.limit_bytes(8 * MIB).at_limit(at_limit).build().unwrap()
}

fn pending(store: &Store<u64>) -> usize {
    store.stats().manager.pending_destroy
}

/// Fills a refusing store and returns how many blocks it took.
fn fill(store: &Store<u64>) -> u64 {
    (0..100_000).find(|&key| store.store(key, noise(key)).is_err()).expect("it has a limit")
}

/// A refusing store whose blocks were all removed takes the next one, although its old pool awaits
/// an executor that never runs.
#[test]
fn refusing_store_destroys_pending_pool() {
    for text in OTHERS {
        let store = store(AtLimit::Refuse);
        let stored = fill(&store);
        store.switch(&spec(text)).unwrap();
        (0..stored).for_each(|key| assert!(store.invalidate(&key)));
        assert_eq!((store.len(), pending(&store)), (0, 1), "{text}");
        let held = store.bytes_held();
        store
            .store(stored, noise(1))
            .unwrap_or_else(|error| panic!("{text}: {error}, {held} held"));
        assert_eq!(pending(&store), 0, "{text}");
        check_books(&store);
    }
}

/// A pool that only a caller's reference kept alive awaits destruction when that reference is
/// dropped. `trim` destroys it.
#[test]
fn trim_destroys_pool_that_reference_kept() {
    let store = store(AtLimit::Refuse);
    let stored = fill(&store);
    let old = store.manager().current();
    store.switch(&spec("zbud+lz4")).unwrap();
    (0..stored).for_each(|key| assert!(store.invalidate(&key)));
    // The old pool is alive, and releases its frames like any other.
    store.store(stored, noise(1)).unwrap();
    assert_eq!(pending(&store), 0);
    drop(old);
    assert_eq!(pending(&store), 1);
    store.trim();
    assert_eq!(pending(&store), 0);
    check_books(&store);
}

/// An evicting store evicts nothing because of pools that await destruction, neither at its limit
/// nor between the threshold and the limit.
#[test]
fn evicting_store_destroys_pending_pool_first() {
    for text in OTHERS {
        let store = store(AtLimit::Evict);
        (0..4000).for_each(|key| store.store(key, noise(key)).unwrap());
        store.switch(&spec(text)).unwrap();
        store.clear();
        assert_eq!((store.len(), pending(&store)), (0, 1), "{text}");
        let evicted = store.stats().evicted;
        let blocks = 800;
        (0..blocks).for_each(|key| store.store(1 << 40 | key, noise(key)).unwrap());
        assert_eq!((store.stats().evicted - evicted, store.len() as u64), (0, blocks), "{text}");
        check_books(&store);
    }
}

/// Every block is replaced by one in the new pool. The old pool becomes empty on the way, and as
/// many blocks stay as fit.
#[test]
fn evicting_store_replaces_all_after_switch() {
    let store = store(AtLimit::Evict);
    (0..2000).for_each(|key| store.store(key, noise(key)).unwrap());
    store.switch(&spec("zsmalloc(chain=2)+lz4")).unwrap();
    (0..2000).for_each(|key| store.store(key, noise(key)).unwrap());
    assert!(store.len() > 1900, "{} of 2000", store.len());
    check_books(&store);
}

/// With the store's own executor, either thread may destroy the pool. Nothing is evicted in either
/// case.
#[test]
fn default_executor_evicts_nothing_for_pending() {
    for round in 0..5 {
        let store = builder().spec(spec("zsmalloc+lz4")).limit_bytes(8 * MIB);
        let store = store.at_limit(AtLimit::Evict).build().unwrap();
        (0..3000).for_each(|key| store.store(key, noise(key)).unwrap());
        store.switch(&spec("zbud+lz4")).unwrap();
        store.clear();
        store.switch(&spec("zsmalloc(chain=4)+lz4")).unwrap();
        let evicted = store.stats().evicted;
        (0..1000).for_each(|key| store.store(1 << 40 | key, noise(key)).unwrap());
        assert_eq!((store.stats().evicted - evicted, store.len()), (0, 1000), "round {round}");
    }
}

/// `trim` and `compact` destroy such pools too, and return how much that released.
#[test]
fn trim_and_compact_destroy_pending_pools() {
    for compact in [false, true] {
        let store = store(AtLimit::Refuse);
        (0..1000).for_each(|key| store.store(key, noise(key)).unwrap());
        store.switch(&spec("zbud+lz4")).unwrap();
        (0..1000).for_each(|key| assert!(store.invalidate(&key)));
        let held = store.bytes_held();
        let freed = if compact { store.compact(CompactionBudget::UNLIMITED) } else { store.trim() };
        assert_eq!(pending(&store), 0);
        let fell = held - store.bytes_held();
        assert!(fell > 2 * MIB && freed >= fell / 10 * 9, "{freed} freed, {fell} less held");
    }
}
