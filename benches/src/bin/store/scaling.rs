//! Two threads over one, next to a loop that shares nothing.

use std::time::Duration;

use workload::{Pages, Report, Rng, rate, report_scaling};

use crate::{PAGE, filled};

const WINDOW: Duration = Duration::from_millis(100);
const ROUNDS: usize = 9;
const BATCH: u64 = 64;

pub(crate) fn measure(pages: &Pages, report: &mut Report) {
    let store = filled(pages);
    let count = pages.len();
    let loads = |threads: usize, window: Duration| {
        rate(threads, window, |thread| {
            let (mut rng, mut buffer, store) =
                (Rng::new(thread as u64 + 1), [0; PAGE.get()], &store);
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
    report_scaling(report, WINDOW, ROUNDS, &[("load", &loads), ("store", &stores)]);
}
