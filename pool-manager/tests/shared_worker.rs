//! The worker shared by all managers of a process that have no executor.
#![cfg(target_os = "linux")]

mod common;

use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use common::*;
use zpool_core::exec::{DrainExecutor, Job};
use zpool_manager::{PoolManager, WorkQueue};

/// One test at a time: they count the threads of the process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Returns the states of the threads called `name`.
fn threads(name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| {
            // A thread that ends meanwhile has no file any more.
            let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let field = |key| status.lines().find_map(|line: &str| line.strip_prefix(key));
            (field("Name:")?.trim() == name)
                .then(|| field("State:").unwrap_or("").trim().to_owned())
        })
        .collect()
}

/// Waits until `done`. The clock is a watchdog only.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

/// A hundred managers share one thread, which sleeps without work and ends after the last of them.
#[test]
fn hundred_managers_have_one_thread_that_ends() {
    let _alone = alone();
    until("the thread of the test before does not end", || threads("zpool-work").is_empty());
    let script = Script::new();
    let managers: Vec<_> =
        (0..100).map(|_| builder(&script).build(&spec("a+x")).unwrap()).collect();
    for manager in &managers {
        manager.switch(&spec("b+y")).unwrap();
    }
    managers.iter().for_each(|manager| manager.flush().unwrap());
    // A thread has its name a moment after it has started.
    until("there is no thread", || threads("zpool-work").len() == 1);
    assert_eq!(script.alive(), 100);
    // Asleep, so only a wake-up ends it.
    until("it does not sleep", || threads("zpool-work").iter().all(|state| state.starts_with('S')));
    drop(managers);
    assert_eq!(script.alive(), 0, "each drop completed its own jobs");
    until("the thread does not end", || threads("zpool-work").is_empty());
    let again = builder(&script).build(&spec("a+x")).unwrap();
    until("there is no thread", || threads("zpool-work").len() == 1);
    drop(again);
}

fn blocked(script: &Script) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((begun, begins), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    let wait = Mutex::new(wait);
    script.on_destroy(move || {
        let _ = begun.send(());
        let _ = wait.lock().unwrap().recv();
    });
    (begins, go)
}

/// While one manager's destructor blocks the worker, another manager can switch, flush and be
/// dropped. Its drop neither waits for other managers' jobs nor ends them.
#[test]
fn manager_waits_for_its_own_jobs_only() {
    let _alone = alone();
    let (script, other) = (Script::new(), Script::new());
    let slow = builder(&script).build(&spec("a+x")).unwrap();
    let (begins, go) = blocked(&script);
    slow.switch(&spec("b+x")).unwrap();
    begins.recv().unwrap();
    let (done, wait) = mpsc::channel();
    std::thread::spawn({
        let other = other.clone();
        move || {
            let manager = builder(&other).build(&spec("a+x")).unwrap();
            for n in 0..40 {
                manager.switch(&spec(if n % 2 == 0 { "b+y" } else { "a+x" })).unwrap();
            }
            manager.flush().unwrap();
            manager.switch(&spec("b+y")).unwrap();
            drop(manager);
            done.send(()).unwrap();
        }
    });
    wait.recv_timeout(Duration::from_secs(60)).expect("it waits for another manager's job");
    assert_eq!((other.alive(), script.alive(), slow.stats().pools_destroyed), (0, 1, 0));
    drop(go);
    slow.flush().unwrap();
    script.calm();
    // The worker continues for the remaining managers.
    let (done, wait) = mpsc::channel();
    let name = || std::thread::current().name().map(str::to_owned);
    let job = Job::new("still there", move || done.send(name()).unwrap());
    slow.executor().submit(job).unwrap();
    assert_eq!(wait.recv().unwrap().as_deref(), Some("zpool-work"));
}

/// A manager that is dropped completes the jobs that its pools submitted, including delayed ones.
#[test]
fn dropped_manager_completes_its_pools_jobs() {
    let _alone = alone();
    let (script, other) = (Script::new(), Script::new());
    let (first, second) =
        (builder(&script).build(&spec("a+x")), builder(&other).build(&spec("a+x")));
    let (first, second) = (first.unwrap(), second.unwrap());
    let (done, ran) = mpsc::channel();
    let hour = Duration::from_secs(3600);
    for (manager, name) in [(&first, "first"), (&second, "second")] {
        for delay in [Duration::ZERO, hour] {
            let done = done.clone();
            let job = Job::new("mark", move || done.send((name, delay)).unwrap());
            manager.executor().submit_later(delay, job).unwrap();
        }
    }
    drop(first);
    let mut seen: Vec<_> = ran.try_iter().collect();
    assert!(
        seen.contains(&("first", Duration::ZERO)) && seen.contains(&("first", hour)),
        "{seen:?}"
    );
    assert!(!seen.contains(&("second", hour)), "another manager's job keeps its time");
    drop(second);
    seen.extend(ran.try_iter());
    assert_eq!(seen.len(), 4);
}

/// Managers with one queue share its thread. They leave their pools to it, and only its owner waits
/// for it.
#[test]
fn managers_share_a_queue_that_they_were_given() {
    let _alone = alone();
    let (script, queue) = (Script::new(), Arc::new(WorkQueue::new("tenants").unwrap()));
    let managers: Vec<PoolManager> = (0..50)
        .map(|_| builder(&script).executor(queue.clone()).build(&spec("a+x")).unwrap())
        .collect();
    for manager in &managers {
        manager.switch(&spec("b+y")).unwrap();
    }
    until("there is no thread", || threads("tenants").len() == 1);
    drop(managers);
    queue.flush().unwrap();
    assert_eq!(script.alive(), 0);
    assert_eq!(Arc::strong_count(&queue), 1, "nothing that is left has the queue");
}
