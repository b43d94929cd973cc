//! `zlab replay`: replays lists of actions that suites and fuzzers print, on pools or on a store.

mod store;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use workload::Input;
use zpool_conformance::action::{Action, RunError, from_text, run as run_actions};
use zpool_conformance::pool::PoolModelRunner;
use zpool_core::page::{FaultPlan, FaultySource, HeapSource, PageSource, os_frame_size};
use zpool_core::spec::{Component, PoolSpec};
use zpool_core::{CheckPolicy, PoolConfig, set_check_policy};
use zswap::MAX_BLOCK_SIZE;

use crate::error::{Failure, one_line};
use crate::{drivers, output};
use store::StoreModelRunner;

/// The most bytes of a list.
const MAX_LIST_BYTES: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Actions, one per line; `-` is the standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: std::path::PathBuf,
    /// Use only this allocator, such as `zsmalloc(chain=8)`; may be repeated [default: all]
    #[arg(long = "allocator", value_name = "SPEC", conflicts_with = "store")]
    allocators: Vec<Component>,
    /// Use a store that begins with this pool, such as `zsmalloc+lz4`; only stores can `switch`
    #[arg(long, value_name = "SPEC")]
    store: Option<PoolSpec>,
    /// Bytes of the longest object, 1 to 262144
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_len: usize,
    /// Bytes per frame [default: the system's]
    #[arg(long, value_name = "N")]
    frame: Option<usize>,
}

/// Replays the actions and reports the first deviation.
pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let frame = args.frame.unwrap_or_else(os_frame_size);
    if !frame.is_power_of_two() || !(4096..=1 << 16).contains(&frame) {
        return Err(Failure::new(format!(
            "a frame of {frame} bytes: a power of two from 4096 to 65536 is needed"
        )));
    }
    if !(1..=MAX_BLOCK_SIZE).contains(&args.max_len) {
        return Err(Failure::new(format!(
            "objects of {} bytes: 1 to {MAX_BLOCK_SIZE} are possible",
            args.max_len
        )));
    }
    let file = args.file.display();
    let text = read(&args.file)?;
    let actions = from_text(&text).map_err(|error| Failure::new(format!("{file}: {error}")))?;
    set_check_policy(CheckPolicy::Panic);
    match &args.store {
        Some(spec) => on_store(args, spec, &actions, frame),
        None => on_pools(args, &actions, frame),
    }
}

/// Reads a list. Lists are short, so a file of more than [`MAX_LIST_BYTES`] is none.
fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = Input::open(file)?.take(MAX_LIST_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::new(format!("cannot read {file:?}: {error}")))?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(Failure::new(format!(
            "{file:?} is no list of actions: it is longer than 64 MiB"
        )));
    }
    Ok(text)
}

fn on_pools(args: &ReplayArgs, actions: &[Action], frame: usize) -> Result<ExitCode, Failure> {
    let all =
        || drivers::allocators().iter().map(|driver| Component::named(driver.name())).collect();
    let allocators: Vec<Component> =
        if args.allocators.is_empty() { all() } else { args.allocators.clone() };
    for spec in &allocators {
        let source = Arc::new(FaultySource::new(new_source(frame), FaultPlan::Never));
        let pool = drivers::pool(spec, &PoolConfig::new(source.clone(), args.max_len))?;
        let outcome = run_actions(actions, PoolModelRunner::new(&*pool, Some(&source)));
        tell(&spec.to_string(), actions, outcome)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn on_store(
    args: &ReplayArgs,
    spec: &PoolSpec,
    actions: &[Action],
    frame: usize,
) -> Result<ExitCode, Failure> {
    let block_size = args.max_len.try_into()?;
    let store = drivers::store(spec, block_size).page_source(new_source(frame)).build()?;
    let outcome = run_actions(actions, StoreModelRunner::new(&store));
    tell(&format!("a store of {spec}"), actions, outcome)?;
    Ok(ExitCode::SUCCESS)
}

/// Creates a page source. Frames of the system's size come from the system and read as zero after
/// their release, so that a use after that shows.
fn new_source(frame: usize) -> Arc<dyn PageSource> {
    #[cfg(unix)]
    if frame == os_frame_size() {
        return Arc::new(zpool_core::page::MmapSource::new());
    }
    Arc::new(HeapSource::new(frame))
}

fn tell(subject: &str, actions: &[Action], outcome: Result<(), RunError>) -> Result<(), Failure> {
    let count = actions.len();
    match outcome {
        Ok(()) => {
            output::print(&format!("{count} actions on {subject}: all as it must be\n")).map(drop)
        }
        Err(error) => Err(Failure::broken(format!("{subject}: {}", one_line(&error.to_string())))),
    }
}
