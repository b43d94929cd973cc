//! Stores in the order of another store's keys, over stores in random order.
//!
//! The keys of one store come out in the order of its index. Stored in that order into a second
//! store with the same hasher, they fill its index from one end. That must cost no more than any
//! other order.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use benches::{Failure, FigureRow};
use workload::{Rng, Spread, clocked};
use zswap::{SequentialKeys, Store};

use crate::SizePlan;
use crate::blocks::{Filled, LONGEST_FILL, fill, same_filled};

/// An odd number, so that the median is of one round.
const ROUNDS: usize = 3;

/// A fill in key order may take this many times as long as one in random order before it is cut
/// off.
const MOST_TIMES_RANDOM: u32 = 8;

/// The result with one hasher.
#[derive(Debug)]
struct Orders {
    /// Time of a store in key order over one in random order, by the clock of the thread.
    ratio: Spread,
    /// Stores that failed, of all rounds and both orders.
    failed: u64,
}

/// Compares both orders on one million keys.
pub(crate) fn of_1m(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    measure(plan, "1m", 1_000_000)
}

/// Compares both orders on ten million keys.
pub(crate) fn of_10m(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    measure(plan, "10m", 10_000_000)
}

/// Compares both orders with two hashers. The figure is that of the worse one, and each also has a
/// row of its own.
fn measure(plan: &SizePlan, file: &str, keys: u64) -> Result<Vec<FigureRow>, Failure> {
    let (file, keys) = (plan.file(file), plan.scaled(keys));
    let keyed = compare(keys, &RandomState::new())?;
    let numbers = compare(keys, &SequentialKeys::default())?;
    let worse = if keyed.ratio.median > numbers.ratio.median { keyed.ratio } else { numbers.ratio };
    Ok(vec![
        FigureRow::median(&file, "store_ns_key_order_over_random", worse),
        FigureRow::median(&file, "key_order_over_random_default_hasher", keyed.ratio),
        FigureRow::median(&file, "key_order_over_random_by_number", numbers.ratio),
        FigureRow::once(&file, "key_order_failed_stores", (keyed.failed + numbers.failed) as f64),
    ])
}

fn compare<S: BuildHasher + Clone>(keys: u64, hasher: &S) -> Result<Orders, Failure> {
    let in_order = keys_in_order(keys, hasher)?;
    let mut at_random = in_order.clone();
    Rng::new(3).shuffle(&mut at_random);
    let (mut ratios, mut failed) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (random, first) = ns_per_store(&at_random, hasher, LONGEST_FILL)?;
        let longest = Duration::from_nanos((random * keys as f64) as u64) * MOST_TIMES_RANDOM;
        let (ordered, second) = ns_per_store(&in_order, hasher, longest)?;
        ratios.push(ordered / random);
        failed += first.failed + second.failed;
        if second.tried() < keys {
            // Far over any limit, so another round would show the same.
            break;
        }
    }
    Ok(Orders { ratio: Spread::of(ratios).ok_or("there is at least one round")?, failed })
}

fn keys_in_order<S: BuildHasher + Clone>(keys: u64, hasher: &S) -> Result<Vec<u64>, Failure> {
    let store = Store::<u64>::builder().hasher(hasher.clone()).build()?;
    fill(&store, 0..keys, same_filled, LONGEST_FILL);
    Ok(store.keys().collect())
}

/// Fills a new store and returns the time of one store.
fn ns_per_store<S: BuildHasher + Clone>(
    keys: &[u64],
    hasher: &S,
    longest: Duration,
) -> Result<(f64, Filled), Failure> {
    let store = Store::<u64>::builder().hasher(hasher.clone()).build()?;
    let (elapsed, filled) = clocked(|| fill(&store, keys.iter().copied(), same_filled, longest));
    Ok((elapsed.cpu.as_nanos() as f64 / filled.tried().max(1) as f64, filled))
}
