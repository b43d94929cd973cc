//! Runs one phase: a store of its own, the switcher on this thread, workers on others, and a check
//! of the counters at the end.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use zpool_core::violations;
use zpool_manager::ManagerStats;
use zswap::Store;

use super::drains::DrainCounts;
use super::executors::StormExecutor;
use super::report::{EvictedFate, PhaseReport, SwitchNs};
use super::switcher::Switcher;
use super::tier::TierCounts;
use super::worker::{Worker, WorkerCounts};
use super::{BLOCK_SIZE, StormPhase, StormSetup};
use crate::drivers;
use crate::error::Failure;

/// The steps of a phase's progress bar.
pub(super) const PROGRESS_STEPS: u64 = 100;

/// Runs one phase.
pub(super) fn run(
    phase: StormPhase,
    setup: &StormSetup,
    report_progress: impl Fn(u64),
) -> Result<PhaseReport, Failure> {
    let violations_before = violations();
    let executor = StormExecutor::new(setup.executor)?;
    let store = store(setup, &executor)?;
    let mut switcher = Switcher::new(&setup.specs);
    switcher.drains = setup.drain.then(DrainCounts::default);
    let workers = if phase == StormPhase::Loaded { setup.threads } else { 0 };
    let stop = AtomicBool::new(false);
    let (switched, counts) = thread::scope(|scope| {
        let work = |number| {
            let worker = Worker::new(number, &store, &setup.blocks, setup.limit);
            let stop = &stop;
            scope.spawn(move || worker.run(stop))
        };
        let workers: Vec<_> = (0..workers).map(work).collect();
        let pace = (setup.duration, setup.delay);
        let switched = switcher.run(&store, &executor, pace, |share| {
            report_progress((share * PROGRESS_STEPS as f64) as u64)
        });
        // Relaxed: see Worker::run.
        stop.store(true, Ordering::Relaxed);
        let mut counts = WorkerCounts::default();
        for worker in workers {
            counts.add(worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        (switched, counts)
    });
    // Pools of these specs could be created before, so this is an error of the pools.
    let seconds = switched.map_err(|error| Failure::broken(error.to_string()))?.as_secs_f64();
    if let Some(drains) = &mut switcher.drains {
        drains.finish(&store, &executor)?;
    }
    let stats = store.stats();
    let (evicted, thrash) = (stats.evicted, stats.thrash);
    let tier = stats.tier.as_ref().map(TierCounts::of);
    store.clear();
    executor.drain()?;
    // The store still exists, and with it the current pool, which is the one that may be alive.
    let stats = store.manager().stats();
    drop(store);
    let no_block_violations = violations() - violations_before;
    let mut report = report(phase, seconds, &switcher, &stats, counts, no_block_violations);
    (report.evicted, report.tier) = (evicted, tier);
    report.evicted_fate = thrash.map(|thrash| EvictedFate::of(&thrash.evicted));
    report.over_limit_bound_bytes = setup.limit.map(|limit| limit.bound);
    Ok(report)
}

fn store(setup: &StormSetup, executor: &StormExecutor) -> Result<Store<u64>, Failure> {
    let builder = drivers::store(&setup.specs[0], BLOCK_SIZE)
        .executor(executor.executor())
        .revive(setup.revive);
    let builder = match setup.limit {
        Some(limit) => builder.limit_bytes(limit.bytes).at_limit(limit.at_limit).thrash_meter(true),
        None => builder,
    };
    let builder = match (&setup.tier, setup.limit) {
        (Some(tier), Some(limit)) => tier.add_to(builder, limit.at_limit)?,
        _ => builder,
    };
    let builder = match executor.max_pending() {
        Some(pools) => builder.max_pending(pools),
        None => builder,
    };
    Ok(builder.build()?)
}

fn report(
    phase: StormPhase,
    seconds: f64,
    switcher: &Switcher,
    stats: &ManagerStats,
    counts: WorkerCounts,
    no_block_violations: u64,
) -> PhaseReport {
    let ns = switcher.switch_ns.summary();
    PhaseReport {
        phase: phase.name(),
        seconds,
        switches: stats.switches,
        switches_per_s: stats.switches as f64 / seconds,
        switch_ns: SwitchNs { p50: ns.p50, p99: ns.p99, max: ns.max },
        pools_created: stats.pools_created,
        pools_destroyed: stats.pools_destroyed,
        pools_revived: stats.pools_revived,
        pools_alive: stats.pools_alive as u64,
        pending_destroy_max: stats.pending_destroy_max as u64,
        destroyed_on_caller: stats.destroyed_on_caller,
        no_block_violations,
        stores: counts.stores,
        loads: counts.loads,
        invalidations: counts.invalidations,
        mismatches: counts.mismatches,
        lost: counts.lost,
        stale: counts.stale,
        evicted: 0,
        refused: counts.refused,
        over_limit_max_bytes: counts.over_limit_max_bytes,
        over_limit_bound_bytes: None,
        evicted_fate: None,
        drain: switcher.drains.clone(),
        tier: None,
        errors: counts.errors,
        first_error: counts.first_error,
    }
}
