//! The store against maps, on several threads at once: each has keys of its own and knows what it
//! stored there, while pools are switched and compacted, the limit changes, everything is cleared,
//! and plug-ins fail (I7). What a thread misses, the listener has received. Bounded here;
//! `ci/soak.sh` runs it for a chosen time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::codec::{CodecScript, OnCompress, OnDecompress};
use crate::common::pool::{OnInsert, OnRead, PoolScript};
use crate::common::{TestRng, check_books, scripted, spec, stamped, unstamp};
use zswap::{AtLimit, Error, Store, StoreStats};

const SPECS: &[&str] =
    &["scripted+rle", "zsmalloc+lz4", "zbud+lz4", "scripted+lz4", "zsmalloc(chain=4)+rle"];
const KEYS: usize = 300;
const THREADS: u64 = 3;
/// Operations of a thread in a round. After a round all threads stop, and the accounts are
/// compared.
const STEPS: u64 = 1_000;
/// The least number of rounds. More follow until everything has happened, or for as long as
/// `ZSWAP_SOAK_SECONDS` says. In every fourth round everything is cleared at times.
const ROUNDS: u64 = 4;
/// On a busy machine the thread that disturbs the others is run seldom.
const MOST_ROUNDS: u64 = 2_000;
const MIB: usize = 1 << 20;

/// How often an event happened to blocks of this key and length.
type Tally = HashMap<(u64, usize), u64>;

/// Returns whether this was the last round.
fn is_over(round: u64, began: Instant, happened: impl FnOnce() -> bool) -> bool {
    let seconds = std::env::var("ZSWAP_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let enough = || round >= ROUNDS && (happened() || round >= MOST_ROUNDS);
    seconds.map_or_else(enough, |seconds| began.elapsed() >= Duration::from_secs(seconds))
}

/// Returns whether every way to lose a block has happened.
fn has_happened(stats: &StoreStats, at_limit: AtLimit) -> bool {
    let evicted = stats.evicted > 0 || at_limit == AtLimit::Refuse;
    stats.decompress_failed > 0 && stats.read_failed > 0 && evicted
}

/// One thread's keys, and what it stored under them.
struct Owner<'a> {
    store: &'a Store<u64>,
    first: u64,
    /// Whether blocks may be removed in this round without a call of the listener.
    clearing: bool,
    /// Key to version and length.
    model: HashMap<u64, (u64, usize)>,
    /// Items stored in this round that were not found.
    missed: Tally,
    /// Items that this thread replaced or removed in this round: they may have been evicted before.
    unknown: Tally,
    /// Loads that failed.
    failed: u64,
    rng: TestRng,
}

