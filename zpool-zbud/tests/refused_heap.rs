//! A heap that refuses the n-th call of an operation, for every n. The operation fails and changes
//! nothing, or it needs no memory. Each case runs in a child process, because a failure aborts.
#![cfg(all(unix, not(zpool_loom), not(miri)))]

use std::sync::Arc;

use zpool_core::exec::{Executor, ExecutorCapabilities, Job, Refused};
use zpool_core::internal::sync::Mutex;
use zpool_core::page::{MmapSource, PageSource};
use zpool_core::{
    CompactionBudget, Evict, Handle, HandleId, NotEvicted, PoolConfig, PoolError, ZPool,
    ZPoolDriver,
};
use zpool_testing::child::run_in_child;
use zpool_testing::heap::{CountingAllocator, Heap, Refusal, refusing_some};
use zpool_zbud::ZbudDriver;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Runs `work` with one request for memory refused, if any. Returns how many there were, and what
/// `work` returned.
fn refusing<R>(nth: Option<u64>, work: impl FnOnce() -> R) -> (u64, R) {
    let before = Heap::now();
    let (result, over) = refusing_some(nth.map_or(Refusal::Nothing, Refusal::Nth), work);
    let refused = u64::from(over && nth.is_some());
    (Heap::since(before).allocations + refused, result)
}

/// Keeps one job, without memory of its own.
#[derive(Debug, Default)]
struct Holds(Mutex<Option<Job>>);

impl Executor for Holds {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        assert!(self.0.lock().replace(job).is_none(), "one job at a time");
        Ok(())
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block()
    }
}

impl Holds {
    fn has_one(&self) -> bool {
        self.0.lock().is_some()
    }

    fn run(&self) {
        let job = self.0.lock().take();
        job.expect("a job was submitted").run().expect("it does not panic");
    }
}

/// An operation on a pool of a number of pages, each with one object.
#[derive(Debug, Clone, Copy)]
struct Case {
    operation: &'static str,
    pages: usize,
}

const PAGE: usize = 4096;

/// 64 pages are reserved together: at 64, 192 and 448 pages, the next insert makes a longer table.
const CASES: [Case; 13] = [
    Case { operation: "insert", pages: 0 },
    Case { operation: "insert", pages: 1 },
    Case { operation: "insert", pages: 64 },
    Case { operation: "insert", pages: 192 },
    Case { operation: "insert", pages: 448 },
    Case { operation: "insert", pages: 576 },
    Case { operation: "read", pages: 1 },
    Case { operation: "free", pages: 200 },
    Case { operation: "job", pages: 200 },
    Case { operation: "trim", pages: 200 },
    Case { operation: "reclaim", pages: 200 },
    Case { operation: "books", pages: 200 },
    Case { operation: "drop", pages: 200 },
];

/// An owner that frees every object it is asked to evict.
struct Agreeing<'a> {
    pool: &'a dyn ZPool,
    handles: &'a mut Vec<Handle>,
}

impl Evict for Agreeing<'_> {
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
        let at = self.handles.iter().position(|handle| handle.id() == id).ok_or(NotEvicted)?;
        self.pool.free(self.handles.swap_remove(at)).map_err(|_| NotEvicted)
    }
}

fn object(number: usize) -> [u8; PAGE] {
    [number as u8; PAGE]
}

/// Frees all objects but the first.
fn free_but_first(pool: &dyn ZPool, handles: &mut Vec<Handle>) {
    handles.split_off(1).into_iter().for_each(|handle| pool.free(handle).unwrap());
}

/// Runs the pool's job. Without memory, an insert makes the next one.
fn run_job(
    nth: Option<u64>,
    pool: &dyn ZPool,
    executor: &Holds,
    handles: &mut Vec<Handle>,
    source: &MmapSource,
) -> u64 {
    free_but_first(pool, handles);
    let (calls, ()) = refusing(nth, || executor.run());
    assert!(source.charged_frames() < 40);
    handles.extend((0..100).map(|page| pool.insert(&object(page + 1)).unwrap()));
    free_but_first(pool, handles);
    handles.push(pool.insert(&object(1)).unwrap());
    handles.extend((0..100).map(|page| pool.insert(&object(page + 2)).unwrap()));
    free_but_first(pool, handles);
    assert!(executor.has_one(), "there is a job again");
    calls
}

