//! The rate of drains, and what they hold meanwhile.

use benches::{Failure, Missing, check_all, store_all};
use workload::{Elapsed, Pages, Report, Spread, clocked};
use zswap::Store;
use zswap::drain::{DrainBudget, DrainEnd};

use crate::{PAGE, ROUNDS, filled, spec};

const LZ4: &str = "zsmalloc+lz4";
/// The codec of [`LZ4`], in a pool of its own.
const LZ4_AGAIN: &str = "zsmalloc(chain=8)+lz4";
const ZSTD: &str = "zsmalloc+zstd(level=1)";

/// The number of entries after which the held bytes are read.
const SAMPLE_INTERVAL: usize = 256;

/// Figures of all rounds.
#[derive(Default)]
struct Figures {
    copied_over_stores: Vec<f64>,
    recompressed_cpu: Vec<f64>,
    peak: Vec<f64>,
    recompressed_peak: Vec<f64>,
}

pub(crate) fn measure(pages: &Pages, report: &mut Report) -> Result<(), Failure> {
    let store = filled(LZ4, pages)?;
    let mut figures = Figures::default();
    // The first round warms contexts, arenas and caches.
    for round in 0..=ROUNDS {
        let mut measured = Figures::default();
        copied(&store, pages, round % 2 == 1, &mut measured)?;
        recompressed(&store, pages, &mut measured)?;
        if round == 0 {
            check_all(&store, pages, Missing::Wrong)?;
            continue;
        }
        figures.copied_over_stores.append(&mut measured.copied_over_stores);
        figures.recompressed_cpu.append(&mut measured.recompressed_cpu);
        figures.peak.append(&mut measured.peak);
        figures.recompressed_peak.append(&mut measured.recompressed_peak);
    }
    check_all(&store, pages, Missing::Wrong)?;
    for (name, values) in [
        ("drain_copied_over_stores", figures.copied_over_stores),
        ("drain_recompressed_cpu", figures.recompressed_cpu),
        ("drain_peak_held", figures.peak),
        ("drain_recompressed_peak_held", figures.recompressed_peak),
    ] {
        let spread = Spread::of(values).ok_or("a figure is not a number")?;
        report.push(spread.figure(name, "ratio"));
    }
    Ok(())
}

/// Moves all entries to another pool of the same codec, by a drain and by stores.
fn copied(
    store: &Store<u64>,
    pages: &Pages,
    stores_first: bool,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let (mut drain, mut stores) = (None, None);
    for stores_now in [stores_first, !stores_first] {
        store.switch(&spec(LZ4_AGAIN))?;
        if stores_now {
            let (elapsed, stored) = clocked(|| store_all(store, pages));
            stored?;
            stores = Some(elapsed);
        } else {
            drain = Some(drain_all(store)?);
        }
        store.manager().flush()?;
        store.switch(&spec(LZ4))?;
        drain_all(store)?;
        store.manager().flush()?;
    }
    let ((drain, _), stores) = drain.zip(stores).expect("both were measured");
    figures.copied_over_stores.push(ratio(stores, drain));
    store.switch(&spec(LZ4_AGAIN))?;
    figures.peak.push(peak(store)?);
    store.manager().flush()?;
    store.switch(&spec(LZ4))?;
    drain_all(store)?;
    Ok(store.manager().flush()?)
}

/// Moves all entries to zstd, by a drain, and by loads and stores.
fn recompressed(store: &Store<u64>, pages: &Pages, figures: &mut Figures) -> Result<(), Failure> {
    let mut buffer = vec![0; PAGE.get()];
    let mut by_hand = Elapsed::default();
    let (loads, loaded) = clocked(|| {
        (0..pages.len() as u64).try_for_each(|key| store.peek(&key, &mut buffer).map(drop))
    });
    loaded?;
    by_hand += loads;
    store.switch(&spec(ZSTD))?;
    let (stores, stored) = clocked(|| store_all(store, pages));
    stored?;
    by_hand += stores;
    store.switch(&spec(LZ4))?;
    drain_all(store)?;
    store.manager().flush()?;
    store.switch(&spec(ZSTD))?;
    let (drain, recompressed) = drain_all(store)?;
    if recompressed == 0 {
        return Err("a drain to another codec recompressed nothing".into());
    }
    store.manager().flush()?;
    figures.recompressed_cpu.push(ratio(drain, by_hand));
    store.switch(&spec(LZ4))?;
    drain_all(store)?;
    store.manager().flush()?;
    store.switch(&spec(ZSTD))?;
    figures.recompressed_peak.push(peak(store)?);
    store.switch(&spec(LZ4))?;
    drain_all(store)?;
    Ok(store.manager().flush()?)
}

/// Drains everything. Returns the time and the number of recompressed entries.
fn drain_all(store: &Store<u64>) -> Result<(Elapsed, usize), Failure> {
    let (elapsed, report) = clocked(|| store.drain(DrainBudget::UNLIMITED));
    match report.end {
        DrainEnd::Empty => Ok((elapsed, report.recompressed)),
        end => Err(format!("the drain ended early: {end}").into()),
    }
}

/// Drains everything in steps. Returns the most bytes held, over those held before or after,
/// whichever are more.
fn peak(store: &Store<u64>) -> Result<f64, Failure> {
    let (before, mut most) = (store.bytes_held(), 0);
    loop {
        let report = store.drain(DrainBudget::entries(SAMPLE_INTERVAL));
        most = most.max(report.held_after);
        match report.end {
            DrainEnd::Budget => {}
            DrainEnd::Empty => break,
            end => return Err(format!("the drain ended early: {end}").into()),
        }
    }
    store.manager().flush()?;
    Ok(most as f64 / before.max(store.bytes_held()) as f64)
}

fn ratio(one: Elapsed, other: Elapsed) -> f64 {
    one.cpu.as_secs_f64() / other.cpu.as_secs_f64()
}
