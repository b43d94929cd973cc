//! Measures what compressing your machine's memory would save and cost, and checks that the pools
//! keep their contracts.
//!
//! ```text
//!   zlab analyze           blocks of processes or files ──► a store per pair ──► savings and costs
//!   zlab analyze --sweep   levels, dictionaries, block sizes ──► recommended settings; a chart
//!   zlab top               a running process ──► what it could save, again and again
//!   zlab train             blocks ──► a zstd dictionary or a pagelz model, if it pays on others
//!   zlab storm             switch as fast as possible ──► was a block lost, did a caller block
//!   zlab region            memory larger than its limit ──► was a byte wrong
//!   zlab density           fill, replace, free half, compact ──► bytes held over bytes of objects
//!   zlab classes           the size classes of zsmalloc
//!   zlab backends          the back ends that are compiled in
//!   zlab replay            a list of actions from a suite or a fuzzer, on pools or a store
//! ```
//!
//! # The nouns
//!
//! - A *pair* is an allocator and a compressor. `analyze` measures each pair in a child process,
//!   which gets the blocks through a pipe.
//! - A *phase* of `storm` has a store and a switcher. The phase `loaded` also has workers, which
//!   know what they stored.
//! - A *failure* is one line on the standard error and an exit code: 2 for an error of the user or
//!   the machine, 1 for an error of the pools.
//!
//! # Example
//!
//! ```sh
//! zlab                             # analyze memory of this user's processes
//! zlab analyze pages.bin --allocator zsmalloc --compressor 'zstd(level=-1)' --json
//! zlab analyze pages.bin --cold 'zsmalloc+zstd(level=1)' --hot 10,20 --train
//! zlab storm --seconds 10 --threads 2
//! ```
//!
//! # Where to read next
//!
//! Start with `cli` for the options, `analyze` and `storm` for the two largest commands, and
//! `drivers` for what is compiled in. What other programs can use is in the crate `workload`.

mod analyze;
mod backends;
mod classes;
mod cli;
mod cold;
mod density;
mod drivers;
mod error;
mod generated;
mod help;
mod output;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "chooses the signal mode of a region")]
mod region;
#[cfg(not(target_os = "linux"))]
#[path = "region_elsewhere.rs"]
mod region;
mod replay;
mod storm;
mod suggest;
mod sweep;
mod top;
mod train;
mod train_model;

use std::process::ExitCode;

use cli::Task;
use error::Failure;
use workload::check_standard_streams;

fn main() -> ExitCode {
    run().unwrap_or_else(Failure::report)
}

fn run() -> Result<ExitCode, Failure> {
    let task = cli::parse()?;
    // Check before anything is written, because what the standard output appends to an input is
    // lost as well.
    check_standard_streams(task.inputs())?;
    match task {
        Task::Print(text) => output::print(&text),
        Task::Analyze(args) => analyze::run(&args),
        Task::Storm(args) => storm::run(&args),
        Task::Region(args) => region::run(&args),
        Task::Train(args) => train::run(&args),
        Task::Density(args) => density::run(&args),
        Task::Classes(args) => classes::run(&args),
        Task::Backends(args) => backends::run(&args),
        Task::Replay(args) => replay::run(&args),
        Task::Top(args) => top::run(&args),
        Task::Completions(shell) => cli::completions(shell),
        Task::MeasurePair(args) => analyze::measure_pair(&args),
        Task::MeasureDensity(args) => density::measure(&args),
        Task::HoldFiles(args) => analyze::hold_files(&args),
    }
}
