//! Draining retired pools: what moves, what stays, what is counted, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::common::codec::{CodecScript, OnCompress, OnDecompress};
use crate::common::pool::{OnInsert, OnRead, PoolScript};
use crate::common::{Look, TestRng, block, builder, check_books, scripted, spec, stamped};
use zswap::drain::{DrainBudget, DrainEnd};
use zswap::{AtLimit, Store};

const KEYS: u64 = 600;

/// Blocks of every kind, and every tenth longer than a block.
fn value(key: u64) -> Vec<u8> {
    let len = if key.is_multiple_of(10) { 9_000 } else { 100 + 6 * key as usize };
    let looks = [Look::Runs, Look::Runs, Look::Noise, Look::SameFilled];
    block(key, len, looks[(key / 10 % 4) as usize])
}

fn filled(text: &str) -> Store<u64> {
    let store = builder().spec(spec(text)).max_value_len(1 << 16).checksums(true).build().unwrap();
    (0..KEYS).for_each(|key| store.store(key, value(key)).unwrap());
    store
}

fn check_values<S: std::hash::BuildHasher>(store: &Store<u64, S>) {
    for key in 0..KEYS {
        assert!(store.peek_vec(&key).unwrap() == Some(value(key)), "key {key}");
    }
}

/// Entries that are in a pool, or have a block in one.
fn movable() -> usize {
    (0..KEYS).filter(|key| key / 10 % 4 != 3 || key.is_multiple_of(10)).count()
}

/// After a drain the only pool alive is the current one, and every value is what it was.
#[test]
fn drain_leaves_only_current_pool() {
    for from in crate::common::SPECS {
        for to in crate::common::SPECS.iter().filter(|to| *to != from) {
            let store = filled(from);
            let before = store.stats();
            store.switch(&spec(to)).unwrap();
            let report = store.drain(DrainBudget::UNLIMITED);
            assert_eq!((report.end, report.remaining), (DrainEnd::Empty, 0), "{from} to {to}");
            let in_pools = before.stored_compressed + before.stored_raw;
            assert!((in_pools..=movable()).contains(&report.moved), "{from} to {to}: {report:?}");
            assert_eq!(report.moved, report.copied + report.recompressed);
            let same_codec = spec(from).compressor == spec(to).compressor;
            assert_eq!(report.copied == report.moved, same_codec, "{from} to {to}: {report:?}");
            store.manager().flush().unwrap();
            assert_eq!(store.manager().stats().pools_alive, 1, "{from} to {to}");
            check_values(&store);
            check_books(&store);
            let after = store.stats();
            assert_eq!(after.moved, report.moved as u64);
            assert_eq!((after.stores, after.loads_hit), (before.stores, before.loads_hit));
            assert_eq!(after.stored_bytes, before.stored_bytes);
            assert_eq!(after.incompressible_skipped, before.incompressible_skipped);
            let (added, gone) = (report.object_bytes_after, report.object_bytes_before);
            assert_eq!(after.payload_bytes, before.payload_bytes + added - gone);
        }
    }
}

/// A drain continues where the one before it ended, and keeps to its budget of entries.
#[test]
fn drain_budget_of_entries_is_kept() {
    let store = filled("zsmalloc+lz4");
    store.switch(&spec("zbud+lz4")).unwrap();
    let (mut moved, mut last) = (0, 0);
    let end = loop {
        let report = store.drain(DrainBudget::entries(70));
        moved += report.moved;
        if report.end != DrainEnd::Budget {
            break report;
        }
        assert_eq!(report.moved, 70);
        assert!(
            last == 0 || report.remaining < last,
            "{} blocks left, {last} before",
            report.remaining
        );
        last = report.remaining;
    };
    assert_eq!((end.end, end.remaining), (DrainEnd::Empty, 0));
    assert_eq!(moved as u64, store.stats().moved);
    check_values(&store);
}

#[test]
fn drain_budget_of_nothing_moves_nothing() {
    let store = filled("zsmalloc+lz4");
    store.switch(&spec("zbud+lz4")).unwrap();
    for budget in [
        DrainBudget::entries(0),
        DrainBudget::UNLIMITED.with_bytes(0),
        DrainBudget::time(Duration::ZERO),
    ] {
        let report = store.drain(budget);
        assert_eq!((report.end, report.moved), (DrainEnd::Budget, 0), "{budget:?}");
        assert!(report.remaining > 0);
    }
    let report = store.drain(DrainBudget::UNLIMITED.with_bytes(50_000));
    assert_eq!(report.end, DrainEnd::Budget);
    assert!((50_000..50_000 + 9_000).contains(&report.object_bytes_before), "{report:?}");
}

/// A drain of a store that has no retired pool ends as empty.
#[test]
fn drain_without_retired_pool_is_empty() {
    let store = filled("zsmalloc+lz4");
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.moved, report.remaining), (DrainEnd::Empty, 0, 0));
    assert_eq!((report.held_before, report.held_after), (store.bytes_held(), store.bytes_held()));
}

