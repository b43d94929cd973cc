//! How fast zsmalloc is: `cargo run --release -p benches --bin zsmalloc -- FILE... [--only churn|reads|threads|compaction]
//! [--params chain=16,compact=off] [--json]`.
//!
//! Objects are the files' pages of 4096 bytes, compressed by lz4, same-filled ones left out. The program runs on mimalloc. The pool is as a store
//! has it: with a work queue, automatic compaction on.
//!
//! - `churn_over_mimalloc`: freeing a random object and inserting another, over the same with `Box<[u8]>`, in turns, by the clock of the
//!   thread; `churn_with_background_..` by that of the process, with the pool's compaction on its executor.
//! - `read_over_slice_ns`: a read (pin, touch the first and the last byte, unpin) of every object in random order, less touching plain slices, in turns. Each
//!   waits for the bytes of the one before, as a decoder makes it; `.._overlapping_ns` is the same without that: then a processor looks at several plain slices at
//!   once, which the two locked instructions of a pin keep it from.
//! - `read_scaling`: reads a second on two threads over one, as a share of the scaling of the machine in the same rounds.
//! - `insert_free_speedup`: freeing and inserting objects of one class on two threads, over one. `insert_free_speedup_by_turns`: the same where the objects of the
//!   threads lie by turns in memory, and so share cache lines.
//! - `read_p999_under_compaction`: the 99.9th percentile of a read while another thread frees and refills a random 5 % and compacts, over the same without
//!   compacting.

mod churn;
mod compaction;
mod reads;
mod shelf;
mod threads;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use workload::{Objects, Report, read_files, refuse_huge_pages};
use zpool_core::ZPoolDriver;
use zpool_core::compress::Codec;
use zpool_core::spec::{Component, Params};
use zpool_lz4::Lz4Compressor;
use zpool_zsmalloc::ZsmallocDriver;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).expect("a block has bytes");

fn main() -> ExitCode {
    let (mut files, mut json, mut only, mut params) = (Vec::new(), false, None, String::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--only" => only = args.next(),
            "--params" => params = args.next().unwrap_or_default(),
            _ => files.push(PathBuf::from(arg)),
        }
    }
    refuse_huge_pages();
    let params = match parse(&params) {
        Ok(params) => params,
        Err(error) => {
            eprintln!("zsmalloc: {error}");
            return ExitCode::from(2);
        }
    };
    let objects = match objects(&files) {
        Ok(objects) => objects,
        Err(error) => {
            eprintln!("zsmalloc: {error}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    type Part = fn(&Objects, &Params, &mut Report);
    let parts: [(&str, Part); 4] = [
        ("churn", churn::over_mimalloc),
        ("reads", reads::over_slices),
        ("threads", threads::scaling),
        ("compaction", compaction::p999),
    ];
    for (_, measure) in
        parts.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name))
    {
        measure(&objects, &params, &mut report);
    }
    if json {
        println!("{report}");
    } else {
        print!("{}", report.table());
    }
    ExitCode::SUCCESS
}

/// The pool's parameters, checked.
fn parse(params: &str) -> Result<Params, String> {
    let spec: Component =
        format!("zsmalloc({params})").parse().map_err(|error| format!("{error}"))?;
    ZsmallocDriver.canonical(&spec.params).map_err(|error| error.to_string())
}

fn objects(files: &[PathBuf]) -> Result<Objects, String> {
    let pages =
        read_files(files, BLOCK, None).map_err(|error| error.to_string())?.without_same_filled();
    if pages.len() < 1000 {
        return Err("a thousand pages at least are needed that are not same-filled".to_owned());
    }
    let codec = Codec::new(Arc::new(Lz4Compressor::new()), pages.block_size());
    Objects::compressed(&pages, &codec).map_err(|error| error.to_string())
}
