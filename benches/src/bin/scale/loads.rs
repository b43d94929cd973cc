//! The worst load while a store grows.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::Failure;
use workload::{Rng, clocked};
use zswap::Store;

use crate::SizePlan;
use crate::blocks::{LONGEST_FILL, SMALL, noise};
use crate::row::FigureRow;
use crate::thread_account::{Account, cost};

const KEYS: u64 = 20_000_000;

/// The number of keys before the loads begin.
const FIRST: u64 = 10;

/// Loads that take no longer on the wall clock are not examined.
const SUSPECT: Duration = Duration::from_micros(50);

/// The slowest loads.
#[derive(Debug, Default, Clone, Copy)]
struct Worst {
    loads: u64,
    net: Duration,
    wall: Duration,
}

/// One thread stores 20 million blocks of 16 bytes, and another loads random keys that are present,
/// one at a time.
pub(crate) fn worst(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    let keys = plan.scaled(KEYS);
    let store: Store<u64> = Store::builder().build()?;
    for key in 0..FIRST {
        store.store(key, &noise(key))?;
    }
    let (stored, done) = (AtomicU64::new(FIRST), AtomicBool::new(false));
    let grower = Account::of_this_thread()?;
    let (grown, worst) = thread::scope(|scope| {
        let loader = scope.spawn(|| load_all_the_time(&store, &stored, &done, &grower));
        let grown = grow(&store, keys, &stored);
        done.store(true, Ordering::Relaxed);
        (grown, loader.join().expect("loads do not panic"))
    });
    grown?;
    let (worst, reached) = (worst?, stored.into_inner());
    let file = plan.file("-");
    let ns = |time: Duration| time.as_nanos() as f64;
    Ok(vec![
        FigureRow::once(&file, "worst_load_ns_20m", ns(worst.net)),
        FigureRow::once(&file, "worst_load_wall_ns_20m", ns(worst.wall)),
        FigureRow::once(&file, "worst_load_entries", reached as f64),
        FigureRow::once(&file, "worst_load_loads", worst.loads as f64),
    ])
}

fn grow(store: &Store<u64>, keys: u64, stored: &AtomicU64) -> Result<(), Failure> {
    let start = Instant::now();
    for key in FIRST..keys {
        store.store(key, &noise(key))?;
        // Pairs with the loader's Acquire: the keys that it counts are in the store.
        stored.store(key + 1, Ordering::Release);
        if key % 1024 == 0 && start.elapsed() > LONGEST_FILL {
            break;
        }
    }
    Ok(())
}

fn load_all_the_time(
    store: &Store<u64>,
    stored: &AtomicU64,
    done: &AtomicBool,
    grower: &Account,
) -> io::Result<Worst> {
    let account = Account::of_this_thread()?;
    let (mut worst, mut rng, mut buffer) = (Worst::default(), Rng::new(11), [0; SMALL]);
    let mut sleeps = account.sleeps();
    let (mut ready, mut grower_ready) = (account.ready(), grower.ready());
    while !done.load(Ordering::Relaxed) {
        let key = rng.next_u64() % stored.load(Ordering::Acquire);
        let (elapsed, loaded) = clocked(|| store.load(&key, &mut buffer));
        assert!(matches!(loaded, Ok(Some(SMALL))) && buffer == noise(key), "key {key}: {loaded:?}");
        worst.loads += 1;
        let (now, grower_now) = (account.ready(), grower.ready());
        if elapsed.wall > SUSPECT {
            let slept = account.sleeps() > sleeps;
            sleeps = account.sleeps();
            let net = cost(elapsed, slept, now - ready, grower_now - grower_ready);
            worst.net = worst.net.max(net);
        } else {
            worst.net = worst.net.max(elapsed.wall);
        }
        worst.wall = worst.wall.max(elapsed.wall);
        (ready, grower_ready) = (now, grower_now);
    }
    Ok(worst)
}
