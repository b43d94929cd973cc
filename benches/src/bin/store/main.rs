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

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use workload::{Pages, Report, read_files};
use zswap::Store;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Odd, so that a median is a round's.
const ROUNDS: usize = 7;

/// Pages that somebody works on before it is another's turn.
const PART: usize = 256;

/// At most this many bytes of the files together.
const MAX_BYTES: u64 = 48 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rival] = arguments.as_slice()
        && flag == rivals::HOLD
    {
        return rivals::hold(rival);
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let files: Vec<PathBuf> =
        arguments.iter().filter(|a| *a != "--json").map(PathBuf::from).collect();
    if files.is_empty() || files.iter().any(|file| file.to_string_lossy().starts_with("--")) {
        eprintln!("usage: store FILE... [--json]");
        return ExitCode::from(2);
    }
    match run(&files) {
        Ok(report) if json => println!("{report}"),
        Ok(report) => print!("{}", report.table()),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(files: &[PathBuf]) -> Result<Report, Box<dyn Error>> {
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
