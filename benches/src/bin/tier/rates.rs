//! The rate of writes, that of stores at the limit, and the bytes of a backed block.

use std::sync::Arc;
use std::time::Instant;

use benches::{Failure, FigureRow, FigureRows, Missing, check_all, store_all};
use workload::{Spread, clocked_process};
use zswap::Store;
use zswap::plugin::{BackingStore, SegmentNumber};
use zswap::stats::StoreStats;

use crate::{ROUNDS, SEGMENT, Subject, builder};

/// Segments that the disk's own rate is measured over.
const DISK_SEGMENTS: usize = 128;

/// The limit of a store at its limit, as a part of what its data takes without one.
const LIMIT_SHARE: usize = 8;

pub(crate) fn measure(subject: &Subject<'_>, rows: &mut FigureRows) -> Result<(), Failure> {
    let (mut rates, mut per_block, mut per_entry) = (Vec::new(), Vec::new(), Vec::new());
    let mut stores = Vec::new();
    // The first round warms the disk, contexts and buffers.
    for round in 0..=ROUNDS {
        let disk = disk_rate(subject)?;
        let (rate, bytes) = write_rate(subject)?;
        let with_tier = stores_with_tier(subject)?;
        if round > 0 {
            rates.push(rate / disk);
            per_entry.push(bytes[0]);
            per_block.push(bytes[1]);
            stores.push(with_tier);
        }
    }
    for (name, values) in [
        ("write_rate_over_disk", rates),
        ("stores_with_tier", stores),
        ("bytes_per_backed_block", per_block),
        ("bytes_per_entry", per_entry),
    ] {
        let spread = Spread::of(values).ok_or("a figure is not a number")?;
        rows.results.push(FigureRow::median(&subject.file, name, spread));
    }
    Ok(())
}

/// Returns the bytes per second that the disk takes, in segments one after the other.
fn disk_rate(subject: &Subject<'_>) -> Result<f64, Failure> {
    let file = subject.file_tier(DISK_SEGMENTS)?;
    let mut buffer = file.capabilities().segment_buffer()?;
    for (byte, n) in buffer.iter_mut().zip(0u32..) {
        *byte = (n.wrapping_mul(0x9E37_79B1) >> 24) as u8;
    }
    let began = Instant::now();
    for n in 0..DISK_SEGMENTS as u32 {
        file.write(SegmentNumber::new(n), &buffer)?;
    }
    Ok((DISK_SEGMENTS * SEGMENT) as f64 / began.elapsed().as_secs_f64())
}

/// Returns bytes of objects per second that go to the tier, and bytes of the index per entry before
/// and after.
fn write_rate(subject: &Subject<'_>) -> Result<(f64, [f64; 2]), Failure> {
    let file = Arc::new(subject.file_tier(subject.roomy())?);
    let store = builder(usize::MAX / 2, file).build()?;
    store_all(&store, &subject.pages)?;
    let index = |stats: &StoreStats| {
        let tier = stats.tier.unwrap_or_default();
        (stats.index_bytes - tier.memory_bytes, tier)
    };
    let before = store.stats();
    let began = Instant::now();
    while store.write_back() > 0 {}
    let seconds = began.elapsed().as_secs_f64();
    let after = store.stats();
    check_all(&store, &subject.pages, Missing::Allowed)?;
    let ((index_before, _), (index_after, tier)) = (index(&before), index(&after));
    let empty = builder(usize::MAX / 2, Arc::new(subject.file_tier(2)?)).build()?.stats();
    let fixed = index(&empty).0;
    let per = |bytes: usize, entries: usize| (bytes - fixed) as f64 / entries as f64;
    let bytes = [per(index_before, before.entries), per(index_after, tier.backed)];
    Ok((tier.bytes_put as f64 / seconds, bytes))
}

/// Stores per CPU second at the limit, over those without one.
fn stores_with_tier(subject: &Subject<'_>) -> Result<f64, Failure> {
    let plain = Store::<u64>::builder().build()?;
    let (without, stored) = clocked_process(|| store_all(&plain, &subject.pages));
    stored?;
    let limit = plain.bytes_held() / LIMIT_SHARE;
    drop(plain);
    let file = Arc::new(subject.file_tier(subject.roomy())?);
    // The buffer of a segment is part of what the limit bounds.
    let store = builder(limit.max(4 * SEGMENT), file).build()?;
    let (with, stored) = clocked_process(|| store_all(&store, &subject.pages));
    stored?;
    check_all(&store, &subject.pages, Missing::Allowed)?;
    Ok(without.cpu.as_secs_f64() / with.cpu.as_secs_f64())
}
