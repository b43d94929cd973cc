//! Reads while another thread compacts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use workload::{LatencyHistogram, Objects, Report, Rng, Spread};
use zpool_core::spec::Params;
use zpool_core::{CompactionBudget, Handle, ZPool};

use crate::filled_pool::{FilledPool, insert};
use crate::reads::touch;

const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_millis(1000);

/// 1/20 of the objects are freed and put back between two compactions.
const SHARE: usize = 20;

/// Reports the 99.9th percentile of a read, with compaction over without.
pub(crate) fn p999(objects: &Objects, params: &Params, report: &mut Report) {
    let FilledPool { pool, handles, executor: _executor } = FilledPool::filled(objects, params);
    let pool = &*pool;
    // A random half of the objects is read. The others come and go between them.
    let (mut read, mut rest): (Vec<Handle>, Vec<(usize, Option<Handle>)>) = Default::default();
    let mut rng = Rng::new(11);
    for (i, handle) in handles.into_iter().enumerate() {
        if rng.chance(0.5) { read.push(handle) } else { rest.push((i, Some(handle))) }
    }
    let moved = AtomicUsize::new(0);
    let mut window = |compacts: bool| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut rng = Rng::new(13);
                while !stop.load(Ordering::Relaxed) {
                    replace_some(pool, objects, &mut rest, &mut rng, objects.len() / SHARE);
                    if compacts {
                        let report = pool.compact(CompactionBudget::UNLIMITED);
                        moved.fetch_add(report.moved_objects, Ordering::Relaxed);
                    }
                }
            });
            let p999 = read_for(pool, &read);
            stop.store(true, Ordering::Relaxed);
            p999
        })
    };
    let mut ratios = Vec::new();
    let mut without = Vec::new();
    for i in 0..WINDOWS {
        let (with, alone) = if i % 2 == 0 {
            let with = window(true);
            (with, window(false))
        } else {
            let alone = window(false);
            (window(true), alone)
        };
        ratios.push(with / alone);
        without.push(alone);
    }
    assert!(moved.into_inner() > 0, "compaction had something to move");
    let spread = |values: Vec<f64>| Spread::of(values).expect("every window has reads");
    report.push(spread(ratios).figure("read_p999_under_compaction", "ratio"));
    report.push(spread(without).figure("read_p999_without_compaction_ns", "ns"));
}

/// Frees `count` of the objects at random and puts them back.
fn replace_some(
    pool: &dyn ZPool,
    objects: &Objects,
    rest: &mut [(usize, Option<Handle>)],
    rng: &mut Rng,
    count: usize,
) {
    let chosen: Vec<usize> = (0..count).map(|_| rng.below(rest.len())).collect();
    for &at in &chosen {
        if let Some(handle) = rest[at].1.take() {
            pool.free(handle).expect("our handle");
        }
    }
    for &at in &chosen {
        let (page, handle) = &mut rest[at];
        handle.get_or_insert_with(|| insert(pool, objects.get(*page)));
    }
}

fn read_for(pool: &dyn ZPool, handles: &[Handle]) -> f64 {
    let mut latencies = LatencyHistogram::new();
    let mut rng = Rng::new(17);
    let start = Instant::now();
    while start.elapsed() < WINDOW {
        for _ in 0..64 {
            let handle = &handles[rng.below(handles.len())];
            latencies.time(|| touch(&pool.read(handle).expect("live")));
        }
    }
    latencies.summary().p999 as f64
}
