//! Compares a store that evicts with caches of other crates at equal resident memory:
//! `cargo run --release -p benches --bin rivals -- FILE... [--spec SPEC] [--quick] [--json]`.
//!
//! ```text
//!   trace ──► look-up ──► hit: decode into the caller's page, compare
//!                 └─────► miss: compress, insert; the cache evicts what its policy chooses
//! ```
//!
//! - *Ours* is a [`zswap::Store`] with a limit in bytes and eviction, of the pool that `--spec`
//!   names (default: `zsmalloc+lz4`).
//! - `moka`, `quick_cache` and `foyer` (its cache in memory) hold each page as an lz4 vector, which
//!   their user compresses and decompresses, or as it is if it does not shrink.
//! - `moka_plain`, `quick_cache_plain` and `foyer_plain` hold the pages themselves. A hit copies
//!   the page, as a hit of the others decodes it. This is how these crates are mostly used.
//!
//! Each cache has its default policy and hasher, and a capacity in bytes by its weigher. Each runs
//! in a process of its own on the heap of the system. The capacity is calibrated until the OS
//! counts as many resident bytes as for our store, within 1 % in the best case; the figure
//! `NAME_resident_over_ours` shows how close it came.
//!
//! Traces of page numbers; there are more numbers than pages, and no cache profits from equal
//! pages:
//!
//! - `zipf`: Zipf(0.99).
//! - `scan`: the same, but 1/3 of the look-ups belong to scans over numbers that come once.
//! - `shifting`: Zipf(0.99) whose hot numbers change all the time.
//!
//! Figures per trace, such as `entries_over_moka_zipf`, are our value over the rival's:
//!
//! - `entries_over_*`: entries at the end of the trace, counted by loading every number.
//! - `hit_ratio_over_*`: hits over look-ups after the first 2/5 of the trace.
//! - `ns_per_hit_over_*`: the CPU time of the whole process in look-ups, over hits. Below 1, ours
//!   is faster.
//! - `ns_per_store_over_*`: the CPU time of the whole process in stores after misses, over stores.
//!
//! The figures without a trace, such as `entries_over_moka`, are the worst over all traces and
//! rounds: the fewest entries, the lowest hit ratio, the longest time. Figures that begin with
//! `ours_` or a rival's name are absolute.

mod caches;
mod calibration;
mod comparison;
mod run;
mod trace;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Failure, FigureRows, Output, child_task, exit, name_of, pages_of};
use clap::Parser;
use zpool_core::spec::PoolSpec;

use crate::run::RunSize;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Take at most this many bytes of a file.
const MAX_BYTES: u64 = 48 << 20;

/// Fewer pages than this train the branch predictor.
const FEWEST_PAGES: usize = 1000;

/// Compares a store that evicts with moka, quick_cache and foyer at equal resident memory
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are cached; each file is measured by itself
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The pool of our store
    #[arg(long, value_name = "SPEC", default_value = "zsmalloc+lz4")]
    spec: PoolSpec,
    /// Make caches and traces 1/8 as large and run each once, which shows that the program works
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    if let Some(task) = child_task() {
        return exit(run::run_here(&task));
    }
    let options = Options::parse();
    exit(measure(&options).map(|rows| options.output.print(&rows)))
}

fn measure(options: &Options) -> Result<FigureRows, Failure> {
    let size = if options.quick { RunSize::Quick } else { RunSize::Full };
    let mut rows = FigureRows::default();
    for file in &options.files {
        let pages = pages_of(file, PAGE, MAX_BYTES, FEWEST_PAGES)?;
        rows.results.extend(comparison::rows(&name_of(file), &pages, &options.spec, size)?);
    }
    Ok(rows)
}
