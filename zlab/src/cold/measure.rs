//! Fills a store, and lets the blocks that are not hot become cold.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use workload::{LatencyHistogram, Pages, Percentiles, Rng, clocked};
use zpool_core::exec::Manual;
use zpool_core::spec::PoolSpec;
use zswap::{CompactionBudget, Store, StoreBuilder};

use crate::drivers;
use crate::error::Failure;

/// Turns of the heat clock: two until an unused block is cold, and one for what those two left.
const TURNS: usize = 3;

/// Turns after which the blocks that are not hot are cold.
const TURNS_TO_COLD: usize = 2;

/// Loads of hot blocks that are timed, and of cold ones.
const LOADS: usize = 10_000;

const SEED: u64 = 5;

/// The cost of a store without a cold pool.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SinglePoolCost {
    pub(super) held_bytes: usize,
    pub(super) load_ns: Percentiles,
    pub(super) verified: bool,
}

/// The cost of a store with a cold pool, at this share of hot blocks.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ColdPoolCost {
    pub(super) hot_percent: u8,
    /// Whether the cold pool uses what was trained on cold blocks.
    pub(super) trained: bool,
    pub(super) held_bytes: usize,
    pub(super) made_cold: usize,
    /// Blocks that were tried and would not shrink by 1/8.
    pub(super) stayed: usize,
    /// Bytes of the objects made cold, before and after.
    pub(super) object_bytes_before: usize,
    pub(super) object_bytes_after: usize,
    /// CPU time of the clock and of the compaction after it, per block that became cold or was
    /// tried.
    pub(super) cpu_us_per_block: f64,
    pub(super) hot_load_ns: Percentiles,
    pub(super) cold_load_ns: Percentiles,
    pub(super) verified: bool,
}

/// Measures a store of one pool.
pub(super) fn plain(spec: &PoolSpec, pages: &Pages) -> Result<SinglePoolCost, Failure> {
    let store = filled(builder(spec, pages), pages)?;
    store.compact(CompactionBudget::UNLIMITED);
    let held_bytes = store.bytes_held();
    let keys: Vec<u64> = (0..pages.len() as u64).collect();
    let load_ns = time_loads(&store, &keys, pages)?;
    Ok(SinglePoolCost { held_bytes, load_ns, verified: verify(&store, pages)? })
}

/// Measures a store with a cold pool.
pub(super) fn with_cold_pool(
    [hot_spec, cold_spec]: &[PoolSpec; 2],
    pages: &Pages,
    hot_percent: u8,
) -> Result<ColdPoolCost, Failure> {
    let store = filled_with_cold_pool([hot_spec, cold_spec], pages)?;
    let (hot, cold) = hot_and_cold(pages, hot_percent);
    let mut measured = ColdPoolCost {
        hot_percent,
        trained: false,
        held_bytes: 0,
        made_cold: 0,
        stayed: 0,
        object_bytes_before: 0,
        object_bytes_after: 0,
        cpu_us_per_block: 0.0,
        hot_load_ns: Percentiles::default(),
        cold_load_ns: Percentiles::default(),
        verified: false,
    };
    let mut cpu = Duration::ZERO;
    for _ in 0..TURNS {
        load_all(&store, &hot, pages)?;
        let (elapsed, turn) = clocked(|| store.turn_heat_clock());
        cpu += elapsed.cpu;
        measured.made_cold += turn.made_cold;
        measured.stayed += turn.stayed;
        measured.object_bytes_before += turn.object_bytes_before;
        measured.object_bytes_after += turn.object_bytes_after;
    }
    let (elapsed, _) = clocked(|| store.compact(CompactionBudget::UNLIMITED));
    cpu += elapsed.cpu;
    let tried = (measured.made_cold + measured.stayed).max(1);
    measured.cpu_us_per_block = cpu.as_secs_f64() * 1e6 / tried as f64;
    measured.held_bytes = store.bytes_held();
    measured.hot_load_ns = time_loads(&store, &hot, pages)?;
    measured.cold_load_ns = time_loads(&store, &cold, pages)?;
    measured.verified = verify(&store, pages)?;
    Ok(measured)
}

/// Returns up to `count` of the blocks that are cold with this share of hot ones.
pub(super) fn sample_cold(
    [hot_spec, cold_spec]: &[PoolSpec; 2],
    pages: &Pages,
    hot_percent: u8,
    count: usize,
) -> Result<Vec<Vec<u8>>, Failure> {
    let store = filled_with_cold_pool([hot_spec, cold_spec], pages)?;
    let (hot, _) = hot_and_cold(pages, hot_percent);
    for _ in 0..TURNS_TO_COLD {
        load_all(&store, &hot, pages)?;
        store.turn_heat_clock();
    }
    Ok(store.sample_cold(count)?)
}

/// Returns the numbers of the blocks that are hot, and those of the others.
fn hot_and_cold(pages: &Pages, hot_percent: u8) -> (Vec<u64>, Vec<u64>) {
    let mut hot: Vec<u64> = (0..pages.len() as u64).collect();
    Rng::new(SEED).shuffle(&mut hot);
    let cold = hot.split_off(pages.len() * usize::from(hot_percent) / 100);
    (hot, cold)
}

fn load_all(store: &Store<u64>, keys: &[u64], pages: &Pages) -> Result<(), Failure> {
    let mut buffer = vec![0; pages.block_size()];
    for key in keys {
        store.load(key, &mut buffer)?;
    }
    Ok(())
}

/// Returns a store with all blocks, whose clock turns only by calls.
fn filled_with_cold_pool(
    [hot, cold]: [&PoolSpec; 2],
    pages: &Pages,
) -> Result<Store<u64>, Failure> {
    filled(builder(hot, pages).cold(cold.clone()).cold_turn(Duration::MAX), pages)
}

/// Returns the builder of a store without background work, so that all CPU is on this thread.
fn builder(spec: &PoolSpec, pages: &Pages) -> StoreBuilder<u64> {
    let size = pages.block_size().try_into().expect("a block has bytes");
    drivers::store(spec, size).executor(Arc::new(Manual::new()))
}

fn filled(builder: StoreBuilder<u64>, pages: &Pages) -> Result<Store<u64>, Failure> {
    let store = builder.build()?;
    for (key, page) in (0..).zip(pages) {
        store.store(key, page)?;
    }
    Ok(store)
}

/// Times loads of these keys in random order. With peeks, which warm nothing.
fn time_loads(store: &Store<u64>, keys: &[u64], pages: &Pages) -> Result<Percentiles, Failure> {
    let (mut latencies, mut rng) = (LatencyHistogram::new(), Rng::new(SEED));
    let mut buffer = vec![0; pages.block_size()];
    for _ in 0..if keys.is_empty() { 0 } else { LOADS } {
        let key = keys[rng.below(keys.len())];
        latencies.time(|| store.peek(&key, &mut buffer))?;
    }
    Ok(latencies.summary())
}

/// Returns whether every block is what was stored.
fn verify(store: &Store<u64>, pages: &Pages) -> Result<bool, Failure> {
    let mut buffer = vec![0; pages.block_size()];
    for (key, page) in (0u64..).zip(pages) {
        let len = store.peek(&key, &mut buffer)?;
        if len != Some(page.len()) || buffer[..page.len()] != *page {
            return Ok(false);
        }
    }
    Ok(true)
}
