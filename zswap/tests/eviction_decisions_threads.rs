//! A store above a map, which a listener fills: what is not in the store is in the map, in the
//! newest version. Several threads store, load, take and invalidate, while pools are switched,
//! drained and compacted, the limit changes, and the listener keeps some entries and panics at
//! times.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Look, TestRng, block, builder, check_books, spec};
use zswap::drain::DrainBudget;
use zswap::{AtLimit, CompactionBudget, Error, EvictionCandidate, EvictionDecision, Store};

const SPECS: &[&str] = &["zsmalloc+lz4", "zbud+lz4", "reference+rle", "zsmalloc(chain=4)+rle"];
const THREADS: u64 = 3;
const KEYS: usize = 500;
const STEPS: u64 = 12_000;
const MIB: usize = 1 << 20;

/// Returns the value of a version: a long one, eight bytes repeated, noise, or runs. Its first
/// words name key and version.
fn content(key: u64, version: u64) -> Vec<u8> {
    let seed = key << 32 | version;
    let len = 16 + TestRng::new(seed).below(4_000);
    let mut value = match version % 32 {
        0 => block(seed, 9_000 + len, Look::Runs),
        1..6 => return seed.to_le_bytes().repeat(len / 8),
        6..16 => block(seed, len, Look::Noise),
        _ => block(seed, len, Look::Runs),
    };
    value[..8].copy_from_slice(&seed.to_le_bytes());
    value
}

/// Returns key and version of a value, after checking every byte.
fn identify(value: &[u8]) -> Option<(u64, u64)> {
    let seed = u64::from_le_bytes(*value.first_chunk()?);
    let (key, version) = (seed >> 32, seed & 0xFFFF_FFFF);
    (value == content(key, version)).then_some((key, version))
}

/// The map below the store, and what was wrong with the calls that filled it.
#[derive(Default)]
struct Below {
    saved: Mutex<HashMap<u64, u64>>,
    /// Keys that are shown at this moment.
    shown: Mutex<HashSet<u64>>,
    calls: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Below {
    fn decide(&self, key: u64, candidate: &EvictionCandidate<'_>) -> EvictionDecision {
        if !self.shown.lock().unwrap().insert(key) {
            self.wrong.lock().unwrap().push(format!("key {key} is shown twice at once"));
        }
        let value = candidate.decode_vec().unwrap_or_default();
        let found = identify(&value).filter(|found| found.0 == key);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call.is_multiple_of(4) {
            std::thread::yield_now();
        }
        let mut rng = TestRng::new(call);
        let decision = match (found, rng.below(8)) {
            (None, _) => {
                self.wrong.lock().unwrap().push(format!("key {key} is shown with other bytes"));
                EvictionDecision::Keep
            }
            (Some(_), 0..2) => EvictionDecision::Keep,
            (Some((_, version)), _) => {
                if let Some(before) = self.saved.lock().unwrap().insert(key, version)
                    && before > version
                {
                    let text = format!("key {key}: {version} was saved after {before}");
                    self.wrong.lock().unwrap().push(text);
                }
                EvictionDecision::Evict
            }
        };
        self.shown.lock().unwrap().remove(&key);
        assert!(rng.below(64) > 0, "a listener that panics now and then");
        decision
    }
}

/// A thread's keys, and the newest versions of those that it has stored.
struct Owner<'a> {
    store: &'a Store<u64>,
    below: &'a Below,
    first: u64,
    model: HashMap<u64, u64>,
    /// Loads that were answered from below.
    from_below: u64,
    rng: TestRng,
}

