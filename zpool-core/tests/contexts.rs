//! The number of compression contexts: the bound, threads that wait for one, and freeing idle ones.
#![cfg(not(zpool_loom))]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, OnceLock, Weak, mpsc};
use std::time::Duration;

use zpool_core::NoBlock;
use zpool_core::compress::{Codec, CodecError, ContextBudget};
use zpool_core::spec::Component;
use zpool_testing::codecs::{CodecHooks, HookedCompressor};

const BLOCK: usize = 64;
const CONTEXT_BYTES: usize = 1000;
/// Bytes of one compression context with its scratch.
const CONTEXT_AND_SCRATCH: usize = CONTEXT_BYTES + BLOCK;

/// Longer than any wait here, and shorter than the test's own timeout.
const WATCHDOG: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct State {
    alive: AtomicUsize,
    most_alive: AtomicUsize,
    /// The codec that a context re-enters for a block that begins with 2. For 1 it panics.
    codec: OnceLock<Weak<Codec>>,
}

impl CodecHooks for State {
    const DECOMPRESSION_CONTEXTS: bool = true;
    const CONTEXT_BYTES: usize = CONTEXT_BYTES;

    fn on_make(&self) -> Result<(), CodecError> {
        self.most_alive.fetch_max(self.alive.fetch_add(1, SeqCst) + 1, SeqCst);
        Ok(())
    }

    fn on_compress(&self, block: &[u8]) -> Result<(), CodecError> {
        assert!(block[0] != 1, "on purpose");
        if block[0] == 2 {
            let codec = self.codec.get().and_then(Weak::upgrade).expect("the codec is alive");
            codec.compress(&[7; BLOCK], BLOCK, |bytes| assert!(bytes.is_some()))?;
        }
        Ok(())
    }

    fn on_drop_context(&self) {
        self.alive.fetch_sub(1, SeqCst);
    }
}

struct Subject {
    codec: Arc<Codec>,
    budget: Arc<ContextBudget>,
    state: Arc<State>,
}

/// Makes a codec whose compression contexts together may hold this many bytes.
fn bounded(max: Option<usize>) -> Subject {
    let (state, budget) = (Arc::new(State::default()), Arc::new(ContextBudget::new()));
    budget.set_max_compression_bytes(max);
    let copying = Arc::new(HookedCompressor::new(Component::named("copying"), state.clone()));
    let codec = Arc::new(Codec::new(copying, BLOCK).with_budget(budget.clone()));
    state.codec.set(Arc::downgrade(&codec)).expect("set once");
    Subject { codec, budget, state }
}

impl Subject {
    fn compress(&self, first: u8) -> Result<(), CodecError> {
        self.codec.compress(&[first; BLOCK], BLOCK, |bytes| assert!(bytes.is_some()))
    }

    fn alive(&self) -> usize {
        self.state.alive.load(SeqCst)
    }
}

/// Runs `work` on a thread of its own. A hang is a failure.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        done.send(()).expect("the test waits");
    });
    match ended.recv_timeout(WATCHDOG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a thread waits for ever"),
        _ => worker.join().unwrap(),
    }
}

/// Sixteen threads at once make no more contexts than the bound allows, at least one, and all
/// finish.
#[test]
fn many_threads_stay_within_bound() {
    for (max, most) in [(0, 1), (CONTEXT_AND_SCRATCH, 1), (3 * CONTEXT_AND_SCRATCH + 1, 3)] {
        ends(move || {
            let subject = bounded(Some(max));
            let meet = Barrier::new(16);
            std::thread::scope(|scope| {
                for thread in 0..16 {
                    let (subject, meet) = (&subject, &meet);
                    scope.spawn(move || {
                        meet.wait();
                        for _ in 0..200 {
                            subject.compress(7).unwrap();
                            if thread % 2 == 0 {
                                let mut session = subject.codec.session();
                                assert!(session.compress(&[8; BLOCK], BLOCK).unwrap().is_some());
                                session.yield_to_waiter();
                                assert!(session.compress(&[9; BLOCK], BLOCK).unwrap().is_some());
                            }
                        }
                    });
                }
            });
            assert!(subject.state.most_alive.load(SeqCst) <= most, "bound of {max}");
            assert_eq!(subject.budget.compression_bytes(), subject.alive() * CONTEXT_AND_SCRATCH);
            assert_eq!(subject.budget.bytes(), subject.alive() * CONTEXT_AND_SCRATCH);
        });
    }
}

/// Without a bound, each thread has its own context.
#[test]
fn no_bound_makes_one_for_each_thread() {
    let subject = bounded(None);
    let meet = Barrier::new(5);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                subject
                    .codec
                    .compress(&[7; BLOCK], BLOCK, |_| {
                        meet.wait();
                    })
                    .unwrap()
            });
        }
    });
    assert_eq!(subject.state.most_alive.load(SeqCst), 5);
}

/// A waiting thread gets the context when its holder is done, however that ends.
#[test]
fn waiter_gets_context_when_holder_ends() {
    for end in ["returns", "panics", "codec panics", "session ends"] {
        ends(move || {
            let subject = bounded(Some(CONTEXT_AND_SCRATCH));
            let (holds, held) = mpsc::channel();
            std::thread::scope(|scope| {
                let subject = &subject;
                let holder = scope.spawn(move || {
                    let meet = |_: Option<&[u8]>| {
                        holds.send(()).unwrap();
                        // So that the other thread is probably waiting by then.
                        std::thread::sleep(Duration::from_millis(20));
                        assert!(end != "panics", "on purpose");
                    };
                    match end {
                        "session ends" => {
                            let mut session = subject.codec.session();
                            meet(session.compress(&[7; BLOCK], BLOCK).unwrap());
                        }
                        "codec panics" => {
                            holds.send(()).unwrap();
                            subject.compress(1).unwrap_err();
                        }
                        _ => subject.codec.compress(&[7; BLOCK], BLOCK, meet).unwrap(),
                    }
                });
                held.recv().unwrap();
                subject.compress(7).unwrap();
                assert_eq!(holder.join().is_err(), end == "panics");
            });
            // The codec may panic in the context that the other thread returned.
            assert!(subject.alive() <= 1 && subject.state.most_alive.load(SeqCst) == 1, "{end}");
        });
    }
}

