//! What the pool manager costs: `cargo run --release -p benches --bin manager -- --json`.
//!
//! - `store_throughput_with_1000_switches_per_s`: stores a second while another thread switches a thousand times a second between two specs that both
//!   keep entries, over the same without switching: there, the other thread wakes as often and does nothing. Windows alternate, and
//!   each begins with two passes over all keys that do not count: where the other kind of window left them is no part of it. Any block comes under any key,
//!   in random order.
//! - `…_without_compaction`: the same with allocators that do not compact by themselves. Every switch turns the stream of
//!   objects round, so each pool shrinks and grows by turns, and compaction gives frames back that are wanted again at the next turn.
//! - `…_own_blocks`: the same, but each key has the same block every time, so that the slot of an object which is replaced fits the next object of that
//!   length. A store that does not switch reuses it while it is at hand; of two pools that take turns, mostly the other one has it.
//! - `…_in_order`: this, with keys in the same order in every pass: then, without switching, every object is where the one before it was.
//! - `pool_ref_scaling`, `arc_scaling`: taking and dropping a reference to the current pool, or a clone of an `Arc`, on two threads over one, as a
//!   share of the scaling of the machine, measured in the same rounds. Below it, the scaling itself.
//! - `current_pool_ns`: resolving the current pool to a counted reference, and dropping it.

mod references;
mod stream;
mod switching;

use std::process::ExitCode;

use benches::{Output, exit};
use clap::Parser;
use workload::Report;

/// Measures what the pool manager costs
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut report = Report::default();
    switching::report(&mut report);
    references::report(&mut report);
    options.output.print(&report);
    exit(Ok(()))
}
