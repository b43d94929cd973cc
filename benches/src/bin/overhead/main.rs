//! What our layers cost over the codec alone, and how the whole compares with the kernel's zram.
//!
//! ```text
//!   cargo run --release -p benches --bin overhead -- FILE... [--codec SPEC]... [--json]
//!
//!   raw     page ─► codec crate, its own reused state ─► one buffer;  a box an object, in order ─► codec crate ─► page
//!   layer   page ─► Codec: context, slot of this processor, contract checks ─► nowhere;  the same boxes ─► Codec ─► page
//!   store   page ─► Store: hash, same-filled test, compress, insert, publish                 ─► Store::load      ─► page
//!   boxes   page ─► codec crate ─► a new box in the place of the page's last                 ─► codec crate      ─► page
//!   zram    page ─► block layer ─► zram, requests of 1 MiB past the page cache               ─► zram             ─► page
//! ```
//!
//! For each file and codec, as medians over rounds in which each takes a turn at all pages ([`workload::alternate`]):
//!
//! - `compress_over_raw`, `decompress_over_raw`: time of the layer over raw. `store_over_raw`, `load_over_raw`: time of the whole store over raw. Stores are
//!   in steady state: every key exists. Keys are page numbers, hashed by `zswap::ByNumber`; `keyed_store_over_raw` and `keyed_load_over_raw` are those of a store
//!   with std's keyed hasher, which is what it has unless told otherwise; so are `keyed_*_speedup` below.
//! - `store_over_boxes`, `load_over_boxes`: the same over a program that keeps objects too, each in a box: a store makes a new one and frees the last, and loads find the boxes
//!   where those stores have left them, as ours find their objects. Where that is depends on the malloc and on how many rounds there were.
//! - `zram`, for lz4: `store_speedup`, `load_speedup` are zram's time over ours; `raw_store_speedup`, `raw_load_speedup` over the raw codec's: the most that
//!   any layer over this codec can reach. The block layer's share is in zram's time. Null where there is no zram to be had.
//!
//! These are by the clock of the thread, so that the turns of other programs do not count; `wall` has the same by the wall clock; `ranges` has the
//! lowest and highest round of each. On an idle machine the clocks agree. Everything here is work of the calling thread, the kernel's part of zram included.
//!
//! A turn is a pass over all pages, and not over a few: with turns of 256 pages everybody comes back to caches and page tables that others have used, and finds a hundred size
//! classes in them again where boxes in a row have one place to go on from.
//!
//! Pages are distinct and not same-filled; each is compressed once and decompressed once a round. Every object and every page that comes back is
//! compared, outside of the timed parts.

mod codecs;
mod contest;
mod measure;
mod result;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::distinct_pages;

use crate::result::Report;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// What the command line asks for.
struct Options {
    files: Vec<PathBuf>,
    /// All, if none is named.
    codecs: Vec<String>,
    json: bool,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args_os().skip(1)) else {
        eprintln!("usage: overhead FILE... [--codec SPEC]... [--json]");
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
    let mut options = Options { files: Vec::new(), codecs: Vec::new(), json: false };
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--json") => options.json = true,
            Some("--codec") => options.codecs.push(codec(arguments.next()?.to_str()?)?),
            Some(flag) if flag.starts_with('-') => return None,
            _ => options.files.push(argument.into()),
        }
    }
    (!options.files.is_empty()).then_some(options)
}

/// One of the settings that are measured.
fn codec(spec: &str) -> Option<String> {
    codecs::settings().iter().any(|setting| setting.spec == spec).then(|| spec.to_owned())
}

fn run(options: &Options) -> Result<Report, Box<dyn std::error::Error>> {
    let mut report = Report::default();
    let wanted =
        |spec: &str| options.codecs.is_empty() || options.codecs.iter().any(|codec| codec == spec);
    for file in &options.files {
        let pages = distinct_pages(file, PAGE)?;
        for setting in codecs::settings().iter().filter(|setting| wanted(setting.spec)) {
            report.results.push(measure::measure(file, &pages, setting)?);
        }
    }
    Ok(report)
}
