//! The lab on your desk: what keeping your own machine's memory compressed would save and cost, and whether the pools keep their word.
//!
//! ```text
//!   zlab analyze    processes, files ──► blocks ──► a store per allocator and compressor, each in a process of its own ──► table
//!   zlab analyze --sweep   levels, dictionaries, block sizes ──► which setting is fast, balanced, small; a chart
//!   zlab train      blocks ──► a zstd dictionary, if it pays on others
//!   zlab storm      switch as fast as it goes, empty and under load ──► did anything get lost, did anybody block who must not
//!   zlab density    fill, replace, free half, compact: bytes the OS counts over bytes of objects, allocator by allocator
//!   zlab classes    the size classes of zsmalloc
//!   zlab backends   what is compiled in
//!   zlab replay     a list of actions that a suite or a fuzzer printed, done again
//! ```
//!
//! # The nouns
//!
//! - A *pair* is an allocator and a compressor; `analyze` measures each pair in a child process, which gets the blocks through a pipe.
//! - A *phase* of `storm` is a store, a switcher, and in the phase `loaded` workers that know what they stored.
//! - A *failure* is one line on stderr and an exit code: 2 for what the user or the machine did, 1 for what the pools did.
//!
//! # Example
//!
//! ```sh
//! zlab                                                       # analyze memory of this user's processes
//! zlab analyze pages.bin --allocator zsmalloc --compressor 'zstd(level=-1)' --json
//! zlab storm --seconds 10 --threads 2
//! ```
//!
//! # Where to read next
//!
//! `cli` for the options, `analyze` and `storm` for the two programs, `lineup` for what is compiled in. What can be used elsewhere lives in
//! the crate `workload`.

#![forbid(unsafe_code)]

mod analyze;
mod backends;
mod classes;
mod cli;
mod density;
mod failure;
mod lineup;
mod output;
mod replay;
mod storm;
mod sweep;
mod train;
mod train_model;

use std::process::ExitCode;

use cli::Action;
use failure::Failure;
use workload::check_standard_streams;

fn main() -> ExitCode {
    run().unwrap_or_else(Failure::report)
}

fn run() -> Result<ExitCode, Failure> {
    let action = cli::parse()?;
    // Before anything is written there: what stdout appends to an input is gone, too.
    check_standard_streams(action.inputs())?;
    match action {
        Action::Print(text) => output::print(&text),
        Action::Analyze(args) => analyze::run(&args),
        Action::Storm(args) => storm::run(&args),
        Action::Train(args) => train::run(&args),
        Action::Density(args) => density::run(&args),
        Action::Classes(args) => classes::run(&args),
        Action::Backends(args) => backends::run(&args),
        Action::Replay(args) => replay::run(&args),
        Action::MeasurePair(args) => analyze::measure_pair(&args),
        Action::MeasureDensity(args) => density::measure(&args),
        Action::HoldFiles(args) => analyze::hold_files(&args),
    }
}
