//! Measures memory that is larger than its limit, in a region and in the kernel's zram swap:
//! `cargo run --release -p benches --bin region -- FILE... [--json]`.
//!
//! A contestant has 48 MiB of the files' pages, and 1/2 or 1/4 of that resident. A region's limit
//! is set so that this much is resident; the kernel gets the resident bytes that the region had in
//! the same round, as anonymous memory of a memory cgroup of its own. The kernel's side needs root.
//! Where it cannot run, its ratios are null.
//!
//! Each contestant is a process of its own, and they alternate. A ratio is the median of those of
//! the rounds. `_2x` and `_4x` are how much more memory there is than is resident, `_signal` and
//! `_thread` the ways to serve faults. Names that end in `_pagelz` are of the codec pagelz; the
//! kernel's codec is lz4 in both cases.
//!
//! Each contestant has one processor. What a thread on another one costs is not measured by that:
//! to wake a virtual processor that has halted is the hypervisor's work, and can take longer than
//! the rest of a fault. Names that end in `_unbound` are of contestants that use all processors.
//!
//! - `fault_p50_over_zram`, `fault_p99_over_zram`: the wall-clock time of the accesses that
//!   faulted, zipf at 2x. They are the slowest accesses, as many as there were faults.
//! - `zipf_cpu_over_zram`, `scan_cpu_over_zram`: CPU time of the process for Zipf(0.99) accesses,
//!   or passes over all pages. 1 access of 10 is a write.
//! - `bytes_per_unit`: bytes outside the store per page of the region, the most of all runs.
//! - `over_limit_bytes`: the largest excess over the limit, checked between accesses.
//! - `wrong_pages`: pages of all contestants that had wrong contents at the end.

mod contestant;
mod result;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Failure, Output, child, child_task, exit};
use clap::Parser;
use workload::{KernelSwap, Pages, read_files};

use contestant::{Measured, Task};
use result::Ratios;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Bytes of memory of each contestant.
const MEMORY: usize = 48 << 20;

/// An odd number, so that the median is of one round.
const ROUNDS: usize = 3;

/// The codecs of the regions, whether contestants have one processor, and the ends of the names of
/// the figures.
const SERIES: [(&str, bool, &str); 3] = [
    ("zsmalloc+lz4", true, ""),
    ("zsmalloc+pagelz", true, "_pagelz"),
    ("zsmalloc+lz4", false, "_unbound"),
];

/// Measures memory that is larger than its limit
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are the memory's contents
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    if let Some(task) = child_task() {
        return exit(contestant::measure_here(&task));
    }
    let options = Options::parse();
    exit(measure(&options.files).map(|ratios| options.output.print(&ratios)))
}

fn measure(files: &[PathBuf]) -> Result<Ratios, Failure> {
    let count = MEMORY / PAGE.get();
    let mut pages = read_files(files, PAGE, Some(MEMORY as u64))?;
    if pages.is_empty() {
        return Err("the files have not even one page".into());
    }
    if pages.len() < count {
        pages = pages.repeat(count.div_ceil(pages.len()));
    }
    pages.truncate(count);
    let swap = match KernelSwap::add("lz4", 2 * MEMORY) {
        Ok(swap) => Some(swap),
        Err(skipped) => {
            eprintln!("{skipped}");
            None
        }
    };
    let mut ratios = Ratios::default();
    for round in 0..ROUNDS {
        for (spec, bound, suffix) in SERIES {
            for (work, excess) in [("zipf", 2), ("zipf", 4), ("scan", 2), ("scan", 4)] {
                let case = Case { spec, bound, suffix, work, excess };
                eprintln!("round {round}, {spec}, bound: {bound}, {work}, {excess}x");
                measure_case(case, swap.as_ref(), &pages, &mut ratios)?;
            }
        }
    }
    Ok(ratios)
}

/// One comparison of all contestants.
#[derive(Debug, Clone, Copy)]
struct Case {
    spec: &'static str,
    /// Whether each contestant has one processor.
    bound: bool,
    suffix: &'static str,
    work: &'static str,
    /// How much more memory there is than is resident.
    excess: usize,
}

/// Measures a case once: the regions, and then the kernel with as much resident as they had.
fn measure_case(
    case: Case,
    swap: Option<&KernelSwap>,
    pages: &Pages,
    ratios: &mut Ratios,
) -> Result<(), Failure> {
    let Case { spec, bound, suffix, work, excess } = case;
    let task = |contestant: &str, resident: usize, group: Option<String>| Task {
        contestant: contestant.to_owned(),
        work: work.to_owned(),
        spec: spec.to_owned(),
        bound,
        resident,
        group,
    };
    let signal = run(&task("signal", MEMORY / excess, None), pages)?;
    let thread = run(&task("thread", MEMORY / excess, None), pages)?;
    let kernel = swap.map(|swap| {
        let group = swap.group().folder().display().to_string();
        let resident = usize::midpoint(signal.resident, thread.resident);
        run(&task("zram", resident, Some(group)), pages)
    });
    // A limit of a memory cgroup is hard: if the kernel cannot reclaim fast enough, it kills.
    let kernel = kernel.and_then(|measured| {
        measured.inspect_err(|error| eprintln!("  the kernel's side of this round: {error}")).ok()
    });
    eprintln!("  signal {signal:?}\n  thread {thread:?}\n  zram {kernel:?}");
    ratios.add_wrong(kernel.as_ref().map_or(0, |kernel| kernel.wrong_pages));
    for (mode, region) in [("signal", &signal), ("thread", &thread)] {
        ratios.add_region(region);
        let over = |figure: fn(&Measured) -> f64| {
            kernel.as_ref().map(|kernel| figure(region) / figure(kernel))
        };
        let cpu = format!("{work}_cpu_over_zram_{mode}_{excess}x{suffix}");
        ratios.add(&cpu, over(|measured| measured.cpu_ns));
        if (work, excess) == ("zipf", 2) {
            let [p50, p99] = ["p50", "p99"].map(|p| format!("fault_{p}_over_zram_{mode}{suffix}"));
            ratios.add(&p50, over(|measured| measured.p50_ns));
            ratios.add(&p99, over(|measured| measured.p99_ns));
        }
    }
    Ok(())
}

fn run(task: &Task, pages: &Pages) -> Result<Measured, Failure> {
    Ok(child([serde_json::to_string(task)?]).run(pages)?)
}
