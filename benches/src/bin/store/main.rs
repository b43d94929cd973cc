//! Measures what a store does beyond compressing one page:
//! `cargo run --release -p benches --bin store -- FILE... [--json]`.
//!
//! Times are medians of ratios per round; in a round, all contestants alternate. They are by the
//! clock of the thread unless two threads are measured.
//!
//! - `store_incompressible_over_typical`, `store_same_filled_over_typical`: the time of a page of
//!   noise, or of one that repeats 8 bytes, over the time of a page of the files.
//!   `read_same_filled_over_typical`: the same for reading every word of such a page and no more,
//!   the least that any check can cost.
//! - `load_many_over_load`, `store_many_over_store`: pages per second in batches of 64 over single
//!   calls, with keys in random order. `*_in_order`: in the order in which pages and objects lie in
//!   memory.
//! - `noise_found`: the share of noise pages that the noise test finds. `noise_wrong`: the share of
//!   pages of the files that it keeps raw although lz4 shrinks them.
//! - `load_scaling`, `store_scaling`: two threads over one, as a share of the scaling of the
//!   machine in the same rounds.
//! - `hit_ratio_over_lru`: hits of an evicting store on a Zipf(0.99) trace, divided by those of an
//!   exact LRU list with as many entries.
//! - `map_*`, `quick_cache_*`: common alternatives in the same rounds, a sharded map of lz4
//!   vectors, and the crate quick_cache (MIT) with such vectors. `*_bytes_over_ours`: the bytes
//!   that the operating system counts for the same pages, each in a process of its own.
//!   `*_store_over_ours`, `*_load_over_ours`: times.

mod alternatives;
mod batches;
mod kinds;
mod scaling;
mod trace;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Failure, Output, child_task, exit};
use clap::Parser;
use workload::{Pages, Report, read_files};
use zswap::Store;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// An odd number, so that the median is of one round.
const ROUNDS: usize = 7;

/// The number of pages that a contestant works on before the next one takes over.
const PART: usize = 256;

/// Take at most this many bytes of all files together.
const MAX_BYTES: u64 = 48 << 20;

/// Measures what a store does beyond compressing one page
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are stored
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    if let Some(task) = child_task() {
        return exit(alternatives::measure_here(&task));
    }
    let options = Options::parse();
    exit(measure(&options.files).map(|report| options.output.print(&report)))
}

fn measure(files: &[PathBuf]) -> Result<Report, Failure> {
    let pages = read_files(files, PAGE, Some(MAX_BYTES))?.without_same_filled();
    if pages.len() < 4 * PART {
        return Err(format!("{} pages that are not same-filled: too few", pages.len()).into());
    }
    let mut report = Report::default();
    kinds::measure(&pages, &mut report);
    batches::measure(&pages, &mut report);
    scaling::measure(&pages, &mut report);
    trace::measure(&mut report);
    alternatives::measure(&pages, &mut report)?;
    Ok(report)
}

/// Creates a store of the default back ends.
fn plain() -> Store<u64> {
    Store::builder().build().expect("a store of the default back ends")
}

/// Creates a store with every page under its number.
fn filled(pages: &Pages) -> Store<u64> {
    let store = plain();
    for (key, page) in (0..).zip(pages) {
        store.store(key, page).expect("there is no limit");
    }
    store
}
