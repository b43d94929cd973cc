//! `zlab storm`: switches as fast as it can, and checks that no block is lost and no caller blocks
//! in a no-block section.
//!
//! ```text
//!   phase empty    switcher ──► set_compressor, set_allocator, set_compressor, ...
//!                  every switch creates a pool and destroys one
//!   phase loaded   the same, while workers store, load, invalidate and verify their own blocks
//!   --limit-mib    the store has a limit, and workers store 16 times as many bytes
//!   --tier         at its limit the store writes cold blocks to a file
//!   --drain        after every switch, the blocks of retired pools are moved to the current one
//!   --kernel       the loop of phase empty on the kernel's own zswap, for comparison
//!   at the end     everything dropped, the executor drained, pools created = destroyed + alive
//! ```

mod drains;
mod executors;
mod kernel;
mod phase;
mod report;
mod switcher;
mod tier;
mod worker;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use workload::{SeededBlocks, read_files};
use zpool_core::spec::PoolSpec;
use zpool_core::{CheckPolicy, set_check_policy};
use zswap::AtLimit;

use crate::cli::{ExecutorChoice, PhaseChoice, PolicyChoice, StormArgs};
use crate::drivers;
use crate::error::Failure;
use crate::generated::generated_pages;
use crate::output::{Progress, print_report};
use report::StormReport;
use tier::StormTier;

/// The default specs, which differ in allocator and compressor.
const DEFAULT_SPECS: [&str; 2] = ["zsmalloc+lz4", "zbud+zstd"];

/// Bytes per block.
const BLOCK_SIZE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Keep this much of a file of pages in memory.
const MAX_FILE_BYTES: u64 = 64 << 20;

const GENERATOR_SEED: u64 = 3;

/// With a limit, the workers store this many times the limit, counted before compression. That is
/// four times as much as fits if blocks shrink to 1/4.
const TIMES_THE_LIMIT: usize = 16;

/// A store under way may add this much beyond the limit (see [`AtLimit`]), and its context.
const IN_FLIGHT: u64 = 256 << 10;

/// One of the two phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StormPhase {
    Empty,
    Loaded,
}

impl StormPhase {
    fn name(self) -> &'static str {
        match self {
            StormPhase::Empty => "empty",
            StormPhase::Loaded => "loaded",
        }
    }
}

/// The settings that the phases share.
#[derive(Debug)]
struct StormSetup {
    specs: Vec<PoolSpec>,
    executor: ExecutorChoice,
    revive: bool,
    delay: Duration,
    duration: Duration,
    threads: usize,
    blocks: SeededBlocks,
    limit: Option<StoreLimit>,
    tier: Option<StormTier>,
    /// Whether retired pools are drained after each switch.
    drain: bool,
}

/// A limit of the store, and how workers reach it.
#[derive(Debug, Clone, Copy)]
struct StoreLimit {
    bytes: usize,
    at_limit: AtLimit,
    /// The number of keys of each worker.
    slots: usize,
    /// The bytes by which the store may pass the limit.
    bound: u64,
}

/// Runs the phases, prints, and fails if the pools broke their contract.
pub(crate) fn run(args: &StormArgs) -> Result<ExitCode, Failure> {
    let setup = StormSetup {
        specs: specs(args)?,
        executor: args.executor,
        revive: !args.fresh,
        delay: Duration::from_millis(args.delay_ms.into()),
        duration: args.seconds,
        threads: args.threads.get(),
        blocks: blocks(args)?,
        limit: limit(args)?,
        tier: args.tier.as_ref().map(|dir| StormTier::new(dir, args.tier_mib)),
        drain: args.drain,
    };
    let phases = match args.phase {
        PhaseChoice::Empty => vec![StormPhase::Empty],
        PhaseChoice::Loaded => vec![StormPhase::Loaded],
        PhaseChoice::Both => vec![StormPhase::Empty, StormPhase::Loaded],
    };
    // Set the policy before the threads that it watches start.
    set_check_policy(CheckPolicy::Count);
    let mut report = StormReport::default();
    let measured = measure(args, &phases, &setup, &mut report);
    // Print what was measured before a failure.
    if measured.is_ok() || !report.phases.is_empty() {
        print_report(args.json, &report, || report.text())?;
    }
    measured?;
    match report.broken() {
        None => Ok(ExitCode::SUCCESS),
        Some(what) => Err(Failure::broken(what)),
    }
}