/// A context that is never returned blocks other threads only for a while, and they make one more
/// together, not one each.
#[test]
fn leaked_context_does_not_block_for_ever() {
    ends(|| {
        let subject = bounded(Some(CONTEXT_AND_SCRATCH));
        let mut session = subject.codec.session();
        session.compress(&[7; BLOCK], BLOCK).unwrap();
        std::mem::forget(session);
        std::thread::scope(|scope| {
            (0..4).for_each(|_| {
                drop(scope.spawn(|| (0..50).for_each(|_| subject.compress(7).unwrap())))
            });
        });
        assert_eq!(subject.alive(), 2);
    });
}

/// A thread that uses a context does not wait for another one, which could be its own.
#[test]
fn nested_use_does_not_wait() {
    ends(|| {
        let subject = bounded(Some(CONTEXT_AND_SCRATCH));
        for _ in 0..3 {
            subject.compress(2).unwrap();
            subject.codec.compress(&[7; BLOCK], BLOCK, |_| subject.compress(7).unwrap()).unwrap();
            let mut session = subject.codec.session();
            session.compress(&[7; BLOCK], BLOCK).unwrap();
            subject.compress(7).unwrap();
        }
        assert_eq!(subject.alive(), 2, "one beyond the bound, used again");
    });
}

/// Inside a no-block section, a thread makes a context instead of waiting.
#[test]
fn no_block_section_does_not_wait() {
    ends(|| {
        let subject = bounded(Some(CONTEXT_AND_SCRATCH));
        subject
            .codec
            .compress(&[7; BLOCK], BLOCK, |_| {
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let _section = NoBlock::enter();
                        subject.compress(7).unwrap();
                    });
                });
            })
            .unwrap();
        assert_eq!(subject.state.most_alive.load(SeqCst), 2);
    });
}

/// Lowering the bound frees idle contexts at once, and the others when they are returned.
#[test]
fn lowered_bound_frees_surplus() {
    let subject = bounded(None);
    let use_at_once = |threads: usize, inside: &(dyn Fn() + Sync)| {
        let (meet, subject) = (&Barrier::new(threads), &subject);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let with = move |_: Option<&[u8]>| {
                    meet.wait();
                    inside();
                    meet.wait();
                };
                scope.spawn(move || subject.codec.compress(&[7; BLOCK], BLOCK, with).unwrap());
            }
        });
    };
    use_at_once(3, &|| ());
    assert_eq!(subject.alive(), 3);
    subject.budget.set_max_compression_bytes(Some(2 * CONTEXT_AND_SCRATCH));
    assert_eq!((subject.codec.free_surplus_contexts(), subject.alive()), (CONTEXT_AND_SCRATCH, 2));
    subject.budget.set_max_compression_bytes(None);
    use_at_once(3, &|| {
        subject.budget.set_max_compression_bytes(Some(CONTEXT_AND_SCRATCH / 2));
        subject.codec.free_surplus_contexts();
    });
    assert_eq!(subject.alive(), 1, "at least one stays");
    assert_eq!(subject.budget.bytes(), CONTEXT_AND_SCRATCH);
}

/// Idle contexts of both kinds are freed on request, except for one of each if requested.
#[test]
fn idle_contexts_are_freed() {
    let subject = bounded(None);
    let meet = Barrier::new(3);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                subject
                    .codec
                    .compress(&[7; BLOCK], BLOCK, |_| {
                        meet.wait();
                    })
                    .unwrap()
            });
        }
    });
    subject.codec.decompress(&[7; BLOCK], &mut [0; BLOCK]).unwrap();
    assert_eq!(subject.alive(), 4);
    assert_eq!(subject.codec.free_idle_contexts(true), 2 * CONTEXT_AND_SCRATCH);
    assert_eq!((subject.alive(), subject.codec.free_idle_contexts(true)), (2, 0));
    assert_eq!(subject.codec.free_idle_contexts(false), CONTEXT_AND_SCRATCH + CONTEXT_BYTES);
    assert_eq!(
        (subject.alive(), subject.budget.bytes(), subject.budget.compression_bytes()),
        (0, 0, 0)
    );
    // A context in use stays.
    let inside = |_: Option<&[u8]>| assert_eq!(subject.codec.free_idle_contexts(false), 0);
    subject.codec.compress(&[7; BLOCK], BLOCK, inside).unwrap();
    assert_eq!(subject.alive(), 1);
}

/// Dropping a codec takes its bytes off the account, including leaked ones.
#[test]
fn dropped_codec_leaves_account_empty() {
    let Subject { codec, budget, .. } = bounded(Some(10 * CONTEXT_AND_SCRATCH));
    let mut session = codec.session();
    session.compress(&[7; BLOCK], BLOCK).unwrap();
    std::mem::forget(session);
    codec.decompress(&[7; BLOCK], &mut [0; BLOCK]).unwrap();
    assert_eq!(budget.bytes(), CONTEXT_AND_SCRATCH + CONTEXT_BYTES);
    drop(codec);
    assert_eq!((budget.bytes(), budget.compression_bytes()), (0, 0));
}
