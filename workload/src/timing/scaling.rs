//! Measures how much faster two threads are than one, for the machine itself and for code that
//! should scale on it.

use std::hint::black_box;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::report::{Report, Spread};

/// Returns the operations per second of `threads` threads together, over a window of time.
///
/// `make(i)` returns the work of thread `i`. Each call of that work does a batch, which takes well
/// under a millisecond, and returns the number of operations in it.
///
/// # Panics
///
/// If `threads` is zero, if a thread cannot be started, or if the work panics.
pub fn rate<W: FnMut() -> u64>(
    threads: usize,
    window: Duration,
    make: impl Fn(usize) -> W + Sync,
) -> f64 {
    assert!(threads > 0, "there is nothing to measure");
    let together = Barrier::new(threads);
    let run = |i: usize| {
        let (mut work, mut operations) = (make(i), 0);
        work();
        together.wait();
        let start = Instant::now();
        loop {
            operations += work();
            let elapsed = start.elapsed();
            if elapsed >= window {
                return operations as f64 / elapsed.as_secs_f64();
            }
        }
    };
    thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> = (0..threads).map(|i| scope.spawn(move || run(i))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .sum()
    })
}

/// A contestant: returns its [`rate`] on the given number of threads, over a window of the given
/// length.
pub type RateOn<'a> = &'a dyn Fn(usize, Duration) -> f64;

/// Returns how much higher each contestant's rate is on `threads` threads than on one, in `rounds`
/// pairs of windows.
///
/// All contestants alternate, and so do the windows of a pair. So the medians of two contestants
/// are from the same period. One of them may be the machine ([`xorshift`]).
///
/// # Panics
///
/// If `threads` or `rounds` is zero, or if a contestant panics.
pub fn scaling_of(
    threads: usize,
    window: Duration,
    rounds: usize,
    contestants: &[RateOn],
) -> Vec<Spread> {
    assert!(threads > 0 && rounds > 0, "there is nothing to compare");
    let mut ratios = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..rounds {
        for (contestant, ratios) in contestants.iter().zip(&mut ratios) {
            ratios.push(if round % 2 == 0 {
                let one = contestant(1, window);
                contestant(threads, window) / one
            } else {
                let many = contestant(threads, window);
                many / contestant(1, window)
            });
        }
    }
    let spread = |ratios| {
        Spread::of(ratios).expect("there is at least one round, and every rate is a number")
    };
    ratios.into_iter().map(spread).collect()
}

/// Reports how each contestant scales to two threads. `NAME_scaling` is a share of the scaling of
/// the machine, `NAME_two_threads_over_one` the ratio itself, and the machine's own ratio is the
/// last figure. All alternate, as in [`scaling_of`].
///
/// # Panics
///
/// See [`scaling_of`].
pub fn report_scaling(
    report: &mut Report,
    window: Duration,
    rounds: usize,
    contestants: &[(&str, RateOn)],
) {
    let works: Vec<_> = contestants.iter().map(|&(_, work)| work).chain([&xorshift as _]).collect();
    let mut spreads = scaling_of(2, window, rounds, &works);
    let machine = spreads.pop().expect("the machine's is the last");
    for (&(name, _), scaling) in contestants.iter().zip(spreads) {
        report.push(scaling.over(machine.median).figure(format!("{name}_scaling"), "ratio"));
        report.push(scaling.figure(format!("{name}_two_threads_over_one"), "ratio"));
    }
    report.push(machine.figure("machine_two_threads_over_one", "ratio"));
}

/// Returns how much faster two threads are than one here, by [`xorshift`] in nine pairs of windows
/// of 100 ms.
///
/// This is the yardstick for all code that should scale. No store can scale better than this loop,
/// which shares nothing and touches no memory. On two hardware threads of one core it is below 2.
pub fn scaling_of_the_machine() -> Spread {
    scaling_of(2, Duration::from_millis(100), 9, &[&xorshift])[0]
}

/// Returns the steps per second of an integer xorshift loop on each of `threads` threads. A
/// contestant for [`scaling_of`].
pub fn xorshift(threads: usize, window: Duration) -> f64 {
    const STEPS_BETWEEN_LOOKS: u64 = 1 << 14;
    rate(threads, window, |thread| {
        let mut state = black_box(thread as u64 + 1);
        move || {
            for _ in 0..STEPS_BETWEEN_LOOKS {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
            }
            black_box(state);
            STEPS_BETWEEN_LOOKS
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A rate counts what every thread did.
    #[test]
    fn rate_counts_all_threads() {
        let done = AtomicU64::new(0);
        let rate = rate(2, Duration::from_millis(2), |_| {
            || {
                done.fetch_add(3, Ordering::Relaxed);
                3
            }
        });
        // The first batch of each thread is not counted.
        assert!(done.load(Ordering::Relaxed) >= 12);
        assert!(rate > 0.0 && rate.is_finite());
    }

    /// Each contestant gets a pair of windows per round.
    #[test]
    fn contestants_get_window_pairs() {
        let calls = AtomicU64::new(0);
        let scripted = |threads: usize, _: Duration| {
            calls.fetch_add(1, Ordering::Relaxed);
            threads as f64 * 0.5
        };
        let spreads = scaling_of(4, Duration::from_millis(1), 3, &[&scripted, &xorshift]);
        assert_eq!(spreads[0], Spread { median: 4.0, low: 4.0, high: 4.0 });
        assert_eq!((spreads.len(), calls.into_inner()), (2, 6));
        assert!(spreads[1].low > 0.0 && spreads[1].low <= spreads[1].median);
    }

    /// A report has each contestant's scaling as a share of the machine's.
    #[test]
    fn report_has_share_of_machine() {
        let mut report = Report::default();
        let scripted = |threads: usize, _: Duration| threads as f64;
        report_scaling(&mut report, Duration::from_millis(1), 3, &[("it", &scripted)]);
        let names: Vec<&str> = report.results.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(
            names,
            ["it_scaling", "it_two_threads_over_one", "machine_two_threads_over_one"]
        );
        let [share, scaling, machine] = &report.results[..] else {
            unreachable!("three, see above")
        };
        assert_eq!(scaling.value, 2.0);
        assert!((share.value - 2.0 / machine.value).abs() < 1e-9);
    }
}
