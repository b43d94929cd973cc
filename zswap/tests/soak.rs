//! Long random runs over orders of keys and kinds of hashes, limits that change, stores that were
//! full, and many retired pools. Bounded here; `ci/soak.sh` runs each part for a chosen time.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Look, TestRng, block, builder, check_books, spec};
use zswap::plugin::Inline;
use zswap::{AtLimit, Store};

const MIB: usize = 1 << 20;

/// 2^64 over the golden ratio: a multiplier that spreads numbers (Knuth).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The most equal hashes: any index has a bound for these, and the bound of this one is far higher.
const EQUAL: u64 = 32;

/// One round: its seed, for messages; the numbers that follow from it; and whether it may be large.
struct Round {
    seed: u64,
    rng: TestRng,
    large: bool,
}

impl Round {
    /// Returns `small`, or `large` in a long run.
    fn size(&self, small: usize, large: usize) -> usize {
        if self.large { large } else { small }
    }
}

/// Runs `rounds` small rounds, or large ones for `ZSWAP_SOAK_SECONDS`, which begin with a random
/// seed.
fn soak(rounds: u64, run: impl Fn(Round)) {
    let seconds = std::env::var("ZSWAP_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let first = seconds.map_or(1, |_: u64| RandomState::new().hash_one(0) >> 32);
    let start = Instant::now();
    let is_over = |seed: u64| match seconds {
        Some(seconds) => start.elapsed() >= Duration::from_secs(seconds),
        None => seed >= first + rounds,
    };
    for seed in (first..).take_while(|&seed| !is_over(seed)) {
        run(Round { seed, rng: TestRng::new(seed), large: seconds.is_some() });
    }
}

/// Hashes as careless programs and hostile users make them.
#[derive(Debug, Clone, Copy)]
enum Hashes {
    /// The number itself.
    Identity,
    /// Multiples of a power of two: aligned addresses.
    Strided(u32),
    /// Only the highest bits differ, or only the lowest.
    High(u32),
    /// Groups of [`EQUAL`] keys have one hash.
    Equal,
    /// All in a narrow range of the hashes.
    Clustered(u64),
    /// As good as random.
    Mixed(u64),
}

#[derive(Debug, Clone, Copy)]
struct Chosen(Hashes, u64);

impl BuildHasher for Chosen {
    type Hasher = Chosen;

    fn build_hasher(&self) -> Chosen {
        *self
    }
}

impl Hasher for Chosen {
    fn finish(&self) -> u64 {
        match self.0 {
            Hashes::Identity => self.1,
            Hashes::Strided(bits) => self.1 << bits,
            Hashes::High(bits) => self.1.rotate_right(bits),
            Hashes::Equal => (self.1 / EQUAL).wrapping_mul(GOLDEN),
            Hashes::Clustered(from) => from.wrapping_add(self.1),
            Hashes::Mixed(by) => (self.1 ^ by).wrapping_mul(GOLDEN).rotate_left(29) ^ by,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.1 = self.1 << 8 | u64::from(byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.1 = key;
    }
}

fn hashes(rng: &mut TestRng) -> Chosen {
    let chosen = match rng.below(6) {
        0 => Hashes::Identity,
        1 => Hashes::Strided(rng.below(40) as u32),
        2 => Hashes::High(1 + rng.below(32) as u32),
        3 => Hashes::Equal,
        4 => Hashes::Clustered(rng.next()),
        _ => Hashes::Mixed(rng.next()),
    };
    Chosen(chosen, 0)
}

/// Stores `keys` into a new store in an order of its own: that of another store's index, its
/// reverse, or at random.
fn reorder(rng: &mut TestRng, keys: &mut [u64]) -> &'static str {
    match rng.below(3) {
        0 => "in the order of another store",
        1 => {
            keys.reverse();
            "in the reverse order of another store"
        }
        _ => {
            (1..keys.len()).for_each(|at| keys.swap(at, rng.below(at + 1)));
            "at random"
        }
    }
}

fn filled(hasher: Chosen, keys: impl IntoIterator<Item = u64>, what: &str) -> Store<u64, Chosen> {
    let store = builder().hasher(hasher).build().unwrap();
    for (number, key) in keys.into_iter().enumerate() {
        let stored = store.store(key, key.to_le_bytes());
        stored.unwrap_or_else(|error| panic!("{what}, store {number}: {error}"));
    }
    store
}

/// Whatever the hashes and the order, every store succeeds and every key is found, even after the
/// store was cleared and after keys were removed in the middle.
#[test]
fn soak_any_hashes_and_order_store_all() {
    soak(4, |mut round| {
        let most = round.size(2_000, 1_500_000);
        let (seed, rng) = (round.seed, &mut round.rng);
        let (hasher, count) = (hashes(rng), 1 + rng.below(most) as u64);
        let first = filled(hasher, 0..count, &format!("seed {seed}, {hasher:?}"));
        let mut keys: Vec<u64> = first.keys().collect();
        assert_eq!(keys.len() as u64, count, "seed {seed}, {hasher:?}");
        let what = format!("seed {seed}, {hasher:?}, {}", reorder(rng, &mut keys));
        let second = filled(hasher, keys.iter().copied(), &what);
        if rng.below(2) == 0 {
            second.clear();
            assert!(second.is_empty());
        }
        let stays = 1 + rng.below(7) as u64;
        second.retain(|&key, _| key % 7 < stays);
        for &key in &keys {
            let stored = second.store(key, key.to_le_bytes());
            stored.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        }
        for key in 0..count {
            assert_eq!(second.load_vec(&key).unwrap().unwrap(), key.to_le_bytes(), "{what}");
        }
        check_books(&second);
    });
}

/// A store that evicts refuses nothing that fits, however its limit changes, and holds what its
/// limit allows.
#[test]
fn soak_changing_limits_refuse_nothing() {
    soak(1, |mut round| {
        let (steps, stores) = (round.size(2, 8), round.size(4_000, 500_000));
        let (seed, rng) = (round.seed, &mut round.rng);
        let builder = builder().spec(spec("zsmalloc+lz4")).limit_bytes(8 * MIB);
        let store = builder.at_limit(AtLimit::Evict).build().unwrap();
        for step in 0..steps {
            let limit = (2 + rng.below(15)) * MIB;
            // An error means that eviction is not finished; later stores continue it.
            let _ = store.set_limit(Some(limit));
            let longest = 9 + rng.below(120);
            thread::scope(|scope| {
                for worker in 0..2 {
                    let (store, mut rng) = (&store, TestRng::new(rng.next()));
                    scope.spawn(move || {
                        for number in 0..stores {
                            let key = rng.next() << 1 | worker;
                            let block = block(key, 1 + rng.below(longest), Look::Noise);
                            let stored = store.store(key, &block);
                            stored.unwrap_or_else(|error| {
                                panic!("seed {seed}, step {step}, store {number}: {error}")
                            });
                        }
                    });
                }
            });
            let held = store.bytes_held();
            assert!(held <= limit + MIB / 2, "seed {seed}, step {step}: {held} of {limit}");
            assert!(store.len() > 1_000, "seed {seed}, step {step}: {} entries", store.len());
        }
        check_books(&store);
    });
}

/// How a full store is emptied.
#[derive(Debug, Clone, Copy)]
enum Removal {
    Invalidate,
    Clear,
    RetainNothing,
    /// Keeps one of five.
    RetainFew,
}

impl Removal {
    fn run(self, store: &Store<u64>) {
        let removed = match self {
            Removal::Invalidate => {
                store.keys().collect::<Vec<_>>().iter().filter(|key| store.invalidate(key)).count()
            }
            Removal::Clear => {
                store.clear();
                0
            }
            Removal::RetainNothing => store.retain(|_, _| false),
            Removal::RetainFew => store.retain(|key, _| key % 5 == 0),
        };
        assert!(removed > 0 || store.is_empty());
    }
}

/// A store that refuses at its limit takes blocks again once they were removed, with every executor
/// and allocator.
#[test]
fn soak_emptied_store_takes_blocks_again() {
    soak(2, |mut round| {
        let mib = round.size(1, 8);
        let (seed, rng) = (round.seed, &mut round.rng);
        let looks = [Look::SameFilled, Look::Runs, Look::Noise];
        let (look, longest) = (looks[rng.below(3)], [40, 400, 4096][rng.below(3)]);
        let text = ["zsmalloc+lz4", "zbud+lz4", "zsmalloc(compact=off)+lz4"][rng.below(3)];
        let limit = (1 + rng.below(mib)) * MIB;
        let plain = builder().spec(spec(text)).limit_bytes(limit).at_limit(AtLimit::Refuse);
        let inline = rng.below(2) == 0;
        let builder = if inline { plain.executor(Arc::new(Inline::new())) } else { plain };
        let store = builder.build().unwrap();
        let of = format!("{look:?} to {longest} bytes, limit {limit}");
        let what = format!("seed {seed}: {text}, inline {inline}, {of}");
        for turn in 0..3 {
            let mut key = 0;
            while store.store(key, block(key, 1 + rng.below(longest), look)).is_ok() {
                key += 1;
                assert!(key < 20_000_000, "{what}: a limit that limits nothing");
            }
            // Without compaction, holes stay, so only removing everything is enough.
            use Removal::{Clear, Invalidate, RetainFew, RetainNothing};
            let removals = [Invalidate, Clear, RetainNothing, RetainFew];
            let how = removals[rng.below(removals.len() - usize::from(text.contains("off")))];
            how.run(&store);
            let again = store.store(u64::MAX, block(key, longest, look));
            assert!(again.is_ok(), "{what}, turn {turn}, {how:?} of {key}: {again:?}");
            store.clear();
        }
        check_books(&store);
    });
}

/// Thousands of retired pools, each kept alive by a block, fail no store and lose no block.
#[test]
fn soak_many_retired_pools_fail_no_store() {
    soak(1, |mut round| {
        let least = round.size(60, 2_100);
        let (seed, rng) = (round.seed, &mut round.rng);
        let store = builder().revive(false).build().unwrap();
        let mut model = HashMap::new();
        let pools = (least + rng.below(least / 10)) as u64;
        for number in 0..pools {
            let allocator = ["zsmalloc", "zbud", "reference"][rng.below(3)];
            // The same spec twice in a row would be no switch.
            let codec = if number % 2 == 0 { "lz4" } else { "rle" };
            store.switch(&spec(&format!("{allocator}+{codec}"))).unwrap();
            let block = block(number, 200, Look::Runs);
            let stored = store.store(number, &block);
            stored.unwrap_or_else(|error| panic!("seed {seed}, pool {number}: {error}"));
            model.insert(number, block);
        }
        assert!(store.stats().manager.pools_alive >= least);
        for (key, block) in &model {
            assert_eq!(
                store.load_vec(key).unwrap().as_ref(),
                Some(block),
                "seed {seed}, key {key}"
            );
        }
        check_books(&store);
        store.clear();
        store.manager().flush().unwrap();
        assert_eq!(store.stats().manager.pools_alive, 1, "seed {seed}");
    });
}
