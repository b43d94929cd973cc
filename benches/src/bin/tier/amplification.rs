//! Bytes written for each byte that leaves memory, by a store that is used as a cache, and by one
//! that may lose nothing.

use std::sync::Arc;

use benches::{Failure, FigureRow, FigureRows};
use workload::{Rng, Zipf};
use zswap::{Error, Store};

use crate::{PAGE, SEGMENT, Subject, builder, refusing};

/// Loads are Zipf-distributed with this exponent, and this many percent of them change the block.
const EXPONENT: f64 = 0.8;
const CHANGED_PERCENT: usize = 30;

/// Operations per page.
const OPERATIONS: usize = 12;

/// How full a tier that refuses is, in percent.
const FULL_PERCENT: usize = 90;

pub(crate) fn measure(subject: &Subject<'_>, rows: &mut FigureRows) -> Result<(), Failure> {
    let dropping = drop_oldest(subject)?;
    let [refuse, from_empty] = refuse(subject)?;
    for (name, value) in [
        ("bytes_written_per_byte_put", dropping),
        ("bytes_written_per_byte_put_drop_oldest", dropping),
        ("bytes_written_per_byte_put_refuse", refuse),
        ("bytes_written_per_byte_put_refuse_from_empty", from_empty),
    ] {
        rows.results.push(FigureRow::once(&subject.file, name, value));
    }
    Ok(())
}

/// Returns the bytes that the pages take in a store without a limit, and of their objects.
fn measured(subject: &Subject<'_>) -> Result<(usize, usize), Failure> {
    let store = Store::<u64>::builder().build()?;
    subject.store_all(&store)?;
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

/// Bytes written per byte put, by what a store does during `work`.
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

/// A cache: a fifth of the pages fits in memory, and the tier has room for 3/5 of them.
fn drop_oldest(subject: &Subject<'_>) -> Result<f64, Failure> {
    let (held, payload) = measured(subject)?;
    let file = Arc::new(subject.file_tier((payload * 3 / 5 / SEGMENT).max(4))?);
    let store = builder((held / 5).max(4 * SEGMENT), file).build()?;
    let keys = subject.pages.len();
    run(subject, &store, keys, 1)?;
    amplification(&store, || run(subject, &store, keys, 2))
}

/// A tier whose live blocks fill most of it, while they change. Returns the figure from when it is
/// full, and that from the beginning.
fn refuse(subject: &Subject<'_>) -> Result<[f64; 2], Failure> {
    let (held, _) = measured(subject)?;
    let limit = (held / 5).max(4 * SEGMENT);
    // With room for all, to see what is live.
    let roomy = refusing(limit, Arc::new(subject.file_tier(subject.roomy())?)).build()?;
    subject.store_all(&roomy)?;
    let live = roomy.stats().tier.unwrap_or_default().live_bytes;
    drop(roomy);
    let segments = (live * 100 / FULL_PERCENT).div_ceil(SEGMENT).max(4);
    let store = refusing(limit, Arc::new(subject.file_tier(segments)?)).build()?;
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
