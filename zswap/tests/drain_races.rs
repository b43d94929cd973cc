//! Drains that meet stores, takes, removals and switches in the middle of a copy. A compressor with
//! a hook makes each meeting certain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::hooked::{Hook, HookedDriver};
use crate::common::{Constant, Look, block, builder, check_books, spec, stamped, unstamp};
use zswap::Store;
use zswap::drain::{DrainBudget, DrainEnd, DrainReport};

const KEY: u64 = 3;
const LEN: usize = 1500;

/// A store that was switched to the compressor with the hook, with one block in a retired pool.
fn rig(from: &str) -> (Arc<Hook>, Store<u64>) {
    let hook = Hook::new();
    let store = builder()
        .spec(spec(from))
        .compressor(Arc::new(HookedDriver { hook: hook.clone() }))
        .max_value_len(1 << 16)
        .build()
        .unwrap();
    store.store(KEY, stamped(KEY, 1, LEN)).unwrap();
    store.switch(&spec("zsmalloc+hooked")).unwrap();
    (hook, store)
}

/// Drains while `meet` runs in the middle of the copy.
fn drain_and(
    hook: &Arc<Hook>,
    store: &Store<u64>,
    meet: impl FnOnce(&Store<u64>) + Send + 'static,
) -> DrainReport {
    let other = store.clone();
    hook.after(0, move || meet(&other));
    let report = store.drain(DrainBudget::UNLIMITED);
    assert!(!hook.is_set(), "the copy was met");
    report
}

fn version(store: &Store<u64>) -> Option<u64> {
    store.load_vec(&KEY).unwrap().map(|bytes| unstamp(&bytes).1)
}

/// If a block is replaced while it is copied, the newer one stays.
#[test]
fn drain_newer_block_is_kept() {
    for from in ["zsmalloc+lz4", "reference+rle"] {
        let (hook, store) = rig(from);
        let report = drain_and(&hook, &store, |store| {
            store.store(KEY, stamped(KEY, 2, LEN)).unwrap();
        });
        assert_eq!((report.end, report.moved, report.changed), (DrainEnd::Empty, 0, 1), "{from}");
        assert_eq!(version(&store), Some(2), "{from}");
        check_books(&store);
    }
}

/// A block is replaced while it is copied, in the same pool, and by an exchange that would keep its
/// handle. The pin distinguishes the two.
#[test]
fn drain_newer_block_in_revived_pool_is_kept() {
    for from in ["zsmalloc+lz4", "reference+rle"] {
        let (hook, store) = rig(from);
        let back = spec(from);
        let report = drain_and(&hook, &store, move |store| {
            store.switch(&back).unwrap();
            for newer in 2..=9 {
                store.store(KEY, stamped(KEY, newer, LEN)).unwrap();
            }
        });
        assert_eq!((report.end, report.remaining), (DrainEnd::Empty, 0), "{from}");
        assert_eq!(version(&store), Some(9), "{from}");
        check_books(&store);
    }
}

/// A block that is removed or taken while it is copied does not come back.
#[test]
fn drain_removed_block_stays_gone() {
    let removals: [fn(&Store<u64>); 5] = [
        |store| assert!(store.invalidate(&KEY)),
        |store| assert_eq!(unstamp(&store.take_vec(&KEY).unwrap().unwrap()), (KEY, 1)),
        Store::clear,
        |store| assert_eq!(store.retain(|_, _| false), 1),
        |store| assert!(store.store(KEY, vec![0; 1 << 20]).is_err(), "too long"),
    ];
    for remove in removals {
        let (hook, store) = rig("zsmalloc+lz4");
        let report = drain_and(&hook, &store, remove);
        assert_eq!((report.end, report.moved, report.changed), (DrainEnd::Empty, 0, 1));
        assert_eq!((version(&store), store.len()), (None, 0));
        assert_eq!(store.stats().payload_bytes, 0);
        check_books(&store);
        let _ = store.manager().flush();
        assert_eq!(store.manager().stats().pools_alive, 1);
    }
}