/// Runs a case with the call number `nth` refused. Returns how many calls there were.
fn run(case: Case, nth: Option<u64>) -> u64 {
    let source = Arc::new(MmapSource::new());
    let executor = Arc::new(Holds::default());
    let config = PoolConfig::new(source.clone(), PAGE).with_executor(executor.clone());
    let pool = ZbudDriver.create(&config).unwrap();
    let mut handles: Vec<_> =
        (0..case.pages).map(|page| pool.insert(&object(page)).unwrap()).collect();
    handles.reserve(2);
    let calls = match case.operation {
        "insert" => {
            let (calls, inserted) = refusing(nth, || pool.insert(&object(case.pages)));
            // A later insert allocates the job's node again.
            assert!(inserted.is_ok() || inserted == Err(PoolError::OutOfMemory), "{inserted:?}");
            let failed = u64::from(inserted.is_err());
            assert_eq!(
                (pool.stats().failed_inserts, pool.stats().objects),
                (failed, case.pages + 1 - failed as usize)
            );
            handles.push(inserted.unwrap_or_else(|_| pool.insert(&object(case.pages)).unwrap()));
            calls
        }
        "read" => refusing(nth, || drop(pool.read(&handles[0]).unwrap())).0,
        "free" => {
            let freed = handles.split_off(1);
            let (calls, ()) =
                refusing(nth, || freed.into_iter().for_each(|handle| pool.free(handle).unwrap()));
            assert_eq!((calls, executor.has_one()), (0, true), "free promises not to allocate");
            calls
        }
        "job" => run_job(nth, &*pool, &executor, &mut handles, &source),
        "trim" => {
            free_but_first(&*pool, &mut handles);
            let (calls, freed) = refusing(nth, || pool.trim());
            assert_eq!((calls, freed), (0, (case.pages - 1) * PAGE));
            calls
        }
        "reclaim" => {
            let mut owner = Agreeing { pool: &*pool, handles: &mut handles };
            let (calls, report) = refusing(nth, || pool.reclaim(100, &mut owner));
            assert_eq!((calls, report.unwrap().pages), (0, 100));
            return calls;
        }
        "books" => {
            refusing(nth, || {
                assert!(pool.stats().pool_bytes() == pool.bytes_held());
                pool.compact(CompactionBudget::UNLIMITED);
            })
            .0
        }
        "drop" => {
            let (calls, ()) = refusing(nth, || drop(pool));
            assert_eq!((calls, source.charged_frames(), source.retained_frames()), (0, 0, 0));
            return calls;
        }
        _ => unreachable!("{case:?}"),
    };
    pool.validate().unwrap();
    let kept = handles
        .iter()
        .enumerate()
        .all(|(number, handle)| *pool.read(handle).unwrap() == object(number));
    assert!(kept, "{case:?} with call {nth:?} refused");
    calls
}

/// Every heap call of an operation may be refused, and none aborts.
#[test]
fn refused_heap_call_is_an_error() {
    const CASE: &str = "ZPOOL_TEST_CASE";
    if let Ok(chosen) = std::env::var(CASE) {
        let (case, nth) = chosen.split_once(' ').unwrap();
        run(CASES[case.parse::<usize>().unwrap()], Some(nth.parse().unwrap()));
        return;
    }
    for (number, case) in CASES.into_iter().enumerate() {
        let calls = run(case, None);
        let grows = case.operation == "insert" && case.pages.is_multiple_of(64);
        let asks = grows || ["job", "books"].contains(&case.operation);
        assert_eq!(calls > 0, asks, "{case:?}: {calls} heap calls");
        for nth in 0..calls {
            let chosen = format!("{number} {nth}");
            run_in_child("refused_heap_call_is_an_error", CASE, &chosen);
        }
    }
}
