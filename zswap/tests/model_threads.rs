//! The store against maps, on several threads at once: each has keys of its own and knows what it stored there, while pools are switched and compacted, the
//! limit changes, and plug-ins fail (I7). Bounded here; `ci/soak.sh` runs it for as long as it is told.
#![cfg(not(zpool_loom))]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::codec::{CodecScript, OnCompress};
use common::pool::{OnInsert, PoolScript};
use common::{Rng, check_books, scripted, spec, stamped, unstamp};
use zswap::{AtLimit, ErrorKind, Store};

const SPECS: &[&str] = &["scripted+rle", "zsmalloc+lz4", "zbud+lz4", "scripted+lz4", "zsmalloc(chain=4)+rle"];
const KEYS: usize = 300;
const THREADS: u64 = 3;
/// Operations of a thread, unless `ZSWAP_SOAK_SECONDS` says how long to go on.
const STEPS: usize = 4_000;
const MIB: usize = 1 << 20;

/// When a thread is done.
#[derive(Clone, Copy)]
enum Until {
    Steps(usize),
    Time(Instant),
}

impl Until {
    fn new() -> Until {
        let seconds = std::env::var("ZSWAP_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        seconds
            .map_or(Until::Steps(STEPS), |seconds| Until::Time(Instant::now() + Duration::from_secs(seconds)))
    }

    fn is_over(self, step: usize) -> bool {
        match self {
            Until::Steps(steps) => step >= steps,
            Until::Time(end) => step.is_multiple_of(64) && Instant::now() >= end,
        }
    }
}

/// One thread's keys, and what it stored under them.
struct Owner<'a> {
    store: &'a Store<u64>,
    first: u64,
    evicts: bool,
    model: HashMap<u64, u64>,
    rng: Rng,
}

impl Owner<'_> {
    fn step(&mut self, version: u64) {
        let key = self.first + self.rng.below(KEYS) as u64;
        match self.rng.below(16) {
            0..6 => {
                // Now and then longer than a block.
                let len = 16 + self.rng.below(if version.is_multiple_of(32) { 9_000 } else { 2_000 });
                let result = self.store.store(key, &stamped(key, version, len));
                self.stored(key, version, result);
            }
            6 => self.batch(version),
            7..11 => self.found(key, |store| store.load_vec(&key).unwrap()),
            11 => self.found(key, |store| store.peek_vec(&key).unwrap()),
            12 => self.found(key, |store| store.load_with(&key, <[u8]>::to_vec).unwrap()),
            13 => {
                self.found(key, |store| store.take_vec(&key).unwrap());
                self.model.remove(&key);
            }
            14 => {
                let (there, known) = (self.store.invalidate(&key), self.model.remove(&key).is_some());
                assert!(there == known || self.evicts && known, "key {key}");
            }
            _ => {
                // Somebody else's: any version, but whole and of that key.
                let other = (self.rng.next() % THREADS) << 32 | (key & 0xFFFF);
                let bytes = self.store.load_vec(&other).unwrap();
                assert!(bytes.is_none_or(|bytes| unstamp(&bytes).0 == other));
            }
        }
    }

    fn batch(&mut self, version: u64) {
        let keys: Vec<u64> = (0..20).map(|_| self.first + self.rng.below(KEYS) as u64).collect();
        let blocks: Vec<Vec<u8>> =
            keys.iter().map(|&key| stamped(key, version, 16 + key as usize % 900)).collect();
        let results = self.store.store_many(keys.iter().copied().zip(blocks.iter().map(Vec::as_slice)));
        for (&key, result) in keys.iter().zip(results) {
            self.stored(key, version, result);
        }
        let mut buffers = vec![[0; 1_000]; keys.len()];
        for (key, (result, buffer)) in
            keys.iter().zip(self.store.load_many(&keys, &mut buffers).into_iter().zip(&buffers))
        {
            let bytes = result.unwrap().map(|len| buffer[..len].to_vec());
            self.compare(*key, bytes);
        }
    }

    fn stored(&mut self, key: u64, version: u64, result: Result<(), zswap::Error<u64>>) {
        match result {
            Ok(()) => drop(self.model.insert(key, version)),
            Err(error) => {
                assert_eq!(error.key, key);
                // Only what is made to fail does.
                assert!(
                    matches!(
                        error.kind,
                        ErrorKind::Full { .. }
                            | ErrorKind::Pool(_)
                            | ErrorKind::Codec(_)
                            | ErrorKind::AllocatorPanicked(_)
                    ),
                    "{error}"
                );
                self.model.remove(&key);
            }
        }
    }

    fn found(&mut self, key: u64, load: impl FnOnce(&Store<u64>) -> Option<Vec<u8>>) {
        let bytes = load(self.store);
        self.compare(key, bytes);
    }

    /// The last block stored, or nothing; nothing only if none was stored, or it was evicted.
    fn compare(&mut self, key: u64, bytes: Option<Vec<u8>>) {
        let known = self.model.get(&key).map(|&version| (key, version));
        match bytes {
            Some(bytes) => assert_eq!(Some(unstamp(&bytes)), known),
            None if self.evicts => drop(self.model.remove(&key)),
            None => assert_eq!(None, known),
        }
    }
}

