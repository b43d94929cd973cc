//! The throughput that stores lose to a switch per millisecond.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use workload::{Report, Spread};
use zswap::{PoolSpec, Store};

use crate::stream::{KeyOrder, Stream};

const WINDOW: Duration = Duration::from_millis(300);
/// An odd number, so that the median is of one round.
const ROUNDS: usize = 31;
/// Two specs with one codec, so that the pools differ and the work does not.
const SPECS: [&str; 2] = ["zsmalloc+lz4", "zsmalloc(chain=8)+lz4"];
const NOT_COMPACTING: [&str; 2] =
    ["zsmalloc(compact=off)+lz4", "zsmalloc(chain=8,compact=off)+lz4"];
const NAME: &str = "store_throughput_with_1000_switches_per_s";

/// Reports stores while switching over stores without.
pub(crate) fn report(report: &mut Report) {
    for (suffix, order, specs) in [
        ("", KeyOrder::Random, SPECS),
        ("_without_compaction", KeyOrder::Random, NOT_COMPACTING),
        ("_own_blocks", KeyOrder::OwnBlocks, SPECS),
        ("_in_order", KeyOrder::Fixed, SPECS),
    ] {
        report
            .push(stores_while_switching(order, specs).figure(format!("{NAME}{suffix}"), "ratio"));
    }
}

fn spec(text: &str) -> PoolSpec {
    text.parse().expect("a spec of ours")
}

fn stores_while_switching(order: KeyOrder, specs: [&str; 2]) -> Spread {
    let mut stream = Stream::new(order);
    let store: Store<u64> =
        Store::builder().spec(spec(specs[0])).build().expect("a store of the default back ends");
    let specs = specs.map(spec);
    // Keys outside of the stream keep both pools alive.
    for (i, spec) in specs.iter().enumerate() {
        store.switch(spec).expect("both specs are good");
        store.store(u64::MAX - i as u64, stream.some_block()).expect("there is no limit");
    }
    let ratios = (0..ROUNDS).map(|round| {
        let with_first = round % 2 == 0;
        let first = window(&store, &mut stream, &specs, with_first);
        let second = window(&store, &mut stream, &specs, !with_first);
        if with_first { first / second } else { second / first }
    });
    let spread = Spread::of(ratios).expect("every round has a rate");
    stream.check(&store);
    spread
}

/// Returns stores per second while another thread wakes once per millisecond, and switches if
/// `switching` is set.
fn window(store: &Store<u64>, stream: &mut Stream, specs: &[PoolSpec; 2], switching: bool) -> f64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let waking = scope.spawn(|| {
            let (begun, mut done) = (Instant::now(), 0u32);
            while !stop.load(Ordering::Relaxed) {
                // Catch up after a late wake-up, so that the rate stays 1000 per second.
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
        // Do not time the first passes, which move all blocks from where the other kind of window
        // left them.
        stream.store_to(store, 2 * Stream::BLOCKS);
        let (begun, mut stored) = (Instant::now(), 0u64);
        while begun.elapsed() < WINDOW {
            stream.store_to(store, 16);
            stored += 16;
        }
        let rate = stored as f64 / begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let woken = waking.join().expect("switching does not fail");
        assert!(
            woken > 800.0,
            "only {woken:.0} wake-ups per second: the machine is too busy to measure on"
        );
        rate
    })
}
