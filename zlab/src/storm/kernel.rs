//! The reproducer against the kernel: switches zswap's compressor in a loop with no delay and
//! nothing stored.

use std::time::Duration;

use workload::KernelZswap;

use super::report::{KernelReport, SwitchNs};
use crate::error::Failure;

/// Stop after this time, because the kernel switches so rarely that more time shows no more.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// Switches the kernel's zswap for at most `duration`. If that is impossible, says why on the
/// standard error and measures nothing.
pub(super) fn run(duration: Duration) -> Result<Option<KernelReport>, Failure> {
    let zswap = match KernelZswap::take() {
        Ok(zswap) => zswap,
        Err(skipped) => {
            eprintln!("{skipped}");
            return Ok(None);
        }
    };
    let done = zswap
        .switch_for(duration.min(LONG_ENOUGH))
        .map_err(|error| Failure::new(format!("zswap: {error}")))?;
    let (seconds, ns) = (done.elapsed.as_secs_f64(), done.latencies.summary());
    Ok(Some(KernelReport {
        seconds,
        switches: done.switches,
        switches_per_s: done.switches as f64 / seconds,
        switch_ns: SwitchNs { p50: ns.p50, p99: ns.p99, max: ns.max },
    }))
}
