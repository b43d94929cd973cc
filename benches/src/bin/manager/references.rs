//! The cost of a reference to the current pool, and its scaling.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use workload::{Report, Spread, rate, report_scaling};
use zswap::Store;

const WINDOW: Duration = Duration::from_millis(100);
const ROUNDS: usize = 9;
/// The number of references taken and dropped between two looks at the clock.
const BATCH: u64 = 1 << 12;

/// Reports the scaling of references to pools and of `Arc`s, and the time that one reference takes.
pub(crate) fn report(report: &mut Report) {
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
    report
        .push(Spread::of(current).expect("every round has a rate").figure("current_pool_ns", "ns"));
}
