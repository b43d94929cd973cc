//! Figures of the process, at its end.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::calls::{write_raw, write_stderr};
use crate::space::Space;

const MIB: f64 = (1 << 20) as f64;

/// Prints the figures of this process, or appends them to the file of `ZRUN_REPORT` as a line of
/// JSON. A process that had nothing in the reserve reports nothing.
pub(crate) fn write() {
    let Some(space) = Space::get() else { return };
    let entered = space.enter();
    let peak = entered.table.peak_bytes();
    let stats = space.reserve.stats();
    drop(entered);
    if peak == 0 {
        return;
    }
    let (process, limit) = (std::process::id(), space.limit);
    let resident = peak_resident_bytes();
    let loads = stats.loads + stats.units_read_ahead;
    if let Some(path) = &space.report {
        let line = format!(
            "{{\"process\":{process},\"limit_bytes\":{limit},\"peak_mapped_bytes\":{peak},\
             \"peak_resident_bytes\":{resident},\"faults\":{},\"pages_put_away\":{},\
             \"pages_brought_back\":{loads},\"store_peak_bytes\":{},\"over_limit_bytes\":{}}}\n",
            stats.faults, stats.units_evicted, stats.store_peak_bytes, stats.over_limit_bytes,
        );
        append(path, &line);
        return;
    }
    let line = format!(
        "zrun: process {process} had up to {:.1} MiB in a region limited to {:.1} MiB; its peak in \
         RAM, code and small blocks included, was {:.1} MiB; {} pages were put away, {loads} \
         brought back\n",
        peak as f64 / MIB,
        limit as f64 / MIB,
        resident as f64 / MIB,
        stats.units_evicted,
    );
    // Some programs close their standard error before they end.
    if !write_raw(2, &line)
        && let Some(second) = space.standard_error
    {
        write_raw(second, &line);
    }
}

fn append(path: &Path, line: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        write_stderr(&format!("zrun: {}: {error}\n", path.display()));
    }
}

/// Returns the most bytes of this process that were resident at once, or 0 if they are unknown.
fn peak_resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    number.map_or(0, |kib| kib << 10)
}
