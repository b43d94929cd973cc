//! Measures moves between pools: `cargo run --release -p benches --bin cold -- FILE... [--json]`.
//!
//! Medians over rounds in which all contestants alternate. CPU is that of the thread that works.
//! Pages that are same-filled are left out, since they are in no pool.
//!
//! - `drain_copied_over_stores`: entries per CPU second of a drain between pools of one codec, over
//!   those of stores that replace the same blocks after the same switch.
//! - `drain_recompressed_cpu`: the CPU of a drain from lz4 to zstd(level=1), over that of a load
//!   from the source and a store into the target of the same blocks.
//! - `drain_peak_held`: the most bytes held while a drain between pools of one codec runs, over the
//!   larger of those before and after. `drain_recompressed_peak_held` likewise.
//! - `load_p50_during_drain`, `load_p99_during_drain`: the latency of loads in another thread while
//!   such a drain runs, over that while none runs.
//! - `cold_held_hot10`, `cold_held_hot20`: bytes held by a store of lz4 whose cold blocks are in a
//!   pool of zstd(level=1), over those of lz4 alone, with 10 or 20 percent of the pages hot. Both
//!   are compacted. `cold_pagelz_*`: pagelz for the hot pages, and denser pools for the cold ones.
//! - `cold_held_hot10_trained`, `cold_held_hot20_trained`: the same after a dictionary was trained
//!   on the store's own cold blocks and, where it pays, replaced the plain cold pool. Its bytes
//!   count. `cold_dictionary_pays`: 1 if it pays, or 0.
//! - `cold_cpu_us_per_page`: the CPU of that, compaction included, per page that became cold or was
//!   tried.
//! - `hot_load_p50`: the latency of loads of hot pages in such a store, over lz4 alone.

mod cold_pool;
mod drains;
mod loads;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Failure, FigureRows, Output, exit, name_of, pages_of, store_all};
use clap::Parser;
use workload::{Pages, Report};
use zswap::{PoolSpec, Store, StoreBuilder};

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// An odd number, so that the median is of one round.
const ROUNDS: usize = 5;

/// Fewer pages than this are moved too fast for the clocks.
const FEWEST_PAGES: usize = 1024;

/// Take at most this many bytes of a file.
const MAX_BYTES: u64 = 48 << 20;

/// Measures moves between pools
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are stored
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Measure drains and the loads during them, and leave out the cold pool
    #[arg(long)]
    drains: bool,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(measure(&options).map(|report| options.output.print(&report)))
}

fn measure(options: &Options) -> Result<FigureRows, Failure> {
    let mut rows = FigureRows::default();
    for file in &options.files {
        let pages = pages_of(file, PAGE, MAX_BYTES, FEWEST_PAGES)?;
        rows.add(&name_of(file), measure_pages(&pages, options.drains)?);
    }
    Ok(rows)
}

fn measure_pages(pages: &Pages, only_drains: bool) -> Result<Report, Failure> {
    let mut report = Report::default();
    drains::measure(pages, &mut report)?;
    loads::measure(pages, &mut report)?;
    if !only_drains {
        cold_pool::measure(pages, &mut report)?;
    }
    Ok(report)
}

fn spec(text: &str) -> PoolSpec {
    text.parse().expect("the specs of this program are valid")
}

/// Returns a builder that knows all codecs of this program.
fn builder() -> StoreBuilder<u64> {
    Store::builder()
        .compressor(std::sync::Arc::new(zpool_zstd::ZstdDriver))
        .compressor(std::sync::Arc::new(zpool_pagelz::PagelzDriver))
}

/// Creates a store over `text` with every page under its number.
fn filled(text: &str, pages: &Pages) -> Result<Store<u64>, Failure> {
    let store = builder().spec(spec(text)).build()?;
    store_all(&store, pages)?;
    Ok(store)
}
