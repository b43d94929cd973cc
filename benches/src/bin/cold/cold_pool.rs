//! Savings and costs of a cold pool, and of a dictionary that is trained on its blocks.

use std::sync::Arc;
use std::time::Duration;

use benches::{Failure, Missing, check_all, store_all};
use workload::{Figure, LatencyHistogram, Pages, Report, Rng, Spread, clocked};
use zpool_zstd::{TrainError, forget, remember, train_and_judge};
use zswap::drain::DrainBudget;
use zswap::plugin::Manual;
use zswap::{CompactionBudget, Store};

use crate::{PAGE, ROUNDS, builder, spec};

/// A pair of pools, and the names of its figures.
struct Pair {
    hot: &'static str,
    cold: &'static str,
    prefix: &'static str,
    /// A dictionary is trained on its cold blocks.
    trains: bool,
}

/// The pair that the figures without a prefix are about, and denser ones.
const PAIRS: [Pair; 4] = [
    Pair { hot: "zsmalloc+lz4", cold: "zsmalloc+zstd(level=1)", prefix: "cold", trains: true },
    Pair {
        hot: "zsmalloc+pagelz",
        cold: "zsmalloc+zstd(level=1)",
        prefix: "cold_pagelz_zstd1",
        trains: false,
    },
    Pair {
        hot: "zsmalloc+pagelz",
        cold: "zsmalloc+zstd(level=9)",
        prefix: "cold_pagelz_zstd9",
        trains: false,
    },
    Pair {
        hot: "zsmalloc+pagelz",
        cold: "zsmalloc+pagelz(level=2)",
        prefix: "cold_pagelz_2",
        trains: false,
    },
];

/// Percent of the pages that are loaded all the time.
const HOT: [usize; 2] = [10, 20];

/// Loads of hot pages per round.
const LOADS: usize = 20_000;

/// Turns of the clock after the pages were stored: two to see them unused, and one to move what the
/// first two left.
const TURNS: usize = 3;

/// Blocks of a sample of the cold ones.
const SAMPLE_BLOCKS: usize = 4096;
const DICTIONARY_BYTES: usize = 4096;
/// The level of the cold pool that the figures without a prefix are about.
const LEVEL: i32 = 1;

/// The figures of one round.
struct Round {
    held: f64,
    cpu_us: f64,
    load_p50: f64,
    /// For the pair that is trained.
    trained: Option<TrainedRound>,
}

/// The figures of a round after a dictionary was trained on the store's own cold blocks.
#[derive(Clone, Copy)]
struct TrainedRound {
    /// As without a dictionary, if it does not pay.
    held: f64,
    pays: bool,
}

pub(crate) fn measure(pages: &Pages, report: &mut Report) -> Result<(), Failure> {
    for pair in PAIRS {
        for hot in HOT {
            let mut rounds = Vec::new();
            // The first round warms up.
            for number in 0..=ROUNDS {
                let round = round(pages, &pair, hot, number as u64)?;
                if number > 0 {
                    rounds.push(round);
                }
            }
            let prefix = pair.prefix;
            let figure =
                |name: String, unit: &str, value: fn(&Round) -> f64| -> Result<Figure, Failure> {
                    let spread =
                        Spread::of(rounds.iter().map(value)).ok_or("a figure is not a number")?;
                    Ok(spread.figure(name, unit))
                };
            report.push(figure(format!("{prefix}_held_hot{hot}"), "ratio", |round| round.held)?);
            let name = format!("{prefix}_cpu_us_per_page_hot{hot}");
            report.push(figure(name, "us", |round| round.cpu_us)?);
            let trained: Vec<_> = rounds.iter().filter_map(|round| round.trained).collect();
            if !trained.is_empty() {
                report_trained(&trained, prefix, hot, report)?;
            }
            if prefix == "cold" && hot == HOT[0] {
                report.push(figure(format!("{prefix}_cpu_us_per_page"), "us", |r| r.cpu_us)?);
                report.push(figure("hot_load_p50".to_owned(), "ratio", |r| r.load_p50)?);
            }
        }
    }
    Ok(())
}

/// Reports the figures of a pair that is trained.
fn report_trained(
    rounds: &[TrainedRound],
    prefix: &str,
    hot: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let held = Spread::of(rounds.iter().map(|round| round.held));
    let held = held.ok_or("a figure is not a number")?;
    report.push(held.figure(format!("{prefix}_held_hot{hot}_trained"), "ratio"));
    if hot == HOT[0] {
        // The median of an odd number of rounds is 0 or 1.
        let pays = Spread::of(rounds.iter().map(|round| f64::from(u8::from(round.pays))));
        let pays = pays.ok_or("a figure is not a number")?;
        report.push(pays.figure(format!("{prefix}_dictionary_pays"), "0 or 1"));
    }
    Ok(())
}

