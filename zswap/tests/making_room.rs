//! A store that evicts, at its limit: how much it evicts for what it adds, and what the allocator's
//! own means of releasing memory spare.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::codec::{CodecScript, RleDriver};
use crate::common::pool::{OnGiveBack, PoolScript, ScriptedDriver};
use crate::common::{Look, block, builder, check_books, spec};
use zswap::conditional::EvictionAdvice;
use zswap::plugin::Manual;
use zswap::{AtLimit, Store};

const MIB: usize = 1 << 20;

/// Bytes that a store in flight may add beyond the limit, by `AtLimit`.
const IN_FLIGHT: usize = 256 << 10;

/// From this key on, blocks are pinned.
const PINNED: u64 = 1 << 32;

/// The clock may evict any block that is cold, even the newest. A test that needs a block pins it.
fn pin(key: &u64) -> EvictionAdvice {
    if *key < PINNED { EvictionAdvice::ByUse } else { EvictionAdvice::Never }
}

/// Fills a store of 4 MiB with noise until something is evicted. Then it is below its limit, but
/// above the threshold. Also returns the next key.
fn pressed(text: &str) -> (Store<u64>, u64) {
    // The executor never runs a job, because memory freed by a job in between would disturb the
    // figures.
    let builder = builder().spec(spec(text)).executor(Arc::new(Manual::new()));
    let builder = builder.limit_bytes(4 * MIB).at_limit(AtLimit::Evict);
    let store = builder.eviction_advice(pin).build().unwrap();
    let mut key = 0;
    while store.stats().evicted == 0 {
        store.store(key, noise(key, 4096)).unwrap();
        key += 1;
        assert!(key < 10_000, "never full");
    }
    (store, key)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    block(seed, len, Look::Noise)
}

/// Between threshold and limit a block evicts as much as it adds.
#[test]
fn above_low_watermark_store_evicts_what_it_adds() {
    for text in ["reference+rle", "zsmalloc+lz4"] {
        let (store, first) = pressed(text);
        let before = store.stats().evicted;
        for n in 1..=100 {
            let key = if n < 100 { first + n } else { PINNED };
            store.store(key, noise(n, 4096)).unwrap();
            assert_eq!(store.stats().evicted, before + n, "{text}");
        }
        // A block of the same length adds nothing, and a block that was shortened may become as
        // long as before. Beyond that, half a block more evicts a whole one, and its excess is
        // credited to the blocks that follow. (Evicting one of the short ones would pay for less,
        // so they are pinned.)
        for (key, len, evicted) in
            [(0, 4096, 0), (0, 1024, 0), (0, 4096, 0), (1, 2048, 1), (2, 1024, 1), (3, 4096, 2)]
        {
            store.store(PINNED + key, noise(len as u64, len)).unwrap();
            assert_eq!(store.stats().evicted, before + 100 + evicted, "{text}, {key}, {len}");
        }
        check_books(&store);
    }
}

/// A raised limit takes blocks at once and evicts nothing for them.
#[test]
fn raised_limit_evicts_nothing() {
    let (store, first) = pressed("reference+rle");
    let (evicted, held) = (store.stats().evicted, store.bytes_held());
    let raised = held + MIB / 4;
    assert!(held > raised / 10 * 9, "above the threshold of the new limit, too");
    store.set_limit(Some(raised)).unwrap();
    (first..first + 40).for_each(|key| store.store(key, noise(key, 4096)).unwrap());
    assert_eq!(store.stats().evicted, evicted);
    check_books(&store);
}

/// Builds a store without a limit, of 20 000 blocks of which 4 000 are left: those whose keys are
/// multiples of five. Most of its frames are holes, and only the store itself compacts them.
fn full_of_holes(pool: Arc<PoolScript>) -> Store<u64> {
    let inner = Arc::new(zpool_zsmalloc::ZsmallocDriver);
    let store = Store::builder()
        .spec(spec("scripted+rle"))
        .allocator(Arc::new(ScriptedDriver { inner, script: pool }))
        .compressor(Arc::new(RleDriver { script: CodecScript::new() }))
        .executor(Arc::new(Manual::new()))
        .limit_bytes(usize::MAX)
        .at_limit(AtLimit::Evict)
        .build()
        .unwrap();
    (0..20_000).for_each(|key| store.store(key, noise(key, 400)).unwrap());
    (0..20_000).filter(|key| key % 5 != 0).for_each(|key| assert!(store.invalidate(&key)));
    let (held, payload) = (store.bytes_held(), store.stats().payload_bytes);
    assert!(held > 4 * payload, "{held} bytes held for {payload}");
    store
}

/// Holes are compacted away before anything is evicted.
#[test]
fn full_store_of_holes_evicts_nothing() {
    let store = full_of_holes(PoolScript::new());
    // Twice what the blocks need, and half of what the store holds.
    let limit = store.bytes_held() / 2;
    store.set_limit(Some(limit)).unwrap();
    assert_eq!(store.stats().evicted, 0);
    assert!(store.bytes_held() < limit);
    let there =
        |key: &u64| store.peek_vec(key).unwrap().is_some_and(|bytes| bytes == noise(*key, 400));
    assert_eq!((0..20_000).filter(there).count(), 4_000);
    check_books(&store);
}

