//! Two threads over one, beside a loop that shares nothing.

use std::time::Duration;

use workload::{Pages, Report, Rng, Spread, rate, scaling_of, xorshift};

use crate::{PAGE, filled};

const WINDOW: Duration = Duration::from_millis(100);
const ROUNDS: usize = 9;
const BATCH: u64 = 64;

pub(crate) fn measure(pages: &Pages, report: &mut Report) {
    let store = filled(pages);
    let count = pages.len();
    let loads = |threads: usize, window: Duration| {
        rate(threads, window, |thread| {
            let (mut rng, mut buffer, store) = (Rng::new(thread as u64 + 1), [0; PAGE.get()], &store);
            move || {
                for _ in 0..BATCH {
                    store.load(&(rng.below(count) as u64), &mut buffer).expect("no fault");
                }
                BATCH
            }
        })
    };
    let stores = |threads: usize, window: Duration| {
        rate(threads, window, |thread| {
            let (mut rng, store) = (Rng::new(thread as u64 + 1), &store);
            move || {
                for _ in 0..BATCH {
                    let i = rng.below(count);
                    store.store(i as u64, pages.block(i)).expect("there is no limit");
                }
                BATCH
            }
        })
    };
    let spreads = scaling_of(2, WINDOW, ROUNDS, &[&xorshift, &loads, &stores]);
    let machine = spreads[0];
    for (name, scaling) in [("load", spreads[1]), ("store", spreads[2])] {
        let share = |value: f64| value / machine.median;
        let share =
            Spread { median: share(scaling.median), low: share(scaling.low), high: share(scaling.high) };
        report.push(share.figure(format!("{name}_scaling"), "ratio"));
        report.push(scaling.figure(format!("{name}_two_threads_over_one"), "ratio"));
    }
    report.push(machine.figure("machine_two_threads_over_one", "ratio"));
}