/// Stores all pages in two stores, and lets those that are not hot become cold in one of them.
fn round(pages: &Pages, pair: &Pair, hot_percent: usize, seed: u64) -> Result<Round, Failure> {
    // No background work, so that all of it is on the clock of this thread.
    let plain = builder().spec(spec("zsmalloc+lz4")).executor(Arc::new(Manual::new())).build()?;
    let store = builder()
        .spec(spec(pair.hot))
        .executor(Arc::new(Manual::new()))
        .cold(spec(pair.cold))
        .cold_turn(Duration::MAX)
        .build()?;
    store_all(&plain, pages)?;
    store_all(&store, pages)?;
    let mut hot: Vec<u64> = (0..pages.len() as u64).collect();
    Rng::new(seed).shuffle(&mut hot);
    hot.truncate(pages.len() * hot_percent / 100);
    let (mut cpu, mut made_cold) = (Duration::ZERO, 0);
    for _ in 0..TURNS {
        load_all(&store, &hot)?;
        let (elapsed, turned) = clocked(|| store.turn_heat_clock());
        if turned.failed > 0 || turned.no_room {
            return Err(format!("a turn of the clock failed: {turned:?}").into());
        }
        cpu += elapsed.cpu;
        made_cold += turned.made_cold + turned.stayed;
    }
    let (elapsed, _) = clocked(|| store.compact(CompactionBudget::UNLIMITED));
    cpu += elapsed.cpu;
    plain.compact(CompactionBudget::UNLIMITED);
    let plain_held = plain.bytes_held() as f64;
    let held = store.bytes_held() as f64 / plain_held;
    check_all(&store, pages, Missing::Wrong)?;
    let (with, without) = load_hot(&store, &plain, &hot, seed)?;
    let trained = if pair.trains {
        let trained_held = train(&store, pages)?;
        Some(TrainedRound {
            held: trained_held.map_or(held, |bytes| bytes as f64 / plain_held),
            pays: trained_held.is_some(),
        })
    } else {
        None
    };
    Ok(Round {
        trained,
        held,
        cpu_us: cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(made_cold.max(1))?),
        load_p50: with.p50() as f64 / without.p50().max(1) as f64,
    })
}

/// Trains a dictionary on cold blocks of a store. If it pays, moves the cold blocks to a pool that
/// uses it, and returns the bytes that the store then holds.
fn train(store: &Store<u64>, pages: &Pages) -> Result<Option<usize>, Failure> {
    let sample = store.sample_cold(SAMPLE_BLOCKS)?;
    let dictionary = match train_and_judge(&sample, LEVEL, DICTIONARY_BYTES) {
        Ok(trained) => remember(&trained.dictionary)?,
        Err(TrainError::Refused(_) | TrainError::NothingShared { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    store.set_cold(&spec(&format!("zsmalloc+zstd(level={LEVEL},dict={dictionary})")))?;
    let turned = store.turn_heat_clock();
    if turned.failed > 0 || turned.no_room {
        return Err(format!("a turn of the clock failed: {turned:?}").into());
    }
    while store.manager().stats().pools_alive > 2 {
        let drained = store.drain(DrainBudget::UNLIMITED);
        if drained.remaining > 0 {
            return Err(format!("a drain left blocks: {drained:?}").into());
        }
        store.manager().flush()?;
    }
    store.compact(CompactionBudget::UNLIMITED);
    // Before the pages are loaded, as without a dictionary: loads make contexts.
    let held = store.bytes_held();
    check_all(store, pages, Missing::Wrong)?;
    forget(&dictionary);
    Ok(Some(held))
}

fn load_all(store: &Store<u64>, keys: &[u64]) -> Result<(), Failure> {
    let mut buffer = vec![0; PAGE.get()];
    for key in keys {
        store.load(key, &mut buffer)?.ok_or("a page is gone")?;
    }
    Ok(())
}

/// Loads hot pages from both stores in alternation.
fn load_hot(
    store: &Store<u64>,
    plain: &Store<u64>,
    hot: &[u64],
    seed: u64,
) -> Result<(LatencyHistogram, LatencyHistogram), Failure> {
    let mut rng = Rng::new(seed);
    let mut buffer = vec![0; PAGE.get()];
    let mut latencies = [LatencyHistogram::new(), LatencyHistogram::new()];
    for turn in 0..LOADS {
        let key = hot[rng.below(hot.len())];
        let other = hot[rng.below(hot.len())];
        let order = [(0, store, key), (1, plain, other)];
        for at in [turn % 2, 1 - turn % 2] {
            let (number, store, key) = order[at];
            latencies[number].time(|| store.load(&key, &mut buffer))?.ok_or("a page is gone")?;
        }
    }
    let [with, without] = latencies;
    Ok((with, without))
}
