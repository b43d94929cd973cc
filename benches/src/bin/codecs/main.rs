//! Measures how small and how fast the codecs are, next to `lz4_flex` and zstd level 1 on the same
//! pages.
//!
//! ```text
//!   cargo run --release -p benches --bin codecs -- FILE... [--codec SPEC]... [--block-size N]
//!                                                          [--rounds N] [--json]
//!
//!   page ─► compress ─► one buffer;   arena: object│object│raw page│object│… ─► decompress ─► page
//! ```
//!
//! For each file and codec:
//!
//! - `bytes_per_page`: a page that does not shrink counts as itself.
//! - `size_over_lz4`, `load_over_lz4`, `compress_over_lz4`: over the crate `lz4_flex`, called
//!   directly. `size_over_zstd`, `load_over_zstd`, `compress_over_zstd`: over zstd level 1.
//! - `load_ns`, `compress_ns`: nanoseconds per page, for a first look. Only ratios within a run can
//!   be compared.
//!
//! In one round each codec decompresses every page once, and in another it compresses every page
//! once, in the order of the pages, from an arena without gaps. The codecs alternate after every
//! 256 KiB, because a shared machine changes its speed within a pass ([`workload::interleave`]).
//! Times are of the thread's own clock, as medians of the ratios within a round; `range` has the
//! lowest and the highest round. After each timed part, every page is decompressed once more and
//! compared, byte by byte. Pages are distinct and not same-filled. The file `geometric mean` stands
//! for all files.
//!
//! The codecs are those of `--codec`, or all. `lz4_flex` and `lz4-c` are the crates themselves;
//! the others are specs, called as a pool's `Codec` calls them.

mod report;
mod subject;
mod turns;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Failure, Output, distinct_pages, exit};
use clap::Parser;

use crate::report::Report;

/// The codecs that all others are compared with.
const LZ4: &str = "lz4_flex";
const ZSTD: &str = "zstd";

/// The codecs that are measured if none is named.
const CODECS: [&str; 6] =
    ["lz4-c", "lz4", "zstd(level=-1)", "pagelz", "pagelz(level=2)", "pagelz(level=3)"];

/// Measures how small and how fast codecs are
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are compressed
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Measure this codec; may be repeated [default: all]
    #[arg(long = "codec", value_name = "SPEC")]
    codecs: Vec<String>,
    /// Bytes per block
    #[arg(long, value_name = "N", default_value = "4096")]
    block_size: NonZeroUsize,
    /// Rounds of each codec
    #[arg(long, value_name = "N", default_value = "11")]
    rounds: NonZeroUsize,
    #[command(flatten)]
    output: Output,
}

impl Options {
    /// Returns the codecs to measure, the two that all are compared with first.
    fn codecs(&self) -> Vec<String> {
        let all = || CODECS.map(str::to_owned).to_vec();
        let chosen = if self.codecs.is_empty() { all() } else { self.codecs.clone() };
        let others = chosen.into_iter().filter(|codec| codec != LZ4 && codec != ZSTD);
        [LZ4, ZSTD].map(str::to_owned).into_iter().chain(others).collect()
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(measure(&options).map(|report| options.output.print(&report)))
}

fn measure(options: &Options) -> Result<Report, Failure> {
    let (mut report, codecs) = (Report::default(), options.codecs());
    for file in &options.files {
        let pages = distinct_pages(file, options.block_size)?;
        let measured = turns::measure(&pages, &codecs, options.rounds.get())?;
        report.add(&file.display().to_string(), &measured);
    }
    report.add_means();
    Ok(report)
}
