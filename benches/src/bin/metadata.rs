//! Measures what an entry costs besides its data:
//! `cargo run --release -p benches --bin metadata -- [--entries N] [--json]`.
//!
//! A store with `u64` keys gets entries one by one, a million by default, which would be the worst
//! case of a power-of-two table. Objects have the lengths of pages compressed by lz4, 200 to 2600
//! bytes. We then take the growth of this process, as the operating system counts it, without the
//! frames of the objects. That is everything but payload: index, handles, the allocator's tables,
//! contexts, and the overhead of the heap.
//!
//! In the report, `split` is what the store accounts for, in bytes per entry, and `unexplained` is
//! the rest of the growth. `frames` is the loss inside frames, in bytes per entry as well: rounding
//! up to size classes, tails of zspages, and free slots.

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Arc;

use benches::{Failure, Output, PrintedReport, exit};
use clap::Parser;
use serde::Serialize;
use workload::{Growth, Rng, refuse_huge_pages};
use zpool_core::page::{MmapSource, PageSource};
use zswap::Store;

const LENGTHS: std::ops::Range<usize> = 200..2600;

#[derive(Debug, Serialize)]
struct EntryCost {
    entries: u64,
    bytes_per_entry: f64,
    split: MetadataCosts,
    frames: FrameCosts,
}

#[derive(Debug, Serialize)]
struct MetadataCosts {
    index: f64,
    allocator_metadata: f64,
    contexts: f64,
    unexplained: f64,
}

#[derive(Debug, Serialize)]
struct FrameCosts {
    payload: f64,
    rounding: f64,
    tails: f64,
    fragmentation: f64,
}

/// Measures what an entry costs besides its data
#[derive(Debug, Parser)]
struct Options {
    /// Store this many entries
    #[arg(long, value_name = "N", default_value = "1000000")]
    entries: NonZeroU64,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(measure(options.entries.get()).map(|cost| options.output.print(&cost)))
}

impl PrintedReport for EntryCost {
    fn table(&self) -> String {
        format!("{self:#?}\n")
    }
}

fn measure(entries: u64) -> Result<EntryCost, Failure> {
    refuse_huge_pages();
    let source = Arc::new(MmapSource::new());
    let mut rng = Rng::new(1);
    let mut block = [0; LENGTHS.end];
    let before = Growth::start()?;
    let store: Store<u64> = Store::builder().page_source(source.clone()).build()?;
    for key in 0..entries {
        let len = LENGTHS.start + rng.below(LENGTHS.len());
        // Noise, so that the object is as long as the block.
        for word in block[..len].chunks_mut(8) {
            word.copy_from_slice(&rng.next_u64().to_le_bytes()[..word.len()]);
        }
        store.store(key, &block[..len])?;
    }
    let grown = before.bytes()?;
    let stats = store.stats();
    assert_eq!(stats.entries as u64, entries, "every entry is there");
    let each = |bytes: f64| bytes / entries as f64;
    let besides = grown as f64 - source.charged_bytes() as f64;
    let (index, contexts) = (each(stats.index_bytes as f64), each(stats.context_bytes as f64));
    let allocator_metadata = each(stats.current.metadata_bytes as f64);
    let bytes_per_entry = each(besides);
    let unexplained = bytes_per_entry - index - contexts - allocator_metadata;
    Ok(EntryCost {
        entries,
        bytes_per_entry,
        split: MetadataCosts { index, allocator_metadata, contexts, unexplained },
        frames: FrameCosts {
            payload: each(stats.current.payload_bytes as f64),
            rounding: each(stats.current.rounding_bytes as f64),
            tails: each(stats.current.tail_bytes as f64),
            fragmentation: each(stats.current.fragmentation_bytes as f64),
        },
    })
}
