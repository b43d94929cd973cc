//! A heap that refuses the n-th call of an operation, for every n. The operation fails and changes
//! nothing, or it needs no memory. Each case runs in a child process, because a failure aborts.
#![cfg(all(unix, not(zpool_loom), not(miri)))]
#![allow(unsafe_code, reason = "an allocator that refuses memory has to be an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::sync::Arc;

use zpool_core::exec::{Executor, ExecutorProperties, Job, Refused};
use zpool_core::internal::sync::Mutex;
use zpool_core::page::{MmapSource, PageSource};
use zpool_core::{
    CompactionBudget, Evict, Handle, HandleId, NotEvicted, PoolConfig, PoolError, ZPool,
    ZPoolDriver,
};
use zpool_zbud::ZbudDriver;

std::thread_local! {
    /// Calls of this thread until one is refused. Below 0: none is.
    static FUSE: Cell<i64> = const { Cell::new(-1) };
    static CALLS: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, except for the chosen call.
struct Refusing;

#[global_allocator]
static REFUSING: Refusing = Refusing;

fn refused() -> bool {
    CALLS.set(CALLS.get() + 1);
    let left = FUSE.get();
    FUSE.set(left - i64::from(left >= 0));
    left == 0
}

// SAFETY: forwards to the system's allocator, or reports that there is no memory. Reallocation and
// zeroed memory are the trait's own, made of these two.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refused() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Runs `work` with call number `nth` refused. Returns how many there were, and what it returned.
fn refusing<R>(nth: i64, work: impl FnOnce() -> R) -> (i64, R) {
    CALLS.set(0);
    FUSE.set(nth);
    let result = work();
    FUSE.set(-1);
    (CALLS.get(), result)
}

/// Keeps one job, without memory of its own.
#[derive(Debug, Default)]
struct Holds(Mutex<Option<Job>>);

impl Executor for Holds {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        assert!(self.0.lock().replace(job).is_none(), "one job at a time");
        Ok(())
    }

    fn properties(&self) -> ExecutorProperties {
        ExecutorProperties::CAUTIOUS.with_submit_in_no_block()
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
    nth: i64,
    pool: &dyn ZPool,
    executor: &Holds,
    handles: &mut Vec<Handle>,
    source: &MmapSource,
) -> i64 {
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
fn run(case: Case, nth: i64) -> i64 {
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
            assert_eq!(
                (calls, executor.has_one()),
                (0, true),
                "free promises to ask for no memory"
            );
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
    assert!(kept, "{case:?} with call {nth} refused");
    calls
}

/// Every heap call of an operation may be refused, and none aborts.
#[test]
fn refused_heap_call_is_an_error() {
    const CASE: &str = "ZPOOL_TEST_CASE";
    if let Ok(chosen) = std::env::var(CASE) {
        let (case, nth) = chosen.split_once(' ').unwrap();
        run(CASES[case.parse::<usize>().unwrap()], nth.parse().unwrap());
        return;
    }
    for (number, case) in CASES.into_iter().enumerate() {
        let calls = run(case, -1);
        let grows = case.operation == "insert" && case.pages.is_multiple_of(64);
        let asks = grows || ["job", "books"].contains(&case.operation);
        assert_eq!(calls > 0, asks, "{case:?}: {calls} heap calls");
        for nth in 0..calls {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let arguments = ["--exact", "refused_heap_call_is_an_error", "--nocapture"];
            let output =
                child.env(CASE, format!("{number} {nth}")).args(arguments).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{case:?}, call {nth} of {calls}: {}\n{text}",
                output.status
            );
        }
    }
}
