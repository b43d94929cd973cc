//! The thread that cycles through all specs, one parameter at a time.

use std::thread;
use std::time::{Duration, Instant};

use workload::LatencyHistogram;
use zpool_core::spec::{Component, PoolSpec};
use zswap::{Store, SwitchError, Switched};

use super::drains::DrainCounts;
use super::executors::StormExecutor;

/// One change of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SwitchStep {
    Compressor(Component),
    Allocator(Component),
}

/// A cycle through the specs. After its last step the first spec is current again.
#[derive(Debug)]
pub(super) struct Switcher {
    round: Vec<SwitchStep>,
    /// The time of each change of the current pool.
    pub(super) switch_ns: LatencyHistogram,
    /// The drains after each switch, if there are any.
    pub(super) drains: Option<DrainCounts>,
}

impl Switcher {
    /// Creates the cycle through `specs`, the first of which is current.
    pub(super) fn new(specs: &[PoolSpec]) -> Switcher {
        let mut round = Vec::new();
        for (i, from) in specs.iter().enumerate() {
            let to = &specs[(i + 1) % specs.len()];
            if to.compressor != from.compressor {
                round.push(SwitchStep::Compressor(to.compressor.clone()));
            }
            if to.allocator != from.allocator {
                round.push(SwitchStep::Allocator(to.allocator.clone()));
            }
        }
        Switcher { round, switch_ns: LatencyHistogram::new(), drains: None }
    }

    /// Switches for `duration`, with `delay` after each switch. Calls `report_progress` from time
    /// to time with the elapsed share of `duration`.
    pub(super) fn run(
        &mut self,
        store: &Store<u64>,
        executor: &StormExecutor,
        (duration, delay): (Duration, Duration),
        mut report_progress: impl FnMut(f64),
    ) -> Result<Duration, SwitchError> {
        let start = Instant::now();
        let mut last_report = start;
        loop {
            for step in &self.round {
                let before = Instant::now();
                let switched = match step {
                    SwitchStep::Compressor(compressor) => store.set_compressor(compressor)?,
                    SwitchStep::Allocator(allocator) => store.set_allocator(allocator)?,
                };
                let now = Instant::now();
                if !matches!(switched, Switched::Unchanged(_)) {
                    self.switch_ns
                        .record(u64::try_from((now - before).as_nanos()).unwrap_or(u64::MAX));
                }
                if let Some(drains) = &mut self.drains {
                    drains.drain(store);
                }
                executor.between_switches();
                let elapsed = start.elapsed();
                if elapsed >= duration {
                    return Ok(start.elapsed());
                }
                if now - last_report >= Duration::from_millis(100) {
                    last_report = now;
                    report_progress(elapsed.as_secs_f64() / duration.as_secs_f64());
                }
                if !delay.is_zero() {
                    thread::sleep(delay.min(duration - elapsed));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(specs: &[&str]) -> Vec<String> {
        let specs: Vec<PoolSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        let text = |step: &SwitchStep| match step {
            SwitchStep::Compressor(c) => format!("+{c}"),
            SwitchStep::Allocator(a) => format!("{a}+"),
        };
        Switcher::new(&specs).round.iter().map(text).collect()
    }

    /// A cycle changes one parameter at a time and returns to its first spec.
    #[test]
    fn cycle_changes_one_parameter() {
        assert_eq!(round(&["a+x", "b+y"]), ["+y", "b+", "+x", "a+"]);
        assert_eq!(round(&["a+x", "a+y", "b+y"]), ["+y", "b+", "+x", "a+"]);
        assert_eq!(round(&["a+x", "a+x", "a+x(n=1)"]), ["+x(n=1)", "+x"]);
    }
}
