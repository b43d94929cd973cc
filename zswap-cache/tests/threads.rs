//! Many threads on few keys, with expiry, eviction and listeners at once: what is found was stored
//! under that key, and has not expired.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use zpool_testing::random::TestRng;
use zswap_cache::{Cache, EntryOptions, ManualTime};

const KEYS: u64 = 64;

/// Returns a value that names its key and until when it may be found, with compressible padding.
fn value(key: u64, until: u64, len: usize) -> Vec<u8> {
    let head = [key, until].map(u64::to_le_bytes).concat();
    head.iter().copied().cycle().take(16 + len).collect()
}

fn parse(bytes: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let parsed = (word(0), word(8));
    assert_eq!(value(parsed.0, parsed.1, bytes.len() - 16), bytes, "torn bytes");
    parsed
}

/// No thread finds a value after its time, whatever the others do.
#[test]
fn found_values_have_not_expired() {
    let time = Arc::new(ManualTime::new());
    let gone = Arc::new(AtomicU64::new(0));
    let counted = gone.clone();
    let cache: Cache<u64> = Cache::builder()
        .manual_time(&time)
        .limit_bytes(2 << 20)
        .on_removal(move |key, _, _| {
            assert!(*key < KEYS);
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    // The clock's time. Held for reading while an entry is stored, so that its end is known
    // exactly.
    let (now, done) = (RwLock::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                let (cache, now) = (&cache, &now);
                scope.spawn(move || {
                    let mut rng = TestRng::new(thread);
                    for _ in 0..4000 {
                        let key = rng.next() % KEYS;
                        let live = 1 + rng.next() % 20;
                        let len = (rng.next() % 3000) as usize;
                        let options = EntryOptions::new().time_to_live(Duration::from_millis(live));
                        match rng.next() % 8 {
                            0 => drop(cache.remove(&key)),
                            1 => drop(cache.remove_expired()),
                            2..4 => {
                                // Long enough that it is fresh as long as the test runs.
                                let bytes = value(key, u64::MAX, len);
                                drop(cache.get_or_insert_with(&key, || bytes).unwrap());
                            }
                            4..6 => {
                                let now = now.read().unwrap();
                                let until = *now + live;
                                cache.insert_with(key, value(key, until, len), options).unwrap();
                            }
                            _ => {
                                let before = *now.read().unwrap();
                                if let Some(found) = cache.get(&key).unwrap() {
                                    let (its_key, until) = parse(&found);
                                    assert_eq!(its_key, key);
                                    assert!(
                                        until > before,
                                        "found at {before} what ended at {until}"
                                    );
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        let (clock, now, done) = (&time, &now, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let mut now = now.write().unwrap();
                clock.advance(Duration::from_millis(1));
                *now += 1;
                drop(now);
                std::thread::yield_now();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    time.advance(Duration::from_secs(10));
    cache.remove_expired();
    let stats = cache.stats();
    assert_eq!(gone.load(Ordering::Relaxed) + stats.entries as u64, stats.inserts);
    assert!(stats.expired > 0 && stats.replaced > 0 && stats.invalidated > 0);
}
