//! `zlab region`: verifies every byte of a region while several threads use and change it.
//!
//! ```text
//!   workers     write and verify pieces of their own, at random and in order; a page has several
//!   steering    changes the limit, switches pools, puts away, brings back
//!   children    fork and exec, all the time
//!   direct      O_DIRECT reads of a file into the region
//!   in between  holds of random ranges, and discards
//! ```
//!
//! Each way to serve faults takes its part of the time.

mod model;

use std::iter;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use workload::SeededBlocks;
use zpool_region::{Region, RegionBuilder, RegionError, RegionStats};

use crate::cli::RegionArgs;
use crate::error::Failure;
use crate::generated::generated_pages;
use crate::output::{Progress, print_report, table};
use model::{RegionModel, Tally};

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const GENERATOR_SEED: u64 = 23;

/// The ways to serve faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ServedBy {
    Thread,
    TwoThreads,
    Signal,
}

/// The counts of one mode.
#[derive(Debug, Serialize)]
struct ModeReport {
    served_by: ServedBy,
    seconds: f64,
    serves_kernel_faults: bool,
    #[serde(flatten)]
    tally: Tally,
    faults: u64,
    units_evicted: u64,
    units_dropped_clean: u64,
    units_read_ahead: u64,
    units_pinned: u64,
    units_poisoned: u64,
}

/// Runs all modes, prints, and fails if a byte was wrong.
pub(crate) fn run(args: &RegionArgs) -> Result<ExitCode, Failure> {
    let pages = generated_pages(GENERATOR_SEED, PAGE);
    let blocks = SeededBlocks::new(pages).expect("there are pages");
    let mut reports = Vec::new();
    let modes = [ServedBy::Thread, ServedBy::TwoThreads, ServedBy::Signal];
    let progress = Progress::start(modes.len() as u64);
    for mode in modes {
        progress.doing(format!("{mode:?}"));
        match run_mode(mode, args, &blocks, args.seconds / modes.len() as u32) {
            Ok(report) => reports.push(report),
            Err(error) if error.is_unsupported() => {
                // Not a failure, because scripts run this command on every machine.
                eprintln!("zlab: region skipped: {error}");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        }
        progress.done(reports.len() as u64);
    }
    drop(progress);
    print_report(args.json, &reports, || text(&reports))?;
    let wrong: u64 = reports.iter().map(|report| report.tally.wrong + report.units_poisoned).sum();
    match wrong {
        0 => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::broken(format!("{wrong} pieces of a region were wrong or lost"))),
    }
}

fn run_mode(
    mode: ServedBy,
    args: &RegionArgs,
    blocks: &SeededBlocks,
    duration: Duration,
) -> Result<ModeReport, RegionError> {
    let len = args.mib.get() << 20;
    let limit = len / 2;
    let mut region = with_mode(Region::builder().len(len).limit_bytes(limit), mode).build()?;
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut model = RegionModel::new(blocks, len, args.threads.get());
    while start.elapsed() < duration {
        let left = duration.saturating_sub(start.elapsed());
        model.storm(&mut region, limit, left.min(Duration::from_secs(1)), &mut tally);
        model.hold_and_discard(&mut region, &mut tally);
    }
    model.verify(&mut region, &mut tally);
    let stats: RegionStats = region.stats();
    Ok(ModeReport {
        served_by: mode,
        seconds: start.elapsed().as_secs_f64(),
        serves_kernel_faults: region.serves_kernel_faults(),
        tally,
        faults: stats.faults,
        units_evicted: stats.units_evicted,
        units_dropped_clean: stats.units_dropped_clean,
        units_read_ahead: stats.units_read_ahead,
        units_pinned: stats.units_pinned,
        units_poisoned: stats.units_poisoned,
    })
}

#[allow(unsafe_code, reason = "signal mode is unsafe to choose")]
fn with_mode(builder: RegionBuilder, mode: ServedBy) -> RegionBuilder {
    match mode {
        ServedBy::Thread => builder.handler_threads(1),
        ServedBy::TwoThreads => builder.handler_threads(2),
        // SAFETY: (1) no thread of this program blocks SIGBUS, and nothing else handles it; (2) its
        // threads have 2 MiB of stack; (3) the heap is std's, and there is no other signal handler;
        // (4) there are no plug-ins of our own.
        ServedBy::Signal => unsafe { builder.fault_in_signal_handler() },
    }
}

/// Returns a table with a column per mode and a row per count.
fn text(reports: &[ModeReport]) -> String {
    type Count = fn(&ModeReport) -> u64;
    const COUNTS: [(&str, Count); 12] = [
        ("verified", |report| report.tally.verified),
        ("wrong", |report| report.tally.wrong),
        ("lost", |report| report.units_poisoned),
        ("faults", |report| report.faults),
        ("evicted", |report| report.units_evicted),
        ("dropped clean", |report| report.units_dropped_clean),
        ("read ahead", |report| report.units_read_ahead),
        ("pinned", |report| report.units_pinned),
        ("switches", |report| report.tally.switches),
        ("children", |report| report.tally.children),
        ("direct reads", |report| report.tally.direct_reads),
        ("holds", |report| report.tally.holds),
    ];
    let modes = reports.iter().map(|report| format!("{:?}", report.served_by));
    let header: Vec<String> = iter::once("served by".to_owned()).chain(modes).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = table(1, &header);
    for (name, count) in COUNTS {
        let counts = reports.iter().map(|report| count(report).to_string());
        table.add_row(iter::once(name.to_owned()).chain(counts));
    }
    table.to_string()
}
