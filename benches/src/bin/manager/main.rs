//! Measures what the pool manager costs: `cargo run --release -p benches --bin manager -- --json`.
//!
//! - `store_throughput_with_1000_switches_per_s`: stores per second while another thread switches
//!   1000 times per second between two specs that both keep entries, over stores per second while
//!   that thread wakes as often and does nothing. Windows alternate. Each begins with two passes
//!   over all keys that do not count, because the other kind of window has moved the objects. Any
//!   block comes under any key, in random order.
//! - `…_without_compaction`: with allocators that do not compact in the background. Every switch
//!   redirects the stream of objects, so each pool shrinks and grows in alternation, and compaction
//!   releases frames that are needed again after the next switch.
//! - `…_own_blocks`: each key has the same block every time, so that the slot of a replaced object
//!   fits the next object of that key. A store that does not switch reuses the slot while it is
//!   cached. With two pools in alternation, mostly the other pool has it.
//! - `…_in_order`: as `…_own_blocks`, with keys in the same order in every pass. Without switching,
//!   every object then lies where its predecessor lay.
//! - `pool_ref_scaling`, `arc_scaling`: taking and dropping a reference to the current pool, or a
//!   clone of an `Arc`, on two threads over one, as a share of the scaling of the machine in the
//!   same rounds. The lines below have the ratio itself.
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
