//! One sample of the process, stored with every compressor.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Serialize;
use workload::{Pages, ProcessError, clocked, sample_process};
use zpool_core::spec::PoolSpec;

use crate::drivers;
use crate::error::Failure;

/// The result for one sample of the process. This is the JSON object of a frame.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TopSample {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) block_size: usize,
    /// Resident anonymous memory of the process, in whole blocks.
    pub(super) anonymous_bytes: u64,
    pub(super) sampled_bytes: u64,
    /// The share of blocks that repeat one word.
    pub(super) same_filled: f64,
    pub(super) results: Vec<TopRow>,
}

/// The savings and costs of one pool for all anonymous memory, if all is like the sample.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TopRow {
    pub(super) allocator: String,
    pub(super) compressor: String,
    pub(super) held_bytes: u64,
    /// Negative if the memory would grow.
    pub(super) saved_bytes: i64,
    /// The share of blocks that do not shrink.
    pub(super) incompressible: f64,
    /// The mean time per block, by the clock of the thread.
    pub(super) store_ns: f64,
    pub(super) load_ns: f64,
}

/// The reason why there is no sample.
#[derive(Debug)]
pub(super) enum SampleError {
    Process(ProcessError),
    Other(Failure),
}

impl From<SampleError> for Failure {
    fn from(error: SampleError) -> Failure {
        match error {
            SampleError::Process(error) => error.into(),
            SampleError::Other(failure) => failure,
        }
    }
}

impl From<Failure> for SampleError {
    fn from(failure: Failure) -> SampleError {
        SampleError::Other(failure)
    }
}

/// Samples at most `max_bytes` of the process and stores them in a pool of each spec.
pub(super) fn take(
    pid: u32,
    block_size: NonZeroUsize,
    max_bytes: u64,
    specs: &[PoolSpec],
) -> Result<TopSample, SampleError> {
    let sample = sample_process(pid, block_size, max_bytes).map_err(SampleError::Process)?;
    let pages = sample.pages;
    let anonymous_bytes = pages.available_blocks().saturating_mul(block_size.get() as u64);
    let rows = specs.iter().map(|spec| row(spec, &pages, anonymous_bytes));
    Ok(TopSample {
        pid,
        name: sample.sources.into_iter().next().map_or_else(String::new, |process| process.name),
        block_size: block_size.get(),
        anonymous_bytes,
        sampled_bytes: pages.bytes().len() as u64,
        same_filled: share(
            pages.iter().filter(|page| workload::is_same_filled(page)).count(),
            pages.len(),
        ),
        results: rows.collect::<Result<_, Failure>>()?,
    })
}

/// Stores all pages, loads and compares them, and counts.
fn row(spec: &PoolSpec, pages: &Pages, anonymous_bytes: u64) -> Result<TopRow, Failure> {
    let block_size =
        NonZeroUsize::new(pages.block_size()).ok_or(Failure::new("blocks without bytes"))?;
    let store = drivers::store(spec, block_size).build()?;
    let (storing, stored) =
        clocked(|| (0..).zip(pages).try_for_each(|(key, page)| store.store(key, page)));
    stored?;
    let (mut loading, mut buffer) = (Duration::ZERO, vec![0; CHUNK * block_size.get()]);
    for first in (0..pages.len()).step_by(CHUNK) {
        let keys = first..(first + CHUNK).min(pages.len());
        let buffers = buffer.chunks_exact_mut(block_size.get());
        let (time, loaded) = clocked(|| {
            keys.clone().zip(buffers).try_for_each(|(key, buffer)| {
                store.load(&(key as u64), buffer).map(|len| debug_assert!(len.is_some()))
            })
        });
        loaded?;
        loading += time.cpu;
        let expected = &pages.bytes()[first * block_size.get()..keys.end * block_size.get()];
        if buffer[..expected.len()] != *expected {
            return Err(Failure::broken(format!("{spec}: a block did not come back as it was")));
        }
        buffer.fill(0xA5);
    }
    let stats = store.stats();
    let held = (stats.pool_bytes + stats.index_bytes) as f64 / pages.bytes().len() as f64;
    let held_bytes = (held * anonymous_bytes as f64) as u64;
    let mean = |time: Duration| time.as_nanos() as f64 / pages.len() as f64;
    Ok(TopRow {
        allocator: spec.allocator.to_string(),
        compressor: spec.compressor.to_string(),
        held_bytes,
        saved_bytes: anonymous_bytes as i64 - held_bytes as i64,
        incompressible: share(stats.stored_raw, pages.len()),
        store_ns: mean(storing.cpu),
        load_ns: mean(loading),
    })
}

/// Blocks that are loaded before they are compared: enough for the clock, and few enough for the
/// cache.
const CHUNK: usize = 64;

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

    /// The result for a part of the memory is scaled to all of it.
    #[test]
    fn row_is_scaled_to_all_memory() {
        let text = (0..400 * BLOCK.get()).map(|at| (at / 64 % 251) as u8).collect();
        let pages = Pages::from_bytes(BLOCK, text);
        let spec = "zsmalloc+lz4".parse().unwrap();
        let all = pages.bytes().len() as u64;
        let (once, tenfold) =
            (row(&spec, &pages, all).unwrap(), row(&spec, &pages, 10 * all).unwrap());
        assert!(once.held_bytes < all / 2 && once.held_bytes > 0, "{once:?}");
        assert!(tenfold.held_bytes.abs_diff(10 * once.held_bytes) < 10 * 64 * 1024, "{tenfold:?}");
        assert_eq!(once.saved_bytes, all as i64 - once.held_bytes as i64);
        assert_eq!(once.incompressible, 0.0);
    }

    /// This process can be sampled, and one that does not exist is an error of its own.
    #[test]
    fn own_process_is_sampled() {
        let specs = ["zsmalloc+lz4".parse().unwrap()];
        let held: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 7) as u8).collect();
        let sample = take(std::process::id(), BLOCK, 1 << 20, &specs).unwrap();
        std::hint::black_box(&held);
        assert!(sample.anonymous_bytes >= sample.sampled_bytes && sample.sampled_bytes > 0);
        assert!((0.0..=1.0).contains(&sample.same_filled) && sample.results.len() == 1);
        let none = take(u32::MAX, BLOCK, 1 << 20, &specs);
        assert!(matches!(none, Err(SampleError::Process(ProcessError::NotFound { .. }))));
    }
}
