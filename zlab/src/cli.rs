//! The command line.

mod numbers;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use zpool_core::spec::{Component, PoolSpec};

pub(crate) use self::numbers::{block_size, count, max_mib, seconds, within};
use self::numbers::{region_mib, threads};
use crate::error::{Failure, one_line};
use crate::replay::ReplayArgs;
use crate::top::TopArgs;
use crate::train::TrainArgs;
use crate::{help, output, suggest};

/// The task that the command line names.
#[derive(Debug)]
pub(crate) enum Task {
    /// Print help or version.
    Print(String),
    Analyze(AnalyzeArgs),
    Storm(StormArgs),
    Region(RegionArgs),
    Train(TrainArgs),
    Density(DensityArgs),
    Classes(ClassesArgs),
    Backends(BackendsArgs),
    Replay(ReplayArgs),
    Top(TopArgs),
    Completions(Shell),
    MeasurePair(MeasurePairArgs),
    MeasureDensity(MeasureDensityArgs),
    HoldFiles(HoldFilesArgs),
}

impl Task {
    /// Returns the files that are read.
    pub(crate) fn inputs(&self) -> &[PathBuf] {
        match self {
            Task::Analyze(args) => &args.files,
            Task::Storm(args) => args.file.as_slice(),
            Task::Train(args) => &args.files,
            Task::Density(args) => &args.files,
            Task::Replay(args) => std::slice::from_ref(&args.file),
            _ => &[],
        }
    }
}

