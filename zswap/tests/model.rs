//! The store against a plain map: a load returns the block last stored, or nothing if nothing is
//! stored (I7). In a store that evicts, it also returns nothing for keys that the listener
//! received.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::common::codec::{CodecScript, OnCompress};
use crate::common::pool::{OnInsert, PoolScript};
use crate::common::{Look, block, check_books, scripted, spec};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use zswap::CompactionBudget;
use zswap::{AtLimit, Error};

const KEYS: u64 = 32;
const BLOCK: usize = 1200;
const LONGEST: usize = 4 * BLOCK;
const SPECS: &[&str] =
    &["scripted+rle", "scripted+lz4", "reference+rle", "zbud+lz4", "zsmalloc+lz4"];
/// From about what a store without blocks holds to about what all keys need.
const LIMITS: &[Option<usize>] =
    &[None, Some(48 << 10), Some(64 << 10), Some(96 << 10), Some(128 << 10)];

/// An item to store: key, seed, length, and how it looks.
type Item = (u64, u64, usize, Look);

#[derive(Debug, Clone)]
enum Step {
    Store(Item),
    StoreMany(Vec<Item>),
    Load(u64),
    LoadWith(u64),
    LoadMany(Vec<u64>),
    LoadShort(u64, usize),
    Peek(u64),
    Take(u64),
    Invalidate(u64),
    /// Keeps keys whose remainder by the second number is not the first.
    Retain(u64, u64),
    Clear,
    Switch(usize),
    SetCompressor(usize),
    SetLimit(usize),
    Compact(usize),
    Trim,
    FailCompressor(OnCompress),
    FailAllocator(OnInsert),
    Flush,
}

fn item() -> impl Strategy<Value = Item> {
    let look = prop::sample::select(vec![Look::SameFilled, Look::Runs, Look::Noise]);
    // Longer than a block; one longer than the longest, and the empty one, now and then.
    let (empty, too_long) = (Just(0), Just(LONGEST + 1));
    let len = prop_oneof![20 => 1..=BLOCK, 4 => BLOCK + 1..=LONGEST, 1 => empty, 1 => too_long];
    (0..KEYS, any::<u64>(), len, look)
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    let compress = prop::sample::select(vec![
        OnCompress::Work,
        OnCompress::Fail,
        OnCompress::Panic,
        OnCompress::Expand,
    ]);
    let insert = prop::sample::select(vec![OnInsert::Work, OnInsert::OutOfMemory, OnInsert::Panic]);
    prop_oneof![
        20 => item().prop_map(Step::Store),
        5 => prop::collection::vec(item(), 0..12).prop_map(Step::StoreMany),
        6 => key().prop_map(Step::Load),
        2 => key().prop_map(Step::LoadWith),
        3 => prop::collection::vec(key(), 0..20).prop_map(Step::LoadMany),
        2 => (key(), 0..LONGEST).prop_map(|(key, len)| Step::LoadShort(key, len)),
        4 => key().prop_map(Step::Peek),
        5 => key().prop_map(Step::Take),
        5 => key().prop_map(Step::Invalidate),
        2 => (0..6u64, 6..9u64).prop_map(|(which, of)| Step::Retain(which, of)),
        1 => Just(Step::Clear),
        4 => (0..SPECS.len()).prop_map(Step::Switch),
        2 => (0..2usize).prop_map(Step::SetCompressor),
        4 => (0..LIMITS.len()).prop_map(Step::SetLimit),
        2 => (0..40usize).prop_map(Step::Compact),
        2 => Just(Step::Trim),
        2 => compress.prop_map(Step::FailCompressor),
        2 => insert.prop_map(Step::FailAllocator),
        1 => Just(Step::Flush),
    ]
}

/// A store, its model, and the scripts that make its plug-ins fail.
struct Rig {
    store: zswap::Store<u64>,
    model: HashMap<u64, Vec<u8>>,
    /// Calls of the listener during this step: key and length.
    told: Arc<Mutex<Vec<(u64, usize)>>>,
    /// Items that this step replaced in the model, which may have been evicted before.
    replaced: Vec<(u64, usize)>,
    evicted: u64,
    full: u64,
    pool: Arc<PoolScript>,
    codec: Arc<CodecScript>,
}

