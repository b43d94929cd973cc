//! `zlab density` for boxes on the allocator that a program was built with.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde::Serialize;
use workload::{
    BoxAllocator, Density, DensityRow, Objects, Pages, density, print_result, read_files,
    refuse_huge_pages,
};
use zpool_core::compress::Codec;
use zpool_lz4::Lz4Compressor;

use crate::{Failure, Output, PrintedReport, child, child_task, exit};

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).expect("a block has bytes");

/// Measures the density of boxes on the allocator of this program
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are compressed
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Keep each object this many times
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// Keep at most this many objects
    #[arg(long, value_name = "N")]
    max_blocks: Option<NonZeroUsize>,
    #[command(flatten)]
    output: Output,
}

/// The density of each file.
#[derive(Debug, Serialize)]
struct Densities {
    results: Vec<DensityRow>,
}

impl PrintedReport for Densities {
    fn table(&self) -> String {
        let line = |DensityRow { file, density, .. }: &DensityRow| {
            let Density { payload_bytes, fill, churn, half_freed, .. } = density;
            format!(
                "{file}: {payload_bytes} bytes of payload; fill {fill:.4}, churn {churn:.4}, \
                 half freed {half_freed:.4}\n"
            )
        };
        self.results.iter().map(line).collect()
    }
}

/// Runs the whole program: measures each file in a process of its own and prints the rows that
/// `zlab density` prints. `allocator` is the name of the program's global allocator.
pub fn density_of_boxes(allocator: &str) -> ExitCode {
    if let Some(task) = child_task() {
        return exit(measure_here(&task));
    }
    let options = Options::parse();
    exit(measure_each(allocator, &options).map(|densities| options.output.print(&densities)))
}

fn measure_each(allocator: &str, options: &Options) -> Result<Densities, Failure> {
    let max = options.max_blocks.map_or(usize::MAX, NonZeroUsize::get);
    let mut densities = Densities { results: Vec::new() };
    for file in &options.files {
        let mut pages = read_files(std::slice::from_ref(file), BLOCK, None)?.without_same_filled();
        pages.truncate(max);
        let slots = pages.len().saturating_mul(options.repeat.get()).min(max);
        let density: Result<Density, String> = child([slots.to_string()]).run(&pages)?;
        densities.results.push(DensityRow {
            file: file.display().to_string(),
            allocator: allocator.to_owned(),
            density: density?,
        });
    }
    Ok(densities)
}

/// Measures in a child, on the pages of its standard input.
fn measure_here(task: &[String]) -> Result<(), Failure> {
    refuse_huge_pages();
    let slots = task.first().ok_or("a child needs a number of slots")?.parse()?;
    let pages = Pages::read_from(std::io::stdin().lock())?;
    let codec = Codec::new(Arc::new(Lz4Compressor::new()), pages.block_size());
    let objects = Objects::compressed(&pages, &codec)?;
    print_result(
        &density(&objects, slots, || Ok(BoxAllocator)).map_err(|error| error.to_string()),
    )?;
    Ok(())
}
