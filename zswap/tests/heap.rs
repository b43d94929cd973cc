//! A warm store makes no heap call. A binary of its own, because it replaces the allocator.
#![cfg(not(zpool_loom))]

mod common;

use std::sync::Arc;

use common::{Look, block, builder, spec};
use zpool_testing::heap::{CountingAllocator, calls_of};
use zpool_testing::processors::on_each_processor;
use zswap::AtLimit;
use zswap::drain::DrainBudget;
use zswap::plugin::Manual;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The executor does nothing, so that no compaction rearranges the pool between the passes: an
/// allocator's tables grow with what it holds. zsmalloc also keeps free slots for each processor,
/// so its tables may grow when the scheduler moves this thread to a processor on which it has not
/// stored yet. So the store is warmed and measured on each processor.
#[test]
fn warm_stores_and_loads_make_no_heap_call() {
    for (text, limit) in
        [("zsmalloc+lz4", None), ("zbud+lz4", None), ("zsmalloc+lz4", Some(64 << 20))]
    {
        let mut builder = builder().spec(spec(text)).executor(Arc::new(Manual::new()));
        if let Some(limit) = limit {
            builder = builder.limit_bytes(limit).at_limit(AtLimit::Refuse);
        }
        let store = builder.build().unwrap();
        let looks = [Look::Runs, Look::Runs, Look::Noise, Look::SameFilled];
        let version = |seed: u64| -> Vec<_> {
            let look = |n: u64| looks[n as usize % looks.len()];
            (0..400).map(|n| block(n + seed, 500 + 9 * n as usize, look(n))).collect()
        };
        let versions = [version(0), version(1000)];
        let mut buffer = [0; 4096];
        let mut pass = |turn: usize| {
            for (key, block) in versions[turn % 2].iter().enumerate() {
                store.store(key as u64, block).unwrap();
            }
            for (key, block) in versions[turn % 2].iter().enumerate() {
                let len = store.load(&(key as u64), &mut buffer).unwrap().expect("just stored");
                assert!(buffer[..len] == block[..]);
                assert!(
                    store.contains(&(key as u64))
                        && store.len_of(&(key as u64 + 1_000_000)).is_none()
                );
            }
        };
        let cold = calls_of(|| pass(0));
        assert!(cold > 0, "the first pass makes contexts and tables, or nothing is counted");
        // The lengths of the two versions differ slightly.
        on_each_processor(|| (1..8).for_each(&mut pass));
        on_each_processor(|| {
            assert_eq!(calls_of(|| (8..12).for_each(&mut pass)), 0, "{text}, limit {limit:?}");
        });
    }
}

/// A drain keeps what a batch needs in one arena: its heap calls do not grow with the entries, but
/// for the tables of the pools. The emptied pool is compacted some 64 times at most.
#[test]
fn drain_makes_no_heap_call_per_entry() {
    const ENTRIES: u64 = 16_000;
    for to in ["zsmalloc(chain=4)+lz4", "zbud+lz4", "zbud+rle"] {
        let store =
            builder().spec(spec("zsmalloc+lz4")).executor(Arc::new(Manual::new())).build().unwrap();
        for key in 0..ENTRIES {
            store.store(key, block(key, 700, Look::Runs)).unwrap();
        }
        store.switch(&spec(to)).unwrap();
        let calls = calls_of(|| {
            let report = store.drain(DrainBudget::UNLIMITED);
            assert_eq!((report.moved as u64, report.remaining), (ENTRIES, 0));
        });
        assert!(calls < ENTRIES / 8, "{to}: {calls} heap calls for {ENTRIES} entries");
    }
}
