//! The work queue: every job runs once, in order, inside a catch, and no job is lost at the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use zpool_core::NoBlock;
use zpool_core::exec::{
    DrainError, DrainExecutor, Executor, ExecutorCapabilities, Job, RefusedReason,
};
use zpool_manager::WorkQueue;
use zpool_testing::executors::SpawningExecutor;

fn queue() -> Arc<WorkQueue> {
    Arc::new(WorkQueue::new("test queue").unwrap())
}

/// Makes a job that counts its run.
fn counting(label: &'static str, ran: &Arc<AtomicUsize>) -> Job {
    let ran = ran.clone();
    Job::new(label, move || {
        ran.fetch_add(1, Ordering::SeqCst);
    })
}

/// Makes a job that holds the worker until the sender is used or dropped, and a receiver that gets
/// a message when it has begun.
fn gate(queue: &WorkQueue) -> (mpsc::Sender<()>, mpsc::Receiver<()>) {
    let ((open, wait), (begun, begins)) = (mpsc::channel(), mpsc::channel());
    let job = Job::new("gate", move || {
        begun.send(()).unwrap();
        let _ = wait.recv();
    });
    queue.submit(job).unwrap();
    (open, begins)
}

/// Jobs run once, in order, on the named thread.
#[test]
fn jobs_run_once_in_order_on_named_thread() {
    let (queue, seen) = (queue(), Arc::new(Mutex::new(Vec::new())));
    for i in 0..1000 {
        let seen = seen.clone();
        let job = Job::new("nth", move || {
            assert_eq!(std::thread::current().name(), Some("test queue"));
            seen.lock().push(i);
        });
        let _section = NoBlock::enter();
        queue.submit(job).unwrap();
    }
    queue.flush().unwrap();
    assert_eq!(*seen.lock(), (0..1000).collect::<Vec<_>>());
    queue.shutdown().unwrap();
    assert_eq!((queue.stats().depth, queue.stats().jobs_panicked), (0, 0));
}

