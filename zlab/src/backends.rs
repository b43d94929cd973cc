//! `zlab backends`: lists what is compiled in, with capabilities and licences.

use std::process::ExitCode;

use serde::Serialize;
use workload::format_bytes;
use zpool_core::PoolConfig;
use zpool_core::page::default_source;
use zpool_core::spec::Params;

use crate::cli::BackendsArgs;
use crate::drivers;
use crate::error::Failure;
use crate::output::{print_report, table};

#[derive(Debug, Serialize)]
struct BackendsReport {
    allocators: Vec<AllocatorRow>,
    compressors: Vec<CompressorRow>,
}

#[derive(Debug, Serialize)]
struct AllocatorRow {
    name: String,
    /// For the block size of the command line.
    max_object_len: usize,
    objects_per_page: Option<u32>,
    moves_objects: bool,
    can_compact: bool,
    can_reclaim: bool,
}

#[derive(Debug, Serialize)]
struct CompressorRow {
    name: String,
    licence: &'static str,
    stateless_decompression: bool,
    warm_without_heap: bool,
}

/// Prints the list.
pub(crate) fn run(args: &BackendsArgs) -> Result<ExitCode, Failure> {
    let config = PoolConfig::new(default_source(), args.block_size.get());
    let mut report = BackendsReport { allocators: Vec::new(), compressors: Vec::new() };
    for driver in drivers::allocators() {
        let can = driver.capabilities(&config)?;
        report.allocators.push(AllocatorRow {
            name: driver.name().to_owned(),
            max_object_len: can.max_object_len,
            objects_per_page: can.objects_per_page,
            moves_objects: can.moves_objects,
            can_compact: can.can_compact,
            can_reclaim: can.can_reclaim,
        });
    }
    for driver in drivers::compressors() {
        let capabilities = driver.open(&Params::default())?.capabilities();
        report.compressors.push(CompressorRow {
            name: driver.name().to_owned(),
            licence: capabilities.licence,
            stateless_decompression: capabilities.stateless_decompression,
            warm_without_heap: capabilities.warm_without_heap,
        });
    }
    print_report(args.json, &report, || tables(&report))
}

fn tables(report: &BackendsReport) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let header = [
        "\nallocator",
        "largest\nobject",
        "objects\nper page",
        "moves\nobjects",
        "\ncompacts",
        "\nreclaims",
    ];
    let mut allocators = table(1, &header);
    for a in &report.allocators {
        let share = a.objects_per_page.map_or("by length".to_owned(), |n| format!("up to {n}"));
        allocators.add_row([
            a.name.clone(),
            format_bytes(a.max_object_len as u64),
            share,
            yes(a.moves_objects),
            yes(a.can_compact),
            yes(a.can_reclaim),
        ]);
    }
    let header = [
        "\ncompressor",
        "licence of\nthe codec",
        "stateless\ndecompression",
        "no heap calls\nonce warm",
    ];
    let mut compressors = table(2, &header);
    for c in &report.compressors {
        compressors.add_row([
            c.name.clone(),
            c.licence.to_owned(),
            yes(c.stateless_decompression),
            yes(c.warm_without_heap),
        ]);
    }
    format!(
        "{}\n\n{}\n\nA pool is one of each, such as `zsmalloc+lz4`.\n\
         With lzo in it, this program as a whole is GPL-2.0-only.\n",
        allocators.trim_fmt(),
        compressors.trim_fmt()
    )
}
