//! `zlab analyze --sweep`: which level, dictionary and block size suit this data.
//!
//! ```text
//!   input ──► units of 64 KiB ─┬─ every other run ──► training ──► a dictionary for each block size, in memory only, where it pays
//!                              └─ the rest ─────────► a store for each setting: store and load it all, in turns ──► points
//!                                                                                                                     │
//!                     front: what no other point beats in bytes and times   ◄─────────────────────────────────────────┤
//!                     recommendation: fast, balanced, small, each with its reason   ◄─────────────────────────────────┘
//! ```

mod choose;
mod grid;
mod measure;
mod plot;
mod report;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use workload::{OutputFile, Pages};

use crate::cli::AnalyzeArgs;
use crate::failure::Failure;
use crate::output::print_report;
use choose::Choice;
use report::Report;

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
    let sample = grid::Sample::of(pages)?;
    let settings = grid::settings(&sample, &grid::block_sizes(args.block_size)?)?;
    let points = measure::measure(
        settings,
        &sample.measured,
        args.block_size.map_or(PAGE_BYTES, NonZeroUsize::get),
    )?;
    let choice = Choice::of(&points);
    let report = Report::new(&sample, &points, &choice);
    // Each is tried, whether or not the other fails.
    let printed = print_report(args.json, &report, || report.text(input));
    if let Some(plot) = plot {
        plot.write(plot::svg(&points, &choice).as_bytes())?;
    }
    printed
}
