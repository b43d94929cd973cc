//! Bytes written for each byte that leaves memory, by a store that is used as a cache, and by one
//! that may lose nothing.
//!
//! What counts is how many segments fit in memory and in the tier. A file of pages is a small
//! store, so its segments are a quarter of the default: it has as many as a store of four times its
//! size.

use std::sync::Arc;

use benches::{Failure, FigureRow, FigureRows, store_all};
use workload::{Rng, Zipf};
use zswap::{Error, Store};

use crate::{PAGE, SEGMENT as DEFAULT_SEGMENT, Subject, builder, refusing};

/// Bytes of a segment here.
const SEGMENT: usize = DEFAULT_SEGMENT / 4;

/// Loads are Zipf-distributed with this exponent, and this many percent of them change the block.
const EXPONENT: f64 = 0.8;
const CHANGED_PERCENT: usize = 30;

/// Operations per page.
const OPERATIONS: usize = 12;

/// How full a tier that refuses is, in percent.
const FULL_PERCENT: usize = 90;

/// The blocks that fill a tier that refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filling {
    /// All blocks, including the 1/5 that is also in memory. A tier that must hold everything is
    /// sized so.
    AllBlocks,
    /// The blocks that are in the tier and nowhere else.
    BackedBlocks,
}

pub(crate) fn measure(subject: &Subject<'_>, rows: &mut FigureRows) -> Result<(), Failure> {
    let dropping = drop_oldest(subject)?;
    let [refusing, from_empty] = refuse(subject, Filling::AllBlocks)?;
    let [all_backed, _] = refuse(subject, Filling::BackedBlocks)?;
    for (name, value) in [
        ("bytes_written_per_byte_put", dropping),
        ("bytes_written_per_byte_put_drop_oldest", dropping),
        ("bytes_written_per_byte_put_refuse", refusing),
        ("bytes_written_per_byte_put_refuse_from_empty", from_empty),
        ("bytes_written_per_byte_put_refuse_all_backed", all_backed),
    ] {
        rows.results.push(FigureRow::once(&subject.file, name, value));
    }
    Ok(())
}

/// Returns the bytes that the pages take in a store without a limit, and of their objects.
fn measured(subject: &Subject<'_>) -> Result<(usize, usize), Failure> {
    let store = Store::<u64>::builder().build()?;
    store_all(&store, &subject.pages)?;
    let stats = store.stats();
    Ok((stats.bytes_held(), stats.payload_bytes))
}

/// Loads pages, stores those again that are missing, and changes some.
fn run(subject: &Subject<'_>, store: &Store<u64>, keys: usize, seed: u64) -> Result<(), Failure> {
    let (mut rng, zipf) = (Rng::new(seed), Zipf::with_exponent(keys, EXPONENT));
    let mut buffer = vec![0; PAGE.get()];
    let pages = subject.pages.len();
    for _ in 0..OPERATIONS * keys {
        // Spread over the pages, so that hot ones are not neighbours.
        let key = zipf.sample(&mut rng) * 7919 % keys;
        let missed = store.load(&(key as u64), &mut buffer)?.is_none();
        if missed || rng.below(100) < CHANGED_PERCENT {
            let page = subject.pages.iter().nth(rng.below(pages)).expect("it is one of them");
            match store.store(key as u64, page) {
                Ok(()) | Err(Error::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Returns the bytes written per byte put, by what a store does during `work`.
fn amplification(
    store: &Store<u64>,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let tier = || store.stats().tier.unwrap_or_default();
    let before = tier();
    work()?;
    let after = tier();
    let put = after.bytes_put - before.bytes_put;
    if put < 4 * SEGMENT as u64 || after.segments_dropped == before.segments_dropped {
        return Err(format!("the tier was never full: {after}").into());
    }
    Ok((after.bytes_written - before.bytes_written) as f64 / put as f64)
}

/// Measures a cache: 1/5 of the pages fits in memory, and the tier has room for 3/5 of them.
fn drop_oldest(subject: &Subject<'_>) -> Result<f64, Failure> {
    let (held, payload) = measured(subject)?;
    let file = Arc::new(subject.file_tier_of((payload * 3 / 5 / SEGMENT).max(4), SEGMENT)?);
    let store = builder((held / 5).max(4 * SEGMENT), file).build()?;
    let keys = subject.pages.len();
    run(subject, &store, keys, 1)?;
    amplification(&store, || run(subject, &store, keys, 2))
}

/// Measures a tier that is nearly full, while its blocks change. Returns the figure from when it is
/// full, and that from the beginning.
fn refuse(subject: &Subject<'_>, filling: Filling) -> Result<[f64; 2], Failure> {
    let (held, _) = measured(subject)?;
    let limit = (held / 5).max(4 * SEGMENT);
    let bytes = bytes_in_tier(subject, limit, filling)?;
    let segments = (bytes * 100 / FULL_PERCENT).div_ceil(SEGMENT).max(4);
    let store = refusing(limit, Arc::new(subject.file_tier_of(segments, SEGMENT)?)).build()?;
    for (key, page) in (0..).zip(&subject.pages) {
        match store.store(key, page) {
            Ok(()) => {}
            Err(Error::Full { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let keys = store.len();
    let steady = amplification(&store, || run(subject, &store, keys, 3))?;
    let tier = store.stats().tier.unwrap_or_default();
    Ok([steady, tier.bytes_written as f64 / tier.bytes_put as f64])
}

/// Returns the bytes of records that such blocks take, as a tier with room for all of them shows.
fn bytes_in_tier(subject: &Subject<'_>, limit: usize, filling: Filling) -> Result<usize, Failure> {
    let tier = subject.file_tier_of(4 * subject.roomy(), SEGMENT)?;
    let roomy = refusing(limit, Arc::new(tier)).build()?;
    store_all(&roomy, &subject.pages)?;
    if filling == Filling::AllBlocks {
        while roomy.write_back() > 0 {}
    }
    Ok(roomy.stats().tier.unwrap_or_default().live_bytes)
}
