//! Measures what our layers cost over the codec alone, and compares the whole with the kernel's
//! zram.
//!
//! ```text
//!   cargo run --release -p benches --bin overhead -- FILE... [--codec SPEC]... [--json]
//!
//!   raw     page ─► codec crate, its own reused state ─► one buffer
//!                                       one box per object, in order ─► codec crate ─► page
//!   layer   page ─► Codec: context, slot of this CPU, contract checks ─► discarded
//!                                                      the same boxes ─► Codec       ─► page
//!   store   page ─► Store: hash, same-filled test, compress, insert    ─► Store::load ─► page
//!   boxes   page ─► codec crate ─► a new box instead of the page's last ─► codec crate ─► page
//!   zram    page ─► block layer ─► zram, 1 MiB past the page cache     ─► zram        ─► page
//! ```
//!
//! For each file and codec, the report has medians over rounds in which all contestants alternate,
//! a pass over all pages at a time ([`workload::alternate`]):
//!
//! - `compress_over_raw`, `decompress_over_raw`: time of the layer over raw.
//!
//! - `store_over_raw`, `load_over_raw`: time of the whole store over raw. Stores are in steady
//!   state, with every key present. Keys are page numbers, hashed by `zswap::SequentialKeys`.
//!   `keyed_store_over_raw` and `keyed_load_over_raw` are those of a store with std's keyed hasher,
//!   which is the default of a store, and so are `keyed_*_speedup`.
//! - `store_over_boxes`, `load_over_boxes`: time of the store over a program that keeps each object
//!   in a box. Its stores make a new box and free the last one, and its loads find the boxes where
//!   these stores have left them. Their place depends on the malloc and on the number of rounds.
//! - `zram`, for lz4: `store_speedup`, `load_speedup` are zram's time over ours.
//!   `raw_store_speedup`, `raw_load_speedup` are zram's time over the raw codec's, which no layer
//!   over this codec can exceed. The time of the block layer counts as zram's. Null if there is no
//!   zram.
//!
//! These figures are by the clock of the thread, so that the turns of other programs do not count.
//! `wall` has them by the wall clock, and `ranges` has the lowest and highest round of each. On an
//! idle machine both clocks agree. All work is done by the calling thread, including the kernel's
//! part of zram.
//!
//! A turn is a pass over all pages. With turns of 256 pages, each contestant would return to caches
//! and page tables that others have used. That costs a pool with a hundred size classes more than
//! boxes in a row.
//!
//! Pages are distinct and not same-filled. Each is compressed once and decompressed once per round.
//! Every object and every restored page is compared, outside of the timed parts.

mod codecs;
mod contestants;
mod measure;
mod result;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Failure, Output, distinct_pages, exit};
use clap::Parser;

use crate::result::CodecOutcomes;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Measures what our layers cost over the codec alone
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are stored
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Measure only this codec; may be repeated
    #[arg(long = "codec", value_name = "SPEC", value_parser = codec)]
    codecs: Vec<String>,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(measure_each(&options).map(|outcomes| options.output.print(&outcomes)))
}

/// Accepts the spec of a setting that is measured.
fn codec(spec: &str) -> Result<String, String> {
    let specs = codecs::settings().map(|setting| setting.spec);
    match specs.contains(&spec) {
        true => Ok(spec.to_owned()),
        false => Err(format!("the codecs are {}", specs.join(", "))),
    }
}

fn measure_each(options: &Options) -> Result<CodecOutcomes, Failure> {
    let mut outcomes = CodecOutcomes::default();
    let wanted =
        |spec: &str| options.codecs.is_empty() || options.codecs.iter().any(|codec| codec == spec);
    for file in &options.files {
        let pages = distinct_pages(file, PAGE)?;
        for setting in codecs::settings().iter().filter(|setting| wanted(setting.spec)) {
            outcomes.results.push(measure::measure(file, &pages, setting)?);
        }
    }
    Ok(outcomes)
}
