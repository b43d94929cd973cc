//! What the store does beyond compressing one page: `cargo run --release -p benches --bin store -- FILE... [--json]`.
//!
//! Times are ratios of medians over rounds in which all take turns, by the clock of the thread unless two threads are measured.
//!
//! - `store_incompressible_over_typical`, `store_same_filled_over_typical`: a page of noise, or one that repeats eight bytes, over a page of the files.
//! - `load_many_over_load`, `store_many_over_store`: pages a second in batches of 64 over one by one, keys in random order; `*_in_order`: the same in the order
//!   in which pages and objects lie in memory.
//! - `noise_found`, `noise_wrong`: shares of noise that the test for it finds, and of pages of the files that it keeps raw although lz4 shrinks them.
//! - `load_scaling`, `store_scaling`: two threads over one, as a share of the scaling of the machine in the same rounds.
//! - `hit_ratio_over_lru`: hits on a Zipf(0.99) trace over a store that evicts, over those of an exact LRU list with as many entries.
//! - `map_*`, `quick_cache_*`: what people write today, in the same rounds: a sharded map of lz4 vectors, and the crate quick_cache (MIT) with such vectors in
//!   it. `*_bytes_over_ours`: what the operating system counts for the same pages, each in a process of its own; `*_store_over_ours`, `*_load_over_ours`: times.

mod batches;
mod kinds;
mod rivals;
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

/// Odd, so that a median is a round's.
const ROUNDS: usize = 7;

/// Pages that somebody works on before it is another's turn.
const PART: usize = 256;

/// At most this many bytes of the files together.
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
        return exit(rivals::measure_here(&task));
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
    rivals::measure(&pages, &mut report)?;
    Ok(report)
}

/// A store of the default back ends.
fn plain() -> Store<u64> {
    Store::builder().build().expect("a store of the default back ends")
}

/// A store with every page under its number.
fn filled(pages: &Pages) -> Store<u64> {
    let store = plain();
    for (key, page) in (0..).zip(pages) {
        store.store(key, page).expect("there is no limit");
    }
    store
}
