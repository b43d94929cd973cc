//! Drains against maps, on several threads at once: each has keys of its own and knows what it
//! stored there, while two threads drain and another one switches every few milliseconds (I7, I8).
//! Bounded here; `ci/soak.sh` runs ten million operations.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::codec::CodecScript;
use crate::common::pool::PoolScript;
use crate::common::{TestRng, check_books, scripted, spec, stamped, unstamp};
use zswap::drain::{DrainBudget, DrainEnd, DrainReport};
use zswap::{AtLimit, Store, StoreBuilder};

/// Every switch is to the next of these. A cycle of two comes back to a pool that may still have
/// blocks, and so revives it.
const SPECS: &[&str] = &["zsmalloc+lz4", "scripted+rle", "zsmalloc+lz4", "zbud+lz4"];
/// Cold pools follow one another, too, if there is one.
const COLD_SPECS: &[&str] = &["zsmalloc+rle(cold=1)", "zbud+rle(cold=2)"];
/// Blocks of a sample of the cold ones.
const SAMPLE: usize = 20;
const KEYS: usize = 400;
const THREADS: u64 = 3;
const BETWEEN_SWITCHES: Duration = Duration::from_millis(3);

/// Operations of all threads together, in both stores, unless `ZSWAP_DRAIN_OPERATIONS` says how
/// many.
const OPERATIONS: u64 = 60_000;

fn operations() -> u64 {
    let set = std::env::var("ZSWAP_DRAIN_OPERATIONS").ok();
    set.map_or(OPERATIONS, |text| text.parse().expect("a number of operations"))
}

/// One thread's keys, and the version and length of what it stored under them.
struct Owner<'a> {
    store: &'a Store<u64>,
    first: u64,
    model: HashMap<u64, (u64, usize)>,
    rng: TestRng,
    /// Blocks may be evicted.
    evicts: bool,
}

impl Owner<'_> {
    fn step(&mut self, version: u64) {
        let key = self.first + self.rng.below(KEYS) as u64;
        match self.rng.below(32) {
            0..10 => {
                let large = version.is_multiple_of(16);
                let len = 16 + self.rng.below(if large { 12_000 } else { 3_000 });
                self.store.store(key, stamped(key, version, len)).unwrap();
                self.model.insert(key, (version, len));
            }
            10..20 => {
                let found = self.store.load_vec(&key).unwrap();
                self.compare(key, found);
            }
            20..23 => {
                let found = self.store.peek_vec(&key).unwrap();
                self.compare(key, found);
            }
            23..27 => {
                let taken = self.store.take_vec(&key).unwrap();
                self.compare(key, taken);
                self.model.remove(&key);
            }
            27..30 => {
                let was_there = self.model.remove(&key).is_some();
                let removed = self.store.invalidate(&key);
                assert!(removed == was_there || (self.evicts && !removed), "key {key}");
            }
            30 => self.load_many(key),
            _ if version.is_multiple_of(64) => self.retain(version),
            _ => {}
        }
    }

    fn compare(&mut self, key: u64, bytes: Option<Vec<u8>>) {
        let known = self.model.get(&key).copied();
        let found = bytes.map(|bytes| {
            let (whose, version) = unstamp(&bytes);
            assert_eq!(whose, key);
            (version, bytes.len())
        });
        if found.is_none() && self.evicts {
            self.model.remove(&key);
        } else {
            assert_eq!(found, known, "key {key}");
        }
    }

    fn load_many(&mut self, from: u64) {
        let keys: Vec<u64> =
            (0..10).map(|n| self.first + (from + n - self.first) % KEYS as u64).collect();
        let mut buffers = vec![[0; 12_100]; keys.len()];
        let results = self.store.load_many(&keys, &mut buffers);
        for ((&key, result), buffer) in keys.iter().zip(results).zip(&buffers) {
            self.compare(key, result.unwrap().map(|len| buffer[..len].to_vec()));
        }
    }

    /// Removes a fifth of its own keys.
    fn retain(&mut self, version: u64) {
        let own = self.first..self.first + KEYS as u64;
        let goes = |key: u64| own.contains(&key) && key % 5 == version % 5;
        self.store.retain(|&key, _| !goes(key));
        self.model.retain(|&key, _| !goes(key));
    }

    fn check_all(&mut self) {
        for key in self.first..self.first + KEYS as u64 {
            let found = self.store.peek_vec(&key).unwrap();
            self.compare(key, found);
        }
    }
}

