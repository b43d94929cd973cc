//! `zlab analyze --cold SPEC`: what a cold pool would save and cost on these blocks.
//!
//! ```text
//!   blocks ──► a store of the first pool alone ─────────────────────────► bytes held
//!          └─► a store with a cold pool, for each --hot share:
//!              load the hot blocks, turn the heat clock, three times ──► bytes held, CPU, latency
//!
//!   --train: a sample of the cold blocks ──► train and judge ──► the same with it, if it pays
//! ```

mod measure;
mod plot;
mod report;
mod train;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use workload::{OutputFile, Pages};
use zpool_core::spec::{Component, PoolSpec};

use crate::cli::AnalyzeArgs;
use crate::drivers;
use crate::error::Failure;
use crate::output::{Progress, print_report, print_report_beside};
use measure::ColdPoolCost;
use report::ColdPoolReport;

/// The shares of hot blocks in percent, unless the command line names some.
const DEFAULT_HOT: [u8; 3] = [10, 20, 50];

/// Checks the specs before the blocks are read.
pub(crate) fn specs(
    args: &AnalyzeArgs,
    cold: &PoolSpec,
    block_size: NonZeroUsize,
) -> Result<[PoolSpec; 2], Failure> {
    let hot = PoolSpec::new(
        one_of(&args.allocators, "zsmalloc", "--allocator")?,
        one_of(&args.compressors, "lz4", "--compressor")?,
    );
    let specs = [drivers::check(&hot, block_size)?, drivers::check(cold, block_size)?];
    if specs[0].compressor == specs[1].compressor {
        return Err(Failure::new(format!(
            "cold blocks would be compressed like the others, with {}: give another --cold",
            specs[1].compressor
        )));
    }
    if args.train {
        train::check(&specs[1])?;
    }
    Ok(specs)
}

/// Returns the only component given, or the default one.
fn one_of(given: &[Component], default: &str, option: &str) -> Result<Component, Failure> {
    match given {
        [] => Ok(Component::named(default)),
        [one] => Ok(one.clone()),
        _ => Err(Failure::new(format!("with --cold, give {option} once"))),
    }
}

/// Measures each share of hot blocks, prints, and draws.
pub(crate) fn run(
    args: &AnalyzeArgs,
    plot: Option<OutputFile>,
    specs: &[PoolSpec; 2],
    pages: &Pages,
    lines: &[String],
) -> Result<ExitCode, Failure> {
    if args.json {
        lines.iter().for_each(|line| eprintln!("{line}"));
    }
    let shares = if args.hot.is_empty() { DEFAULT_HOT.to_vec() } else { args.hot.clone() };
    // With the fewest hot blocks, more are cold.
    let (training, trained) = match shares.iter().min().filter(|_| args.train) {
        Some(&percent) => {
            let (training, trained) = train::train(specs, pages, percent)?;
            (Some(training), trained)
        }
        None => (None, None),
    };
    let rounds: Vec<(u8, bool, &[PoolSpec; 2])> = shares
        .iter()
        .flat_map(|&percent| {
            let with_trained = trained.as_ref().map(|specs| (percent, true, specs));
            [Some((percent, false, specs)), with_trained].into_iter().flatten()
        })
        .collect();
    let progress = Progress::start(rounds.len() as u64 + 1);
    progress.doing(format!("{} alone", specs[0]));
    let plain = measure::plain(&specs[0], pages)?;
    progress.done(1);
    let mut measured: Vec<ColdPoolCost> = Vec::new();
    for (percent, trained, specs) in rounds {
        progress.doing(format!("{percent} % hot"));
        measured.push(ColdPoolCost { trained, ..measure::with_cold_pool(specs, pages, percent)? });
        progress.done(measured.len() as u64 + 1);
    }
    drop(progress);
    let report = ColdPoolReport::new(specs, pages, plain, measured, training);
    let text = || report.text(lines);
    match plot {
        None => print_report(args.json, &report, text)?,
        Some(plot) => {
            let printed = print_report_beside(plot.is_stdout(), args.json, &report, text);
            plot.write(plot::svg(&report).as_bytes())?;
            printed?
        }
    };
    match report.broken() {
        None => Ok(ExitCode::SUCCESS),
        Some(what) => Err(Failure::broken(what)),
    }
}
