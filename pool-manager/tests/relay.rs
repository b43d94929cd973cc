//! Queues that end at awkward moments, and relays to executors that misbehave: every wait ends, and
//! the counts are right.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use zpool_core::exec::{DrainExecutor, Executor, Job};
use zpool_manager::WorkQueue;
use zpool_testing::executors::{ScriptedExecutor, refuse};

fn counting(ran: &Arc<AtomicUsize>) -> Job {
    let ran = ran.clone();
    Job::new("count", move || {
        ran.fetch_add(1, Ordering::SeqCst);
    })
}

/// The reaction of an executor to a job.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reaction {
    Runs,
    Refuses,
    Drops,
    Panics,
    /// Keeps the job, and then panics.
    KeepsAndPanics,
}

/// A scripted reaction, and the jobs that the executor kept.
#[derive(Debug)]
struct Scripted {
    reaction: Mutex<Reaction>,
    kept: Mutex<Vec<Job>>,
}

fn scripted(reaction: Reaction) -> (Arc<ScriptedExecutor>, Arc<Scripted>) {
    let script = Arc::new(Scripted { reaction: Mutex::new(reaction), kept: Mutex::default() });
    let shared = script.clone();
    let executor = ScriptedExecutor::new(move |job| {
        let reaction = *shared.reaction.lock();
        match reaction {
            Reaction::Runs => job.run().unwrap(),
            Reaction::Refuses => return refuse(job),
            Reaction::Drops => drop(job),
            Reaction::Panics => panic!("on purpose"),
            Reaction::KeepsAndPanics => {
                shared.kept.lock().push(job);
                panic!("on purpose, with the job kept");
            }
        }
        Ok(())
    });
    (Arc::new(executor), script)
}

/// A relay survives an executor that panics, drops jobs or refuses them.
#[test]
fn relay_survives_panics_drops_and_refusals() {
    let ((scripted, script), ran) = (scripted(Reaction::Runs), Arc::new(AtomicUsize::new(0)));
    let relay = WorkQueue::relay("scripted", scripted.clone()).unwrap();
    for (reaction, runs) in
        [(Reaction::Panics, 0), (Reaction::Drops, 0), (Reaction::Refuses, 1), (Reaction::Runs, 1)]
    {
        *script.reaction.lock() = reaction;
        let (before, stats) = (ran.load(Ordering::SeqCst), relay.stats());
        relay.submit(counting(&ran)).unwrap();
        // The relay's thread has to do it: a flush runs jobs that an executor is slow to begin, and
        // a panic that prints its backtrace is slow.
        while relay.stats().depth > 0 {
            std::thread::yield_now();
        }
        relay.flush().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst) - before, runs, "{reaction:?}");
        let now = relay.stats();
        assert_eq!((now.depth, now.jobs_run - stats.jobs_run), (0, runs as u64), "{reaction:?}");
        assert_eq!(now.jobs_dropped - stats.jobs_dropped, 1 - runs as u64, "{reaction:?}");
    }
    relay.shutdown().unwrap();
}

/// A flush waits for a job that an executor kept although its `submit` panicked.
#[test]
fn job_kept_by_panicking_submit_is_waited_for() {
    let ((scripted, script), ran) =
        (scripted(Reaction::KeepsAndPanics), Arc::new(AtomicUsize::new(0)));
    let relay = Arc::new(WorkQueue::relay("scripted", scripted.clone()).unwrap());
    relay.submit(counting(&ran)).unwrap();
    let waiting = std::thread::spawn({
        let (relay, ran) = (relay.clone(), ran.clone());
        move || {
            relay.flush().unwrap();
            ran.load(Ordering::SeqCst)
        }
    });
    let job = loop {
        let job = script.kept.lock().pop();
        match job {
            Some(job) => break job,
            None => std::thread::yield_now(),
        }
    };
    job.run().unwrap();
    assert_eq!(waiting.join().unwrap(), 1, "the flush returned after it had run");
    assert_eq!(relay.stats().depth, 0);
}

