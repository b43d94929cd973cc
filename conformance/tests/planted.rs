//! The suite bites: pools with one bug each are caught, and pools that are odd but right pass.
//!
//! Run with `--nocapture` for the table of which case caught which bug.

mod planted_pools;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use planted_pools::{BUGS, Bug, ODDITIES, Planted};
use zpool_conformance::pool::{POOL_CASES, PoolMaker};
use zpool_core::ZPool;

/// The first case that fails for pools with this bug.
fn first_failing(bug: Bug) -> Option<&'static str> {
    let maker = PoolMaker::new(move |source| Ok(Box::new(Planted::new(bug, source)) as Box<dyn ZPool>));
    let capabilities = Planted::facts(bug);
    let mut met = POOL_CASES.iter().filter(|case| case.needs.met_by(capabilities));
    let failing = met.find(|case| catch_unwind(AssertUnwindSafe(|| (case.run)(&maker))).is_err());
    failing.map(|case| case.name)
}

/// All of them, as many at a time as there are processors.
fn try_each(bugs: &[Bug]) -> Vec<(Bug, Option<&'static str>)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| bugs.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.map(|&bug| (bug, first_failing(bug))).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut found: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("cases are caught")).collect()
    });
    found.sort_by_key(|(bug, _)| bugs.iter().position(|b| b == bug));
    found
}

/// One test, because it silences the panics of the whole process.
#[test]
fn planted_bugs_are_caught_and_odd_pools_pass() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (caught, odd) = (try_each(BUGS), try_each(ODDITIES));
    std::panic::set_hook(hook);

    for (bug, case) in &caught {
        println!("{:<32} {}", format!("{bug:?}"), case.unwrap_or("MISSED"));
    }
    let missed = caught.iter().filter(|(_, case)| case.is_none()).count();
    println!("planted bugs: caught {} of {}", caught.len() - missed, caught.len());
    assert_eq!(missed, 0, "bugs that no case caught: see the table above");
    for (oddity, case) in odd {
        assert_eq!(case, None, "{oddity:?} is odd but right");
    }
}
