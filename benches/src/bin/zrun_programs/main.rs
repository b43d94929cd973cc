//! Measures real programs that use 2 to 3 times their limit, under `zrun` and in the kernel's zram
//! swap: `cargo run --release -p benches --bin zrun_programs -- [--rounds N] [--json]`.
//!
//! The programs are Python, which builds dictionaries; `sort` with a large buffer; and a Rust
//! program, which sorts and joins vectors of records. Each runs without a limit, under zrun, and as
//! root in a memory cgroup with zram swap. The group's limit is what zrun had resident in the same
//! round: the peak of the process without the bytes of the region's store. If the kernel kills the
//! program there, it gets the whole limit, and its compressed pages on top. Rounds alternate. Where
//! a contestant cannot run, a line on the standard error says so, and its rows are left out.
//!
//! - `zrun_PROGRAM_time_over_plain`, `zrun_PROGRAM_time_over_zram`: wall-clock time.
//! - `zrun_PROGRAM_use_over_limit`: the peak in RAM of the run without a limit, over the limit.
//! - `zrun_PROGRAM_peak_over_limit`: the peak of the process in RAM, over its limit. What zrun does
//!   not limit is in it: the program's code, files, small blocks, and the tables of the region.
//! - `zrun_PROGRAM_same_output`: 1 if all outputs were those of the run without a limit.
//! - `zrun_python_time_over_memopro`, `memopro_python_peak_over_limit`: memopro's own command for
//!   unchanged scripts, if Python can import it.

mod contest;
mod programs;
mod records;

use std::process::ExitCode;

use benches::{FigureRow, FigureRows, Output, child_task, exit};
use clap::Parser;
use workload::Spread;

use contest::{Contest, Rounds};
use programs::Workload;

/// Measures real programs under zrun
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each program
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    if child_task().is_some() {
        records::run();
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    exit(measure(options.rounds.max(1)).map(|rows| options.output.print(&rows)))
}

fn measure(rounds: usize) -> Result<FigureRows, benches::Failure> {
    let contest = Contest::prepare()?;
    let mut rows = FigureRows::default();
    for workload in Workload::all(contest.folder())? {
        let mut measured = Rounds::default();
        for round in 0..rounds {
            eprintln!("round {round}, {}", workload.name);
            contest.measure(&workload, &mut measured)?;
        }
        add_rows(&workload, &measured, &mut rows);
    }
    Ok(rows)
}

fn add_rows(workload: &Workload, rounds: &Rounds, rows: &mut FigureRows) {
    let name = workload.name;
    let mut add = |figure: String, values: &[f64]| {
        if let Some(spread) = Spread::of(values.iter().copied()) {
            rows.results.push(FigureRow::median(workload.file, &figure, spread));
        }
    };
    add(format!("zrun_{name}_time_over_plain"), &rounds.time_over_plain);
    add(format!("zrun_{name}_time_over_zram"), &rounds.time_over_zram);
    add(format!("zrun_{name}_use_over_limit"), &rounds.use_over_limit);
    add(format!("zrun_{name}_peak_over_limit"), &rounds.peak_over_limit);
    add(format!("zrun_{name}_same_output"), &rounds.same_output);
    add(format!("zrun_{name}_time_over_memopro"), &rounds.time_over_memopro);
    add(format!("memopro_{name}_peak_over_limit"), &rounds.memopro_peak_over_limit);
}
