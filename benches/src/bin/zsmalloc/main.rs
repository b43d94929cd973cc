//! Measures how fast zsmalloc is:
//! `cargo run --release -p benches --bin zsmalloc -- FILE... [--only PART] [--params PARAMS]
//! [--json]`.
//!
//! Objects are the files' pages of 4096 bytes, compressed by lz4, without same-filled ones. The
//! program runs on mimalloc. The pool is as in a store, with a work queue and background
//! compaction.
//!
//! - `churn_over_mimalloc`: freeing a random object and inserting another, over the same operations
//!   on `Box<[u8]>`, in alternation and by the clock of the thread. `churn_with_background_..` is
//!   by the clock of the process, with the pool's compaction on its executor.
//! - `read_over_slice_ns`: a read (pin, touch the first and the last byte, unpin) of every object
//!   in random order, less touching plain slices. Each read waits for the bytes of the one before,
//!   as in a decoder. `.._overlapping_ns` is without that wait. The processor then touches several
//!   plain slices at once, which the two locked instructions of a pin prevent.
//! - `read_scaling`: reads per second on two threads over one, as a share of the scaling of the
//!   machine in the same rounds.
//! - `insert_free_speedup`: freeing and inserting objects of one class on two threads, over one.
//!   `insert_free_speedup_by_turns`: the objects of the threads alternate in memory, and so share
//!   cache lines.
//! - `read_p999_under_compaction`: the 99.9th percentile of a read while another thread frees and
//!   refills a random 5 % and compacts, over the percentile without compacting.

mod churn;
mod compaction;
mod filled_pool;
mod reads;
mod threads;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use benches::{Failure, Output, exit};
use clap::Parser;
use workload::{Objects, Report, read_files, refuse_huge_pages};
use zpool_core::ZPoolDriver;
use zpool_core::compress::Codec;
use zpool_core::spec::{Component, Params};
use zpool_lz4::Lz4Compressor;
use zpool_zsmalloc::ZsmallocDriver;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).expect("a block has bytes");

/// With fewer pages than this, figures mean nothing.
const ENOUGH: usize = 1000;

/// Measures how fast zsmalloc is
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are compressed
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Measure only this part
    #[arg(long, value_name = "PART", value_parser = part)]
    only: Option<&'static ZsmallocPart>,
    /// Parameters of the pool, such as `chain=16,compact=off`
    #[arg(long, default_value = "", hide_default_value = true, value_parser = params)]
    params: Params,
    #[command(flatten)]
    output: Output,
}

/// A part of the measurement.
#[derive(Debug)]
struct ZsmallocPart {
    name: &'static str,
    measure: fn(&Objects, &Params, &mut Report),
}

const PARTS: [ZsmallocPart; 4] = [
    ZsmallocPart { name: "churn", measure: churn::over_mimalloc },
    ZsmallocPart { name: "reads", measure: reads::over_slices },
    ZsmallocPart { name: "threads", measure: threads::scaling },
    ZsmallocPart { name: "compaction", measure: compaction::p999 },
];

fn main() -> ExitCode {
    let options = Options::parse();
    refuse_huge_pages();
    exit(measure(&options).map(|report| options.output.print(&report)))
}

fn measure(options: &Options) -> Result<Report, Failure> {
    let objects = objects(&options.files)?;
    let mut report = Report::default();
    let wanted = |part: &&ZsmallocPart| options.only.is_none_or(|only| only.name == part.name);
    for part in PARTS.iter().filter(wanted) {
        (part.measure)(&objects, &options.params, &mut report);
    }
    Ok(report)
}

/// Finds the part of that name.
fn part(name: &str) -> Result<&'static ZsmallocPart, String> {
    let names = || PARTS.map(|part| part.name).join(", ");
    PARTS.iter().find(|part| part.name == name).ok_or_else(|| format!("the parts are {}", names()))
}

/// Parses the pool's parameters and checks them.
fn params(params: &str) -> Result<Params, String> {
    let spec: Component =
        format!("zsmalloc({params})").parse().map_err(|error| format!("{error}"))?;
    ZsmallocDriver.canonical(&spec.params).map_err(|error| error.to_string())
}

fn objects(files: &[PathBuf]) -> Result<Objects, Failure> {
    let pages = read_files(files, BLOCK, None)?.without_same_filled();
    if pages.len() < ENOUGH {
        let found = pages.len();
        return Err(format!("{found} pages that are not same-filled: give {ENOUGH} or more").into());
    }
    let codec = Codec::new(Arc::new(Lz4Compressor::new()), pages.block_size());
    Ok(Objects::compressed(&pages, &codec)?)
}