/// A switch back in the middle of a batch redirects a drain: in the end the revived pool has all
/// blocks, and no other entry of the batch was moved in the old direction. One shard has all
/// entries, so that the batch is a full one.
#[test]
fn drain_revival_turns_it() {
    let hook = Hook::new();
    let store = builder()
        .hasher(Constant)
        .spec(spec("zsmalloc+lz4"))
        .compressor(Arc::new(HookedDriver { hook: hook.clone() }))
        .build()
        .unwrap();
    (0..500u64).for_each(|key| store.store(key, stamped(key, 1, LEN)).unwrap());
    let first = store.manager().current().unwrap().id();
    store.switch(&spec("zsmalloc+hooked")).unwrap();
    let other = store.clone();
    hook.after(200, move || {
        let switched = other.switch(&spec("zsmalloc+lz4")).unwrap();
        assert_eq!(switched.pool_id(), first, "the retired pool is revived");
    });
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.remaining), (DrainEnd::Empty, 0));
    // Moved there and back again: the block of the call is moved to a pool that was just retired.
    assert_eq!(report.moved, 2 * 201, "{report:?}");
    let _ = store.manager().flush();
    let stats = store.manager().stats();
    assert_eq!((stats.pools_alive, stats.pools_revived), (1, 1));
    assert_eq!(store.manager().current().unwrap().id(), first);
    (0..500u64).for_each(|key| {
        assert_eq!(unstamp(&store.load_vec(&key).unwrap().unwrap()), (key, 1));
    });
    check_books(&store);
}

/// If a value of several blocks is replaced while it is copied, the newer one stays.
#[test]
fn drain_newer_large_value_is_kept() {
    let (hook, store) = rig("zsmalloc+lz4");
    store.switch(&spec("zsmalloc+lz4")).unwrap();
    store.store(KEY, stamped(KEY, 5, 20_000)).unwrap();
    store.switch(&spec("zsmalloc+hooked")).unwrap();
    let report = drain_and(&hook, &store, |store| {
        store.store(KEY, stamped(KEY, 6, 20_000)).unwrap();
    });
    assert_eq!((report.moved, report.changed, report.remaining), (0, 1, 0));
    assert_eq!(version(&store), Some(6));
    check_books(&store);
}

/// A value that `retain` rejects is removed even if a drain moves it while `keep` decides.
#[test]
fn drain_during_keep_does_not_save_rejected_block() {
    for large in [false, true] {
        let store = builder().spec(spec("zsmalloc+lz4")).max_value_len(1 << 16).build().unwrap();
        let len = if large { 20_000 } else { LEN };
        (0..20u64).for_each(|key| store.store(key, stamped(key, 1, len)).unwrap());
        store.switch(&spec("zsmalloc+rle")).unwrap();
        let (drained, other) = (AtomicBool::new(false), store.clone());
        let removed = store.retain(|key, _| {
            if !drained.swap(true, Ordering::Relaxed) {
                assert_eq!(other.drain(DrainBudget::UNLIMITED).remaining, 0);
            }
            key % 2 == 1
        });
        assert_eq!((removed, store.len()), (10, 10));
        assert!(store.keys().all(|key| key % 2 == 1));
        check_books(&store);
    }
}

/// A reader that holds a value while it is moved has its bytes to the end.
#[test]
fn drain_under_reader_leaves_its_bytes() {
    let store = builder().spec(spec("zsmalloc+lz4")).build().unwrap();
    store.store(KEY, stamped(KEY, 1, LEN)).unwrap();
    store.switch(&spec("zbud+lz4")).unwrap();
    let (other, mut before) = (store.clone(), Vec::new());
    store
        .export(&KEY, |form| {
            let zswap::EncodedBlock::Compressed { bytes, .. } = form else { panic!("{form:?}") };
            before = bytes.to_vec();
            assert_eq!(other.drain(DrainBudget::UNLIMITED).moved, 1);
            assert!(bytes == before);
        })
        .unwrap();
    let _ = store.manager().flush();
    assert_eq!((version(&store), store.manager().stats().pools_alive), (Some(1), 1));
    // The copy is the object itself.
    store
        .export(&KEY, |form| {
            assert!(
                matches!(form, zswap::EncodedBlock::Compressed { bytes, .. } if bytes == before)
            );
        })
        .unwrap();
    let noise = block(KEY, LEN, Look::Noise);
    store.store(KEY, &noise).unwrap();
    assert!(store.load_vec(&KEY).unwrap() == Some(noise));
}
