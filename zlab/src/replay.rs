//! `zlab replay`: replays lists of actions that suites and fuzzers print, on pools or on a store.

mod store;

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use workload::Input;
use zpool_conformance::action::{Action, RunError, from_text, run as run_actions};
use zpool_conformance::pool::PoolModelRunner;
use zpool_core::page::{FaultPlan, FaultySource, HeapSource, PageSource, os_frame_size};
use zpool_core::spec::{Component, PoolSpec};
use zpool_core::{CheckPolicy, PoolConfig, set_check_policy};

use crate::cli::block_size;
use crate::drivers;
use crate::error::{Failure, one_line};
use crate::output::{Progress, print_report};
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
    #[arg(long, value_name = "N", default_value = "4096", value_parser = block_size)]
    max_len: NonZeroUsize,
    /// Bytes per frame, a power of two from 4096 to 65536 [default: the system's]
    #[arg(long, value_name = "N", value_parser = frame_size)]
    frame: Option<usize>,
    /// Print one JSON object instead of sentences
    #[arg(long)]
    json: bool,
}

/// The JSON object that `replay --json` prints.
#[derive(Debug, Default, Serialize)]
struct ReplayReport {
    /// The number of actions in the list.
    actions: usize,
    results: Vec<ReplayRow>,
}

/// A pool or a store, with its first deviation if there was one.
#[derive(Debug, Serialize)]
struct ReplayRow {
    subject: String,
    /// The first deviation, with its action.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<String>,
}

/// Replays the actions and reports the first deviation.
pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let frame = args.frame.unwrap_or_else(os_frame_size);
    let file = args.file.display();
    let text = read(&args.file)?;
    let actions = from_text(&text).map_err(|error| Failure::new(format!("{file}: {error}")))?;
    set_check_policy(CheckPolicy::Panic);
    let progress = Progress::spinner(format!("{} actions", actions.len()));
    let mut report = ReplayReport { actions: actions.len(), results: Vec::new() };
    let replayed = match &args.store {
        Some(spec) => on_store(args, spec, &actions, frame, &mut report),
        None => on_pools(args, &actions, frame, &mut report),
    };
    drop(progress);
    // Print what was replayed before a failure.
    if replayed.is_ok() || !report.results.is_empty() {
        print_report(args.json, &report, || report.text())?;
    }
    replayed?;
    match report.results.last() {
        Some(ReplayRow { subject, wrong: Some(wrong) }) => {
            Err(Failure::broken(format!("{subject}: {wrong}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

impl ReplayReport {
    /// Adds a row. Returns whether there was no deviation.
    fn add(&mut self, subject: String, outcome: Result<(), RunError>) -> bool {
        let wrong = outcome.err().map(|error| one_line(&error.to_string()));
        let right = wrong.is_none();
        self.results.push(ReplayRow { subject, wrong });
        right
    }

    /// Formats the rows without a deviation. The error reports the other one.
    fn text(&self) -> String {
        let right = self.results.iter().filter(|row| row.wrong.is_none());
        let line =
            |row: &ReplayRow| format!("{} actions on {}: all correct\n", self.actions, row.subject);
        right.map(line).collect()
    }
}

/// Reads a list. Lists are short, so a file of more than [`MAX_LIST_BYTES`] is refused.
fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = Input::open(file)?.take(MAX_LIST_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::new(format!("cannot read {file:?}: {error}")))?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(Failure::new(format!(
            "{file:?} is not a list of actions: it is longer than 64 MiB"
        )));
    }
    Ok(text)
}

/// Replays on a pool of each allocator, until something is wrong.
fn on_pools(
    args: &ReplayArgs,
    actions: &[Action],
    frame: usize,
    report: &mut ReplayReport,
) -> Result<(), Failure> {
    let all =
        || drivers::allocators().iter().map(|driver| Component::named(driver.name())).collect();
    let allocators: Vec<Component> =
        if args.allocators.is_empty() { all() } else { args.allocators.clone() };
    for spec in &allocators {
        let source = Arc::new(FaultySource::new(new_source(frame), FaultPlan::Never));
        let pool = drivers::pool(spec, &PoolConfig::new(source.clone(), args.max_len.get()))?;
        let outcome = run_actions(actions, PoolModelRunner::new(&*pool, Some(&source)));
        if !report.add(spec.to_string(), outcome) {
            break;
        }
    }
    Ok(())
}

fn on_store(
    args: &ReplayArgs,
    spec: &PoolSpec,
    actions: &[Action],
    frame: usize,
    report: &mut ReplayReport,
) -> Result<(), Failure> {
    let store = drivers::store(spec, args.max_len).page_source(new_source(frame)).build()?;
    let outcome = run_actions(actions, StoreModelRunner::new(&store));
    report.add(format!("a store of {spec}"), outcome);
    Ok(())
}

/// Creates a page source. Frames of the system's size come from the system and read as zero after
/// their release, so that a later use is detected.
fn new_source(frame: usize) -> Arc<dyn PageSource> {
    #[cfg(unix)]
    if frame == os_frame_size() {
        return Arc::new(zpool_core::page::MmapSource::new());
    }
    Arc::new(HeapSource::new(frame))
}

fn frame_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| (4096..=1 << 16).contains(size));
    size.filter(|size: &usize| size.is_power_of_two())
        .ok_or_else(|| "a power of two from 4096 to 65536 (bytes) is needed".to_owned())
}