/// Entries keep their heat: what was hot before a drain outlives what was cold.
#[test]
fn drain_keeps_heat() {
    let noise = |key: u64| block(key, 4096, Look::Noise);
    let store = builder().spec(spec("zsmalloc+lz4")).limit_bytes(64 << 20).at_limit(AtLimit::Evict);
    let store = store.build().unwrap();
    (0..800u64).for_each(|key| store.store(key, noise(key)).unwrap());
    let hot = || (0..800u64).step_by(8);
    for _ in 0..3 {
        hot().for_each(|key| drop(store.load_vec(&key).unwrap().unwrap()));
    }
    store.switch(&spec("zbud+lz4")).unwrap();
    assert_eq!(store.drain(DrainBudget::UNLIMITED).end, DrainEnd::Empty);
    // Room for about half of the blocks: without heat, half of the hot ones would be evicted.
    store.set_limit(Some(store.bytes_held() / 2)).unwrap();
    let left = hot().filter(|key| store.contains(key)).count();
    assert_eq!((left, hot().count()), (100, 100));
    assert!((100..700).contains(&store.len()), "{} blocks are left", store.len());
}

/// Blocks that cannot be read stay where they are, are counted, and move once they can be read.
#[test]
fn drain_unreadable_blocks_stay() {
    for read in [OnRead::Flip, OnRead::Cut, OnRead::Fail, OnRead::Panic] {
        let pool = PoolScript::new();
        let store = scripted(pool.clone(), CodecScript::new()).checksums(true).build().unwrap();
        (0..50u64).for_each(|key| store.store(key, block(key, 900, Look::Runs)).unwrap());
        store.switch(&spec("zsmalloc+lz4")).unwrap();
        pool.on_read(read);
        let report = store.drain(DrainBudget::UNLIMITED);
        assert_eq!(
            (report.end, report.moved, report.remaining),
            (DrainEnd::Stuck, 0, 50),
            "{read:?}"
        );
        let (seen, not) = match read {
            OnRead::Fail => (report.busy, report.unreadable),
            _ => (report.unreadable, report.busy),
        };
        assert!(seen >= 50 && not == 0, "{read:?}: {report:?}");
        pool.on_read(OnRead::Work);
        let report = store.drain(DrainBudget::UNLIMITED);
        assert_eq!(
            (report.end, report.moved, report.remaining),
            (DrainEnd::Empty, 50, 0),
            "{read:?}"
        );
        (0..50u64).for_each(|key| {
            assert!(store.take_vec(&key).unwrap() == Some(block(key, 900, Look::Runs)));
        });
        assert_eq!(pool.live(), 0, "{read:?}");
    }
}

/// Blocks that only the decoder finds broken stay, too. Every shard has such blocks.
#[test]
fn drain_undecodable_blocks_stay() {
    let codec = CodecScript::new();
    let store = scripted(PoolScript::new(), codec.clone()).build().unwrap();
    (0..2000u64).for_each(|key| store.store(key, block(key, 900, Look::Runs)).unwrap());
    store.switch(&spec("zsmalloc+lz4")).unwrap();
    for broken in [OnDecompress::Fail, OnDecompress::Panic] {
        codec.on_decompress(broken);
        let report = store.drain(DrainBudget::UNLIMITED);
        assert_eq!((report.end, report.moved, report.remaining), (DrainEnd::Stuck, 0, 2000));
        assert!(report.unreadable >= 2000, "{report:?}");
    }
    codec.on_decompress(OnDecompress::Work);
    assert_eq!(store.drain(DrainBudget::UNLIMITED).moved, 2000);
}

/// Without memory, or with a target that fails, every block stays where it is.
#[test]
fn drain_failing_target_loses_nothing() {
    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store = scripted(pool.clone(), codec.clone()).spec(spec("zsmalloc+lz4")).build().unwrap();
    (0..50u64).for_each(|key| store.store(key, stamped(key, 1, 900)).unwrap());
    store.switch(&spec("scripted+rle")).unwrap();
    pool.on_insert(OnInsert::OutOfMemory);
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.moved, report.remaining), (DrainEnd::OutOfMemory, 0, 50));
    pool.on_insert(OnInsert::Panic);
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.moved, report.remaining), (DrainEnd::Stuck, 0, 50));
    assert!(report.refused >= 50, "{report:?}");
    pool.on_insert(OnInsert::Work);
    for broken in [OnCompress::Fail, OnCompress::Panic, OnCompress::ClaimTooMuch] {
        codec.on_compress(broken);
        let report = store.drain(DrainBudget::UNLIMITED);
        assert_eq!((report.end, report.moved, report.remaining), (DrainEnd::Stuck, 0, 50));
        assert!(report.refused >= 50, "{report:?}");
    }
    (0..50u64).for_each(|key| {
        assert!(store.peek_vec(&key).unwrap() == Some(stamped(key, 1, 900)));
    });
    codec.on_compress(OnCompress::Work);
    assert_eq!(store.drain(DrainBudget::UNLIMITED).moved, 50);
    store.clear();
    assert_eq!((pool.live(), store.stats().payload_bytes), (0, 0));
}

