//! `zrun --limit 512MiB -- PROGRAM ARGS...`: see the essay of the library.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use zrun::{Launch, parse_size};
use zswap::PoolSpec;

/// The exit code if zrun itself fails; 126 and 127 are those of a program that cannot be started,
/// as for `env(1)`.
const FAILED: u8 = 125;
const NOT_STARTED: u8 = 126;
const NOT_FOUND: u8 = 127;

const DETAILS: &str = "\
Examples:
  zrun --limit 512MiB -- python3 build_index.py
  zrun --limit 1GiB -- sort -S 3G --output sorted.txt big.txt
  zrun --limit 256MiB --spec 'zsmalloc+pagelz' --report figures.json -- ./program

Large means private, anonymous mappings and blocks of the heap from 1 MiB on. When those of a
process exceed the limit, pages that have not faulted recently are compressed. Small blocks, stacks,
files and code are not limited. Programs that the program starts are limited the same way, each
process by itself. Programs run without a limit if they are statically linked or set-user-ID,
bypass libc, or have an allocator in place of malloc.

Needs Linux 6.8, glibc, and root or vm.unprivileged_userfaultfd=1.

Exit codes: that of the program; 125 if zrun fails, 126 if the program cannot be started, 127 if it
is not found; also 125 if a forked child of the program cannot have its memory.";

/// Runs a program with its large memory in a compressed region
#[derive(Debug, Parser)]
#[command(version, after_help = DETAILS)]
struct Options {
    /// Bytes of RAM for the large memory of each process, compressed pages included
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    limit: usize,
    /// The least size of a mapping or heap block that counts as large [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    at_least: Option<usize>,
    /// The pool for cold pages, such as 'zsmalloc+lz4' or 'zsmalloc+pagelz'
    #[arg(long)]
    spec: Option<PoolSpec>,
    /// Append figures to this file, as lines of JSON, instead of printing them to standard error
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The library to preload, if it is not beside zrun
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let code = if error.use_stderr() { FAILED } else { 0 };
            // What cannot be printed is lost.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    ExitCode::from(run(options))
}

/// Becomes the program. Returns the exit code if that fails.
fn run(options: Options) -> u8 {
    let mut launch = Launch::new(options.limit);
    if let Some(bytes) = options.at_least {
        launch = launch.at_least(bytes);
    }
    if let Some(spec) = options.spec {
        launch = launch.spec(spec);
    }
    if let Some(report) = options.report {
        launch = launch.report(report);
    }
    if let Some(library) = options.library {
        launch = launch.library(library);
    }
    let (program, arguments) = options.program.split_first().expect("clap requires a program");
    let command = launch.checked().and_then(|launch| launch.command(program, arguments));
    let error = match command {
        Ok(command) => become_program(command),
        Err(error) => {
            eprintln!("zrun: {error}");
            return FAILED;
        }
    };
    eprintln!("zrun: {}: {error}", program.display());
    if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED }
}

#[cfg(unix)]
fn become_program(mut command: std::process::Command) -> std::io::Error {
    use std::os::unix::process::CommandExt;

    command.exec()
}

#[cfg(not(unix))]
fn become_program(_: std::process::Command) -> std::io::Error {
    std::io::ErrorKind::Unsupported.into()
}
