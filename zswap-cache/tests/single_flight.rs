//! Concurrent misses of one key: computed once, and no thread waits for ever.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{scope, yield_now};
use std::time::Duration;

use zpool_testing::random::TestRng;
use zswap_cache::{Cache, CacheError, LoadError, ManualTime};

fn cache() -> Cache<String> {
    Cache::builder().build().unwrap()
}

/// A loader that has begun, and continues when the test lets it.
struct Gate {
    begun: Sender<()>,
    go: Mutex<Receiver<()>>,
}

/// The other side of a [`Gate`].
struct Control {
    begun: Receiver<()>,
    go: Sender<()>,
}

fn gate() -> (Gate, Control) {
    let ((begun, has_begun), (let_go, go)) = (channel(), channel());
    (Gate { begun, go: Mutex::new(go) }, Control { begun: has_begun, go: let_go })
}

impl Gate {
    fn pass(&self) {
        self.begun.send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
    }

    /// Passes the gate, and then returns what the loader computes.
    fn pass_with(&self, value: &'static str) -> &'static str {
        self.pass();
        value
    }
}

/// Returns 4 KiB that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut rng = TestRng::new(seed);
    (0..512).flat_map(|_| rng.next().to_le_bytes()).collect()
}

/// Waits until this many misses were counted: their threads are in the flight, or about to be.
fn await_misses(cache: &Cache<String>, misses: u64) {
    while cache.stats().misses < misses {
        yield_now();
    }
}

/// Eight threads miss one key at once: one loader runs, and all get its value.
#[test]
fn concurrent_misses_load_once() {
    for round in 0..50 {
        let (cache, ran, start) = (cache(), AtomicUsize::new(0), Barrier::new(8));
        scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let value = cache.get_or_insert_with("key", || {
                        ran.fetch_add(1, Ordering::Relaxed);
                        format!("value {round}").repeat(40)
                    });
                    assert_eq!(value.unwrap(), format!("value {round}").repeat(40).into_bytes());
                });
            }
        });
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.loads_failed, stats.entries), (1, 0, 1));
    }
}

/// A thread that waits gets the value even if the cache cannot store it.
#[test]
fn waiters_get_value_that_is_not_stored() {
    let cache: Cache<String> = Cache::builder().max_value_len(1 << 14).build().unwrap();
    let (gate, control) = gate();
    scope(|scope| {
        let long = vec![3; 1 << 15];
        let leader = scope.spawn(|| {
            cache.get_or_insert_with("key", || {
                gate.pass();
                vec![3; 1 << 15]
            })
        });
        control.begun.recv().unwrap();
        let waiter = scope.spawn(|| {
            cache.get_or_insert_with("key", || -> Vec<u8> { unreachable!("the leader loads") })
        });
        // The waiter joins while the loader runs: it is released by a thread that has seen it wait.
        while !format!("{cache:?}").contains("1 threads wait") {
            yield_now();
        }
        control.go.send(()).unwrap();
        assert_eq!(leader.join().unwrap().unwrap(), long);
        assert_eq!(waiter.join().unwrap().unwrap(), long);
    });
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.loads_not_stored, stats.loads_shared), (0, 1, 1));
}

/// A loader that fails or panics wakes the others, one of which loads with its own.
#[test]
fn failed_loader_wakes_next() {
    for panics in [false, true] {
        let (cache, (gate, control)) = (cache(), gate());
        scope(|scope| {
            let leader = scope.spawn(|| {
                catch_unwind(AssertUnwindSafe(|| {
                    cache.try_get_or_insert_with("key", || {
                        gate.pass();
                        if panics { panic!("a loader's") } else { Err::<Vec<u8>, _>("down") }
                    })
                }))
            });
            control.begun.recv().unwrap();
            let others: Vec<_> =
                (0..4).map(|_| scope.spawn(|| cache.get_or_insert_with("key", || "up"))).collect();
            await_misses(&cache, 5);
            control.go.send(()).unwrap();
            match leader.join().unwrap() {
                Ok(result) => assert_eq!(result, Err(LoadError::Loader("down"))),
                Err(_) => assert!(panics),
            }
            for other in others {
                assert_eq!(other.join().unwrap().unwrap(), b"up");
            }
        });
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.loads_failed), (2, 1));
    }
}