/// The panic of a job is caught and reported, and the next job runs.
#[test]
fn panicking_job_is_reported_and_next_one_runs() {
    let (queue, ran) = (queue(), Arc::new(AtomicUsize::new(0)));
    queue.submit(Job::new("bad", || panic!("job gave up"))).unwrap();
    queue.submit(counting("good", &ran)).unwrap();
    queue.flush().unwrap();
    let stats = queue.stats();
    assert_eq!((stats.jobs_panicked, ran.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(stats.last_panic.unwrap().to_string(), "job `bad` panicked: job gave up");
}

/// A shutdown completes pending jobs, and later ones are refused.
#[test]
fn shutdown_completes_jobs_then_refuses() {
    let (queue, ran) = (queue(), Arc::new(AtomicUsize::new(0)));
    let (open, begins) = gate(&queue);
    begins.recv().unwrap();
    for _ in 0..10 {
        queue.submit(counting("pending", &ran)).unwrap();
    }
    let hour = Duration::from_secs(3600);
    queue.submit_later(hour, counting("timed", &ran)).unwrap();
    let ending = std::thread::spawn({
        let queue = queue.clone();
        move || queue.shutdown().unwrap()
    });
    drop(open);
    ending.join().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 11, "the delayed one, too, without its delay");
    assert_eq!(queue.submit(Job::new("late", || {})).unwrap_err().reason, RefusedReason::ShutDown);
    assert!(queue.submit_later(hour, Job::new("late", || {})).is_err());
    queue.flush().unwrap();
    queue.shutdown().unwrap();
}

/// `shutdown_now` returns the pending jobs in order.
#[test]
fn shutdown_now_returns_pending_jobs_in_order() {
    let queue = queue();
    let (open, begins) = gate(&queue);
    begins.recv().unwrap();
    for label in ["a", "b"] {
        queue.submit(Job::new(label, || unreachable!("it is given back"))).unwrap();
    }
    let ending = std::thread::spawn({
        let queue = queue.clone();
        move || queue.shutdown_now().unwrap()
    });
    while queue.submit(Job::new("c", || unreachable!("it is given back"))).is_ok() {
        std::thread::yield_now();
    }
    drop(open);
    let labels: Vec<_> = ending.join().unwrap().iter().map(Job::label).collect();
    assert_eq!(labels[..2], ["a", "b"]);
    assert!(labels[2..].iter().all(|&label| label == "c"));
    assert_eq!(queue.stats().depth, 0);
}

/// Waiting inside the queue's own job is an error, and dropping the queue there does not deadlock.
#[test]
fn wait_inside_own_job_is_error_not_deadlock() {
    let queue = queue();
    let (sender, outcome) = mpsc::channel();
    let inner = queue.clone();
    let job = Job::new("reenter", move || {
        let now = inner.shutdown_now().map(drop);
        sender.send((inner.flush(), inner.shutdown(), now)).unwrap();
        // The last owner, inside the queue's own job.
        drop(inner);
    });
    let (open, begins) = gate(&queue);
    begins.recv().unwrap();
    queue.submit(job).unwrap();
    let after = Arc::new(AtomicUsize::new(0));
    queue.submit(counting("after", &after)).unwrap();
    drop(queue);
    drop(open);
    assert_eq!(outcome.recv().unwrap(), (Err(DrainError), Err(DrainError), Err(DrainError)));
    while after.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
}

/// Delayed jobs run in the order of their times, and periodic work runs until it is dropped.
#[test]
fn delayed_and_periodic_jobs_run_on_time() {
    let queue = queue();
    let (sender, order) = mpsc::channel();
    for (label, millis) in [("late", 30), ("early", 5)] {
        let sender = sender.clone();
        let job = Job::new(label, move || sender.send(label).unwrap());
        queue.submit_later(Duration::from_millis(millis), job).unwrap();
    }
    assert_eq!([order.recv().unwrap(), order.recv().unwrap()], ["early", "late"]);
    let (sender, ticks) = mpsc::channel();
    let periodic = queue
        .every(Duration::from_millis(1), "tick", move || {
            let _ = sender.send(());
        })
        .unwrap();
    for _ in 0..3 {
        ticks.recv().unwrap();
    }
    drop(periodic);
    // Its closure is dropped with the last run, and the sender with it.
    while ticks.recv().is_ok() {}
}

/// Jobs that many threads and other jobs submit all run.
#[test]
fn concurrent_and_nested_submits_all_run() {
    let (queue, ran) = (queue(), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let (inner, ran) = (queue.clone(), ran.clone());
                    let outer = Job::new("outer", move || {
                        let job = counting("inner", &ran);
                        if let Err(refused) = inner.submit(job) {
                            refused.job.run().unwrap();
                        }
                    });
                    queue.submit(outer).unwrap();
                }
            });
        }
    });
    queue.flush().unwrap();
    queue.flush().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 1500);
}

/// A relay makes a cautious executor legal inside a no-block section.
#[test]
fn relay_submit_is_legal_in_no_block() {
    let (spawning, ran) = (Arc::new(SpawningExecutor::default()), Arc::new(AtomicUsize::new(0)));
    let relay = WorkQueue::relay("relay", spawning.clone()).unwrap();
    assert_eq!(spawning.capabilities(), ExecutorCapabilities::CAUTIOUS);
    assert!(relay.capabilities().submit_in_no_block && !relay.capabilities().ordered);
    for _ in 0..20 {
        let _section = NoBlock::enter();
        relay.submit(counting("relayed", &ran)).unwrap();
    }
    relay.flush().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 20, "flushed: they have run, not only been passed on");
    let (relay, outcome) = (Arc::new(relay), Arc::new(Mutex::new(None)));
    let (inner, seen) = (relay.clone(), outcome.clone());
    relay
        .submit(Job::new("reenter", move || *seen.lock() = Some((inner.flush(), inner.shutdown()))))
        .unwrap();
    relay.shutdown().unwrap();
    assert_eq!(outcome.lock().take(), Some((Err(DrainError), Err(DrainError))));
    spawning.join();
}
