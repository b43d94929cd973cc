//! `zlab analyze --sweep`: which level, dictionary and block size suit this data.
//!
//! ```text
//!   input ──► units of 64 KiB ─┬─ every other run ──► training ──► a dictionary for each block size, in memory only, where it pays
//!                              └─ the rest ─────────► a store for each setting: store and load it all, in turns ──► points
//!                                                                                                                     │
//!                     front: what no other point beats in bytes and times   ◄─────────────────────────────────────────┤
//!                     recommendation: fast, balanced, small, each with its reason   ◄─────────────────────────────────┘
//! ```

mod grid;
mod measure;
mod plot;
mod recommendation;
mod report;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use workload::{OutputFile, Pages};

use crate::cli::AnalyzeArgs;
use crate::error::Failure;
use crate::output::print_report;
use recommendation::Recommendation;
use report::SweepReport;

/// What the input is cut into: a multiple of every block size that is tried.
pub(crate) const UNIT: NonZeroUsize = NonZeroUsize::new(UNIT_BYTES).expect("not 0");
const UNIT_BYTES: usize = 64 << 10;

/// What somebody wants at a time, unless the block size is given: then a block.
const PAGE_BYTES: usize = 4096;

/// Measures every setting on `pages`, which are units, and says which to take.
pub(crate) fn run(
    args: &AnalyzeArgs,
    plot: Option<OutputFile>,
    pages: &Pages,
    input: &[String],
) -> Result<ExitCode, Failure> {
    let sample = grid::SplitSample::of(pages)?;
    let settings = grid::settings(&sample, &grid::block_sizes(args.block_size)?)?;
    let points = measure::measure(
        settings,
        &sample.measured,
        args.block_size.map_or(PAGE_BYTES, NonZeroUsize::get),
    )?;
    let recommendation = Recommendation::of(&points);
    let report = SweepReport::new(&sample, &points, &recommendation);
    // Each is tried, whether or not the other fails.
    let printed = print_report(args.json, &report, || report.text(input));
    if let Some(plot) = plot {
        plot.write(plot::svg(&points, &recommendation).as_bytes())?;
    }
    printed
}