/// A loader that asks for its own key gets an error; so does one in a chain of loaders.
#[test]
fn recursive_loader_is_an_error() {
    let cache = cache();
    let value = cache.get_or_insert_with("a", || {
        let inner = cache.get_or_insert_with("b", || {
            assert_eq!(cache.get_or_insert_with("a", || "never"), Err(CacheError::Recursive));
            "b"
        });
        [inner.unwrap(), b"a".to_vec()].concat()
    });
    assert_eq!(value.unwrap(), b"ba");
    assert_eq!(cache.get("b").unwrap().as_deref(), Some(&b"b"[..]));
}

/// Two threads whose loaders need each other's key, in two caches: one gets an error, none waits
/// for ever.
#[test]
fn cycle_across_threads_and_caches_is_an_error() {
    for _ in 0..100 {
        let (one, other, start) = (cache(), cache(), Barrier::new(2));
        let cycles = AtomicUsize::new(0);
        let ask = |cache: &Cache<String>, next: &Cache<String>| {
            cache.get_or_insert_with("key", || {
                start.wait();
                match next.get_or_insert_with("key", || "computed alone") {
                    Ok(value) => value,
                    Err(error) => {
                        assert_eq!(error, CacheError::Recursive);
                        cycles.fetch_add(1, Ordering::Relaxed);
                        b"broken up".to_vec()
                    }
                }
            })
        };
        scope(|scope| {
            let left = scope.spawn(|| ask(&one, &other).unwrap());
            let right = scope.spawn(|| ask(&other, &one).unwrap());
            assert_eq!(left.join().unwrap(), b"broken up");
            assert_eq!(right.join().unwrap(), b"broken up");
        });
        assert_eq!(cycles.load(Ordering::Relaxed), 1);
    }
}

/// A wait that is bounded ends with an error, and the loader's value is still stored.
#[test]
fn bounded_wait_ends() {
    let wait = Duration::from_millis(20);
    let cache: Cache<String> = Cache::builder().max_wait(wait).build().unwrap();
    let (gate, control) = gate();
    scope(|scope| {
        let leader = scope.spawn(|| {
            cache.get_or_insert_with("key", || {
                gate.pass();
                "late"
            })
        });
        control.begun.recv().unwrap();
        let waited = cache.get_or_insert_with("key", || "never");
        assert_eq!(waited, Err(CacheError::WaitedTooLong(wait)));
        control.go.send(()).unwrap();
        assert_eq!(leader.join().unwrap().unwrap(), b"late");
    });
    assert_eq!(cache.get("key").unwrap().as_deref(), Some(&b"late"[..]));
}

/// A key that is removed, cleared or stored while its loader runs is not overwritten by the
/// loader's value, which may be older.
#[test]
fn value_loaded_across_removal_is_not_stored() {
    type Change = fn(&Cache<String>);
    let changes: [(Change, Option<&[u8]>); 4] = [
        (|cache| assert!(!cache.remove("key")), None),
        (|cache| cache.clear(), None),
        (|cache| cache.insert("key".into(), "newer").unwrap(), Some(b"newer")),
        (|cache| assert!(!cache.remove("other")), Some(b"loaded")),
    ];
    for (change, left) in changes {
        let (cache, (gate, control)) = (cache(), gate());
        scope(|scope| {
            let leader = scope.spawn(|| {
                cache.get_or_insert_with("key", || {
                    gate.pass();
                    "loaded"
                })
            });
            control.begun.recv().unwrap();
            change(&cache);
            control.go.send(()).unwrap();
            assert_eq!(leader.join().unwrap().unwrap(), b"loaded");
        });
        assert_eq!(cache.get("key").unwrap().as_deref(), left);
        let not_stored = u64::from(left != Some(b"loaded"));
        assert_eq!(cache.stats().loads_not_stored, not_stored);
    }
}

