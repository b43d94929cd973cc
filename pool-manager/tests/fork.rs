//! Forked children, which do not have the library's threads, and threads that were ended from
//! outside: no call waits for such a thread. And the library's threads take no signals.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "fork, signals, and the end of a thread have no safe interface")]

mod common;

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use common::*;
use zpool_core::exec::{DrainExecutor, Executor, Job, Manual, Refused};
use zpool_manager::{PoolManager, WorkQueue, pools_leaked};

/// One test at a time: threads of another test could hold a lock at the moment of a fork.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs `work` in a forked child and panics unless it ends well. The clock is a watchdog only.
fn in_child(work: impl FnOnce()) {
    // SAFETY: the child only makes calls that the tests are about, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    if child == 0 {
        let fine = catch_unwind(AssertUnwindSafe(work)).is_ok();
        // SAFETY: ends the process.
        unsafe { libc::_exit(if fine { 0 } else { 1 }) };
    }
    let (begun, mut status) = (Instant::now(), 0);
    loop {
        // SAFETY: `status` is ours.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            break;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            // SAFETY: a child of ours that was not waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(libc::WIFEXITED(status), "the child was ended by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child panicked");
}

/// Pools destroyed by a child's switches, flush and drop.
fn uses_and_drops(manager: PoolManager, script: &Script) {
    for n in 0..40 {
        manager.switch(&spec(if n % 2 == 0 { "b+y" } else { "a+x" })).unwrap();
    }
    assert!(manager.stats().pending_destroy <= 16);
    manager.flush().unwrap();
    assert_eq!((script.alive(), manager.stats().pools_alive), (1, 1));
    drop(manager);
    assert_eq!(script.alive(), 0);
}

/// In a forked child, a manager can switch, flush and be dropped, with any kind of executor, and
/// the parent's manager is not affected.
#[test]
fn child_switches_flushes_and_drops() {
    /// Behind a relay.
    #[derive(Debug)]
    struct Threads;
    impl Executor for Threads {
        fn submit(&self, job: Job) -> Result<(), Refused> {
            std::thread::spawn(move || job.run());
            Ok(())
        }
    }
    let _alone = alone();
    let executors: [Option<Arc<dyn Executor>>; 4] = [
        None,
        Some(Arc::new(Threads)),
        Some(Arc::new(WorkQueue::new("users").unwrap())),
        Some(Arc::new(Manual::new())),
    ];
    for executor in executors {
        let script = Script::new();
        let mut building = builder(&script);
        if let Some(executor) = executor {
            building = building.executor(executor);
        }
        let manager = building.build(&spec("a+x")).unwrap();
        manager.switch(&spec("b+y")).unwrap();
        manager.switch(&spec("a+x")).unwrap();
        manager.flush().unwrap();
        let mut manager = Some(manager);
        in_child(|| uses_and_drops(manager.take().unwrap(), &script));
        let manager = manager.unwrap();
        assert_eq!(script.alive(), 1);
        uses_and_drops(manager, &script);
    }
}

