//! `zlab storm`: switch as fast as it goes, and see whether anything gets lost or anybody blocks who must not.
//!
//! ```text
//!   phase empty     switcher ──► set_compressor, set_allocator, set_compressor, ...      every switch makes a pool and destroys one
//!   phase loaded    the same, while each worker stores, loads, invalidates and compares with what it knows it stored
//!   --limit-mib     the store has a limit, and the workers keys for more than four times as much
//!   --kernel        the loop of phase empty against the kernel's own zswap, for comparison
//!   end of each     everything dropped, the executor drained, pools created = destroyed + alive
//! ```

mod executors;
mod kernel;
mod phase;
mod report;
mod switcher;
mod worker;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use workload::{Pages, SeededBlocks, read_files};
use zpool_conformance::Generator;
use zpool_core::spec::PoolSpec;
use zpool_core::{CheckPolicy, set_check_policy};
use zswap::AtLimit;

use crate::cli::{ExecutorChoice, PhaseChoice, PolicyChoice, StormArgs};
use crate::drivers;
use crate::error::Failure;
use crate::output::{Progress, print_report};
use report::StormReport;

/// What is switched between unless the command line says otherwise: different in both parts.
const DEFAULT_SPECS: [&str; 2] = ["zsmalloc+lz4", "zbud+zstd"];

/// Bytes a block.
const BLOCK_SIZE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Of a file of pages, this much is kept in memory.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Pages that are made where no file is given.
const GENERATED_PAGES: usize = 2048;
const GENERATOR_SEED: u64 = 3;

/// With a limit, blocks of so many times its bytes are stored: four times as much as fits, if they shrink to a quarter.
const TIMES_THE_LIMIT: usize = 16;

/// What a store in flight may add beyond the limit: see [`AtLimit`]. Its context comes on top.
const IN_FLIGHT: u64 = 256 << 10;

/// Phases longer than this deserve a progress bar.
const LONG: Duration = Duration::from_secs(2);

/// One of the two phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Loaded,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Empty => "empty",
            Phase::Loaded => "loaded",
        }
    }
}

/// What the phases have in common.
#[derive(Debug)]
struct StormSetup {
    specs: Vec<PoolSpec>,
    executor: ExecutorChoice,
    revive: bool,
    delay: Duration,
    length: Duration,
    threads: usize,
    blocks: SeededBlocks,
    limit: Option<StoreLimit>,
}

/// A limit of the store, and what workers do to reach it.
#[derive(Debug, Clone, Copy)]
struct StoreLimit {
    bytes: usize,
    at_limit: AtLimit,
    /// Keys of each worker.
    slots: usize,
    /// By how much the limit may be passed.
    bound: u64,
}

/// Runs the phases, prints, and fails when the pools did not keep their word.
pub(crate) fn run(args: &StormArgs) -> Result<ExitCode, Failure> {
    let setup = StormSetup {
        specs: specs(args)?,
        executor: args.executor,
        revive: !args.fresh,
        delay: Duration::from_millis(args.delay_ms.into()),
        length: args.seconds,
        threads: args.threads.get(),
        blocks: blocks(args)?,
        limit: limit(args)?,
    };
    let phases = match args.phase {
        PhaseChoice::Empty => vec![Phase::Empty],
        PhaseChoice::Loaded => vec![Phase::Loaded],
        PhaseChoice::Both => vec![Phase::Empty, Phase::Loaded],
    };
    // Before any thread that it is to watch starts.
    set_check_policy(CheckPolicy::Count);
    let mut report = StormReport::default();
    let measured = measure(args, &phases, &setup, &mut report);
    // What was measured before a failure is printed, too.
    if measured.is_ok() || !report.phases.is_empty() {
        print_report(args.json, &report, || report.text())?;
    }
    measured?;
    match report.broken() {
        None => Ok(ExitCode::SUCCESS),
        Some(what) => Err(Failure::broken(what)),
    }
}

/// Runs the phases, and the kernel if it is asked for, up to the first failure.
fn measure(
    args: &StormArgs,
    phases: &[Phase],
    setup: &StormSetup,
    report: &mut StormReport,
) -> Result<(), Failure> {
    let progress =
        Progress::start(args.seconds >= LONG, phases.len() as u64 * phase::PROGRESS_STEPS);
    for (i, &phase) in phases.iter().enumerate() {
        progress.doing(format!("phase {}", phase.name()));
        let done_before = i as u64 * phase::PROGRESS_STEPS;
        report.phases.push(phase::run(phase, setup, |steps| progress.done(done_before + steps))?);
    }
    drop(progress);
    if args.kernel {
        report.kernel = kernel::run(setup.length)?;
    }
    Ok(())
}

/// At least two different ones, each of which can be made.
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
    // In turn as given, repetitions included: A B A C is a way to go.
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
        // Any block that is compressed.
        store.store(0, "a block that shrinks ".repeat(100).as_bytes())?;
        context = context.max(store.stats().context_bytes as u64);
    }
    let bound = args.threads.get() as u64 * (IN_FLIGHT + context);
    Ok(Some(StoreLimit { bytes, at_limit, slots, bound }))
}

fn blocks(args: &StormArgs) -> Result<SeededBlocks, Failure> {
    let pages = match &args.file {
        Some(file) => read_files(&[file], BLOCK_SIZE, Some(MAX_FILE_BYTES))?,
        None => generated(),
    };
    SeededBlocks::new(pages).ok_or_else(|| Failure::new("there is no block to store"))
}

fn generated() -> Pages {
    let mut generator = Generator::new(GENERATOR_SEED);
    let mut bytes = vec![0; GENERATED_PAGES * BLOCK_SIZE.get()];
    for page in bytes.chunks_exact_mut(BLOCK_SIZE.get()) {
        generator.block(page);
    }
    Pages::from_bytes(BLOCK_SIZE, bytes)
}
