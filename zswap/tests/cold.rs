//! The cold pool: what moves there, what stays, what returns, and what a switch does.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{
    Constant, Look, block, builder, check_books, cold_builder, spec, stamped, unstamp,
};
use zswap::drain::{DrainBudget, DrainEnd, DrainPolicy};
use zswap::manager::PoolState;
use zswap::plugin::{Manual, WorkQueue};
use zswap::stats::ColdStats;
use zswap::{AtLimit, BuildError, SequentialKeys, Store};

/// Blocks of long runs: rle makes them much smaller than lz4 does.
const LEN: usize = 1200;

fn runs(key: u64, len: usize) -> Vec<u8> {
    stamped(key, 1, len)
}

/// Turns the clock so many times.
fn turn(store: &Store<u64>, times: usize) {
    for _ in 0..times {
        store.turn_heat_clock();
    }
}

fn cold(store: &Store<u64>) -> ColdStats {
    store.stats().cold.expect("there is a pool for cold blocks")
}

fn is_shorter_in_rle() -> bool {
    let store_of = |text: &str| {
        let store = builder().spec(spec(text)).build().unwrap();
        (0..100u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
        store.stats().payload_bytes
    };
    store_of("zbud+rle") * 8 < store_of("zsmalloc+lz4") * 7
}

/// Blocks that were not loaded for two turns are in the cold pool, others are not. Both load.
#[test]
fn cold_after_two_turns_without_load() {
    assert!(is_shorter_in_rle(), "the blocks of these tests shrink by 1/8");
    let store = cold_builder().checksums(true).build().unwrap();
    (0..400u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    store.store(400, runs(400, 20_000)).unwrap();
    let before = store.stats();
    assert_eq!(store.turn_heat_clock(), zswap::drain::ColdReport::default());
    for key in (0..400u64).step_by(4) {
        assert!(store.load_vec(&key).unwrap() == Some(runs(key, LEN)));
    }
    let report = store.turn_heat_clock();
    assert_eq!((report.made_cold, report.stayed, report.failed), (301, 0, 0), "{report:?}");
    assert!(report.object_bytes_after * 8 <= report.object_bytes_before * 7, "{report:?}");
    let stats = store.stats();
    assert_eq!(cold(&store).made_cold, 301);
    assert_eq!(cold(&store).blocks, 300 + 20_000usize.div_ceil(4096));
    assert_eq!((stats.stores, stats.entries), (before.stores, before.entries));
    assert_eq!(stats.stored_bytes, before.stored_bytes);
    assert_eq!(
        stats.payload_bytes,
        before.payload_bytes + report.object_bytes_after - report.object_bytes_before
    );
    for key in 0..=400 {
        let len = if key == 400 { 20_000 } else { LEN };
        assert!(store.peek_vec(&key).unwrap() == Some(runs(key, len)), "key {key}");
    }
    check_books(&store);
    // Nothing is left to do, except for the blocks loaded before, which take three more turns.
    let later: Vec<_> = (0..3).map(|_| store.turn_heat_clock().made_cold).collect();
    assert_eq!(later.iter().sum::<usize>(), 100, "{later:?}");
    assert_eq!(cold(&store).made_cold, 401);
}

/// A cold block that is loaded at least twice within a turn returns, once per turn.
#[test]
fn cold_block_loaded_often_returns() {
    let store = cold_builder().build().unwrap();
    (0..100u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    turn(&store, 2);
    assert_eq!(cold(&store).made_cold, 100);
    let load = |key: u64, times: usize| {
        (0..times).for_each(|_| assert!(store.load_vec(&key).unwrap().is_some()));
    };
    load(7, 3);
    load(8, 1);
    // Peeks are not uses.
    (0..5).for_each(|_| assert!(store.peek_vec(&9).unwrap().is_some()));
    let report = store.turn_heat_clock();
    assert_eq!((report.returned, report.made_cold), (1, 0), "{report:?}");
    assert_eq!((cold(&store).blocks, cold(&store).returned), (99, 1));
    check_books(&store);
    (0..100u64).for_each(|key| assert!(store.take_vec(&key).unwrap() == Some(runs(key, LEN))));
}

/// A block that would not shrink by 1/8 stays, and is not compressed again until used.
#[test]
fn cold_block_that_gains_nothing_stays() {
    for look in [Look::Noise, Look::SameFilled] {
        let store = cold_builder().build().unwrap();
        (0..50u64).for_each(|key| store.store(key, block(key, LEN, look)).unwrap());
        let reports: Vec<_> = (0..4).map(|_| store.turn_heat_clock()).collect();
        let stayed = if look == Look::Noise { 50 } else { 0 };
        assert_eq!(reports.iter().map(|report| report.made_cold).sum::<usize>(), 0, "{look:?}");
        assert_eq!(reports.iter().map(|report| report.stayed).sum::<usize>(), stayed, "{look:?}");
        assert_eq!(reports[1].stayed, stayed, "{look:?}");
        // A use makes it a candidate again, after two more turns.
        assert!(store.load_vec(&3).unwrap().is_some());
        let again: usize = (0..4).map(|_| store.turn_heat_clock().stayed).sum();
        assert_eq!(again, usize::from(look == Look::Noise), "{look:?}");
        check_books(&store);
    }
}

/// Both pools of the same codec: nothing would become smaller.
#[test]
fn cold_pool_of_same_codec_takes_nothing() {
    let store = cold_builder().cold(spec("zbud+lz4")).build().unwrap();
    (0..50u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    let stayed: usize = (0..3).map(|_| store.turn_heat_clock().stayed).sum();
    assert_eq!((stayed, cold(&store).made_cold), (50, 0));
}

/// A switch to the cold pool's spec makes another pool, and retires the current one only.
#[test]
fn cold_pool_is_not_revived_by_switch() {
    let executor = Arc::new(Manual::new());
    let store = cold_builder().executor(executor.clone()).build().unwrap();
    (0..50u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    turn(&store, 2);
    let id = store.manager().cold().unwrap().id();
    let switched = store.switch(&spec("zbud+rle")).unwrap();
    assert!(switched.pool_id() != id && matches!(switched, zswap::Switched::Created(_)));
    executor.run_all();
    let states: Vec<_> = store.manager().pools().iter().map(|pool| pool.state).collect();
    assert_eq!(states, [PoolState::Cold, PoolState::Current]);
    assert!(store.manager().pools().iter().all(|pool| pool.retired_for.is_none()));
    (0..50u64).for_each(|key| assert_eq!(unstamp(&store.load_vec(&key).unwrap().unwrap()).0, key));
}

/// A new cold pool retires the previous one, whose blocks can be drained.
#[test]
fn cold_pool_can_be_exchanged_and_drained() {
    let store = cold_builder().build().unwrap();
    (0..200u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    turn(&store, 2);
    let first = store.manager().cold().unwrap().id();
    store.set_cold(&spec("zsmalloc+rle(other=1)")).unwrap();
    assert_eq!(cold(&store).blocks, 0);
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.moved, report.remaining), (DrainEnd::Empty, 200, 0));
    let _ = store.manager().flush();
    assert_eq!(store.manager().stats().pools_alive, 2);
    assert!(store.manager().pools().iter().all(|pool| pool.label.id != first));
    // What was cold stays cold, and a drain takes nothing out of the cold pool.
    assert_eq!(cold(&store).blocks, 200);
    turn(&store, 3);
    assert_eq!((cold(&store).blocks, cold(&store).made_cold), (200, 200));
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.moved), (DrainEnd::Empty, 0));
    // Without a cold pool, its blocks are in a retired pool.
    assert!(store.manager().remove_cold() && !store.manager().remove_cold());
    assert_eq!((store.stats().cold, store.turn_heat_clock()), (None, Default::default()));
    assert_eq!(store.drain(DrainBudget::UNLIMITED).moved, 200);
    let _ = store.manager().flush();
    assert_eq!(store.manager().stats().pools_alive, 1);
    check_books(&store);
}

/// One turn moves everything from the previous cold pool to the new one, hot or not, and nothing
/// else. What is used often returns from there.
#[test]
fn cold_pool_exchange_ends_with_next_turn() {
    let store = cold_builder().build().unwrap();
    (0..200u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    store.store(200, runs(200, 20_000)).unwrap();
    turn(&store, 2);
    store.store(201, runs(201, LEN)).unwrap();
    let large = 20_000usize.div_ceil(4096);
    assert_eq!(cold(&store).blocks, 200 + large);
    (0..3).for_each(|_| assert!(store.load_vec(&7).unwrap().is_some()));
    // To a pool in which nothing becomes smaller.
    store.set_cold(&spec("zsmalloc+rle(other=1)")).unwrap();
    let report = store.turn_heat_clock();
    assert_eq!((report.moved_over, report.made_cold, report.returned), (201, 0, 0), "{report:?}");
    let _ = store.manager().flush();
    assert_eq!(store.manager().stats().pools_alive, 2);
    assert_eq!((cold(&store).blocks, cold(&store).made_cold), (200 + large, 201));
    check_books(&store);
    let report = store.turn_heat_clock();
    assert_eq!((report.moved_over, report.returned), (0, 1), "{report:?}");
    for key in 0..=201 {
        let len = if key == 200 { 20_000 } else { LEN };
        assert!(store.peek_vec(&key).unwrap() == Some(runs(key, len)), "key {key}");
    }
}

/// Blocks that would not have become smaller in one cold pool are tried once with the next one.
#[test]
fn cold_pool_exchange_tries_kept_again() {
    let store = cold_builder().cold(spec("zbud+lz4")).build().unwrap();
    (0..50u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    (50..60u64).for_each(|key| store.store(key, block(key, LEN, Look::Noise)).unwrap());
    assert_eq!((0..4).map(|_| store.turn_heat_clock().stayed).sum::<usize>(), 60);
    store.set_cold(&spec("zbud+rle")).unwrap();
    let reports = [(); 3].map(|()| store.turn_heat_clock());
    assert_eq!(reports.map(|report| report.made_cold), [50, 0, 0]);
    assert_eq!(reports.map(|report| report.stayed), [10, 0, 0]);
    let _ = store.manager().flush();
    assert_eq!((cold(&store).blocks, store.manager().stats().pools_alive), (50, 2));
    check_books(&store);
}

/// A drain policy also ends a cold pool that another one has replaced.
#[test]
fn cold_pool_exchange_begins_drain_by_policy() {
    let executor = Arc::new(Manual::new());
    let policy = DrainPolicy::After { idle: Duration::ZERO, share_percent: 100 };
    let store = cold_builder().executor(executor.clone()).drain(policy).build().unwrap();
    (0..50u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    turn(&store, 2);
    store.set_cold(&spec("zsmalloc+rle(other=1)")).unwrap();
    executor.run_all();
    assert_eq!((cold(&store).blocks, store.manager().stats().pools_alive), (50, 2));
    assert_eq!(store.drain_progress().moved, 50);
}

/// The clock does not evict and keeps the limit, and the cold pool counts toward the limit.
#[test]
fn cold_pool_counts_toward_limit() {
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        let store = cold_builder().limit_bytes(2 << 20).at_limit(at_limit).build().unwrap();
        let mut stored = 0u64;
        for key in 0..20_000u64 {
            stored += u64::from(store.store(key, runs(key, LEN)).is_ok());
            if key % 500 == 0 {
                let evicted = store.stats().evicted;
                store.turn_heat_clock();
                assert_eq!(store.stats().evicted, evicted, "{at_limit:?}");
            }
            assert!(store.bytes_held() <= (2 << 20) + (256 << 10), "{at_limit:?}, key {key}");
        }
        let stats = store.stats();
        assert!(cold(&store).made_cold > 0 && stored > 1_000, "{at_limit:?}: {stats}");
        assert!(stats.evicted > 0 || at_limit == AtLimit::Refuse);
        check_books(&store);
    }
}

/// The clock runs by itself on an executor that keeps delays, and on no other.
#[test]
fn clock_runs_by_itself_if_delays_are_kept() {
    let queue = Arc::new(WorkQueue::new("clock").unwrap());
    let store = cold_builder()
        .executor(queue)
        .cold(spec("zbud+rle"))
        .cold_turn(Duration::from_millis(20))
        .build()
        .unwrap();
    (0..50u64).for_each(|key| store.store(key, runs(key, LEN)).unwrap());
    while cold(&store).made_cold < 50 {
        std::thread::yield_now();
    }
    (0..50u64).for_each(|key| assert!(store.load_vec(&key).unwrap() == Some(runs(key, LEN))));
    let executor = Arc::new(Manual::new());
    let _store = cold_builder().executor(executor.clone()).build().unwrap();
    assert_eq!(executor.run_all(), 0);
}

#[test]
fn cold_builder_errors_name_the_setting() {
    let error = cold_builder().hasher(SequentialKeys::default()).build().unwrap_err();
    assert!(matches!(error, BuildError::ColdBeforeHasher), "{error}");
    let error = cold_builder().cold_turn(Duration::ZERO).build().unwrap_err();
    assert!(matches!(error, BuildError::ColdTurn), "{error}");
    let error = cold_builder().cold(spec("zbud+nothing")).build().unwrap_err();
    assert!(matches!(error, BuildError::Switch(_)), "{error}");
    let store = builder().hasher(Constant).cold(spec("zbud+rle")).build().unwrap();
    assert!(store.stats().cold.is_some());
}
