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

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::distinct_pages;

use crate::report::Report;

/// The codecs that all others are compared with.
const LZ4: &str = "lz4_flex";
const ZSTD: &str = "zstd";

/// The codecs that are measured if none is named.
const CODECS: [&str; 6] =
    ["lz4-c", "lz4", "zstd(level=-1)", "pagelz", "pagelz(level=2)", "pagelz(level=3)"];

/// The command line.
struct Options {
    files: Vec<PathBuf>,
    /// The codecs to measure, the two yardsticks first.
    codecs: Vec<String>,
    block_size: NonZeroUsize,
    rounds: usize,
    json: bool,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args_os().skip(1)) else {
        eprintln!("usage: codecs FILE... [--codec SPEC]... [--block-size N] [--rounds N] [--json]");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(report) if options.json => println!("{}", report.json()),
        Ok(report) => print!("{report}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn options(mut arguments: impl Iterator<Item = OsString>) -> Option<Options> {
    let (mut files, mut codecs, mut json) = (Vec::new(), Vec::new(), false);
    let (mut block_size, mut rounds) = (NonZeroUsize::new(4096)?, 11);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next()?.into_string().ok();
        match argument.to_str() {
            Some("--json") => json = true,
            Some("--codec") => codecs.push(value()?),
            Some("--block-size") => block_size = value()?.parse().ok()?,
            Some("--rounds") => rounds = value()?.parse().ok().filter(|&rounds| rounds > 0)?,
            Some(flag) if flag.starts_with('-') => return None,
            _ => files.push(argument.into()),
        }
    }
    if codecs.is_empty() {
        codecs.extend(CODECS.map(str::to_owned));
    }
    codecs.retain(|codec| codec != LZ4 && codec != ZSTD);
    codecs.splice(..0, [LZ4.to_owned(), ZSTD.to_owned()]);
    (!files.is_empty()).then_some(Options { files, codecs, block_size, rounds, json })
}

fn run(options: &Options) -> Result<Report, Box<dyn std::error::Error>> {
    let mut report = Report::default();
    for file in &options.files {
        let pages = distinct_pages(file, options.block_size)?;
        let measured = turns::measure(&pages, &options.codecs, options.rounds)?;
        report.add(&file.display().to_string(), &measured);
    }
    report.add_means();
    Ok(report)
}