impl Owner<'_> {
    fn step(&mut self, version: u64) {
        let key = self.first + self.rng.below(KEYS) as u64;
        match self.rng.below(32) {
            0..12 => match self.store.store(key, content(key, version)) {
                Ok(()) => drop(self.model.insert(key, version)),
                // The older value is gone, and this one was not taken.
                Err(Error::Full { .. }) => drop(self.model.remove(&key)),
                Err(error) => panic!("{error}"),
            },
            12..15 => match self.store.store_if(key, content(key, version), |_, _| true) {
                Ok(_) => drop(self.model.insert(key, version)),
                Err(failed) => assert!(matches!(failed.error, Error::Full { .. }), "{failed}"),
            },
            15..25 => {
                let loaded = self.store.load_vec(&key).unwrap();
                let is_missing = loaded.is_none();
                self.compare(key, loaded);
                if let (true, Some(version)) = (is_missing, self.model.get(&key)) {
                    // As a buffer pool does with a page from its file.
                    self.from_below += 1;
                    let _ = self.store.store_if(key, content(key, *version), |_, _| true);
                }
            }
            25..29 => {
                let taken = self.store.take_vec(&key).unwrap();
                let is_taken = taken.is_some();
                self.compare(key, taken);
                if is_taken {
                    self.model.remove(&key);
                }
            }
            _ => {
                if self.store.invalidate(&key) {
                    assert!(self.model.contains_key(&key), "key {key} was removed before");
                } else {
                    self.compare(key, None);
                }
                self.model.remove(&key);
            }
        }
    }

    /// Compares what was found in the store, or else what is below, with the model.
    fn compare(&self, key: u64, found: Option<Vec<u8>>) {
        let expected = self.model.get(&key).copied();
        match (found, expected) {
            (Some(value), _) => {
                assert_eq!(identify(&value), expected.map(|version| (key, version)), "{key}");
            }
            (None, Some(version)) => {
                let saved = self.below.saved.lock().unwrap().get(&key).copied();
                assert_eq!(saved, Some(version), "key {key} is lost");
            }
            (None, None) => {}
        }
    }
}

/// Switches, drains, compacts and changes the limit.
fn meddle(store: &Store<u64>, done: &AtomicBool) {
    let mut rng = TestRng::new(77);
    while !done.load(Ordering::Relaxed) {
        match rng.below(6) {
            0 => drop(store.switch(&spec(SPECS[rng.below(SPECS.len())])).unwrap()),
            1 => drop(store.drain(DrainBudget::UNLIMITED)),
            2 => drop(store.compact(CompactionBudget::moves(1 << rng.below(10)))),
            // A limit that cannot be met at once is an error, which is allowed here.
            3 => drop(store.set_limit(Some(MIB / 2 * (1 + rng.below(4))))),
            _ => (0..50).for_each(|_| std::thread::yield_now()),
        }
    }
}

#[test]
fn i7_store_or_map_has_newest_version() {
    let below = Arc::new(Below::default());
    let listener = below.clone();
    let store = builder()
        .spec(spec(SPECS[0]))
        .limit_bytes(MIB)
        .at_limit(AtLimit::Evict)
        .checksums(true)
        .on_evict_with(move |&key, candidate| listener.decide(key, candidate))
        .build()
        .unwrap();
    let mut owners: Vec<_> = (0..THREADS)
        .map(|thread| Owner {
            store: &store,
            below: &below,
            first: thread << 16,
            model: HashMap::new(),
            from_below: 0,
            rng: TestRng::new(thread + 1),
        })
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| meddle(&store, &done));
        let running: Vec<_> = owners
            .iter_mut()
            .map(|owner| scope.spawn(move || (1..=STEPS).for_each(|version| owner.step(version))))
            .collect();
        let ended: Vec<_> = running.into_iter().map(|owner| owner.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    for owner in &owners {
        for &key in owner.model.keys() {
            owner.compare(key, store.peek_vec(&key).unwrap());
        }
        assert!(owner.from_below > 100, "{} loads from below", owner.from_below);
    }
    let (wrong, stats) = (below.wrong.lock().unwrap(), store.stats());
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(stats.evicted > 1_000 && stats.evictions_kept > 300, "{stats}");
    assert!(stats.listeners_panicked > 10 && stats.moved > 0, "{stats}");
    check_books(&store);
}