/// A key that is stored while its loader runs is not overwritten by the loader's value, which may
/// be older, even if the stored value was removed, expired or was evicted before the loader ended.
#[test]
fn value_loaded_across_brief_store_is_not_stored() {
    type Removal = fn(&Cache<String>, &ManualTime);
    let removals: [Removal; 5] = [
        |cache, _| assert!(cache.remove_if("key", |_| true).unwrap()),
        |cache, _| assert_eq!(cache.retain(|_, _| false), 1),
        |cache, _| assert_eq!(cache.retain_keys(|_| false), 1),
        |cache, time| {
            time.advance(Duration::from_secs(60));
            assert_eq!(cache.remove_expired(), 1);
        },
        |cache, _| {
            let numbers = (0..100_000).take_while(|_| cache.contains("key"));
            numbers.for_each(|n| cache.insert(format!("other {n}"), noise(n)).unwrap());
        },
    ];
    for remove in removals {
        let (time, (gate, control)) = (Arc::new(ManualTime::new()), gate());
        let builder = Cache::builder().time_to_live(Duration::from_secs(60)).manual_time(&time);
        let cache: Cache<String> = builder.limit_bytes(2 << 20).build().unwrap();
        scope(|scope| {
            let leader =
                scope.spawn(|| cache.get_or_insert_with("key", || gate.pass_with("older")));
            control.begun.recv().unwrap();
            cache.insert("key".into(), noise(7)).unwrap();
            remove(&cache, &time);
            assert!(!cache.contains("key"));
            control.go.send(()).unwrap();
            assert_eq!(leader.join().unwrap().unwrap(), b"older");
        });
        assert_eq!(cache.get("key").unwrap(), None);
        assert_eq!(cache.stats().loads_not_stored, 1);
    }
}

/// Threads that load, remove and update random keys: a loader never runs twice at once for a key,
/// and a value is one that was computed for its key.
#[test]
fn random_loads_and_removals_keep_values_whole() {
    const KEYS: usize = 8;
    let cache: Cache<u64> = Cache::builder().limit_bytes(4 << 20).build().unwrap();
    let running: [AtomicUsize; KEYS] = Default::default();
    let loads = AtomicU64::new(0);
    let value = |key: u64, load: u64| [key, load].map(u64::to_le_bytes).concat().repeat(64);
    scope(|scope| {
        for thread in 0..4 {
            let (cache, running, loads) = (&cache, &running, &loads);
            scope.spawn(move || {
                let mut rng = TestRng::new(thread);
                for _ in 0..3000 {
                    let key = rng.next() % KEYS as u64;
                    match rng.next() % 8 {
                        0 => drop(cache.remove(&key)),
                        1 => drop(cache.get(&key).unwrap()),
                        2 => {
                            let failed = cache.try_get_or_insert_with(&key, || {
                                assert_eq!(running[key as usize].fetch_add(1, Ordering::SeqCst), 0);
                                yield_now();
                                running[key as usize].fetch_sub(1, Ordering::SeqCst);
                                Err::<Vec<u8>, _>(())
                            });
                            assert!(failed.is_ok() || failed == Err(LoadError::Loader(())));
                        }
                        _ => {
                            let found = cache.get_or_insert_with(&key, || {
                                assert_eq!(running[key as usize].fetch_add(1, Ordering::SeqCst), 0);
                                let load = loads.fetch_add(1, Ordering::Relaxed);
                                yield_now();
                                running[key as usize].fetch_sub(1, Ordering::SeqCst);
                                value(key, load)
                            });
                            let found = found.unwrap();
                            let load = u64::from_le_bytes(found[8..16].try_into().unwrap());
                            assert_eq!(found, value(key, load));
                        }
                    }
                }
            });
        }
    });
    assert!(loads.load(Ordering::Relaxed) > 0);
}

/// Loaders that need later keys only have no cycle, however threads and removals interleave. So no
/// loader gets an error.
#[test]
fn nested_loads_in_order_find_no_cycle() {
    fn load(cache: &Cache<u64>, key: u64) -> Vec<u8> {
        let loaded = cache.get_or_insert_with(&key, || {
            yield_now();
            match key {
                0..6 => [load(cache, key + 1), load(cache, key + 2), vec![key as u8]].concat(),
                _ => vec![key as u8],
            }
        });
        loaded.expect("no cycle")
    }
    let cache: Cache<u64> = Cache::builder().build().unwrap();
    let expected = load(&cache, 0);
    cache.clear();
    scope(|scope| {
        for thread in 0..4 {
            let (cache, expected) = (&cache, &expected);
            scope.spawn(move || {
                let mut rng = TestRng::new(thread);
                for _ in 0..300 {
                    match rng.next() % 3 {
                        0 => cache.clear(),
                        1 => assert_eq!(load(cache, 0), *expected),
                        _ => drop(load(cache, rng.next() % 7)),
                    }
                }
            });
        }
    });
}