/// Runs the phases, and the kernel if the command line asks for it, until one fails.
fn measure(
    args: &StormArgs,
    phases: &[StormPhase],
    setup: &StormSetup,
    report: &mut StormReport,
) -> Result<(), Failure> {
    let progress = Progress::start(phases.len() as u64 * phase::PROGRESS_STEPS);
    for (i, &phase) in phases.iter().enumerate() {
        progress.doing(format!("phase {}", phase.name()));
        let done_before = i as u64 * phase::PROGRESS_STEPS;
        report.phases.push(phase::run(phase, setup, |steps| progress.done(done_before + steps))?);
    }
    drop(progress);
    if args.kernel {
        let _progress = Progress::spinner("the kernel's zswap");
        report.kernel = kernel::run(setup.duration)?;
    }
    Ok(())
}

/// Returns the specs, of which at least two differ, and all of which can be created.
fn specs(args: &StormArgs) -> Result<Vec<PoolSpec>, Failure> {
    let given = if args.specs.is_empty() {
        DEFAULT_SPECS.iter().map(|text| text.parse()).collect::<Result<Vec<PoolSpec>, _>>()?
    } else {
        args.specs.clone()
    };
    let mut different: Vec<PoolSpec> = Vec::new();
    for spec in &given {
        // `zstd` and `zstd(level=1)` may be the same.
        let canonical = drivers::check(spec, BLOCK_SIZE)?;
        if !different.contains(&canonical) {
            different.push(canonical);
        }
    }
    if different.len() < 2 {
        return Err(Failure::new(
            "there is nothing to switch between: give two or more different --spec",
        ));
    }
    // Keep the order and repetitions, because A B A C is a valid cycle.
    Ok(given)
}

fn limit(args: &StormArgs) -> Result<Option<StoreLimit>, Failure> {
    let Some(mib) = args.limit_mib else { return Ok(None) };
    let at_limit = match args.policy {
        PolicyChoice::Refuse => AtLimit::Refuse,
        PolicyChoice::Evict => AtLimit::Evict,
    };
    let bytes =
        usize::try_from(mib << 20).map_err(|_| Failure::new("a limit beyond all addresses"))?;
    let slots = (bytes / BLOCK_SIZE * TIMES_THE_LIMIT).div_ceil(args.threads.get());
    let mut context = 0;
    for spec in &specs(args)? {
        let store = drivers::store(spec, BLOCK_SIZE).build()?;
        // Any block that shrinks.
        store.store(0, "a block that shrinks ".repeat(100).as_bytes())?;
        context = context.max(store.stats().context_bytes as u64);
    }
    // A drain adds as much as one more store.
    let in_flight = args.threads.get() as u64 + u64::from(args.drain);
    let bound = in_flight * (IN_FLIGHT + context);
    Ok(Some(StoreLimit { bytes, at_limit, slots, bound }))
}

fn blocks(args: &StormArgs) -> Result<SeededBlocks, Failure> {
    let pages = match &args.file {
        Some(file) => {
            let _progress = Progress::spinner(format!("reading {}", file.display()));
            read_files(&[file], BLOCK_SIZE, Some(MAX_FILE_BYTES))?
        }
        None => generated_pages(GENERATOR_SEED, BLOCK_SIZE),
    };
    SeededBlocks::new(pages).ok_or_else(|| Failure::new("there is no block to store"))
}
