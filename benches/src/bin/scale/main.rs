//! Measures what large and many stores cost:
//! `cargo run --release -p benches --bin scale -- [--only NAME]... [--quick] [--json]`.
//!
//! Each part runs in a process of its own, with a clean heap. `--only NAME` runs only parts with
//! that name or figure. With `--quick`, sizes are 1/20. That shows that the program works, and its
//! figures mean little.
//!
//! - `worst_load_ns_20m`: the longest load by one thread while another one grows the store from 10
//!   blocks to 20 million, of 16 bytes each. A load that slept counts by the wall clock, because
//!   the fault to find is a load that waits for a lock; the time in which it, or the thread that
//!   stores, was runnable without a processor is subtracted. Any other load counts by the clock of
//!   its thread. `worst_load_wall_ns_20m` is the longest load as it is.
//! - `stats_ns_10m`, `clear_s_10m`, `drop_s_10m`: `stats()`, `clear()` and the drop of a store of
//!   10 million objects. `*_memory_gone_s_10m` is the time until 95 % of its memory went back to
//!   the system.
//! - `store_ns_key_order_over_random`: the time of a store of keys in the order of another store's
//!   `keys()`, over the same keys in random order, for the worse of the default hasher and
//!   `SequentialKeys`.
//! - `index_rss_over_held`: resident bytes over `bytes_held()` while a store fills whose index
//!   dominates, at its worst. `index_rss_kept_after_clear` is the part of the resident bytes that
//!   stays after `clear()`.
//! - `empty_store_bytes`: an empty store, the average of 100: resident or counted bytes, whichever
//!   is more.
//! - `threads_of_100_stores`: threads of a process with 100 stores that have switched.
//! - `limit_rss_over_limit`: resident bytes over a limit of 64 MiB at which two threads store
//!   blocks of 9 to 64 bytes.
//!
//! `*_failed_stores` count stores that returned an error where none should. A fill that takes too
//! long is cut off.

mod blocks;
mod loads;
mod many_stores;
mod order;
mod resident;
mod thread_account;
mod whole_store;

use std::process::ExitCode;

use benches::{Failure, FigureRow, FigureRows, Output, child, child_task, exit};
use clap::Parser;
use workload::{print_result, refuse_huge_pages};

/// The word in a child's task that makes its sizes small.
const QUICK: &str = "quick";

/// The divisor of sizes with `--quick`.
const QUICK_DIVISOR: u64 = 20;

/// The size of a measurement.
#[derive(Debug, Clone, Copy)]
struct SizePlan {
    quick: bool,
}

/// A part of the measurement, which runs in one process.
struct ScalePart {
    name: &'static str,
    /// The figures with a limit that it reports.
    figures: &'static [&'static str],
    measure: fn(&SizePlan) -> Result<Vec<FigureRow>, Failure>,
}

const PARTS: &[ScalePart] = &[
    ScalePart { name: "loads", figures: &["worst_load_ns_20m"], measure: loads::worst },
    ScalePart { name: "whole", figures: WHOLE, measure: whole_store::measure },
    ScalePart { name: "order-1m", figures: ORDER, measure: order::of_1m },
    ScalePart { name: "order-10m", figures: ORDER, measure: order::of_10m },
    ScalePart { name: "index-u64", figures: INDEX, measure: resident::same_filled_blocks },
    ScalePart { name: "index-small", figures: INDEX, measure: resident::small_blocks },
    ScalePart { name: "index-wide", figures: INDEX, measure: resident::wide_keys },
    ScalePart { name: "empty", figures: &["empty_store_bytes"], measure: many_stores::empty },
    ScalePart {
        name: "threads",
        figures: &["threads_of_100_stores"],
        measure: many_stores::threads,
    },
    ScalePart { name: "limit", figures: &["limit_rss_over_limit"], measure: resident::at_limit },
];

const WHOLE: &[&str] = &["stats_ns_10m", "clear_s_10m", "drop_s_10m"];
const ORDER: &[&str] = &["store_ns_key_order_over_random"];
const INDEX: &[&str] = &["index_rss_over_held"];

/// Measures what large and many stores cost
#[derive(Debug, Parser)]
struct Options {
    /// Measure only the parts that have this name or report this figure; may be repeated
    #[arg(long, value_name = "NAME", value_parser = part_or_figure)]
    only: Vec<String>,
    /// Divide sizes by 20, which shows that the program works
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    output: Output,
}

impl SizePlan {
    /// Returns `size`, or 1/20 of it with `--quick`.
    fn scaled(&self, size: u64) -> u64 {
        if self.quick { size / QUICK_DIVISOR } else { size }
    }

    /// Marks the workload's name if it is not at its full size.
    fn file(&self, name: &str) -> String {
        if self.quick { format!("quick {name}") } else { name.to_owned() }
    }
}

impl ScalePart {
    fn is(&self, name: &str) -> bool {
        self.name == name || self.figures.contains(&name)
    }
}

fn main() -> ExitCode {
    if let Some(task) = child_task() {
        return exit(measure_here(&task));
    }
    let options = Options::parse();
    exit(measure_each(&options))
}

/// Accepts the name of a part or of a figure.
fn part_or_figure(name: &str) -> Result<String, String> {
    if PARTS.iter().any(|part| part.is(name)) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
    Err(format!("expected a figure or one of {}", names.join(", ")))
}

/// Measures one part in a child, whose answer is the rows.
fn measure_here(task: &[String]) -> Result<(), Failure> {
    refuse_huge_pages();
    let name = task.first().map_or("", String::as_str);
    let part = PARTS.iter().find(|part| part.name == name).ok_or("no such part")?;
    let quick = task.iter().any(|word| word == QUICK);
    Ok(print_result(&(part.measure)(&SizePlan { quick })?)?)
}

/// Runs a child for each part that is wanted, one after another. A part that fails does not keep
/// the others from being reported.
fn measure_each(options: &Options) -> Result<(), Failure> {
    let only = &options.only;
    let wanted = |part: &&ScalePart| only.is_empty() || only.iter().any(|name| part.is(name));
    let (mut rows, mut failed) = (FigureRows::default(), Vec::new());
    for part in PARTS.iter().filter(wanted) {
        let child = child([part.name]).args(options.quick.then_some(QUICK));
        match child.run_without_input::<Vec<FigureRow>>() {
            Ok(results) => rows.results.extend(results),
            Err(error) => failed.push(format!("{}: {error}", part.name)),
        }
    }
    options.output.print(&rows);
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(format!("scale {line}").split_ascii_whitespace())
    }

    #[test]
    fn options_name_parts_or_figures() {
        let options = parsed("--only drop_s_10m --only limit --json --quick").unwrap();
        assert_eq!(options.only, ["drop_s_10m", "limit"]);
        assert!(options.output.json && options.quick);
        for wrong in ["--only nothing", "--only", "-x"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    /// A quick plan divides sizes by 20 and marks the workload's name.
    #[test]
    fn quick_plan_divides_and_marks() {
        assert_eq!(
            (SizePlan { quick: false }.scaled(20_000_000), SizePlan { quick: true }.scaled(1_000)),
            (20_000_000, 50)
        );
        assert_eq!(
            (SizePlan { quick: false }.file("1m"), SizePlan { quick: true }.file("1m")),
            ("1m".into(), "quick 1m".into())
        );
    }

    #[test]
    fn part_names_differ() {
        let mut names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PARTS.len());
    }
}
