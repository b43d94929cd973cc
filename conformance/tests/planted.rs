//! The suite bites: pools with one bug each are caught, and pools that are odd but right pass.
//!
//! Run with `--nocapture` for the table of which case caught which bug.

mod planted_pools;

use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// One test, because it silences the panics of the whole process.
#[test]
fn planted_bugs_are_caught_and_odd_pools_pass() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught: Vec<_> = BUGS.iter().map(|&bug| (bug, first_failing(bug))).collect();
    let odd: Vec<_> = ODDITIES.iter().map(|&bug| (bug, first_failing(bug))).collect();
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
