//! `zlab density`: bytes that each allocator holds over bytes of the objects in it, while objects
//! come and go.
//!
//! ```text
//!   file ──► pages ──► a child per allocator: lz4
//!        ──► fill ──► 4n random replacements ──► free a random half ──► compact, trim
//!              └── resident bytes, as the OS counts them, after each ──┘
//! ```

mod report;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use workload::{
    BoxAllocator, Density, DensityRow, Isolated, Objects, Pages, PoolAllocator, check_input,
    density, read_first_blocks, refuse_huge_pages,
};
use zpool_core::PoolConfig;
use zpool_core::compress::Codec;
use zpool_core::exec::{Executor, Job};
use zpool_core::page::default_source;
use zpool_core::spec::Component;
use zpool_lz4::Lz4Compressor;
use zpool_manager::WorkQueue;

use crate::cli::{DensityArgs, MeasureDensityArgs};
use crate::drivers;
use crate::error::Failure;
use crate::output::{Progress, print_report};
use report::DensityReport;

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).expect("a block has bytes");

/// Take this many blocks of a file by default, because all are in memory several times.
const MAX_BLOCKS: usize = (1 << 30) / BLOCK.get();

/// The name of the allocator of this program's boxes, which is that of the system.
const BOXES: &str = if cfg!(target_env = "gnu") { "glibc" } else { "system" };

/// Measures every allocator on every file, and prints.
pub(crate) fn run(args: &DensityArgs) -> Result<ExitCode, Failure> {
    let allocators = match args.allocators.as_slice() {
        [] => all_allocators(),
        given => given.to_vec(),
    };
    for allocator in allocators.iter().filter(|&allocator| !is_boxes(allocator)) {
        drivers::pool(allocator, &PoolConfig::new(default_source(), BLOCK.get()))?;
    }
    // Check all files before the first is measured.
    args.files.iter().try_for_each(|file| check_input(file).map(drop))?;
    let mut report = DensityReport::default();
    let measured = measure_files(args, &allocators, &mut report);
    // Print what was measured before a failure.
    if measured.is_ok() || !report.results.is_empty() {
        print_report(args.json, &report, || report.text())?;
    }
    measured.map(|()| ExitCode::SUCCESS)
}

/// Measures every allocator on every file, until one fails.
fn measure_files(
    args: &DensityArgs,
    allocators: &[Component],
    report: &mut DensityReport,
) -> Result<(), Failure> {
    let progress = Progress::start((args.files.len() * allocators.len()) as u64);
    for file in &args.files {
        let max_blocks = args.max_blocks.map_or(MAX_BLOCKS, NonZeroUsize::get);
        progress.doing(format!("reading {}", file.display()));
        let pages = read_first_blocks(file, BLOCK, max_blocks)?;
        if pages.is_empty() {
            return Err(Failure::new(format!("every block of {file:?} is one word over and over")));
        }
        let all = pages.len().saturating_mul(args.repeat.get());
        let slots = args.max_blocks.map_or(all, |max| all.min(max.get()));
        for allocator in allocators {
            progress.doing(format!("{} {allocator}", file.display()));
            let child = Isolated::new()
                .arg("measure-density")
                .arg(allocator.to_string())
                .arg(slots.to_string());
            let density: Result<Density, String> = child.run(&pages)?;
            let density = density.map_err(|why| Failure::new(format!("{allocator}: {why}")))?;
            let file = file.display().to_string();
            report.results.push(DensityRow { file, allocator: allocator.to_string(), density });
            progress.done(report.results.len() as u64);
        }
    }
    Ok(())
}

/// Measures one allocator in a child. An error is part of the answer.
pub(crate) fn measure(args: &MeasureDensityArgs) -> Result<ExitCode, Failure> {
    let pages = Pages::read_from(std::io::stdin().lock())?;
    let density =
        measure_one(&args.allocator, &pages, args.slots).map_err(|failure| failure.message());
    workload::print_result(&density)?;
    Ok(ExitCode::SUCCESS)
}

fn measure_one(allocator: &Component, pages: &Pages, slots: usize) -> Result<Density, Failure> {
    refuse_huge_pages();
    let codec = Codec::new(Arc::new(Lz4Compressor::new()), pages.block_size());
    let objects = Objects::compressed(pages, &codec)?;
    if is_boxes(allocator) {
        return Ok(density(&objects, slots, || Ok(BoxAllocator))?);
    }
    let executor = Arc::new(WorkQueue::new("density")?);
    // Start the thread, so that its stack is resident before we count.
    executor.submit(Job::new("first job", || ()))?;
    let config = PoolConfig::new(default_source(), BLOCK.get()).with_executor(executor.clone());
    let make = || {
        let pool = drivers::pool(allocator, &config).map_err(|failure| failure.message())?;
        Ok(PoolAllocator { pool, executor })
    };
    Ok(density(&objects, slots, make)?)
}

fn all_allocators() -> Vec<Component> {
    let pools = drivers::allocators().into_iter().map(|driver| Component::named(driver.name()));
    pools.chain([Component::named(BOXES)]).collect()
}

fn is_boxes(allocator: &Component) -> bool {
    *allocator == Component::named(BOXES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every allocator is measured on the pages given, and an unknown one is an error.
    #[test]
    fn every_allocator_is_measured() {
        let bytes = (0..400 * BLOCK.get()).map(|i| (i / 7 * (i >> 9)) as u8).collect();
        let pages = Pages::from_bytes(BLOCK, bytes).without_same_filled();
        for allocator in all_allocators() {
            let density = measure_one(&allocator, &pages, 2 * pages.len()).unwrap();
            assert!(density.payload_bytes > 0, "{allocator}");
        }
        assert!(
            measure_one(&Component::named("unheard-of"), &pages, 1)
                .unwrap_err()
                .message()
                .contains("unheard-of")
        );
    }
}
