//! Resident memory over accounted memory, and over the limit.
//!
//! Every part runs in a process of its own, so that the heap is clean and all resident memory
//! belongs to one store.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::{Failure, FigureRow};
use workload::{Growth, Spread};
use zswap::{AtLimit, Store};

use crate::SizePlan;
use crate::blocks::{LONGEST_FILL, SMALL, fill, noise, same_filled};

/// The number of moments of a fill at which resident and accounted bytes are compared.
const SAMPLES: u32 = 8;

/// The share of the entries at the first sample. What the heap keeps of the tables of small shards
/// is a constant of some 100 KiB, which would dominate a store with fewer entries.
const SMALLEST: f64 = 1.0 / 8.0;

/// Entries with keys of 8 bytes.
const NARROW: u64 = 4_000_000;

/// Entries with keys of 1 KiB.
const WIDE: u64 = 200_000;

/// Bytes of the limit; not scaled down, because small limits are dominated by what a store always
/// holds.
const LIMIT: usize = 64 << 20;

/// Stores of each of the two threads at the limit.
const STORES: u64 = 1_500_000;

/// Time between two samples of resident memory.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// The time that memory may take to return to the system after `clear`.
const SETTLING: Duration = Duration::from_secs(3);

/// A key of 1 KiB that is all in the index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WideKey([u64; 128]);

/// Measures same-filled blocks under `u64` keys. Such a store is only its index.
pub(crate) fn same_filled_blocks(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    index(plan, "u64", NARROW, |key| key, same_filled)
}

/// Measures blocks of 16 bytes under `u64` keys. The index is more than half of such a store.
pub(crate) fn small_blocks(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    index(plan, "u64, 16-byte blocks", NARROW, |key| key, noise)
}

/// Measures same-filled blocks under keys of 1 KiB.
pub(crate) fn wide_keys(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    index(plan, "1KiB", WIDE, |key| WideKey([key; 128]), same_filled)
}

/// Fills a store and compares at several moments, because tables are charged and grow in steps. The
/// highest ratio counts.
fn index<K: Hash + Eq + Clone>(
    plan: &SizePlan,
    file: &str,
    entries: u64,
    key: impl Fn(u64) -> K,
    block: impl Fn(u64) -> [u8; SMALL],
) -> Result<Vec<FigureRow>, Failure> {
    let (file, entries) = (plan.file(file), plan.scaled(entries));
    let before = Growth::start()?;
    let store: Store<K> = Store::builder().build()?;
    let (mut ratios, mut failed) = (Vec::new(), 0);
    let mut from = 0;
    for sample in 0..=SAMPLES {
        // In equal ratios, because the heap treats small tables and large ones differently.
        let share = SMALLEST.powf(1.0 - f64::from(sample) / f64::from(SAMPLES));
        let to = (entries as f64 * share) as u64;
        failed += fill(&store, (from..to).map(&key), |n| block(from + n), LONGEST_FILL).failed;
        ratios.push(before.bytes()? as f64 / store.bytes_held() as f64);
        from = to;
    }
    let full = before.bytes()?;
    store.clear();
    let kept = lowest_within(SETTLING, &before)? as f64 / full as f64;
    let ratios = Spread::of(ratios).ok_or("there is at least one sample")?;
    Ok(vec![
        FigureRow::highest(&file, "index_rss_over_held", ratios),
        FigureRow::once(&file, "index_rss_kept_after_clear", kept),
        FigureRow::once(&file, "index_failed_stores", failed as f64),
    ])
}

/// Waits and returns the fewest bytes that were resident meanwhile.
fn lowest_within(time: Duration, before: &Growth) -> Result<i64, Failure> {
    let (start, mut lowest) = (Instant::now(), before.bytes()?);
    while start.elapsed() < time {
        thread::sleep(SAMPLE_INTERVAL);
        lowest = lowest.min(before.bytes()?);
    }
    Ok(lowest)
}

/// Measures the resident memory of a store that evicts at 64 MiB, while two threads store blocks of
/// 9 to 64 bytes. The highest value counts.
pub(crate) fn at_limit(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    let file = plan.file("-");
    let before = Growth::start()?;
    let store: Store<u64> = Store::builder().limit_bytes(LIMIT).at_limit(AtLimit::Evict).build()?;
    let (failed, running) = (AtomicU64::new(0), AtomicU64::new(2));
    let (resident, held) = thread::scope(|scope| -> Result<_, Failure> {
        for first in 0..2 {
            let (store, failed, running) = (&store, &failed, &running);
            scope.spawn(move || {
                // At full size even with `--quick`, because a store below its limit shows nothing.
                let keys = (0..STORES).map(|n| 2 * n + first);
                let refused = keys.filter(|&key| !store_one(store, key));
                failed.fetch_add(refused.count() as u64, Ordering::Relaxed);
                running.fetch_sub(1, Ordering::Release);
            });
        }
        let (mut resident, mut held) = (Vec::new(), Vec::new());
        loop {
            let over = running.load(Ordering::Acquire) == 0;
            let (in_memory, in_books) = (before.bytes()? as f64, store.bytes_held() as f64);
            // Before the store is full, its bytes show nothing about the limit.
            if over || in_books >= 0.9 * LIMIT as f64 {
                resident.push(in_memory / LIMIT as f64);
                held.push(in_books / LIMIT as f64);
            }
            if over {
                return Ok((resident, held));
            }
            thread::sleep(SAMPLE_INTERVAL);
        }
    })?;
    let highest = |values| Spread::of(values).ok_or("there is at least one sample");
    Ok(vec![
        FigureRow::highest(&file, "limit_rss_over_limit", highest(resident)?),
        FigureRow::highest(&file, "limit_held_over_limit", highest(held)?),
        FigureRow::once(&file, "limit_failed_stores", failed.into_inner() as f64),
    ])
}

/// Stores noise of 9 to 64 bytes. Returns false if the store refuses it.
fn store_one(store: &Store<u64>, key: u64) -> bool {
    let mut block = [0; 64];
    for (place, part) in block.chunks_exact_mut(SMALL).enumerate() {
        part.copy_from_slice(&noise(4 * key + place as u64));
    }
    store.store(key, &block[..9 + (key % 56) as usize]).is_ok()
}
