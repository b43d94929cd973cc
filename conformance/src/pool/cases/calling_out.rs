//! Other threads use the pool while its page source works.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zpool_core::page::{ObservedSource, SourceCall};
use zpool_core::{CompactionBudget, CompactionReport, HandleId};

use super::reclaim::{EvictWith, Owner};
use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, fresh_source};
use crate::rng::SplitMix;

/// How long a call of the page source waits for another thread that uses the pool meanwhile. It
/// measures nothing. A pool that keeps N6 never comes near it, and one that does not would hang for
/// ever.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The number of objects that the prober inserts and frees. It does not do so at every call,
/// because a trim may go on while other threads empty pages.
const INSERTS: usize = 200;

/// The most calls of the page source by the work below, with a margin of ten times.
const MOST_CALLS: usize = 50_000;

/// A page source that, at each call, waits until the prober has used the pool.
struct WatchedSource {
    armed: AtomicBool,
    /// Whether the working thread is in a call of `compact`.
    compacting: AtomicBool,
    prober: OnceLock<ThreadId>,
    count: AtomicUsize,
    calls: Sender<Option<SourceCall>>,
    done: Mutex<Receiver<()>>,
}

impl WatchedSource {
    fn new() -> (Arc<WatchedSource>, Receiver<Option<SourceCall>>, Sender<()>) {
        let ((calls, called), (answer, done)) = (mpsc::channel(), mpsc::channel());
        let watched = WatchedSource {
            armed: AtomicBool::new(false),
            compacting: AtomicBool::new(false),
            prober: OnceLock::new(),
            count: AtomicUsize::new(0),
            calls,
            done: Mutex::new(done),
        };
        (Arc::new(watched), called, answer)
    }

    /// Observes a call of the page source.
    fn observe(&self, call: SourceCall) {
        let own = self.prober.get() == Some(&thread::current().id());
        // Relaxed: only the working thread sets it, before it works.
        if own || !self.armed.load(Ordering::Relaxed) {
            return;
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        assert!(count < MOST_CALLS, "{count} calls of the page source, and no end: now {call:?}");
        self.calls.send(Some(call)).expect("the prober listens while the source is armed");
        let answer = self.done.lock().recv_timeout(MAX_WAIT);
        // Unwinding releases the lock that is held, so that the prober can end.
        assert!(
            answer.is_ok(),
            "N6: another thread cannot use the pool during {call:?} of the page source"
        );
    }
}

/// Ends the prober, even if the pool fails.
struct EndOfCalls<'a>(&'a WatchedSource);

impl Drop for EndOfCalls<'_> {
    fn drop(&mut self) {
        self.0.armed.store(false, Ordering::Relaxed);
        let _ = self.0.calls.send(None);
    }
}

/// N6, R5, F5, A3, M4: the pool holds no lock while the page source works. Another thread reads,
/// frees, inserts and asks, and the source waits for it. During a compaction, a second one does
/// nothing.
pub fn no_lock_is_held_while_the_page_source_works(maker: &PoolMaker) {
    let (watched, called, answer) = WatchedSource::new();
    let observer = watched.clone();
    let source = ObservedSource::new(fresh_source(), move |call| observer.observe(call));
    let harness = PoolHarness::over(maker, Arc::new(source));
    let mut rng = SplitMix::new(0x0A11);
    let mut read: Vec<_> = (0..4).map(|fill| harness.put(fill, harness.len(&mut rng))).collect();
    let freed: Vec<_> =
        (0..scaled(100) as u64).map(|i| harness.put(1000 + i, harness.len(&mut rng))).collect();
    let calls = thread::scope(|scope| {
        let prober = scope.spawn(|| probe(&harness, &watched, called, answer, &read, freed));
        let end_of_calls = EndOfCalls(&watched);
        watched.armed.store(true, Ordering::Relaxed);
        work(&harness, &watched, &mut rng);
        drop(end_of_calls);
        prober.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(
        calls > 0 || harness.source.calls() == 0,
        "the page source was called, and the prober missed it"
    );
    harness.check_all(&read);
    harness.balance(&read);
    read.drain(..).for_each(|object| harness.free_checked(object));
    harness.assert_releases_all_frames();
}

/// Uses the pool at each call of its source, and frees an object while there are some. Returns the
/// number of calls.
fn probe(
    harness: &PoolHarness<'_>,
    watched: &WatchedSource,
    called: Receiver<Option<SourceCall>>,
    answer: Sender<()>,
    read: &[StoredObject],
    mut freed: Vec<StoredObject>,
) -> usize {
    watched.prober.set(thread::current().id()).expect("each source has one prober");
    let mut calls = 0;
    while let Ok(Some(_)) = called.recv() {
        if watched.compacting.load(Ordering::Relaxed) {
            let second = harness.pool.compact(CompactionBudget::UNLIMITED);
            assert_eq!(
                second,
                CompactionReport::default(),
                "M4: a second compaction at the same time"
            );
        }
        harness.check_all(read);
        freed.pop().into_iter().for_each(|object| harness.free_checked(object));
        if calls < INSERTS {
            harness.free_checked(harness.put(calls as u64, harness.max().min(100)));
        }
        assert!(
            harness.pool.stats().objects >= read.len() && harness.pool.bytes_held() > 0,
            "S1, A1"
        );
        if let Err(violation) = harness.pool.validate() {
            panic!("V1: found while the page source works: {violation}");
        }
        calls += 1;
        answer.send(()).expect("the watched source waits for the answer");
    }
    harness.free_all_checked(freed);
    calls
}

/// Does everything that makes a pool call its source.
fn work(harness: &PoolHarness<'_>, watched: &WatchedSource, rng: &mut SplitMix) {
    let mut live = Vec::new();
    for step in 0..scaled(120) as u64 {
        live.push(harness.put(step << 16, harness.len(rng)));
        if rng.percent(40) {
            harness.free_checked(live.swap_remove(rng.below(live.len())));
        }
        match step % 40 {
            19 => drop(harness.pool.trim()),
            39 => {
                // Relaxed, as where it is read: the channels between the two threads order it.
                watched.compacting.store(true, Ordering::Relaxed);
                harness.pool.compact(CompactionBudget::UNLIMITED);
                watched.compacting.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
    }
    let mut owner = Owner::of(harness, live);
    if harness.pool.capabilities().can_reclaim {
        let agree_if_ours = |owner: &mut Owner<'_>, id: HandleId| {
            if owner.objects.contains_key(&id) {
                owner.give_up(id);
            }
            Ok(())
        };
        let _ = harness.pool.reclaim(5, &mut EvictWith(&mut owner, agree_if_ours));
    }
    harness.free_all_checked(owner.left());
    harness.pool.trim();
}