/// At its limit a drain evicts nothing and never passes the limit. It gains room by compacting the
/// pool that it empties, so it can move more than the initial room.
#[test]
fn drain_at_limit_keeps_limit() {
    let mut rng = TestRng::new(7);
    let noise: Vec<Vec<u8>> = (0..1500u64).map(|key| block(key, 3000, Look::Noise)).collect();
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        let store = builder().spec(spec("zsmalloc+lz4")).limit_bytes(64 << 20).at_limit(at_limit);
        let store = store.build().unwrap();
        for (key, block) in (0u64..).zip(&noise) {
            store.store(key, block).unwrap();
        }
        // Makes holes, so that there is something to compact.
        for key in (0..1500u64).filter(|_| rng.below(4) == 0) {
            assert!(store.invalidate(&key));
        }
        store.switch(&spec("zsmalloc(chain=4)+lz4")).unwrap();
        let limit = store.bytes_held() + (128 << 10);
        store.set_limit(Some(limit)).unwrap();
        let (entries, mut moved) = (store.len(), 0);
        let end = loop {
            let report = store.drain(DrainBudget::entries(20));
            assert!(report.held_after <= limit, "{} bytes over {limit}", report.held_after);
            moved += report.moved;
            if report.end != DrainEnd::Budget {
                break report.end;
            }
        };
        assert!(moved > 200, "{moved} moved, {end:?}");
        assert!(matches!(end, DrainEnd::Empty | DrainEnd::Limit), "{end:?}");
        assert_eq!((store.len(), store.stats().evicted), (entries, 0));
        // With no room at all, nothing moves.
        if end == DrainEnd::Limit {
            let report = store.drain(DrainBudget::UNLIMITED);
            assert_eq!(report.end, DrainEnd::Limit, "{report:?}");
        }
        store.set_limit(None).unwrap();
        assert_eq!(store.drain(DrainBudget::UNLIMITED).end, DrainEnd::Empty);
        let whole = |key: &u64| store.peek_vec(key).unwrap().unwrap() == noise[*key as usize];
        assert!(store.keys().collect::<Vec<_>>().iter().all(whole));
    }
}

/// Entries in too many pools for one batch are all moved.
#[test]
fn drain_of_many_pools_moves_all() {
    let store = builder().hasher(crate::common::Constant).build().unwrap();
    for key in 0..60u64 {
        store.switch(&spec(&format!("zsmalloc(chain={})+rle", 1 + key % 20))).unwrap();
        store.store(key, stamped(key, 1, 700)).unwrap();
    }
    store.switch(&spec("zbud+lz4")).unwrap();
    assert!(store.manager().stats().pools_alive > 10);
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.moved, report.remaining), (DrainEnd::Empty, 60, 0));
    store.manager().flush().unwrap();
    assert_eq!(store.manager().stats().pools_alive, 1);
    (0..60u64).for_each(|key| {
        assert!(store.load_vec(&key).unwrap() == Some(stamped(key, 1, 700)));
    });
}

/// Two threads that drain at once share the work.
#[test]
fn drain_by_two_threads_moves_each_entry() {
    let store = filled("zsmalloc+lz4");
    store.switch(&spec("zbud+rle")).unwrap();
    let moved: usize = std::thread::scope(|scope| {
        let drain = || scope.spawn(|| store.drain(DrainBudget::UNLIMITED).moved);
        let drains = [drain(), drain()];
        drains.into_iter().map(|drain| drain.join().unwrap()).sum()
    });
    assert_eq!(moved as u64, store.stats().moved);
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.remaining), (DrainEnd::Empty, 0));
    check_values(&store);
    check_books(&store);
}

/// A store that wipes what it frees can be drained as well.
#[test]
fn drain_with_wiping_store_moves_all() {
    let store = Store::<u64>::builder()
        .spec(spec("zsmalloc+lz4"))
        .allocator(Arc::new(zpool_zsmalloc::ZsmallocDriver))
        .compressor(Arc::new(zpool_lz4::Lz4Driver))
        .wipe_on_free(true)
        .build()
        .unwrap();
    (0..300u64).for_each(|key| store.store(key, stamped(key, 1, 2000)).unwrap());
    store.switch(&spec("zsmalloc(chain=4)+lz4")).unwrap();
    assert_eq!(store.drain(DrainBudget::UNLIMITED).moved, 300);
    (0..300u64).for_each(|key| {
        assert!(store.load_vec(&key).unwrap() == Some(stamped(key, 1, 2000)));
    });
}
