//! `zlab top`: what a running process could save, sampled again and again.
//!
//! ```text
//!   process ──► sample ──► a store per compressor: store, load, compare ──► frame
//!      ▲                                                                     │
//!      └───────────────── wait: the interval is over │ q: quit ◄─────────────┘
//! ```
//!
//! Each frame has stores of its own, which are gone before the wait. The sample is held for the
//! time of a frame and reaches no disk.

mod frame;
mod sample;

use std::num::{NonZeroU64, NonZeroUsize};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use workload::{LiveEvent, LiveScreen, ProcessError};
use zpool_core::spec::{Component, PoolSpec};

use crate::cli::{block_size, max_mib, seconds};
use crate::drivers;
use crate::error::Failure;
use frame::TopFrame;
use sample::SampleError;

/// Enough for the shares to settle, and little enough for a frame to take a fraction of a second.
const DEFAULT_SAMPLE_MIB: u64 = 8;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Sample the memory of this process, by its id
    #[arg(long)]
    pid: u32,
    /// Seconds between two frames
    #[arg(long, value_name = "N", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// End after this many frames [default: when q is pressed, or the process ends]
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// Use only this compressor, such as `zstd(level=3)`; may be repeated [default: all]
    #[arg(long = "compressor", value_name = "SPEC")]
    compressors: Vec<Component>,
    /// Bytes per block, 1 to 262144
    #[arg(long, value_name = "N", default_value = "4096", value_parser = block_size)]
    block_size: NonZeroUsize,
    /// Sample at most this many MiB for a frame
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SAMPLE_MIB, value_parser = max_mib)]
    max_mib: u64,
    /// Print one JSON object per frame, on one line each
    #[arg(long)]
    json: bool,
}

/// Shows frames until q is pressed, the count is reached, or the process has ended.
pub(crate) fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    let specs = drivers::pairs(&[Component::named("zsmalloc")], &args.compressors);
    for spec in &specs {
        drivers::check(spec, args.block_size)?;
    }
    // Take the first sample before the terminal, so that an error of the user stays on the screen.
    let mut next = frame(args, &specs, None).map_err(Failure::from)?;
    let mut screen = if args.json { LiveScreen::plain() } else { LiveScreen::open()? };
    for shown in 1.. {
        let text = if args.json { next.json()? } else { next.text(screen.is_terminal()) };
        if show(&mut screen, &text)? == Reader::Gone || args.count.is_some_and(|n| shown == n.get())
        {
            break;
        }
        if screen.wait(args.interval)? == LiveEvent::Quit {
            break;
        }
        next = match frame(args, &specs, Some(&next)) {
            Ok(frame) => frame,
            Err(SampleError::Process(error)) if has_ended(&error) => {
                // Restore the terminal first, or the message would disappear with the screen.
                drop(screen);
                eprintln!("zlab: process {} has ended", args.pid);
                break;
            }
            Err(error) => {
                drop(screen);
                return Err(error.into());
            }
        };
    }
    Ok(ExitCode::SUCCESS)
}

fn frame(
    args: &TopArgs,
    specs: &[PoolSpec],
    before: Option<&TopFrame>,
) -> Result<TopFrame, SampleError> {
    let sample = sample::take(args.pid, args.block_size, args.max_mib << 20, specs)?;
    Ok(TopFrame::new(sample, before))
}

/// Returns whether the process has ended. Then it has no memory at first, and later no entry in
/// `/proc`.
fn has_ended(error: &ProcessError) -> bool {
    matches!(error, ProcessError::NotFound { .. } | ProcessError::Nothing { .. })
}

#[derive(Debug, PartialEq, Eq)]
enum Reader {
    Here,
    /// The reader of the standard output has read what it wanted.
    Gone,
}

fn show(screen: &mut LiveScreen, text: &str) -> Result<Reader, Failure> {
    match screen.show(text) {
        Ok(()) => Ok(Reader::Here),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(format!("cannot write to stdout: {error}"))),
    }
}
