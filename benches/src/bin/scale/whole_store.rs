//! Calls on the whole store: its statistics, `clear`, and its drop.

use std::time::{Duration, Instant};

use benches::{Failure, FigureRow};
use workload::{Growth, Spread};
use zswap::Store;

use crate::SizePlan;
use crate::blocks::{LONGEST_FILL, fill, noise};
use crate::thread_account::Account;

const OBJECTS: u64 = 10_000_000;

/// The number of calls of `stats`, odd so that the median is the time of one.
const CALLS: usize = 7;

/// Wait this long for memory to return to the system.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Times `stats`, `clear` and `drop` on 10 million objects.
pub(crate) fn measure(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    let (account, file) = (Account::of_this_thread()?, plan.file("-"));
    let before = Growth::start()?;
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for name in ["clear", "drop"] {
        let store: Store<u64> = Store::builder().build()?;
        let filled = fill(&store, 0..plan.scaled(OBJECTS), noise, LONGEST_FILL);
        objects.push(filled.stored as f64);
        let full = before.bytes()?;
        if name == "clear" {
            rows.push(stats(&account, &store, &file)?);
        }
        let start = Instant::now();
        let (took, left) = account.timed(|| remove(name, store));
        rows.push(FigureRow::once(&file, &format!("{name}_s_10m"), took.as_secs_f64()));
        let gone = wait_until_gone(start, &before, full / 20)?;
        rows.push(FigureRow::once(&file, &format!("{name}_memory_gone_s_10m"), gone.as_secs_f64()));
        drop(left);
    }
    let objects = Spread::of(objects).ok_or("there were two fills")?;
    rows.push(FigureRow::median(&file, "objects_at_10m", objects));
    Ok(rows)
}

/// Clears or drops the store. Returns a cleared one.
fn remove(how: &str, store: Store<u64>) -> Option<Store<u64>> {
    if how == "drop" {
        drop(store);
        return None;
    }
    store.clear();
    Some(store)
}

fn stats(account: &Account, store: &Store<u64>, file: &str) -> Result<FigureRow, Failure> {
    let times = (0..CALLS).map(|_| {
        let (took, stats) = account.timed(|| store.stats());
        assert_eq!(stats.entries, store.len());
        took.as_nanos() as f64
    });
    let spread = Spread::of(times).ok_or("there is at least one call")?;
    Ok(FigureRow::median(file, "stats_ns_10m", spread))
}

/// Waits until at most `rest` bytes are resident, and returns the time since `start`, or
/// [`MAX_WAIT`] if they stay.
fn wait_until_gone(start: Instant, before: &Growth, rest: i64) -> Result<Duration, Failure> {
    while before.bytes()? > rest {
        if start.elapsed() > MAX_WAIT {
            return Ok(MAX_WAIT);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(start.elapsed())
}