/// A pool that the parent was destroying is given up in the child, and delays no call.
#[test]
fn child_gives_up_what_the_parents_worker_had_begun() {
    let _alone = alone();
    let script = Script::new();
    let manager = builder(&script).max_pending(1).build(&spec("a+x")).unwrap();
    let ((begun, begins), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    let wait = Mutex::new(wait);
    let parent = std::process::id();
    script.on_destroy(move || {
        if std::process::id() == parent {
            let _ = begun.send(());
            let _ = wait.lock().unwrap().recv();
        }
    });
    manager.switch(&spec("b+x")).unwrap();
    // The worker is in the destructor, and holds no lock that the child needs.
    begins.recv().unwrap();
    let mut manager = Some(manager);
    // Opened first even if this fails, because the parent's manager waits for it.
    let go = Some(go);
    in_child(|| {
        let manager = manager.take().unwrap();
        // At the limit of pending pools.
        manager.switch(&spec("a+y")).unwrap();
        manager.switch(&spec("b+y")).unwrap();
        manager.flush().unwrap();
        let stats = manager.stats();
        // A half destroyed pool is on no list.
        assert_eq!((stats.pools_alive, stats.pools_destroyed, stats.pools_created), (1, 2, 4));
        assert_eq!((stats.pending_destroy, pools_leaked()), (0, 1));
        drop(manager);
    });
    drop(go);
    manager.unwrap().flush().unwrap();
    script.calm();
}

/// New managers and queues of a child have a worker of their own.
#[test]
fn child_starts_a_worker_of_its_own() {
    let _alone = alone();
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    in_child(|| {
        let script = Script::new();
        let mine = builder(&script).build(&spec("a+x")).unwrap();
        let (done, wait) = mpsc::channel();
        script.on_destroy(move || {
            done.send(std::thread::current().name().map(str::to_owned)).unwrap()
        });
        mine.switch(&spec("b+x")).unwrap();
        assert_eq!(wait.recv().unwrap().as_deref(), Some("zpool-work"));
        script.calm();
        drop(mine);
    });
    drop(manager);
    assert_eq!(script.alive(), 0);
}

fn counting(ran: &Arc<AtomicUsize>) -> Job {
    let ran = ran.clone();
    Job::new("count", move || {
        ran.fetch_add(1, Ordering::SeqCst);
    })
}

/// A queue in a child runs pending jobs when it is flushed, shut down or dropped.
#[test]
fn child_runs_the_jobs_of_a_queue() {
    let _alone = alone();
    for end in 0..4 {
        let (queue, ran) = (WorkQueue::new("forked").unwrap(), Arc::new(AtomicUsize::new(0)));
        queue.submit(counting(&ran)).unwrap();
        queue.flush().unwrap();
        let mut queue = Some(queue);
        in_child(|| {
            let queue = queue.take().unwrap();
            queue.submit(counting(&ran)).unwrap();
            queue.submit_later(Duration::from_secs(3600), counting(&ran)).unwrap();
            let expected = match end {
                0 => queue.flush().map(|()| 2).unwrap(),
                1 => queue.shutdown().map(|()| 3).unwrap(),
                2 => queue.shutdown_now().map(|jobs| 3 - jobs.len()).unwrap(),
                _ => {
                    drop(queue);
                    3
                }
            };
            assert_eq!(ran.load(Ordering::SeqCst), expected);
        });
        drop(queue);
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }
}

/// A manual executor in a child does not wait for a job that a thread of the parent runs.
#[test]
fn child_does_not_wait_for_a_manual_job_of_the_parent() {
    let _alone = alone();
    let (manual, ran) = (Arc::new(Manual::new()), Arc::new(AtomicUsize::new(0)));
    let ((begun, begins), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    let blocking = move || {
        begun.send(()).unwrap();
        let _ = wait.recv();
    };
    manual.submit(Job::new("gate", blocking)).unwrap();
    let running = std::thread::spawn({
        let manual = manual.clone();
        move || manual.run_one()
    });
    begins.recv().unwrap();
    manual.submit(counting(&ran)).unwrap();
    in_child(|| {
        manual.flush().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        manual.shutdown().unwrap();
    });
    drop(go);
    running.join().unwrap();
}

/// A worker that ended during a job is noticed. The job is lost, and the next ones run on the
/// waiting thread.
#[test]
fn killed_worker_is_not_waited_for() {
    let _alone = alone();
    let (queue, ran) = (Arc::new(WorkQueue::new("killed").unwrap()), Arc::new(AtomicUsize::new(0)));
    let end_thread = || {
        // SAFETY: ends the calling thread as a kill from outside would, without running its
        // destructors.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    };
    queue.submit(Job::new("fatal", end_thread)).unwrap();
    queue.submit(counting(&ran)).unwrap();
    let (done, wait) = mpsc::channel();
    let waiting = queue.clone();
    std::thread::spawn(move || done.send((waiting.flush(), waiting.shutdown())));
    let outcome =
        wait.recv_timeout(Duration::from_secs(60)).expect("it waits for a thread that is gone");
    assert_eq!((outcome, ran.load(Ordering::SeqCst)), ((Ok(()), Ok(())), 1));

    // The same for a manager whose worker ends in a destructor.
    let script = Script::new();
    let manager = builder(&script).max_pending(1).build(&spec("a+x")).unwrap();
    let worker = Mutex::new(None);
    let (begun, begins) = mpsc::channel();
    script.on_destroy(move || {
        if std::thread::current().name() == Some("zpool-work") {
            *worker.lock().unwrap() = Some(begun.send(()));
            end_thread();
        }
    });
    manager.switch(&spec("b+x")).unwrap();
    begins.recv().unwrap();
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        manager.switch(&spec("a+y")).unwrap();
        manager.switch(&spec("b+y")).unwrap();
        manager.flush().unwrap();
        let alive = manager.stats().pools_alive;
        drop(manager);
        done.send(alive).unwrap();
    });
    let alive =
        wait.recv_timeout(Duration::from_secs(60)).expect("it waits for a thread that is gone");
    assert_eq!(alive, 1, "what is half destroyed is on no list");
    script.calm();
    // The next manager has another worker.
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    manager.switch(&spec("b+x")).unwrap();
    drop(manager);
}

/// A program that blocks SIGTERM in all its threads and waits for it receives it: the library's
/// threads block it, too.
#[test]
fn signal_blocked_everywhere_waits_for_the_program() {
    let _alone = alone();
    in_child(|| {
        let mut set = MaybeUninit::uninit();
        // SAFETY: fills the set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGINT, libc::SIGALRM] {
            // SAFETY: the set was filled above.
            unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
        }
        // SAFETY: as above.
        let set = unsafe { set.assume_init() };
        let script = Script::new();
        // Here the caller's mask does not block what the worker must block.
        let manager = builder(&script).build(&spec("a+x")).unwrap();
        let queue = WorkQueue::new("users").unwrap();
        queue.flush().unwrap();
        // SAFETY: the set is filled, and the null pointer requests no result.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGINT, libc::SIGALRM] {
            // SAFETY: to this process, which blocks it.
            unsafe { libc::kill(std::process::id().cast_signed(), signal) };
            let mut got = 0;
            // SAFETY: both are ours.
            assert_eq!(unsafe { libc::sigwait(&raw const set, &raw mut got) }, 0);
            assert_eq!(got, signal);
        }
        drop((manager, queue));
    });
}
