//! Measures the tier below memory:
//! `cargo run --release -p benches --bin tier -- FILE... [--dir DIR] [--json]`.
//!
//! The tier is a file in `--dir`, with direct I/O where the file system has it. Pages that are
//! same-filled are left out, since they never go to a tier.
//!
//! - `write_rate_over_disk`: bytes of objects per second that `write_back` moves to the tier, over
//!   the rate at which the same file takes segments of 1 MiB one after the other. Both by the wall
//!   clock, in alternation.
//! - `bytes_written_per_byte_put_drop_oldest`: bytes written to the tier for each byte of objects
//!   that left memory, once the tier is full and drops its oldest segments.
//!   `bytes_written_per_byte_put` is the same figure.
//! - `bytes_written_per_byte_put_refuse`: likewise for a tier that refuses, and of which all blocks
//!   together would fill 90 %. 1/5 of them fits in memory. `.._refuse_from_empty`: with
//!   the writes that filled it. `.._refuse_all_backed`: for a tier that is filled to 90 % by
//!   the blocks that are not in memory.
//! - `backed_load_over_pread`: the median latency of a peek of a block in the tier, over that of
//!   the reads alone that these peeks made, repeated on the same file.
//! - `stores_with_tier`: stores per CPU second of the process in a store at its limit, which is 1/8
//!   of the data, over those of a store without a limit.
//! - `bytes_per_backed_block`: bytes of the index per block in the tier, and `bytes_per_entry`, the
//!   same before the blocks went there.

mod amplification;
mod latency;
mod rates;
mod recording;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use benches::{Failure, FigureRows, Output, exit, name_of, pages_of};
use clap::Parser;
use workload::Pages;
use zswap::plugin::BackingStore;
use zswap::tier::{FileTier, TierPolicy};
use zswap::{AtLimit, Store, StoreBuilder};

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// An odd number, so that the median is of one round.
const ROUNDS: usize = 5;

/// Bytes of a segment.
const SEGMENT: usize = 1 << 20;

/// Fewer pages than this fill too few segments.
const FEWEST_PAGES: usize = 8192;

/// Take at most this many bytes of a file.
const MAX_BYTES: u64 = 128 << 20;

/// Measures the tier below memory
#[derive(Debug, Parser)]
struct Options {
    /// Files whose pages are stored
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The directory of the tier's file
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(measure(&options).map(|report| options.output.print(&report)))
}

fn measure(options: &Options) -> Result<FigureRows, Failure> {
    let mut rows = FigureRows::default();
    for file in &options.files {
        let pages = pages_of(file, PAGE, MAX_BYTES, FEWEST_PAGES)?;
        let subject = Subject { file: name_of(file), pages, dir: &options.dir };
        rates::measure(&subject, &mut rows)?;
        amplification::measure(&subject, &mut rows)?;
        latency::measure(&subject, &mut rows)?;
    }
    Ok(rows)
}

/// The pages of one file, and the place for the tier.
struct Subject<'o> {
    file: String,
    pages: Pages,
    dir: &'o Path,
}

impl Subject<'_> {
    /// Creates a file of `segments` segments.
    fn file_tier(&self, segments: usize) -> Result<FileTier, Failure> {
        self.file_tier_of(segments, SEGMENT)
    }

    /// Creates a file of `segments` segments of `segment_bytes` bytes.
    fn file_tier_of(&self, segments: usize, segment_bytes: usize) -> Result<FileTier, Failure> {
        let bytes = (segments * segment_bytes) as u64;
        Ok(FileTier::builder(self.dir, bytes).segment_bytes(segment_bytes).build()?)
    }

    /// Segments that have room for all pages several times, even if none shrinks.
    fn roomy(&self) -> usize {
        2 * self.pages.len() * PAGE.get() / SEGMENT + 8
    }
}

/// Returns a builder of a store with a tier that drops its oldest segment.
fn builder(limit: usize, backing: Arc<dyn BackingStore>) -> StoreBuilder<u64> {
    Store::builder().limit_bytes(limit).at_limit(AtLimit::Evict).tier(backing)
}

/// Returns a builder of a store with a tier that refuses.
fn refusing(limit: usize, backing: Arc<dyn BackingStore>) -> StoreBuilder<u64> {
    builder(limit, backing).at_limit(AtLimit::Refuse).tier_policy(TierPolicy::Refuse)
}
