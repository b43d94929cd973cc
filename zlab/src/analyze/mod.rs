//! `zlab analyze`: every pair of allocator and compressor on the same blocks, each in a process of
//! its own.

mod input;
mod pair;
mod report;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use workload::{Archive, Isolated, OutputFile, Pages, sample_process};
use zpool_core::spec::PoolSpec;

use crate::cli::{AnalyzeArgs, HoldFilesArgs, MeasurePairArgs};
use crate::cold;
use crate::drivers;
use crate::error::Failure;
use crate::output::{Progress, print_report};
use crate::sweep;
use input::AnalyzedBlocks;
use pair::PairReport;
use report::AnalyzeReport;

/// The page size of nearly all machines.
const DEFAULT_BLOCK: NonZeroUsize = NonZeroUsize::new(4096).expect("a block has bytes");

/// Reads the blocks, measures the pairs, and prints.
pub(crate) fn run(args: &AnalyzeArgs) -> Result<ExitCode, Failure> {
    let plot = args
        .plot
        .as_ref()
        .map(|plot| OutputFile::claim(plot, &args.files, args.force))
        .transpose()?;
    if args.sweep {
        let input = gather(args, sweep::UNIT)?;
        return sweep::run(args, plot, &input.pages, &input.lines());
    }
    let block_size = args.block_size.unwrap_or(DEFAULT_BLOCK);
    if let Some(cold) = &args.cold {
        let specs = cold::specs(args, cold, block_size)?;
        let input = gather(args, block_size)?;
        return cold::run(args, plot, &specs, &input.pages, &input.lines());
    }
    let pairs = drivers::pairs(&args.allocators, &args.compressors);
    for pair in &pairs {
        drivers::check(pair, block_size)?;
    }
    let input = gather(args, block_size)?;
    if args.json {
        input.lines().iter().for_each(|line| eprintln!("{line}"));
    }
    let mut results = Vec::with_capacity(pairs.len());
    let measured = measure(&pairs, &input.pages, &mut results);
    let report = AnalyzeReport::new(&input, results);
    // Print what was measured before a failure.
    if measured.is_ok() || !report.is_empty() {
        print_report(args.json, &report, || report.text(&input.lines()))?;
    }
    measured?;
    match report.broken() {
        None => Ok(ExitCode::SUCCESS),
        Some(what) => Err(Failure::broken(what)),
    }
}

/// Reads the blocks, which takes seconds if there are many.
fn gather(args: &AnalyzeArgs, block_size: NonZeroUsize) -> Result<AnalyzedBlocks, Failure> {
    let _progress = Progress::spinner("reading what to analyze");
    AnalyzedBlocks::gather(args, block_size)
}

/// Measures the pairs one by one, until one fails.
fn measure(
    pairs: &[PoolSpec],
    pages: &Pages,
    reports: &mut Vec<PairReport>,
) -> Result<(), Failure> {
    let progress = Progress::start(pairs.len() as u64);
    for pair in pairs {
        progress.doing(pair.to_string());
        let child = Isolated::new().arg("measure-pair").arg(pair.to_string());
        // The input is read and the pair exists, so errors from here on are not the user's.
        let report: Result<PairReport, String> =
            child.run(pages).map_err(|error| Failure::broken(format!("{pair}: {error}")))?;
        reports.push(report.map_err(|why| Failure::broken(format!("{pair}: {why}")))?);
        progress.done(reports.len() as u64);
    }
    Ok(())
}

/// Measures one pair in a child. An error is part of the answer, because the parent prints it.
pub(crate) fn measure_pair(args: &MeasurePairArgs) -> Result<ExitCode, Failure> {
    let pages = Pages::read_from(std::io::stdin().lock())?;
    let report = pair::measure(&args.spec, &pages).map_err(|failure| failure.message());
    workload::print_result(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// Holds files in a child and samples the child's own memory, which it may always read. For
/// machines on which no other process can be read.
pub(crate) fn hold_files(args: &HoldFilesArgs) -> Result<ExitCode, Failure> {
    let own = std::env::current_exe()?;
    // First the executable, then all files around it. In a target folder, those are the files of
    // the build.
    let roots = [Some(own.as_path()), own.parent()];
    let roots: Vec<_> = roots.into_iter().flatten().collect();
    let archive = Archive::load(&roots, args.max_bytes)?;
    let sample = sample_process(std::process::id(), args.block_size, args.max_bytes)?;
    sample.pages.write_to(std::io::stdout().lock())?;
    drop(archive);
    Ok(ExitCode::SUCCESS)
}
