//! The suites find bugs: back ends with one bug each are caught, and back ends that are odd but
//! correct pass.
//!
//! Run with `--nocapture` for a table of the cases that caught each bug. Each file of this folder
//! has a function that returns what its suite [`Found`].

/// Back ends with their bugs and oddities, as an enum and the two lists of its variants, so that
/// none is planted and not tried.
macro_rules! planted {
    (
        $(#[$attribute:meta])*
        enum $name:ident {
            bugs { $($bug:ident),* $(,)? }
            oddities { $($oddity:ident),* $(,)? }
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $($bug,)*
            $($oddity,)*
        }

        /// The bugs, which a case has to catch.
        pub(crate) const BUGS: &[$name] = &[$($name::$bug),*];

        /// The oddities, which no case may object to.
        pub(crate) const ODDITIES: &[$name] = &[$($name::$oddity),*];
    };
}

mod backing;
mod compressors;
mod executors;
mod pools;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use zpool_conformance::backing::BACKING_CASES;
use zpool_conformance::compressor::COMPRESSOR_CASES;
use zpool_conformance::executor::EXECUTOR_CASES;
use zpool_conformance::pool::POOL_CASES;
use zpool_core::internal::panic_message;
use zpool_testing::heap::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The parts, by suite. Each is called once, with panics silenced.
const PARTS: &[fn() -> Found] =
    &[pools::found, compressors::found, executors::found, backing::found];

/// The findings of a suite.
struct Found {
    /// The kind of back end, such as `pools`.
    what: &'static str,
    /// Each back end with a bug, and the first case that failed for it.
    bugs: Vec<Tried>,
    /// Each back end that is odd but correct. No case may fail for it.
    oddities: Vec<Tried>,
}

/// A back end's name, and the first case that failed for it.
type Tried = (String, Option<Failed>);

/// A case that failed.
#[derive(Debug)]
struct Failed {
    case: &'static str,
    /// The message of its panic.
    #[allow(dead_code, reason = "read where an odd back end fails, by `Debug`")]
    why: String,
}

impl Found {
    fn caught(&self) -> usize {
        self.bugs.iter().filter(|(_, case)| case.is_some()).count()
    }
}

/// Runs `first_failing` on each of `all`, with as many threads as there are processors.
fn try_each<B: Debug + Copy + Sync>(
    all: &[B],
    first_failing: impl Fn(B) -> Option<Failed> + Sync,
) -> Vec<Tried> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| {
            // Relaxed: only uniqueness matters.
            let nth = next.fetch_add(1, Ordering::Relaxed);
            all.get(nth).map(|&one| (nth, one))
        });
        mine.map(|(nth, one)| (nth, (format!("{one:?}"), first_failing(one)))).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut tried: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("cases are caught")).collect()
    });
    tried.sort_by_key(|&(nth, _)| nth);
    tried.into_iter().map(|(_, tried)| tried).collect()
}

/// Runs the case called `name`, and returns whether it failed. A case fails by panicking.
fn failure(name: &'static str, case: impl FnOnce()) -> Option<Failed> {
    let panic = catch_unwind(AssertUnwindSafe(case)).err()?;
    Some(Failed { case: name, why: panic_message(&*panic) })
}

/// All in one test, because it silences the panics of the whole process.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn planted_bugs_are_caught() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<Found> = PARTS.iter().map(|part| part()).collect();
    std::panic::set_hook(hook);

    for part in &found {
        for (bug, case) in &part.bugs {
            println!(
                "{:<12} {bug:<40} {}",
                part.what,
                case.as_ref().map_or("MISSED", |failed| failed.case)
            );
        }
    }
    for part in &found {
        println!("planted bugs in {}: caught {} of {}", part.what, part.caught(), part.bugs.len());
    }
    let caught: usize = found.iter().map(Found::caught).sum();
    let all: usize = found.iter().map(|part| part.bugs.len()).sum();
    println!("planted bugs: caught {caught} of {all}");
    for part in &found {
        // The back end `Nothing` has no bug and no oddity. It shows that bugs are caught for what
        // they are.
        let odd: Vec<_> = part
            .oddities
            .iter()
            .map(|(name, _)| &**name)
            .filter(|name| *name != "Nothing")
            .collect();
        println!("odd but right {}: {} ({})", part.what, odd.len(), odd.join(", "));
    }
    assert_eq!(caught, all, "bugs that no case caught: see the table above");
    for (oddity, case) in found.iter().flat_map(|part| &part.oddities) {
        assert!(case.is_none(), "{oddity} is odd but right: {case:?}");
    }
}

/// A second test of the same name would hide the first.
#[test]
fn case_names_differ() {
    let suites = [
        ("pools", POOL_CASES.iter().map(|case| case.name).collect::<Vec<_>>()),
        ("compressors", COMPRESSOR_CASES.iter().map(|case| case.name).collect()),
        ("backing stores", BACKING_CASES.iter().map(|case| case.name).collect()),
        ("executors", EXECUTOR_CASES.iter().map(|case| case.name).collect()),
    ];
    for (what, mut names) in suites {
        println!("cases of the suite for {what}: {}", names.len());
        names.sort_unstable();
        assert!(
            !names.is_empty() && names.windows(2).all(|pair| pair[0] != pair[1]),
            "{what}: {names:?}"
        );
    }
}