/// An allocator that panics while it releases memory does not make stores fail.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn panicking_release_does_not_fail_stores() {
    for what in [OnGiveBack::PanicInTrim, OnGiveBack::PanicInCompact] {
        let pool = PoolScript::new();
        let store = full_of_holes(pool.clone());
        let limit = store.bytes_held() / 2;
        pool.on_give_back(what);
        store.set_limit(Some(limit)).unwrap();
        let panics = || pool.gave_nothing_back.load(Ordering::SeqCst);
        let by_limit = panics();
        assert!(by_limit > 0 && store.bytes_held() < limit, "{what:?}: {by_limit}");
        for key in 20_000..30_000 {
            store.store(key, noise(key, 400)).unwrap();
            // It may be the one that is evicted.
            let loaded = store.load_vec(&key).unwrap();
            assert!(loaded.is_none_or(|bytes| bytes == noise(key, 400)));
            assert!(store.bytes_held() < limit + IN_FLIGHT, "{what:?}");
        }
        let stats = store.stats();
        assert!(what != OnGiveBack::PanicInTrim || panics() > by_limit, "stores trim, too");
        assert_eq!((stats.rejected.total(), pool.live()), (0, stats.entries as isize), "{what:?}");
        assert_eq!(
            stats.entries as u64,
            4_000 + 10_000 - stats.evicted,
            "{what:?}: nothing is lost"
        );
        assert!(stats.evicted > 1_000, "{what:?}: {stats}");
        check_books(&store);
    }
}

/// A short object costs half a page in zbud. A step of eviction counts that, so a store of them
/// stays about as full as one of long ones.
#[test]
fn short_blocks_in_zbud_keep_store_full() {
    for len in [9, 100] {
        for limit in [MIB, 4 * MIB] {
            let store =
                builder().spec(spec("zbud+lz4")).limit_bytes(limit).at_limit(AtLimit::Evict);
            let store = store.build().unwrap();
            let (mut least, mut key) = (usize::MAX, 0);
            let mut past = 0;
            while past < 6_000 {
                store.store(key, noise(key, len)).unwrap();
                key += 1;
                past += u64::from(store.stats().evicted > 0);
                if past > 0 && past.is_multiple_of(4) {
                    least = least.min(store.bytes_held());
                }
                assert!(key < 100_000, "never full");
            }
            assert!(least * 10 >= limit * 6, "blocks of {len}, limit {limit}: {least} held");
            check_books(&store);
        }
    }
}

/// A pool that compacts but does not estimate the gain is still compacted: a refusing store with
/// holes takes the next block.
#[test]
fn pool_without_estimates_is_compacted() {
    let pool = PoolScript::new();
    pool.no_estimates.store(true, Ordering::SeqCst);
    let inner = Arc::new(zpool_zsmalloc::ZsmallocDriver);
    let store = Store::<u64>::builder()
        .spec(spec("scripted(compact=off)+rle"))
        .allocator(Arc::new(ScriptedDriver { inner, script: pool }))
        .compressor(Arc::new(RleDriver { script: CodecScript::new() }))
        .executor(Arc::new(Manual::new()))
        .limit_bytes(MIB)
        .at_limit(AtLimit::Refuse)
        .build()
        .unwrap();
    let stored = (0..100_000).find(|&key| store.store(key, noise(key, 400)).is_err()).unwrap();
    (0..stored).filter(|key| key % 5 != 0).for_each(|key| assert!(store.invalidate(&key)));
    // It has just looked in vain, so it now relies on estimates.
    for key in stored..stored + 400 {
        store.store(key, noise(key, 400)).unwrap();
    }
    check_books(&store);
}

/// The work of a store at its limit does not grow with the number of retired pools.
#[test]
fn evicting_among_many_pools_trims_a_bounded_number() {
    let trims = |pools: u64| {
        let script = PoolScript::new();
        let inner = Arc::new(zpool_zsmalloc::ZsmallocDriver);
        let store = Store::<u64>::builder()
            .spec(spec("scripted+rle"))
            .allocator(Arc::new(ScriptedDriver { inner, script: script.clone() }))
            .compressor(Arc::new(RleDriver { script: CodecScript::new() }))
            .limit_bytes(8 * MIB)
            .at_limit(AtLimit::Evict)
            .revive(false)
            .build()
            .unwrap();
        let mut key = 0;
        for pool in 0..pools {
            let text =
                if pool % 2 == 0 { "scripted(chain=1)+rle" } else { "scripted(chain=2)+rle" };
            store.switch(&spec(text)).unwrap();
            (0..1200 / pools).for_each(|_| {
                store.store(key, noise(key, 4096)).unwrap();
                key += 1;
            });
        }
        while store.stats().evicted == 0 {
            store.store(key, noise(key, 4096)).unwrap();
            key += 1;
        }
        let before = script.trims.load(Ordering::SeqCst);
        for n in 0..400 {
            store.store(key + n, noise(n, 4096)).unwrap();
        }
        check_books(&store);
        script.trims.load(Ordering::SeqCst) - before
    };
    let (few, many) = (trims(40), trims(600));
    assert!(many <= 2 * few + 400, "{few} trims among 40 pools, {many} among 600");
}
