//! The latency of loads in another thread while a drain runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use benches::Failure;
use workload::{LatencyHistogram, Pages, Report, Rng, Spread};
use zswap::Store;
use zswap::drain::DrainBudget;

use crate::{PAGE, ROUNDS, filled, spec};

/// Pools of one codec.
const SPECS: [&str; 2] = ["zsmalloc+lz4", "zsmalloc(chain=8)+lz4"];

/// Loads of a part. Quiet parts and parts with a drain alternate.
const LOADS: usize = 20_000;

/// Entries of one drain call, after which the drain looks whether the loads are done.
const STEP: usize = 256;

pub(crate) fn measure(pages: &Pages, report: &mut Report) -> Result<(), Failure> {
    let store = filled(SPECS[0], pages)?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let mut rng = Rng::new(1);
    // The first round warms up.
    for round in 0..=ROUNDS {
        let quiet = load(&store, pages, &mut rng)?;
        let during = load_during_drain(&store, pages, &mut rng)?;
        if round > 0 {
            p50.push(during.p50() as f64 / quiet.p50().max(1) as f64);
            p99.push(during.p99() as f64 / quiet.p99().max(1) as f64);
        }
    }
    for (name, values) in [("load_p50_during_drain", p50), ("load_p99_during_drain", p99)] {
        let spread = Spread::of(values).ok_or("a figure is not a number")?;
        report.push(spread.figure(name, "ratio"));
    }
    Ok(())
}

/// Loads pages in random order, and checks each.
fn load(store: &Store<u64>, pages: &Pages, rng: &mut Rng) -> Result<LatencyHistogram, Failure> {
    let (mut latencies, mut buffer) = (LatencyHistogram::new(), vec![0; PAGE.get()]);
    for _ in 0..LOADS {
        let key = rng.below(pages.len());
        let loaded = latencies.time(|| store.load(&(key as u64), &mut buffer))?;
        if loaded.is_none_or(|len| buffer[..len] != *pages.block(key)) {
            return Err(format!("page {key} is not what was stored").into());
        }
    }
    Ok(latencies)
}

/// Loads pages in a thread of its own, while this one switches and drains.
fn load_during_drain(
    store: &Store<u64>,
    pages: &Pages,
    rng: &mut Rng,
) -> Result<LatencyHistogram, Failure> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let loads = scope.spawn(|| {
            let loaded = load(store, pages, rng);
            // Relaxed: the drain goes on for a step more or less.
            done.store(true, Ordering::Relaxed);
            loaded
        });
        'drains: for text in SPECS.iter().cycle().skip(1) {
            store.switch(&spec(text))?;
            loop {
                let report = store.drain(DrainBudget::entries(STEP));
                if done.load(Ordering::Relaxed) {
                    break 'drains;
                }
                if report.remaining == 0 {
                    break;
                }
            }
        }
        loads.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