impl Rig {
    fn new(at_limit: AtLimit) -> Rig {
        let (pool, codec, told) =
            (PoolScript::new(), CodecScript::new(), Arc::<Mutex<Vec<_>>>::default());
        let listener = told.clone();
        let store = scripted(pool.clone(), codec.clone())
            .block_size(BLOCK)
            .max_value_len(LONGEST)
            .limit_bytes(usize::MAX)
            .at_limit(at_limit);
        let store = match at_limit {
            AtLimit::Evict => {
                store.on_evict(move |&key, len| listener.lock().unwrap().push((key, len)))
            }
            _ => store,
        };
        let store = store.build().unwrap();
        Rig {
            store,
            model: HashMap::new(),
            told,
            replaced: Vec::new(),
            evicted: 0,
            full: 0,
            pool,
            codec,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Store(item) => {
                let (key, block) = self.blocks(vec![item]).remove(0);
                let result = self.store.store(key, &block);
                self.stored(key, block, result);
            }
            Step::StoreMany(items) => {
                let blocks = self.blocks(items);
                let items = blocks.iter().map(|(key, block)| (*key, block.as_slice()));
                let results = self.store.store_many(items);
                assert_eq!(results.len(), blocks.len());
                blocks
                    .into_iter()
                    .zip(results)
                    .for_each(|((k, block), result)| self.stored(k, block, result));
            }
            Step::Take(key) => {
                assert_eq!(self.store.take_vec(&key).unwrap(), self.model.remove(&key))
            }
            Step::Invalidate(key) => {
                assert_eq!(self.store.invalidate(&key), self.model.remove(&key).is_some());
            }
            Step::Retain(which, of) => self.retain(|key| key % of != which),
            Step::Clear => {
                self.store.clear();
                self.model.clear();
            }
            // The bytes that cannot be evicted may exceed the limit by themselves.
            Step::SetLimit(to) => match self.store.set_limit(LIMITS[to]) {
                Ok(()) => {}
                Err(Error::Full { .. }) => assert!(self.store.is_empty()),
                Err(error) => panic!("{error}"),
            },
            Step::FailCompressor(how) => self.codec.on_compress(how),
            Step::FailAllocator(how) => self.pool.on_insert(how),
            other => self.look(other),
        }
        self.settle();
    }

    /// Runs a step that removes and stores nothing.
    fn look(&self, step: Step) {
        let (store, model) = (&self.store, &self.model);
        let current = || store.manager().current().expect("there is always one");
        match step {
            Step::Load(key) => assert_eq!(store.load_vec(&key).unwrap().as_ref(), model.get(&key)),
            Step::LoadWith(key) => {
                let found = store.load_with(&key, <[u8]>::to_vec).unwrap();
                assert_eq!(found.as_ref(), model.get(&key));
            }
            Step::LoadMany(keys) => {
                let mut buffers = vec![[0; LONGEST]; keys.len()];
                let results = store.load_many(&keys, &mut buffers);
                assert_eq!(results.len(), keys.len());
                for (key, (result, buffer)) in keys.iter().zip(results.into_iter().zip(&buffers)) {
                    let found = result.unwrap().map(|len| &buffer[..len]);
                    assert_eq!(found, model.get(key).map(Vec::as_slice));
                }
            }
            Step::LoadShort(key, len) => {
                let (mut buffer, expected) = (vec![0; len], model.get(&key));
                match store.load(&key, &mut buffer) {
                    Ok(found) => {
                        assert_eq!(found, expected.map(Vec::len));
                        assert!(expected.is_none_or(|block| buffer.starts_with(block)));
                    }
                    Err(error) => {
                        let needed = expected.expect("there is a block").len();
                        assert_eq!(error, Error::BufferTooSmall { needed, given: len });
                        assert!(needed > len);
                    }
                }
            }
            Step::Peek(key) => assert_eq!(store.peek_vec(&key).unwrap().as_ref(), model.get(&key)),
            Step::Switch(to) => drop(store.switch(&spec(SPECS[to])).unwrap()),
            Step::SetCompressor(to) => {
                store.set_compressor(&["rle", "lz4"][to].parse().unwrap()).unwrap();
            }
            Step::Compact(moves) => drop(current().zpool().compact(CompactionBudget::moves(moves))),
            Step::Trim => drop(current().zpool().trim()),
            Step::Flush => store.manager().flush().unwrap(),
            other => unreachable!("{other:?} is none of these"),
        }
    }