/// Measures what compressing your machine's memory would save and cost
///
/// Without a command, analyzes the memory of processes of your own user, as `zlab analyze` does.
#[derive(Debug, Parser)]
#[command(
    name = "zlab",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 80,
    after_help = help::PROGRAM
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    analyze: AnalyzeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store real memory with every allocator and compressor, load and verify it, and show what
    /// that costs
    ///
    /// A FILE is a file or a pipe; `-` is the standard input. Without FILE and --pid, samples the
    /// anonymous memory of processes of your own user. Nothing of it is printed or written to a
    /// file. If less than 16 MiB can be read there, analyzes a child process that loads files of
    /// this build.
    #[command(after_help = help::ANALYZE)]
    Analyze(AnalyzeArgs),
    /// Switch allocator and compressor in a tight loop, and check that no block is lost and no
    /// caller blocks
    ///
    /// Reproduces the bug that the kernel commit "mm/zswap: use workqueue to destroy pool" fixed.
    /// With `--executor inline`, which is what the kernel did before, it finds the bug and exits
    /// with 1.
    #[command(after_help = help::STORM)]
    Storm(StormArgs),
    /// Show repeatedly what a running process could save
    ///
    /// Each time, stores a sample of the anonymous memory of the process with zsmalloc and each
    /// compressor, and verifies it. Without a terminal, prints one frame each time.
    #[command(after_help = help::TOP)]
    Top(TopArgs),
    /// Verify every byte of a region of memory while its limit, its pools and its pages change
    ///
    /// Threads write and verify, others fork, read a file past the page cache into it, switch
    /// pools, and change the limit. Needs Linux 6.8; elsewhere it says so and exits with 0.
    #[command(after_help = help::REGION)]
    Region(RegionArgs),
    /// Train a zstd dictionary or a pagelz model on the blocks of files, and write it if it pays on
    /// other blocks
    ///
    /// Half of the blocks are for training, the other half for judging. A dictionary pays if it
    /// saves at least 3 % of the compressed bytes and adds at most 2 % to the time to compress, or
    /// if it makes compression at least 1.1 times as fast and adds no byte. A model pays if it
    /// saves at least 2 % of the bytes of the generic model and adds at most 10 % to the time to
    /// decompress. If it does not pay, nothing is written and the exit code is 1. A dictionary
    /// needs at least 13 blocks that are not same-filled. The file contains bytes of the blocks.
    #[command(after_help = help::TRAIN)]
    Train(TrainArgs),
    /// Fill each allocator with compressed pages, replace, free half, compact, and show what the OS
    /// says it holds
    ///
    /// Pages are compressed by lz4. Each allocator runs in a process of its own. The last row is
    /// one box per object on the allocator of the system.
    #[command(after_help = help::DENSITY)]
    Density(DensityArgs),
    /// List the size classes of zsmalloc and what they waste
    #[command(after_help = help::CLASSES)]
    Classes(ClassesArgs),
    /// List the allocators and compressors that are compiled in
    #[command(after_help = help::BACKENDS)]
    Backends(BackendsArgs),
    /// Replay a list of actions that a conformance suite or a fuzzer printed, on pools or a store
    ///
    /// If something is wrong, says what and exits with 1.
    #[command(after_help = help::REPLAY)]
    Replay(ReplayArgs),
    /// Print a script with which a shell completes the command line
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Measures one pair, with blocks on the standard input; started by `analyze`
    #[command(hide = true)]
    MeasurePair(MeasurePairArgs),
    /// Measures one allocator, with blocks on the standard input; started by `density`
    #[command(hide = true)]
    MeasureDensity(MeasureDensityArgs),
    /// Loads files and writes pages of its own memory to the standard output; started by `analyze`
    /// if it can read no other process
    #[command(hide = true)]
    HoldFiles(HoldFilesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// Files to cut into blocks, instead of memory of processes
    #[arg(value_name = "FILE", conflicts_with = "pid")]
    pub(crate) files: Vec<PathBuf>,
    /// Sample the memory of this process
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Bytes per block, 1 to 262144 [default: 4096; with --sweep, every power of two from 1024 on]
    #[arg(long, value_name = "N", value_parser = block_size)]
    pub(crate) block_size: Option<NonZeroUsize>,
    /// Take at most this many MiB, spread over the whole input [default: 64; 1024 for files]
    #[arg(long, value_name = "N", value_parser = max_mib)]
    pub(crate) max_mib: Option<u64>,
    /// Measure only this allocator, such as `zsmalloc`; may be repeated
    #[arg(long = "allocator", value_name = "SPEC")]
    pub(crate) allocators: Vec<Component>,
    /// Measure only this compressor, such as `zstd(level=-1)`; may be repeated
    #[arg(long = "compressor", value_name = "SPEC")]
    pub(crate) compressors: Vec<Component>,
    /// Try levels, dictionaries and block sizes instead, and recommend settings for `fast`,
    /// `balanced` and `small`
    #[arg(long, group = "plotted", conflicts_with_all = ["allocators", "compressors"])]
    pub(crate) sweep: bool,
    /// Predict what a second pool, for blocks that are not hot, would save and cost, such as
    /// `zsmalloc+zstd(level=1)`
    #[arg(long, value_name = "SPEC", group = "plotted")]
    pub(crate) cold: Option<PoolSpec>,
    /// Shares of hot blocks in percent, 0 to 100, for --cold [default: 10,20,50]
    #[arg(long, value_name = "N,...", requires = "cold", value_delimiter = ',',
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) hot: Vec<u8>,
    /// Train a dictionary for zstd, or a model for pagelz, on the cold blocks of --cold, say
    /// whether it pays, and if so measure it, too. Takes up to a minute at the highest levels
    #[arg(long, requires = "cold")]
    pub(crate) train: bool,
    /// Draw the result of --sweep or --cold as an SVG file; `-` is the standard output, and the
    /// report then goes to the standard error
    #[arg(long, value_name = "FILE", requires = "plotted")]
    pub(crate) plot: Option<PathBuf>,
    /// Replace the file of --plot if it exists; an input is never replaced
    #[arg(long, requires = "plot")]
    pub(crate) force: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// A file of pages for the phase `loaded`, instead of generated ones
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Seconds per phase
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Run only this phase
    #[arg(long, value_enum, default_value_t = PhaseChoice::Both)]
    pub(crate) phase: PhaseChoice,
    /// Pools to switch between, two or more different ones [default: zsmalloc+lz4 and zbud+zstd]
    #[arg(long = "spec", value_name = "SPEC")]
    pub(crate) specs: Vec<PoolSpec>,
    /// The number of threads that store, load, invalidate and verify in the phase `loaded`
    #[arg(long, value_name = "N", default_value = "2", value_parser = threads)]
    pub(crate) threads: NonZeroUsize,
    /// The executor that destroys pools
    #[arg(long, value_enum, default_value_t = ExecutorChoice::Queue)]
    pub(crate) executor: ExecutorChoice,
    /// Make a new pool at every switch, and never revive a retired one
    #[arg(long)]
    pub(crate) fresh: bool,
    /// After every switch, move the blocks of retired pools to the current one, and at the end
    /// check that it is the only pool
    #[arg(long)]
    pub(crate) drain: bool,
    /// Milliseconds between two switches
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) delay_ms: u32,
    /// Limit the store to this many MiB; the workers then store 16 times as many bytes, counted
    /// before compression
    #[arg(long, value_name = "N", value_parser = max_mib)]
    pub(crate) limit_mib: Option<u64>,
    /// The policy of the store at its limit
    #[arg(long, value_enum, default_value_t = PolicyChoice::Refuse, requires = "limit_mib")]
    pub(crate) policy: PolicyChoice,
    /// Write cold blocks at the limit to an unnamed file in this directory: a tier below memory
    #[arg(long, value_name = "DIR", requires = "limit_mib")]
    pub(crate) tier: Option<PathBuf>,
    /// MiB of the tier
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = max_mib)]
    pub(crate) tier_mib: u64,
    /// Afterwards, switch the kernel's own zswap in the same way, for comparison (root)
    ///
    /// Its settings are restored at the end, after a panic, and when Ctrl-C, SIGTERM, SIGHUP or a
    /// similar signal ends this program; not after SIGKILL or a crash. While Ctrl-Z stops it, they
    /// are restored as well.
    #[arg(long)]
    pub(crate) kernel: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RegionArgs {
    /// Seconds for all ways to serve faults together
    #[arg(long, value_name = "N", default_value = "15", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// The number of threads that write and verify
    #[arg(long, value_name = "N", default_value = "4", value_parser = threads)]
    pub(crate) threads: NonZeroUsize,
    /// MiB of the region; half of it is its limit
    #[arg(long, value_name = "N", default_value = "64", value_parser = region_mib)]
    pub(crate) mib: NonZeroUsize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DensityArgs {
    /// Files of pages of 4096 bytes, or pipes; `-` is the standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Store every page this many times, for the density of a larger pool
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) repeat: NonZeroUsize,
    /// Take only this many blocks, the first ones that are not same-filled, and read no more of the
    /// file [default: 1 GiB of them]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_blocks: Option<NonZeroUsize>,
    /// Measure only this allocator, such as `zsmalloc(chain=16)`; may be repeated
    #[arg(long = "allocator", value_name = "SPEC")]
    pub(crate) allocators: Vec<Component>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClassesArgs {
    /// The allocator with its parameters
    #[arg(long, value_name = "SPEC", default_value = "zsmalloc")]
    pub(crate) allocator: Component,
    /// Bytes of the largest object, 1 to 262144
    #[arg(long, value_name = "N", default_value = "4096", value_parser = block_size)]
    pub(crate) block_size: NonZeroUsize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackendsArgs {
    /// Bytes per block that pools are made for, 1 to 262144
    #[arg(long, value_name = "N", default_value = "4096", value_parser = block_size)]
    pub(crate) block_size: NonZeroUsize,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MeasurePairArgs {
    pub(crate) spec: PoolSpec,
}

#[derive(Debug, Args)]
pub(crate) struct MeasureDensityArgs {
    pub(crate) allocator: Component,
    pub(crate) slots: usize,
}

#[derive(Debug, Args)]
pub(crate) struct HoldFilesArgs {
    #[arg(value_parser = block_size)]
    pub(crate) block_size: NonZeroUsize,
    pub(crate) max_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PhaseChoice {
    /// Nothing is stored: every switch creates a pool and destroys one
    Empty,
    /// Under load: pools die with their last block, or are revived
    Loaded,
    /// First `empty`, then `loaded`
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyChoice {
    /// Refuse the new block
    Refuse,
    /// Evict cold blocks (CLOCK)
    Evict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExecutorChoice {
    /// A dedicated thread, which is the correct way
    Queue,
    /// The switching thread, between two switches
    Manual,
    /// The thread that drops the last reference, which is the original bug
    Inline,
}

/// Reads the command line of this process.
pub(crate) fn parse() -> Result<Task, Failure> {
    if let Some(word) = std::env::args().nth(1)
        && let Some(command) = suggest::meant(&word, commands().iter().map(String::as_str))
    {
        let file = Path::new(&word);
        return Err(Failure::new(format!(
            "there is no command and no file {file:?}; did you mean `zlab {command}`?"
        )));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return Ok(Task::Print(error.to_string()));
        }
        Err(error) => return Err(Failure::new(usage_error(&error))),
    };
    Ok(match cli.command {
        None => Task::Analyze(cli.analyze),
        Some(Command::Analyze(args)) => Task::Analyze(args),
        Some(Command::Storm(args)) => Task::Storm(args),
        Some(Command::Region(args)) => Task::Region(args),
        Some(Command::Train(args)) => Task::Train(args),
        Some(Command::Density(args)) => Task::Density(args),
        Some(Command::Classes(args)) => Task::Classes(args),
        Some(Command::Backends(args)) => Task::Backends(args),
        Some(Command::Replay(args)) => Task::Replay(args),
        Some(Command::Top(args)) => Task::Top(args),
        Some(Command::Completions { shell }) => Task::Completions(shell),
        Some(Command::MeasurePair(args)) => Task::MeasurePair(args),
        Some(Command::MeasureDensity(args)) => Task::MeasureDensity(args),
        Some(Command::HoldFiles(args)) => Task::HoldFiles(args),
    })
}

/// Returns the commands that a user calls.
fn commands() -> Vec<String> {
    let cli = Cli::command();
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).chain(["help".to_owned()]).collect()
}

/// Prints the script that completes command lines in `shell`.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "zlab", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Keeps the message of clap with the name that was meant, without the usage and the hint at
/// `--help` that follow it.
fn usage_error(error: &clap::Error) -> String {
    let meant = [ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let meant = meant.into_iter().find_map(|kind| match error.get(kind) {
        Some(ContextValue::String(meant)) => Some(meant.as_str()),
        Some(ContextValue::Strings(meant)) => meant.first().map(String::as_str),
        _ => None,
    });
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
    message_of(&error.to_string()) + &meant
}

fn message_of(rendered: &str) -> String {
    let tails = ["\n\n  tip:", "\n\nUsage:", "\n\nFor more information"];
    let end = tails.iter().filter_map(|tail| rendered.find(tail)).min();
    let message = one_line(&rendered[..end.unwrap_or(rendered.len())]);
    message.strip_prefix("error: ").unwrap_or(&message).to_owned()
}