impl Owner<'_> {
    fn step(&mut self, version: u64) {
        let key = self.own();
        match self.rng.below(64) {
            0..24 => {
                // At times longer than a block.
                let len =
                    16 + self.rng.below(if version.is_multiple_of(32) { 9_000 } else { 2_000 });
                let result = self.store.store(key, stamped(key, version, len));
                self.stored(key, version, len, result);
            }
            24..28 => self.batch(version),
            28..44 => self.found(key, |store| store.load_vec(&key)),
            44..48 => self.found(key, |store| store.peek_vec(&key)),
            48..52 => self.found(key, |store| store.load_with(&key, <[u8]>::to_vec)),
            52..56 => self.take(key),
            56..59 => {
                let known = self.model.get(&key).copied();
                if self.store.invalidate(&key) {
                    assert!(self.model.remove(&key).is_some(), "key {key} was there");
                } else if let Some((_, len)) = known {
                    self.miss(key, len);
                }
            }
            59 => self.retain(version),
            _ => {
                // A key of another thread: any version, but whole and of that key.
                let other = (self.rng.next() % THREADS) << 32 | (key & 0xFFFF);
                let loaded = self.store.load_vec(&other);
                if let Some(Some(bytes)) = self.loaded(loaded) {
                    assert_eq!(unstamp(&bytes).0, other);
                }
            }
        }
    }

    fn own(&mut self) -> u64 {
        self.first + self.rng.below(KEYS) as u64
    }

    fn batch(&mut self, version: u64) {
        let keys: Vec<u64> = (0..20).map(|_| self.own()).collect();
        // A key that occurs twice has another version each time.
        let versions = (0..).map(|n| version << 8 | n);
        let blocks: Vec<(u64, Vec<u8>)> = keys
            .iter()
            .zip(versions)
            .map(|(&key, version)| (version, stamped(key, version, 16 + self.rng.below(900))))
            .collect();
        let items = keys.iter().copied().zip(blocks.iter().map(|(_, block)| block.as_slice()));
        let results = self.store.store_many(items);
        for (&key, ((version, block), result)) in keys.iter().zip(blocks.iter().zip(results)) {
            self.stored(key, *version, block.len(), result);
        }
        // The previous block of a key, if it was not replaced, may be longer than any of these.
        let mut buffers = vec![[0; 10_000]; keys.len()];
        let results = self.store.load_many(&keys, &mut buffers);
        for (&key, (result, buffer)) in keys.iter().zip(results.into_iter().zip(&buffers)) {
            self.found(key, |_| result.map(|len| len.map(|len| buffer[..len].to_vec())));
        }
    }

    fn take(&mut self, key: u64) {
        let taken = self.store.take_vec(&key);
        if let Some(bytes) = self.loaded(taken) {
            let gone = bytes.is_some();
            self.compare(key, bytes);
            assert_eq!(self.model.remove(&key).is_some(), gone);
        }
    }

    /// Removes a seventh of its own keys.
    fn retain(&mut self, version: u64) {
        let goes = |key: u64| key % 7 == version % 7;
        let (first, mut asked) = (self.first, HashMap::new());
        let removed = self.store.retain(|&key, len| {
            let own = key >> 32 == first >> 32;
            if own {
                assert_eq!(asked.insert(key, len), None, "key {key} was asked about twice");
            }
            !(own && goes(key))
        });
        for (key, len) in &asked {
            assert_eq!(self.model.get(key).map(|known| known.1), Some(*len), "key {key}");
        }
        let missed: Vec<_> = self.model.iter().map(|(&key, known)| (key, known.1)).collect();
        missed
            .into_iter()
            .filter(|(key, _)| !asked.contains_key(key))
            .for_each(|(key, len)| self.miss(key, len));
        let mut gone = 0;
        for (key, len) in asked.into_iter().filter(|&(key, _)| goes(key)) {
            // It may be evicted between the call of `keep` and the removal.
            self.model.remove(&key);
            *self.unknown.entry((key, len)).or_default() += 1;
            gone += 1;
        }
        assert!(removed <= gone, "{removed} of {gone} removed");
    }

    fn stored(&mut self, key: u64, version: u64, len: usize, result: Result<(), zswap::Error>) {
        let before = match result {
            Ok(()) => self.model.insert(key, (version, len)),
            Err(error) => {
                // Only scripted failures happen.
                assert!(
                    matches!(
                        error,
                        Error::Full { .. }
                            | Error::Pool(_)
                            | Error::Codec(_)
                            | Error::AllocatorPanicked(_)
                    ),
                    "{error}"
                );
                self.model.remove(&key)
            }
        };
        if let Some((_, len)) = before {
            *self.unknown.entry((key, len)).or_default() += 1;
        }
    }

    fn found(
        &mut self,
        key: u64,
        load: impl FnOnce(&Store<u64>) -> Result<Option<Vec<u8>>, zswap::Error>,
    ) {
        let loaded = load(self.store);
        if let Some(bytes) = self.loaded(loaded) {
            self.compare(key, bytes);
        }
    }

    /// Returns the result of a load, or `None` if a plug-in was made to fail. Then the block stays,
    /// as a later look-up shows.
    fn loaded<T>(&mut self, loaded: Result<T, zswap::Error>) -> Option<T> {
        match loaded {
            Ok(loaded) => Some(loaded),
            Err(error) => {
                let made =
                    matches!(error, Error::Pool(_) | Error::Codec(_) | Error::AllocatorPanicked(_));
                assert!(made, "{error}");
                self.failed += 1;
                None
            }
        }
    }

    /// Checks that a load returned the last block stored, or nothing.
    fn compare(&mut self, key: u64, bytes: Option<Vec<u8>>) {
        match (bytes, self.model.get(&key).copied()) {
            (Some(bytes), known) => {
                assert_eq!(
                    Some((unstamp(&bytes), bytes.len())),
                    known.map(|(v, len)| ((key, v), len))
                );
            }
            (None, Some((_, len))) => self.miss(key, len),
            (None, None) => {}
        }
    }

    fn miss(&mut self, key: u64, len: usize) {
        self.model.remove(&key);
        *self.missed.entry((key, len)).or_default() += 1;
    }

    /// Compares the accounts after all threads have stopped, while all plug-ins work. Missed items
    /// were evicted. Evicted items are missed, or were replaced or removed without a look. In a
    /// round with clearing, only the second holds.
    fn settle(&mut self, told: &Tally) {
        for key in self.first..self.first + KEYS as u64 {
            let loaded = self.store.load_vec(&key).unwrap();
            self.compare(key, loaded);
        }
        let (missed, unknown) =
            (std::mem::take(&mut self.missed), std::mem::take(&mut self.unknown));
        let times = |tally: &Tally, what| tally.get(what).copied().unwrap_or(0);
        for (what, &missed) in missed.iter().filter(|_| !self.clearing) {
            assert!(missed <= times(told, what), "{what:?}: missed {missed} times, told {told:?}");
        }
        for (what, &told) in told.iter().filter(|((key, _), _)| key >> 32 == self.first >> 32) {
            let most = times(&missed, what) + times(&unknown, what);
            assert!(told <= most, "{what:?}: told of {told} times, {most} were there");
        }
    }
}

/// Disturbs the other threads by switches, compaction, other limits, and failing plug-ins.
struct Meddler<'a> {
    store: &'a Store<u64>,
    pool: &'a PoolScript,
    codec: &'a CodecScript,
    rng: TestRng,
}