    /// Returns the blocks of these items. Blocks under one key have different lengths, so that a
    /// call of the listener identifies the block.
    fn blocks(&self, items: Vec<Item>) -> Vec<(u64, Vec<u8>)> {
        let mut blocks: Vec<(u64, Vec<u8>)> = Vec::new();
        for (key, seed, mut len, look) in items {
            let others = self.model.get(&key).into_iter().map(Vec::len);
            let others = others
                .chain(blocks.iter().filter(|(other, _)| *other == key).map(|(_, b)| b.len()));
            let others: Vec<usize> = others.collect();
            while len <= LONGEST && others.contains(&len) {
                len = (1 + len) % (LONGEST + 1);
            }
            blocks.push((key, block(seed, len, look)));
        }
        blocks
    }

    fn stored(&mut self, key: u64, block: Vec<u8>, result: Result<(), Error>) {
        let before = match result {
            Ok(()) => self.model.insert(key, block),
            Err(error) => {
                match error {
                    Error::BlockTooLong { len, max } => {
                        assert!((len, max) == (LONGEST + 1, LONGEST))
                    }
                    Error::Full { held, limit, .. } => {
                        assert!(Some(limit) == self.store.limit_bytes() && held >= limit * 9 / 10);
                        self.full += 1;
                    }
                    Error::Codec(_) | Error::Pool(_) | Error::AllocatorPanicked(_) => {}
                    other => panic!("{other}"),
                }
                self.model.remove(&key)
            }
        };
        self.replaced.extend(before.map(|before| (key, before.len())));
    }

    fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        let (model, mut asked) = (&self.model, Vec::new());
        let removed = self.store.retain(|&key, len| {
            assert_eq!(Some(len), model.get(&key).map(Vec::len));
            asked.push(key);
            keep(key)
        });
        asked.sort_unstable();
        let before = self.keys();
        assert_eq!(asked, before);
        self.model.retain(|&key, _| keep(key));
        assert_eq!(removed, before.len() - self.model.len());
    }

    fn keys(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = self.model.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Checks that each evicted item was there, reached the listener once, and is no longer there.
    fn settle(&mut self) {
        for told in std::mem::take(&mut *self.told.lock().unwrap()) {
            self.evicted += 1;
            let (key, len) = told;
            if self.model.get(&key).is_some_and(|block| block.len() == len) {
                self.model.remove(&key);
            } else {
                let replaced = self.replaced.iter().position(|&replaced| replaced == told);
                self.replaced.swap_remove(replaced.unwrap_or_else(|| panic!("told of {told:?}")));
            }
        }
        self.replaced.clear();
    }

    fn check(&self) {
        for key in 0..KEYS {
            assert_eq!(self.store.peek_vec(&key).unwrap().as_ref(), self.model.get(&key));
            assert_eq!(self.store.len_of(&key), self.model.get(&key).map(Vec::len));
        }
        let mut keys: Vec<u64> = self.store.keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, self.keys());
        check_books(&self.store);
        let stats = self.store.stats();
        assert_eq!((stats.evicted, stats.rejected.full), (self.evicted, self.full));
        assert_eq!(stats.stored_bytes, self.model.values().map(Vec::len).sum());
        self.store.manager().current().unwrap().zpool().validate().unwrap();
    }
}

/// Runs this number of lists of steps. Returns how many blocks were evicted, and how many refused
/// because the store was full.
fn run(at_limit: AtLimit, cases: u32) -> (u64, u64) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let (evicted, full) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let outcome = TestRunner::new(config).run(&prop::collection::vec(step(), 1..150), |steps| {
        let mut rig = Rig::new(at_limit);
        for (n, step) in steps.into_iter().enumerate() {
            rig.step(step);
            if n % 16 == 0 {
                rig.check();
            }
        }
        rig.check();
        rig.store.clear();
        rig.store.manager().flush().unwrap();
        prop_assert_eq!((rig.store.stats().manager.pools_alive, rig.pool.live()), (1, 0));
        evicted.set(evicted.get() + rig.evicted);
        full.set(full.get() + rig.full);
        let Rig { store, pool, .. } = rig;
        drop(store);
        prop_assert_eq!(pool.dropped_with_objects.load(Ordering::SeqCst), 0);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    (evicted.get(), full.get())
}

#[test]
fn i7_a_store_that_refuses_does_what_a_map_does() {
    let (evicted, full) = run(AtLimit::Refuse, 128);
    assert_eq!(evicted, 0);
    assert!(full > 0, "no limit was reached");
}

/// A store that evicts equals a map, except for what its listener received (I7).
#[test]
fn i7_evicting_store_equals_map() {
    let (evicted, _) = run(AtLimit::Evict, 128);
    assert!(evicted > 0, "no limit was reached");
}
