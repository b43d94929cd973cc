//! Refused heap calls: each one alone, and each one with all that follow. The result is an error or
//! less work, never an abort, and nothing is lost.
//!
//! An abort would end the test program, so each scenario runs in a child process: this program
//! again, with a variable.

use std::sync::Arc;

use zpool_core::exec::Manual;
use zpool_core::page::PageSource;
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, Handle, PoolConfig, PoolError, ReadGuard, ZPool, ZPoolDriver};
use zpool_testing::child::run_in_child;
use zpool_testing::heap::{CountingAllocator, Refusal, exempt, refusing_some};
use zpool_zsmalloc::ZsmallocDriver;

#[allow(unsafe_code, reason = "a page source has to be one")]
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/source.rs"]
mod source;
use source::Source;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SCENARIO: &str = "ZPOOL_REFUSED_SCENARIO";

/// A pool at the start of a scenario.
struct Rig {
    pool: Box<dyn ZPool>,
    source: Arc<Source>,
    executor: Arc<Manual>,
    live: Vec<(u8, usize, Handle)>,
}

impl Rig {
    /// `grown`: with a few thousand objects and gaps between them.
    fn new(grown: bool) -> Rig {
        let source = Arc::new(Source::new(4096, |work| exempt(work)));
        let executor = Arc::new(Manual::new());
        // Short chains: many zspages.
        let spec: Component = "zsmalloc(chain=2)".parse().expect("a spec");
        let config = PoolConfig::new(source.clone(), 4096).with_params(spec.params);
        let config = config.with_executor(executor.clone());
        let pool = ZsmallocDriver.create(&config).expect("a pool");
        let mut rig = Rig { pool, source, executor, live: Vec::with_capacity(10_000) };
        if grown {
            for i in 0..600 {
                let len = if i % 2 == 0 { 1400 } else { 1 + i * 37 % 1500 };
                let handle = rig.pool.insert(&[i as u8; 1500][..len]).expect("memory");
                // Every third run of ten is freed.
                match i / 10 % 3 {
                    0 => rig.pool.free(handle).expect("freed once"),
                    _ => rig.live.push((i as u8, len, handle)),
                }
            }
        }
        rig
    }

    /// Checks that the pool keeps its contract, and that all memory can be given back.
    fn end(self, what: &str) {
        self.pool.validate().unwrap_or_else(|violation| panic!("{what}: {violation}"));
        assert_eq!(self.pool.stats(), self.pool.survey(), "{what}");
        assert_eq!(self.pool.stats().objects, self.live.len(), "{what}");
        for (fill, len, handle) in self.live {
            assert_eq!(&*self.pool.read(&handle).unwrap(), &[fill; 4096][..len], "{what}");
            self.pool.free(handle).unwrap();
        }
        while self.executor.run_one() {}
        self.pool.trim();
        assert_eq!((self.source.charged_frames(), self.pool.stats().objects), (0, 0), "{what}");
        // The job exists again, or can be made.
        let handles: Vec<_> = (0..600).map(|_| self.pool.insert(&[1; 900]).unwrap()).collect();
        assert_eq!(self.pool.free_many(&mut handles.into_iter()), 0);
        assert!(self.executor.run_one(), "{what}: the pool has no job any more");
    }
}

type Scenario = (&'static str, fn(&mut Rig));

const SCENARIOS: [Scenario; 8] = [
    ("insert", |rig| {
        for i in 0..60 {
            let len = 1 + i * 101 % 4096;
            match rig.pool.insert(&[i as u8; 4096][..len]) {
                Ok(handle) => rig.live.push((i as u8, len, handle)),
                Err(error) => assert_eq!(error, PoolError::OutOfMemory),
            }
        }
    }),
    ("free", |rig| {
        while rig.live.len() > 40 {
            rig.pool.free(rig.live.swap_remove(20).2).unwrap();
        }
    }),
    ("free_many", |rig| {
        let from = rig.live.len() / 3;
        assert_eq!(rig.pool.free_many(&mut rig.live.drain(from..).map(|(_, _, handle)| handle)), 0);
    }),
    ("compact", |rig| {
        rig.pool.compact(CompactionBudget::UNLIMITED);
    }),
    ("trim", |rig| {
        while rig.live.len() > 10 {
            rig.pool.free(rig.live.pop().unwrap().2).unwrap();
        }
        rig.pool.trim();
    }),
    ("job", |rig| {
        while rig.live.len() > 100 {
            rig.pool.free(rig.live.swap_remove(7).2).unwrap();
        }
        while exempt(|| rig.executor.pending()) > 0 {
            // Counts the job's calls, not those of the executor.
            rig.executor.run_one();
        }
    }),
    ("read_by_many", |rig| {
        let Some((fill, len, handle)) = rig.live.first() else { return };
        let mut guards: Vec<ReadGuard<'_>> = exempt(|| Vec::with_capacity(500));
        for _ in 0..500 {
            match rig.pool.read(handle) {
                Ok(guard) => guards.push(guard),
                Err(error) => assert_eq!(error, PoolError::TooManyReaders),
            }
        }
        assert!(guards.len() >= 128 && guards.iter().all(|guard| **guard == [*fill; 4096][..*len]));
        exempt(|| drop(guards));
    }),
    ("drop", |rig| {
        rig.live.clear();
        let config = exempt(|| PoolConfig::new(rig.source.clone(), 4096));
        let fresh =
            exempt(|| ZsmallocDriver.create(&config.with_executor(rig.executor.clone())).unwrap());
        drop(std::mem::replace(&mut rig.pool, fresh));
        assert_eq!(rig.source.charged_frames(), 0);
    }),
];

/// Runs a scenario once for each of its heap calls, which is refused.
fn run(name: &str) {
    let (_, scenario) =
        SCENARIOS.into_iter().find(|(known, _)| *known == name).expect("a scenario");
    let mut refused_in_all = 0;
    for grown in [false, true] {
        for refusal in [Refusal::Nth, Refusal::From] {
            for n in 0.. {
                let mut rig = Rig::new(grown);
                let ((), refused) = refusing_some(refusal(n), || scenario(&mut rig));
                rig.end(&format!("{name}, grown {grown}, refused: {:?}", refusal(n)));
                if !refused {
                    break;
                }
                refused_in_all += 1;
            }
        }
    }
    let none = ["free", "free_many", "drop"];
    assert_eq!(refused_in_all == 0, none.contains(&name), "{name}: {refused_in_all} heap calls");
}

/// Every heap call of every method may be refused. `free`, `free_many` and the drop of a pool make
/// none.
#[test]
fn heap_refused_at_every_call_loses_nothing() {
    if let Ok(name) = std::env::var(SCENARIO) {
        return run(&name);
    }
    for (name, _) in SCENARIOS {
        run_in_child("heap_refused_at_every_call_loses_nothing", SCENARIO, name);
    }
}