impl Meddler<'_> {
    fn meddle(&mut self, clearing: bool, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            self.step(clearing);
            std::thread::yield_now();
        }
        self.work();
    }

    fn step(&mut self, clearing: bool) {
        let store = self.store;
        match self.rng.below(11) {
            0..3 => drop(store.switch(&spec(self.one_of(SPECS))).unwrap()),
            3 => {
                let current = store.manager().current().unwrap();
                let moves = 1 << self.rng.below(10);
                current.zpool().compact(zswap::CompactionBudget::moves(moves));
                current.zpool().trim();
            }
            4 => {
                // A limit that cannot be met at once is an error, which is allowed here.
                let _ =
                    store.set_limit(self.one_of(&[None, Some(MIB), Some(MIB / 2), Some(4 * MIB)]));
            }
            5 => {
                let how = [OnInsert::Work, OnInsert::Work, OnInsert::OutOfMemory, OnInsert::Panic];
                self.pool.on_insert(self.one_of(&how));
            }
            6 => {
                use OnCompress::{Expand, Fail, Panic, Work};
                self.codec.on_compress(self.one_of(&[Work, Work, Fail, Panic, Expand]));
            }
            7 => {
                use OnRead::{Cut, Fail, Flip, Panic, Work};
                self.pool.on_read(self.one_of(&[Work, Flip, Cut, Fail, Panic]));
            }
            8 => {
                use OnDecompress::{Fail, Panic, Work};
                self.codec.on_decompress(self.one_of(&[Work, Fail, Panic]));
            }
            9 if clearing => store.clear(),
            _ => {
                self.work();
                let (keys, stats) = (store.keys().count(), store.stats());
                assert!(keys <= KEYS * THREADS as usize && stats.bytes_held() > 0);
            }
        }
    }

    fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.rng.below(these.len())]
    }

    fn work(&self) {
        self.pool.on_insert(OnInsert::Work);
        self.pool.on_read(OnRead::Work);
        self.codec.on_compress(OnCompress::Work);
        self.codec.on_decompress(OnDecompress::Work);
    }
}

/// Runs all threads until each has done its steps.
fn round(round: u64, owners: &mut [Owner<'_>], meddler: &mut Meddler<'_>) {
    let (clearing, done) = (round % 4 == 3, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| meddler.meddle(clearing, &done));
        let running: Vec<_> = owners
            .iter_mut()
            .map(|owner| {
                owner.clearing = clearing;
                scope.spawn(move || (1..=STEPS).for_each(|step| owner.step(round * STEPS + step)))
            })
            .collect();
        let ended: Vec<_> = running.into_iter().map(|owner| owner.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
}

/// Each thread finds what it stored last, unless the listener received it (I7).
#[test]
fn i7_threads_find_last_store_or_eviction() {
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        let (pool, codec, told) =
            (PoolScript::new(), CodecScript::new(), Arc::<Mutex<Tally>>::default());
        let listener = told.clone();
        let store = scripted(pool.clone(), codec.clone())
            .max_value_len(16 << 10)
            .limit_bytes(usize::MAX)
            .at_limit(at_limit)
            .checksums(true);
        let listens = move |&key: &u64, len| {
            *listener.lock().unwrap().entry((key, len)).or_default() += 1;
            assert!(key % 50 != 7, "a listener that panics now and then");
        };
        let store = if at_limit == AtLimit::Evict { store.on_evict(listens) } else { store };
        let store = store.build().unwrap();
        let owner = |thread| Owner {
            store: &store,
            first: thread << 32,
            clearing: false,
            model: HashMap::new(),
            missed: Tally::new(),
            unknown: Tally::new(),
            failed: 0,
            rng: TestRng::new(thread + 1),
        };
        let mut owners: Vec<_> = (0..THREADS).map(owner).collect();
        let mut meddler =
            Meddler { store: &store, pool: &pool, codec: &codec, rng: TestRng::new(77) };
        let began = Instant::now();
        let happened = || has_happened(&store.stats(), at_limit);
        for number in (0..).take_while(|&number| !is_over(number, began, happened)) {
            round(number, &mut owners, &mut meddler);
            let told = std::mem::take(&mut *told.lock().unwrap());
            assert!(at_limit == AtLimit::Evict || told.is_empty(), "{told:?}");
            owners.iter_mut().for_each(|owner| owner.settle(&told));
            check_books(&store);
        }
        let (stats, failed) = (store.stats(), owners.iter().map(|owner| owner.failed).sum());
        assert_eq!(
            (stats.decompress_failed + stats.read_failed, stats.free_failed),
            (failed, 0),
            "{stats}"
        );
        assert!(has_happened(&stats, at_limit), "{stats}");
        assert!(stats.evicted == 0 || at_limit == AtLimit::Evict, "{stats}");
        store.clear();
        let _ = store.manager().flush();
        assert_eq!((store.stats().manager.pools_alive, pool.live()), (1, 0));
    }
}