/// Runs all threads. Returns what the drains did.
fn run(store: &Store<u64>, evicts: bool) -> DrainReport {
    let steps = operations() / 2 / THREADS;
    let owner = |thread: u64| Owner {
        store,
        first: thread << 32,
        model: HashMap::new(),
        rng: TestRng::new(thread + 1),
        evicts,
    };
    let mut owners: Vec<_> = (0..THREADS).map(owner).collect();
    let done = AtomicBool::new(false);
    let until_done = || !done.load(Ordering::Relaxed);
    let report = std::thread::scope(|scope| {
        let drain = |budget| {
            scope.spawn(move || {
                let mut report = DrainReport::default();
                while until_done() {
                    report = report.then(store.drain(budget));
                    std::thread::yield_now();
                }
                report
            })
        };
        let drains = [
            drain(DrainBudget::entries(50)),
            drain(DrainBudget::time(Duration::from_millis(1)).with_bytes(100_000)),
        ];
        if store.manager().cold().is_some() {
            scope.spawn(|| {
                for text in COLD_SPECS.iter().cycle().take_while(|_| until_done()) {
                    store.turn_heat_clock();
                    let sample = store.sample_cold(SAMPLE).unwrap();
                    assert!(sample.len() <= SAMPLE && sample.iter().all(|block| block.len() > 8));
                    store.set_cold(&spec(text)).unwrap();
                    std::thread::sleep(BETWEEN_SWITCHES);
                }
            });
        }
        scope.spawn(|| {
            for text in SPECS.iter().cycle().take_while(|_| until_done()) {
                store.switch(&spec(text)).unwrap();
                std::thread::sleep(BETWEEN_SWITCHES);
            }
        });
        let running: Vec<_> = owners
            .iter_mut()
            .map(|owner| scope.spawn(move || (1..=steps).for_each(|version| owner.step(version))))
            .collect();
        let ended: Vec<_> = running.into_iter().map(|owner| owner.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
        let [first, second] = drains.map(|drain| drain.join().unwrap());
        first.then(second)
    });
    owners.iter_mut().for_each(Owner::check_all);
    check_books(store);
    assert_eq!(store.drain(DrainBudget::UNLIMITED).end, DrainEnd::Empty);
    owners.iter_mut().for_each(Owner::check_all);
    check_books(store);
    report
}

/// Runs all threads over a store, and checks what is left.
fn check(store: &Store<u64>, pool: &PoolScript, evicts: bool) {
    let report = run(store, evicts);
    assert_eq!((report.unreadable, report.refused), (0, 0), "{report:?}");
    assert!(report.copied > 0 && report.recompressed > 0, "{report:?}");
    let _ = store.manager().flush();
    let stats = store.stats();
    let roles = 1 + usize::from(stats.cold.is_some());
    assert_eq!(stats.manager.pools_alive, roles, "{stats}");
    assert!(stats.moved >= report.moved as u64);
    assert_eq!((stats.free_failed, stats.unpins_panicked), (0, 0));
    store.clear();
    let stats = store.stats();
    assert_eq!((stats.payload_bytes, stats.stored_bytes, pool.live()), (0, 0, 0));
}

fn builder(pool: &Arc<PoolScript>) -> StoreBuilder<u64> {
    scripted(pool.clone(), CodecScript::new()).max_value_len(16 << 10).checksums(true)
}

/// Each thread finds what it stored last, and after a last drain one pool is alive.
#[test]
fn i8_drains_are_invisible_to_owners() {
    for (limit, at_limit) in [(usize::MAX, AtLimit::Refuse), (3 << 20, AtLimit::Evict)] {
        let pool = PoolScript::new();
        let store = builder(&pool).limit_bytes(limit).at_limit(at_limit).build().unwrap();
        check(&store, &pool, at_limit == AtLimit::Evict);
    }
}

/// Owners find their blocks while a clock moves blocks to the cold pool and back and cold pools
/// follow one another, and two pools are left.
#[test]
fn i8_cold_pool_is_invisible_to_owners() {
    let pool = PoolScript::new();
    // Only the test turns the clock.
    let store = builder(&pool)
        .cold(spec("zsmalloc+rle(cold=1)"))
        .cold_turn(Duration::from_secs(1 << 20))
        .thrash_meter(true)
        .build()
        .unwrap();
    check(&store, &pool, false);
    let cold = store.stats().cold.unwrap();
    assert!(cold.made_cold > 0, "{cold:?}");
}
