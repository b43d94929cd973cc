//! What large and many stores cost: `cargo run --release -p benches --bin scale -- [--only NAME]...
//! [--quick] [--json]`.
//!
//! Each part runs in a process of its own, with a clean heap. With `--only`, only the parts run
//! that have this name or report this figure. With `--quick`, sizes are 1/20: that shows that the
//! program works, and its figures mean little.
//!
//! - `worst_load_ns_20m`: the longest load by one thread while another one grows the store from 10
//!   to 20 million blocks of 16 bytes. A load that slept counts by the wall clock, because the
//!   fault to find is a load that waits for a lock; the time in which it, or the thread that
//!   stores, was ready and had no processor is subtracted. Any other load counts by the clock of
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
mod many;
mod order;
mod resident;
mod row;
mod threads_time;
mod whole;

use std::error::Error;
use std::process::ExitCode;

use workload::{Isolated, answer, refuse_huge_pages};

use crate::row::{Report, Row};

/// Why a part gave no figures.
type Failure = Box<dyn Error + Send + Sync>;

/// The argument that makes this program measure one part and answer with its rows.
const PART: &str = "--part";

/// By how much `--quick` divides sizes.
const QUICK_DIVISOR: u64 = 20;

/// How large to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    quick: bool,
}

/// What runs in one process.
struct Part {
    name: &'static str,
    /// The figures with a limit that it reports.
    figures: &'static [&'static str],
    measure: fn(&Plan) -> Result<Vec<Row>, Failure>,
}

const PARTS: &[Part] = &[
    Part { name: "loads", figures: &["worst_load_ns_20m"], measure: loads::worst },
    Part { name: "whole", figures: WHOLE, measure: whole::measure },
    Part { name: "order-1m", figures: ORDER, measure: order::of_1m },
    Part { name: "order-10m", figures: ORDER, measure: order::of_10m },
    Part { name: "index-u64", figures: INDEX, measure: resident::same_filled_blocks },
    Part { name: "index-small", figures: INDEX, measure: resident::small_blocks },
    Part { name: "index-wide", figures: INDEX, measure: resident::wide_keys },
    Part { name: "empty", figures: &["empty_store_bytes"], measure: many::empty },
    Part { name: "threads", figures: &["threads_of_100_stores"], measure: many::threads },
    Part { name: "limit", figures: &["limit_rss_over_limit"], measure: resident::at_limit },
];

const WHOLE: &[&str] = &["stats_ns_10m", "clear_s_10m", "drop_s_10m"];
const ORDER: &[&str] = &["store_ns_key_order_over_random"];
const INDEX: &[&str] = &["index_rss_over_held"];

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    /// All parts, if none is named.
    only: Vec<String>,
    /// Measure this part here.
    part: Option<String>,
    quick: bool,
    json: bool,
}

impl Plan {
    /// Returns `size`, or a part of it if this is to be quick.
    fn scaled(&self, size: u64) -> u64 {
        if self.quick { size / QUICK_DIVISOR } else { size }
    }

    /// Marks the workload's name if it is not at its full size.
    fn file(&self, name: &str) -> String {
        if self.quick { format!("quick {name}") } else { name.to_owned() }
    }
}

impl Part {
    fn is(&self, name: &str) -> bool {
        self.name == name || self.figures.contains(&name)
    }
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        eprintln!("usage: scale [--only NAME]... [--quick] [--json]");
        eprintln!("NAME is a figure or one of: {}", names.join(", "));
        return ExitCode::from(2);
    };
    let outcome = match &options.part {
        Some(part) => measure_here(part, options.quick),
        None => measure_each(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options::default();
    let known = |name: &String| PARTS.iter().any(|part| part.is(name));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--only" => options.only.push(arguments.next().filter(known)?),
            PART => options.part = Some(arguments.next().filter(known)?),
            _ => return None,
        }
    }
    Some(options)
}

/// The child: one part, whose rows are the answer.
fn measure_here(name: &str, quick: bool) -> Result<(), Failure> {
    refuse_huge_pages();
    let part = PARTS.iter().find(|part| part.name == name).ok_or("no such part")?;
    Ok(answer(&(part.measure)(&Plan { quick })?)?)
}

/// Runs a child for each part that is wanted, one after another. A part that fails does not keep
/// the others from being reported.
fn measure_each(options: &Options) -> Result<(), Failure> {
    let only = &options.only;
    let wanted = |part: &&Part| only.is_empty() || only.iter().any(|name| part.is(name));
    let (mut report, mut failed) = (Report::default(), Vec::new());
    for part in PARTS.iter().filter(wanted) {
        let quick = options.quick.then_some("--quick");
        let child = Isolated::new().args([PART, part.name]).args(quick);
        match child.run_without_input::<Vec<Row>>() {
            Ok(rows) => report.results.extend(rows),
            Err(error) => failed.push(format!("{}: {error}", part.name)),
        }
    }
    if options.json {
        println!("{report}");
    } else {
        print!("{}", report.table());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Options> {
        options(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_name_parts_or_figures() {
        let options = parsed("--only drop_s_10m --only limit --json --quick").unwrap();
        assert_eq!(options.only, ["drop_s_10m", "limit"]);
        assert!(options.json && options.quick && options.part.is_none());
        for wrong in ["--only nothing", "--only", "-x"] {
            assert!(parsed(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn plan_divides_sizes_and_marks_files() {
        assert_eq!(
            (Plan { quick: false }.scaled(20_000_000), Plan { quick: true }.scaled(1_000)),
            (20_000_000, 50)
        );
        assert_eq!(
            (Plan { quick: false }.file("1m"), Plan { quick: true }.file("1m")),
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
