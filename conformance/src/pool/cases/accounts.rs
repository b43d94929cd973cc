//! Every byte is accounted for.

use std::sync::Arc;

use zpool_core::NoBlock;
use zpool_core::page::PageSource;

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, fresh_source, source_of_16_kib};
use crate::rng::SplitMix;

/// A1, A2, S1, S3, V1, F2: the equations hold after every insert, free and trim of a workload that
/// grows and shrinks.
pub fn accounts_balance_after_every_step(maker: &PoolMaker) {
    grow_and_shrink(&PoolHarness::over(maker, fresh_source()));
}

/// A1, A2, S1, V1, F2: the equations hold over a source with frames of 16 KiB.
pub fn accounts_balance_with_frames_of_16_kib(maker: &PoolMaker) {
    grow_and_shrink(&PoolHarness::over(maker, source_of_16_kib()));
}

fn grow_and_shrink(harness: &PoolHarness<'_>) {
    let mut rng = SplitMix::new(0xB0_0C);
    let mut live: Vec<StoredObject> = Vec::new();
    for step in 0..scaled(1200) {
        // Grows for 200 steps, shrinks for 200.
        let grow = if step / 200 % 2 == 0 { 80 } else { 25 };
        if live.is_empty() || rng.percent(grow) {
            live.push(harness.put(step as u64, harness.len(&mut rng)));
        } else {
            harness.free_checked(live.swap_remove(rng.below(live.len())));
        }
        if step % 97 == 96 {
            assert_trim_reports_truly(harness);
        }
        harness.balance(&live);
    }
    harness.finish(live);
}

/// U1, U2: a footprint is at least the length of the object, the same for an empty pool and a full
/// one, and is computed in a no-block section.
pub fn a_footprint_is_at_least_the_length(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let max = harness.max();
    let lens = [1, 2, 31, 64, 1000, max / 2 + 1, max - 1, max].map(|len| len.clamp(1, max));
    let footprints = || {
        let _section = NoBlock::enter();
        lens.map(|len| harness.pool.footprint(len))
    };
    let empty = footprints();
    for (len, footprint) in lens.into_iter().zip(empty) {
        assert!(footprint >= len, "U1: {footprint} bytes for an object of {len}");
    }
    let live = (0..scaled(200)).map(|fill| harness.put(fill as u64, lens[fill % 8])).collect();
    assert_eq!(footprints(), empty, "U1: of a full pool and an empty one");
    harness.finish(live);
}

/// Checks that `trim` returns the bytes by which the accounts shrink.
fn assert_trim_reports_truly(harness: &PoolHarness<'_>) {
    let (held, charged) = (harness.pool.bytes_held(), harness.source.charged_bytes());
    let reported = harness.pool.trim();
    let (held, charged) =
        (held - harness.pool.bytes_held(), charged - harness.source.charged_bytes());
    assert!(
        (charged..=held.max(charged)).contains(&reported),
        "trim released {charged} bytes of frames and {held} of all, and reports {reported}"
    );
}

/// D2, T1: creating a pool charges nothing, and neither does trimming, querying or dropping an
/// empty one.
pub fn an_empty_pool_holds_no_frame(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    harness.balance(&[]);
    assert_eq!(harness.source.charged_frames(), 0, "D2: frames charged to a new pool");
    assert_eq!(harness.pool.trim(), 0, "T1: bytes released by a new pool");
    harness.balance(&[]);
    let PoolHarness { pool, source, .. } = harness;
    drop(pool);
    assert_eq!(source.charged_frames(), 0, "frames charged after an empty pool was dropped");
}

/// F2, F3: a pool does not grow if objects are inserted and freed two at a time.
pub fn freed_memory_is_used_again(maker: &PoolMaker) {
    for len in [1, 100, 1000, usize::MAX] {
        let harness = PoolHarness::new(maker);
        let len = len.min(harness.max());
        let peak_of = |rounds: usize| {
            let mut peak = 0;
            for fill in 0..rounds as u64 {
                let (a, b) = (harness.put(2 * fill, len), harness.put(2 * fill + 1, len));
                peak = peak.max(harness.pool.bytes_held());
                harness.free_checked(a);
                harness.free_checked(b);
            }
            peak
        };
        let (first, later) = (peak_of(scaled(100)), peak_of(scaled(1000)));
        assert_eq!(
            first, later,
            "F2: bytes held at most in the first 100 rounds, and in 1000 more"
        );
        harness.assert_releases_all_frames();
    }
}

/// F3, T1: when all objects are freed and the pool is trimmed, it releases everything, and it can
/// be filled again.
pub fn trim_releases_all_frames_once_empty(maker: &PoolMaker) {
    for source in [fresh_source(), source_of_16_kib()] {
        let harness = PoolHarness::over(maker, source);
        let mut rng = SplitMix::new(0x7_1237);
        for round in 0..3 {
            let mut live: Vec<_> = (0..scaled(300) as u64)
                .map(|i| harness.put(1000 * round + i, harness.len(&mut rng)))
                .collect();
            // In an order unrelated to that of the inserts.
            while !live.is_empty() {
                harness.free_checked(live.swap_remove(rng.below(live.len())));
            }
            harness.assert_releases_all_frames();
            assert_eq!(harness.pool.trim(), 0, "T1: a second trim finds nothing");
        }
    }
}

/// G2, A2: dropping a pool releases every frame, with live objects or without.
pub fn dropping_a_pool_releases_every_frame(maker: &PoolMaker) {
    let sources: [Arc<dyn PageSource>; 2] = [fresh_source(), source_of_16_kib()];
    for source in sources {
        let harness = PoolHarness::over(maker, source);
        let mut rng = SplitMix::new(0xD20B);
        let mut live: Vec<_> =
            (0..scaled(300) as u64).map(|i| harness.put(i, harness.len(&mut rng))).collect();
        for _ in 0..live.len() / 3 {
            harness.free_checked(live.swap_remove(rng.below(live.len())));
        }
        harness.balance(&live);
        let PoolHarness { pool, source, .. } = harness;
        drop(pool);
        assert_eq!(source.charged_frames(), 0, "frames charged after the pool was dropped");
    }
}
