//! The worst load while a store grows.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::{Failure, FigureRow};
use workload::{Rng, Spread, clocked};
use zswap::Store;

use crate::SizePlan;
use crate::blocks::{LONGEST_FILL, SMALL, noise};
use crate::thread_account::{Account, cost};

const KEYS: u64 = 20_000_000;

/// The number of keys before the loads begin.
const FIRST: u64 = 10;

/// Loads that take no longer on the wall clock are not examined.
const SUSPECT: Duration = Duration::from_micros(50);

/// Rounds, each with a store of its own.
const ROUNDS: usize = 3;

/// Stretches of the growth that are compared between the rounds.
const STRETCHES: usize = 16;

/// The slowest loads of a round.
#[derive(Debug, Default, Clone, Copy)]
struct Worst {
    loads: u64,
    /// The highest cost of a load, per stretch of the growth.
    net: [Duration; STRETCHES],
    wall: Duration,
}

/// Measures the worst load while one thread stores 20 million blocks of 16 bytes and another loads
/// random keys that are present, one at a time.
///
/// A store grows alike in every round, so its own slow loads come at about the same size. The
/// machine slows loads at any time. The figure is therefore the highest cost over all stretches of
/// the growth, where a stretch counts with the median of its rounds. The range is that of the worst
/// load per round.
pub(crate) fn worst(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    let keys = plan.scaled(KEYS);
    let (mut rounds, mut entries) = (Vec::new(), u64::MAX);
    for _ in 0..ROUNDS {
        let (worst, reached) = round(keys)?;
        rounds.push(worst);
        entries = entries.min(reached);
    }
    let ns = |time: Duration| time.as_nanos() as f64;
    let over_rounds = |figure: &dyn Fn(&Worst) -> Duration| {
        Spread::of(rounds.iter().map(|round| ns(figure(round)))).ok_or("there are rounds")
    };
    let mut repeated: f64 = 0.0;
    for stretch in 0..STRETCHES {
        repeated = repeated.max(over_rounds(&|round| round.net[stretch])?.median);
    }
    let own = over_rounds(&|round| round.net.into_iter().max().unwrap_or_default())?;
    let walls = over_rounds(&|round| round.wall)?;
    let file = plan.file("-");
    Ok(vec![
        FigureRow::median(&file, "worst_load_ns_20m", Spread { median: repeated, ..own }),
        FigureRow::highest(&file, "worst_load_wall_ns_20m", walls),
        FigureRow::once(&file, "worst_load_entries", entries as f64),
        FigureRow::once(
            &file,
            "worst_load_loads",
            rounds.iter().map(|round| round.loads as f64).sum(),
        ),
    ])
}

/// Returns the slowest loads while a store grows to `keys` entries, and the entries it reached.
fn round(keys: u64) -> Result<(Worst, u64), Failure> {
    let store: Store<u64> = Store::builder().build()?;
    for key in 0..FIRST {
        store.store(key, noise(key))?;
    }
    let (stored, done) = (AtomicU64::new(FIRST), AtomicBool::new(false));
    let grower = Account::of_this_thread()?;
    let (grown, worst) = thread::scope(|scope| {
        let loader = scope.spawn(|| load_until_done(&store, keys, &stored, &done, &grower));
        let grown = grow(&store, keys, &stored);
        done.store(true, Ordering::Relaxed);
        (grown, loader.join().expect("loads do not panic"))
    });
    grown?;
    Ok((worst?, stored.into_inner()))
}

fn grow(store: &Store<u64>, keys: u64, stored: &AtomicU64) -> Result<(), Failure> {
    let start = Instant::now();
    for key in FIRST..keys {
        store.store(key, noise(key))?;
        // Pairs with the loader's Acquire: the keys that it counts are in the store.
        stored.store(key + 1, Ordering::Release);
        if key % 1024 == 0 && start.elapsed() > LONGEST_FILL {
            break;
        }
    }
    Ok(())
}

fn load_until_done(
    store: &Store<u64>,
    keys: u64,
    stored: &AtomicU64,
    done: &AtomicBool,
    grower: &Account,
) -> io::Result<Worst> {
    let account = Account::of_this_thread()?;
    let (mut worst, mut rng, mut buffer) = (Worst::default(), Rng::new(11), [0; SMALL]);
    let (mut waits, mut grower_wait) = (account.waits(), grower.runnable_wait());
    let mut sleeps = account.sleeps();
    while !done.load(Ordering::Relaxed) {
        let entries = stored.load(Ordering::Acquire);
        let key = rng.next_u64() % entries;
        let mut load = || {
            let (elapsed, loaded) = clocked(|| store.load(&key, &mut buffer));
            assert!(matches!(loaded, Ok(Some(SMALL))) && buffer == noise(key), "{key}: {loaded:?}");
            elapsed
        };
        let elapsed = load();
        let (now, grower_now) = (account.waits(), grower.runnable_wait());
        // Read after every change of slices, so that a sleep belongs to this load.
        let before = sleeps;
        if now.slices != waits.slices {
            sleeps = account.sleeps();
        }
        let net = if elapsed.wall <= SUSPECT {
            elapsed.wall
        } else if sleeps > before {
            cost(elapsed, true, now.runnable_wait - waits.runnable_wait, grower_now - grower_wait)
        } else {
            // The load waited for no thread, so a repeated one takes as long if the store is slow.
            cost(elapsed, false, now.runnable_wait - waits.runnable_wait, Duration::ZERO)
                .min(load().cpu)
        };
        let stretch = (entries as u128 * STRETCHES as u128 / keys as u128) as usize;
        let highest = &mut worst.net[stretch.min(STRETCHES - 1)];
        *highest = net.max(*highest);
        worst.loads += 1;
        worst.wall = worst.wall.max(elapsed.wall);
        (waits, grower_wait) = (now, grower_now);
    }
    Ok(worst)
}
