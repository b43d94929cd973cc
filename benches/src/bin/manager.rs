//! What the pool manager costs: `cargo run --release -p benches --bin manager -- --json`.
//!
//! - `store_throughput_with_1000_switches_per_s`: stores a second while another thread switches a thousand times a second between two specs that both
//!   keep entries, over the same without switching: there, the other thread wakes as often and does nothing. Windows alternate, and
//!   each begins with two passes over all blocks that do not count: where the other kind of window left them is no part of it.
//! - `store_throughput_with_1000_switches_per_s_without_compaction`: the same with allocators that do not compact by themselves. Every switch turns the stream of
//!   objects round, so each pool shrinks and grows by turns, and compaction gives frames back that are wanted again at the next turn.
//! - `pool_ref_scaling`, `arc_scaling`: taking and dropping a reference to the current pool, or a clone of an `Arc`, on two threads over one, as a
//!   share of the scaling of the machine, measured in the same rounds. Below it, the scaling itself.
//! - `current_pool_ns`: resolving the current pool to a counted reference, and dropping it.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use workload::{Figure, Report, Spread, rate, report_scaling};
use zpool_conformance::Generator;
use zswap::{PoolSpec, Store};

const BLOCK: usize = 4096;
const BLOCKS: usize = 16_384;
const WINDOW: Duration = Duration::from_millis(100);
const ROUNDS: usize = 9;
/// Two specs of one codec, so that the pools differ and the work does not.
const SPECS: [&str; 2] = ["zsmalloc+lz4", "zsmalloc(chain=8)+lz4"];
const NOT_COMPACTING: [&str; 2] = ["zsmalloc(compact=off)+lz4", "zsmalloc(chain=8,compact=off)+lz4"];

fn main() -> ExitCode {
    let json = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--json" => true,
        _ => {
            eprintln!("usage: manager [--json]");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    let name = "store_throughput_with_1000_switches_per_s";
    report.push(stores_while_switching(SPECS).figure(name, "ratio"));
    report.push(stores_while_switching(NOT_COMPACTING).figure(format!("{name}_without_compaction"), "ratio"));
    references(&mut report);
    if json {
        println!("{report}");
    } else {
        for Figure { name, value, low, high, unit } in &report.results {
            println!("{name:45} {value:8.3} {unit:6} ({low:.3} to {high:.3})");
        }
    }
    ExitCode::SUCCESS
}

fn spec(text: &str) -> PoolSpec {
    text.parse().expect("a spec of ours")
}

fn stores_while_switching(specs: [&str; 2]) -> Spread {
    let pages: Vec<Vec<u8>> = Generator::new(1).blocks(BLOCK).take(BLOCKS).collect();
    let store: Store<u64> =
        Store::builder().spec(spec(specs[0])).build().expect("a store of the default back ends");
    let specs = specs.map(spec);
    // Keys that the timed loop leaves alone keep both pools alive.
    for (i, spec) in specs.iter().enumerate() {
        store.switch(spec).expect("both specs are good");
        store.store(u64::MAX - i as u64, &pages[0]).expect("there is no limit");
    }
    let mut next = 0;
    let ratios = (0..ROUNDS).map(|round| {
        let with_first = round % 2 == 0;
        let first = window(&store, &pages, &mut next, &specs, with_first);
        let second = window(&store, &pages, &mut next, &specs, !with_first);
        if with_first { first / second } else { second / first }
    });
    let spread = Spread::of(ratios).expect("every round has a rate");
    for (i, page) in pages.iter().enumerate() {
        let loaded = store.load_vec(&(i as u64)).expect("no fault").expect("stored in every round");
        assert!(&loaded == page, "every block comes back as it was stored");
    }
    spread
}

/// Stores a second over three windows, while another thread wakes once a millisecond, and switches if it is `switching`.
fn window(
    store: &Store<u64>,
    pages: &[Vec<u8>],
    next: &mut usize,
    specs: &[PoolSpec; 2],
    switching: bool,
) -> f64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let waking = scope.spawn(|| {
            let (begun, mut done) = (Instant::now(), 0u32);
            while !stop.load(Ordering::Relaxed) {
                // Catches up when it woke late, so that it is a thousand a second.
                while Duration::from_millis(u64::from(done)) < begun.elapsed() {
                    if switching {
                        store.switch(&specs[done as usize % 2]).expect("both specs are good");
                    }
                    done += 1;
                }
                let next = Duration::from_millis(u64::from(done));
                thread::sleep(next.saturating_sub(begun.elapsed()));
            }
            f64::from(done) / begun.elapsed().as_secs_f64()
        });
        let mut store_some = |count: usize| {
            for _ in 0..count {
                let at = *next % pages.len();
                store.store(at as u64, &pages[at]).expect("there is no limit");
                *next += 1;
            }
        };
        // Moving all blocks from where the other kind of window left them is no part of either.
        store_some(2 * pages.len());
        let (begun, mut stored) = (Instant::now(), 0u64);
        while begun.elapsed() < WINDOW * 3 {
            store_some(16);
            stored += 16;
        }
        let rate = stored as f64 / begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let woken = waking.join().expect("switching does not fail");
        assert!(woken > 800.0, "only {woken:.0} times a second: the machine is too busy to say anything");
        rate
    })
}

fn references(report: &mut Report) {
    const BATCH: u64 = 1 << 12;
    let store: Store<u64> = Store::builder().build().expect("a store of the default back ends");
    let manager = store.manager();
    let pool = manager.current().expect("there is always a current pool");
    let shared = Arc::new(0u64);
    let pool_refs = |threads: usize, window: Duration| {
        rate(threads, window, |_| {
            || {
                (0..BATCH).for_each(|_| drop(black_box(pool.clone())));
                BATCH
            }
        })
    };
    let arcs = |threads: usize, window: Duration| {
        rate(threads, window, |_| {
            || {
                (0..BATCH).for_each(|_| drop(black_box(shared.clone())));
                BATCH
            }
        })
    };
    report_scaling(report, WINDOW, ROUNDS, &[("pool_ref", &pool_refs), ("arc", &arcs)]);
    let current = (0..ROUNDS).map(|_| {
        let per_second = rate(1, WINDOW, |_| {
            || {
                (0..BATCH).for_each(|_| drop(black_box(manager.current())));
                BATCH
            }
        });
        1e9 / per_second
    });
    report.push(Spread::of(current).expect("every round has a rate").figure("current_pool_ns", "ns"));
}
