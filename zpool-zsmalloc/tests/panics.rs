//! A page source that panics, and threads that wait for the pool's own job: nothing is lost, and no
//! lock is held meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use zpool_core::exec::Manual;
use zpool_core::internal::sync::Mutex;
use zpool_core::page::{HeapSource, ObservedSource, PageSource, SourceCall};
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

/// Returns a source that panics at the call number `left` of those that may block. `uncharge` is
/// not among them: it never fails.
fn panicking(left: &Arc<AtomicUsize>) -> Arc<dyn PageSource> {
    let left = left.clone();
    Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), move |call| {
        let counted = !matches!(call, SourceCall::Uncharge(_));
        // Relaxed: one thread.
        if counted && left.fetch_sub(1, Ordering::Relaxed) == 0 {
            // Unlike `panic!` this does not call the hook, which would print it.
            resume_unwind(Box::new("the page source panics"));
        }
    }))
}

/// Runs `step`. Returns whether it panicked; then the pool is checked.
fn survives(pool: &dyn ZPool, source: &dyn PageSource, step: impl FnOnce()) -> bool {
    let panicked = catch_unwind(AssertUnwindSafe(step)).is_err();
    if panicked {
        pool.validate().unwrap();
        assert_eq!(
            pool.stats().resident_frames,
            source.charged_frames(),
            "charged, but not in use"
        );
    }
    panicked
}

/// A panic of the page source at any call loses no frame and no object.
#[test]
fn panic_at_any_source_call_loses_nothing() {
    for nth in 0.. {
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let source = panicking(&left);
        let pool = ZsmallocDriver.create(&PoolConfig::new(source.clone(), 65_536)).unwrap();
        let mut live: Vec<(usize, Handle)> = Vec::new();
        let mut panics = 0;
        left.store(nth, Ordering::Relaxed);
        for i in 0..300 {
            // Some are long enough that one call makes their frames resident.
            let len = if i % 50 == 49 { 30_000 } else { 300 + i * 37 % 2000 };
            let step = || live.push((i, pool.insert(&vec![i as u8; len]).unwrap()));
            panics += usize::from(survives(&*pool, &*source, step));
        }
        // The slot of an insert that panicked would still be among them.
        assert_eq!(pool.stats().objects, live.len());
        let (freed, kept): (Vec<_>, Vec<_>) = live.into_iter().partition(|(i, _)| i % 3 > 0);
        freed.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
        panics += usize::from(survives(&*pool, &*source, || {
            pool.compact(CompactionBudget::UNLIMITED);
        }));
        panics += usize::from(survives(&*pool, &*source, || {
            pool.trim();
        }));
        for (i, handle) in kept {
            assert!(pool.read(&handle).unwrap().iter().all(|&byte| byte == i as u8));
            pool.free(handle).unwrap();
        }
        panics += usize::from(survives(&*pool, &*source, || {
            pool.trim();
        }));
        pool.trim();
        pool.validate().unwrap();
        assert_eq!((source.charged_frames(), pool.stats().resident_frames), (0, 0), "call {nth}");
        left.store(usize::MAX, Ordering::Relaxed);
        drop(pool);
        if panics == 0 {
            assert!(nth > 100, "only {nth} calls of the source");
            return;
        }
    }
}

/// A job that panics in the page source is followed by another one.
#[test]
fn job_that_panics_is_followed_by_another() {
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let (source, executor) = (panicking(&left), Arc::new(Manual::new()));
    let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    let fill = || -> Vec<_> { (0..400).map(|_| pool.insert(&[1; 1400]).unwrap()).collect() };
    let handles = fill();
    left.store(0, Ordering::Relaxed);
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
    executor.run_all();
    assert!(executor.jobs_panicked() > 0);
    fill().into_iter().for_each(|handle| pool.free(handle).unwrap());
    executor.run_all();
    pool.validate().unwrap();
    assert!(source.charged_frames() <= 32, "{} frames of an empty pool", source.charged_frames());
    assert_eq!(source.charged_frames(), pool.stats().resident_frames);
}

/// A pool whose job is inside the page source, giving frames back, on a thread of its own, until
/// the test lets it continue.
struct Stuck {
    pool: Box<dyn ZPool>,
    source: Arc<dyn PageSource>,
    job: thread::JoinHandle<()>,
    go_on: Sender<()>,
    done: Arc<AtomicBool>,
}

fn stuck() -> Stuck {
    let ((inside, is_inside), (go_on, may_go)) = (channel(), channel());
    let waits: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(Some((inside, may_go)));
    let source: Arc<dyn PageSource> =
        Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), move |call| {
            if matches!(
                call,
                SourceCall::Release(_) | SourceCall::ReleaseAll(_) | SourceCall::Discard(_)
            ) && let Some((inside, may_go)) = waits.lock().take()
            {
                inside.send(()).unwrap();
                may_go.recv().unwrap();
            }
        }));
    let executor = Arc::new(Manual::new());
    let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    let handles: Vec<_> = (0..400).map(|_| pool.insert(&[1; 1400]).unwrap()).collect();
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
    let done = Arc::new(AtomicBool::new(false));
    let ended = done.clone();
    let job = thread::spawn(move || {
        executor.run_all();
        ended.store(true, Ordering::SeqCst);
    });
    is_inside.recv().unwrap();
    Stuck { pool, source, job, go_on, done }
}

/// Lets the job continue after the waiting thread has had many chances to go wrong.
fn release(go_on: &Sender<()>, must_wait: &AtomicBool) {
    for _ in 0..2000 {
        assert!(!must_wait.load(Ordering::SeqCst), "did not wait for the job");
        thread::yield_now();
    }
    go_on.send(()).unwrap();
}

/// The pool's drop waits for its job, and holds no lock meanwhile.
#[test]
fn drop_waits_for_job_without_lock() {
    let Stuck { pool, source, job, go_on, .. } = stuck();
    // No other call has to wait: no insert, free or statistics.
    let handle = pool.insert(&[2; 1400]).unwrap();
    pool.free(handle).unwrap();
    pool.validate().unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let is_dropped = dropped.clone();
    let dropper = thread::spawn(move || {
        drop(pool);
        is_dropped.store(true, Ordering::SeqCst);
    });
    release(&go_on, &dropped);
    dropper.join().unwrap();
    job.join().unwrap();
    assert_eq!(source.charged_frames(), 0);
}

/// Statistics are exact after a trim, although a job was running when it began.
#[test]
fn trim_during_job_leaves_exact_stats() {
    let Stuck { pool, source, job, go_on, done } = stuck();
    let trimmed = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pool.trim();
            trimmed.store(true, Ordering::SeqCst);
            let stats = pool.stats();
            assert_eq!((source.charged_frames(), stats.resident_frames), (0, 0));
            assert_eq!(stats.pool_bytes(), pool.bytes_held());
        });
        release(&go_on, &trimmed);
    });
    job.join().unwrap();
    assert!(done.load(Ordering::SeqCst));
}
