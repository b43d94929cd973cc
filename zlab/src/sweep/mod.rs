//! `zlab analyze --sweep`: finds the level, dictionary and block size that suit the data.
//!
//! ```text
//!   input ──► units of 64 KiB ─┬─ 1/2 ──► training ──► dictionaries, in memory only, if they pay
//!                              └─ 1/2 ──► a store per setting: store and load all ──► points
//!
//!   points ──► front: points that no other beats in bytes and times
//!          ──► recommendation: fast, balanced, small, each with its reason
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
use crate::output::{Progress, print_report, print_report_beside};
use recommendation::Recommendation;
use report::SweepReport;

/// The unit that the input is cut into, a multiple of every block size that is tried.
pub(crate) const UNIT: NonZeroUsize = NonZeroUsize::new(UNIT_BYTES).expect("not 0");
const UNIT_BYTES: usize = 64 << 10;

/// The number of bytes that a reader wants at a time. With `--block-size`, it is a block.
const PAGE_BYTES: usize = 4096;

/// Measures every setting on `pages`, which are units, and recommends three.
pub(crate) fn run(
    args: &AnalyzeArgs,
    plot: Option<OutputFile>,
    pages: &Pages,
    input: &[String],
) -> Result<ExitCode, Failure> {
    let sample = grid::SplitSample::of(pages)?;
    let training = Progress::spinner("training dictionaries");
    let settings = grid::settings(&sample, &grid::block_sizes(args.block_size)?)?;
    drop(training);
    let points = measure::measure(
        settings,
        &sample.measured,
        args.block_size.map_or(PAGE_BYTES, NonZeroUsize::get),
    )?;
    let recommendation = Recommendation::of(&points);
    let report = SweepReport::new(&sample, &points, &recommendation);
    let text = || report.text(input);
    // Try both, even if one fails.
    match plot {
        None => print_report(args.json, &report, text),
        Some(plot) => {
            let printed = print_report_beside(plot.is_stdout(), args.json, &report, text);
            plot.write(plot::svg(&points, &recommendation).as_bytes())?;
            printed
        }
    }
}