/// What makes it hard: switches, compaction, other limits, plug-ins that fail.
fn meddle(store: &Store<u64>, pool: &PoolScript, codec: &CodecScript, done: &AtomicBool) {
    let mut rng = Rng::new(77);
    while !done.load(Ordering::Relaxed) {
        match rng.below(8) {
            0..3 => drop(store.switch(&spec(SPECS[rng.below(SPECS.len())])).unwrap()),
            3 => {
                let current = store.manager().current().unwrap();
                current.zpool().compact(zswap::zpool_core::CompactionBudget::moves(1 << rng.below(10)));
                current.zpool().trim();
            }
            4 => {
                // What does not fit at once is refused; that is an answer.
                let _ = store.set_limit([None, Some(MIB), Some(MIB / 2), Some(4 * MIB)][rng.below(4)]);
            }
            5 => pool.on_insert(
                [OnInsert::Work, OnInsert::Work, OnInsert::OutOfMemory, OnInsert::Panic][rng.below(4)],
            ),
            6 => codec.on_compress(
                [OnCompress::Work, OnCompress::Work, OnCompress::Fail, OnCompress::Panic, OnCompress::Expand]
                    [rng.below(5)],
            ),
            _ => {
                pool.on_insert(OnInsert::Work);
                codec.on_compress(OnCompress::Work);
                let (keys, stats) = (store.keys().count(), store.stats());
                assert!(keys <= KEYS * THREADS as usize && stats.held_bytes() > 0);
            }
        }
        std::thread::yield_now();
    }
    pool.on_insert(OnInsert::Work);
    codec.on_compress(OnCompress::Work);
}

#[test]
fn i7_threads_find_what_they_stored_last_or_nothing() {
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        let (pool, codec) = (PoolScript::new(), CodecScript::new());
        let store = scripted(pool.clone(), codec.clone())
            .max_value_len(16 << 10)
            .at_limit(at_limit)
            .checksums(true)
            .on_evict(|key, _| assert!(key % 50 != 7, "a listener that panics now and then"))
            .build()
            .unwrap();
        let (until, done) = (Until::new(), Arc::new(AtomicBool::new(false)));
        std::thread::scope(|scope| {
            scope.spawn(|| meddle(&store, &pool, &codec, &done));
            let owners: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (store, evicts) = (&store, at_limit == AtLimit::Evict);
                    let mut owner = Owner {
                        store,
                        first: thread << 32,
                        evicts,
                        model: HashMap::new(),
                        rng: Rng::new(thread + 1),
                    };
                    scope.spawn(move || {
                        for step in 0.. {
                            if until.is_over(step) {
                                break;
                            }
                            owner.step(step as u64 + 1);
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = owners.into_iter().map(|owner| owner.join()).collect();
            done.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok));
        });
        check_books(&store);
        let stats = store.stats();
        assert_eq!((stats.decompress_failed, stats.read_failed, stats.free_failed), (0, 0, 0), "{stats}");
        assert_eq!(stats.evicted > 0, at_limit == AtLimit::Evict, "{stats}");
        store.clear();
        let _ = store.manager().flush();
        assert_eq!((store.stats().manager.pools_alive, pool.live()), (1, 0));
    }
}