/// A relay dropped with pending jobs ends, whatever the executor does.
#[test]
fn dropped_relay_ends_with_any_executor() {
    for reaction in [Reaction::Panics, Reaction::Drops, Reaction::Refuses] {
        let ((scripted, _), ran) = (scripted(reaction), Arc::new(AtomicUsize::new(0)));
        let relay = WorkQueue::relay("scripted", scripted.clone()).unwrap();
        let held = Arc::new(());
        for _ in 0..10 {
            let (ran, held) = (ran.clone(), held.clone());
            relay
                .submit(Job::new("count", move || {
                    ran.fetch_add(1, Ordering::SeqCst);
                    drop(held);
                }))
                .unwrap();
        }
        drop(relay);
        assert_eq!(Arc::strong_count(&held), 1, "no job is left, run or not");
        // While an executor is slow to panic, the drop runs pending jobs.
        let ran = ran.load(Ordering::SeqCst);
        assert!(
            if reaction == Reaction::Refuses { ran == 10 } else { ran <= 10 },
            "{reaction:?}: {ran} ran"
        );
        // The relay's thread owns the executor until it ends, which is after the drop if it is in a
        // slow `submit`. If it never ends, this test hangs.
        while Arc::strong_count(&scripted) > 1 {
            std::thread::yield_now();
        }
    }
}

/// A relay dropped inside a foreign job ends its thread.
#[test]
fn relay_dropped_in_foreign_job_ends_thread() {
    let foreign = Arc::new(WorkQueue::new("foreign").unwrap());
    let relay = WorkQueue::relay("dropped", foreign.clone() as Arc<dyn Executor>).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    relay.submit(counting(&ran)).unwrap();
    relay.flush().unwrap();
    relay.submit_later(Duration::from_secs(3600), counting(&ran)).unwrap();
    foreign.submit(Job::new("drop the relay", move || drop(relay))).unwrap();
    foreign.flush().unwrap();
    // The relay's thread owns its executor until it ends. If it keeps sleeping, this test hangs.
    while Arc::strong_count(&foreign) > 1 {
        std::thread::yield_now();
    }
    foreign.flush().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 2, "the delayed job was not lost");
}

/// A flush ends when `shutdown_now` takes the jobs that it waits for.
#[test]
fn flush_ends_when_shutdown_now_takes_its_jobs() {
    for round in 0..300 {
        let (queue, given_back) =
            (Arc::new(WorkQueue::new("ending").unwrap()), Arc::new(AtomicUsize::new(0)));
        let ((open, wait), (begun, begins)) = (mpsc::channel::<()>(), mpsc::channel());
        queue
            .submit(Job::new("gate", move || {
                begun.send(()).unwrap();
                let _ = wait.recv();
            }))
            .unwrap();
        begins.recv().unwrap();
        queue.submit(Job::new("mine", || ())).unwrap();
        std::thread::scope(|scope| {
            let flushing = scope.spawn(|| queue.flush().unwrap());
            let ending = scope.spawn(|| {
                // Some rounds with the flush first, some with it second.
                (0..round % 8).for_each(|_| std::thread::yield_now());
                let jobs = queue.shutdown_now().unwrap();
                assert!(jobs.iter().all(|job| job.label() == "mine"), "{jobs:?}");
                given_back.fetch_add(jobs.len(), Ordering::SeqCst);
                // Unrun: no thread may wait for them any more.
                drop(jobs);
            });
            while queue.submit(Job::new("mine", || ())).is_ok() {
                std::thread::yield_now();
            }
            drop(open);
            flushing.join().unwrap();
            ending.join().unwrap();
        });
        assert!(given_back.load(Ordering::SeqCst) >= 1);
        assert_eq!(queue.stats().depth, 0);
    }
}

/// A flush waits for all earlier jobs, and is not counted as one.
#[test]
fn flush_waits_for_earlier_jobs_uncounted() {
    let (queue, ran) = (WorkQueue::new("flushed").unwrap(), Arc::new(AtomicUsize::new(0)));
    for n in 1..=200 {
        queue.submit(counting(&ran)).unwrap();
        queue.flush().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), n);
    }
    assert_eq!((queue.stats().jobs_run, queue.stats().depth), (200, 0));
}

/// A delay beyond the range of the clock never ends, and delays no other job.
#[test]
fn delay_beyond_clock_never_ends() {
    let (queue, ran) = (Arc::new(WorkQueue::new("never").unwrap()), Arc::new(AtomicUsize::new(0)));
    queue.submit_later(Duration::MAX, counting(&ran)).unwrap();
    let periodic =
        queue.every(Duration::MAX, "never", || unreachable!("its time never comes")).unwrap();
    assert_eq!(queue.stats().depth, 2, "pending both");
    queue.submit_later(Duration::from_millis(1), counting(&ran)).unwrap();
    while ran.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    queue.flush().unwrap();
    assert_eq!((ran.load(Ordering::SeqCst), queue.stats().depth), (1, 2));
    drop(periodic);
    assert_eq!(queue.shutdown_now().unwrap().len(), 2);
    assert_eq!((ran.load(Ordering::SeqCst), queue.stats().depth), (1, 0));
}
