//! The store against a plain map: whatever is done to it, it gives back the block last stored, or nothing where nothing is stored (I7).
#![cfg(not(zpool_loom))]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::codec::{CodecScript, OnCompress};
use common::pool::{OnInsert, PoolScript};
use common::{Look, block, check_books, scripted, spec};
use proptest::prelude::*;

const KEYS: u64 = 24;
const MAX: usize = 1200;
const SPECS: &[&str] = &["scripted+rle", "scripted+lz4", "reference+rle", "zbud+lz4", "zsmalloc+lz4"];

#[derive(Debug, Clone)]
enum Step {
    Store(u64, u64, usize, Look),
    Load(u64),
    LoadShort(u64, usize),
    Take(u64),
    Invalidate(u64),
    Clear,
    Switch(usize),
    SetCompressor(usize),
    FailCompressor(OnCompress),
    FailAllocator(OnInsert),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let look = prop::sample::select(vec![Look::SameFilled, Look::Runs, Look::Noise]);
    let key = || 0..KEYS;
    // One longer than the longest, and the empty one, now and then.
    let len = prop_oneof![20 => 1..=MAX, 1 => Just(0), 1 => Just(MAX + 1)];
    let compress =
        prop::sample::select(vec![OnCompress::Work, OnCompress::Fail, OnCompress::Panic, OnCompress::Expand]);
    let insert = prop::sample::select(vec![OnInsert::Work, OnInsert::OutOfMemory, OnInsert::Panic]);
    prop_oneof![
        20 => (key(), any::<u64>(), len, look).prop_map(|(k, seed, len, look)| Step::Store(k, seed, len, look)),
        10 => key().prop_map(Step::Load),
        2 => (key(), 0..MAX).prop_map(|(key, len)| Step::LoadShort(key, len)),
        5 => key().prop_map(Step::Take),
        5 => key().prop_map(Step::Invalidate),
        1 => Just(Step::Clear),
        4 => (0..SPECS.len()).prop_map(Step::Switch),
        2 => (0..2usize).prop_map(Step::SetCompressor),
        2 => compress.prop_map(Step::FailCompressor),
        2 => insert.prop_map(Step::FailAllocator),
        1 => Just(Step::Flush),
    ]
}

/// A store, its model, and what tells its plug-ins to fail.
struct Rig {
    store: zswap::Store<u64>,
    model: HashMap<u64, Vec<u8>>,
    pool: Arc<PoolScript>,
    codec: Arc<CodecScript>,
}

impl Rig {
    fn new() -> Rig {
        let (pool, codec) = (PoolScript::new(), CodecScript::new());
        let store = scripted(pool.clone(), codec.clone()).block_size(MAX).build().unwrap();
        Rig { store, model: HashMap::new(), pool, codec }
    }

    fn step(&mut self, step: Step) {
        let (store, model) = (&self.store, &mut self.model);
        match step {
            Step::Store(key, seed, len, look) => {
                let block = block(seed, len, look);
                match store.store(key, &block) {
                    Ok(()) => drop(model.insert(key, block)),
                    Err(error) => {
                        assert_eq!(error.key, key);
                        model.remove(&key);
                    }
                }
            }
            Step::Load(key) => assert_eq!(store.load_vec(&key).unwrap().as_ref(), model.get(&key)),
            Step::LoadShort(key, len) => {
                let (mut buffer, expected) = (vec![0; len], model.get(&key));
                match store.load(&key, &mut buffer) {
                    Ok(found) => {
                        assert_eq!(found, expected.map(Vec::len));
                        assert!(expected.is_none_or(|block| buffer.starts_with(block)));
                    }
                    Err(error) => {
                        let needed = expected.expect("there is a block").len();
                        assert!(needed > len, "{error}");
                    }
                }
            }
            Step::Take(key) => assert_eq!(store.take_vec(&key).unwrap(), model.remove(&key)),
            Step::Invalidate(key) => assert_eq!(store.invalidate(&key), model.remove(&key).is_some()),
            Step::Clear => {
                store.clear();
                model.clear();
            }
            Step::Switch(to) => {
                store.switch(&spec(SPECS[to])).unwrap();
            }
            Step::SetCompressor(to) => {
                store.set_compressor(&["rle", "lz4"][to].parse().unwrap()).unwrap();
            }
            Step::FailCompressor(how) => self.codec.on_compress(how),
            Step::FailAllocator(how) => self.pool.on_insert(how),
            Step::Flush => store.manager().flush().unwrap(),
        }
    }

    fn check(&self) {
        for key in 0..KEYS {
            assert_eq!(self.store.load_vec(&key).unwrap().as_ref(), self.model.get(&key));
            assert_eq!(self.store.len_of(&key), self.model.get(&key).map(Vec::len));
        }
        assert_eq!(self.store.len(), self.model.len());
        check_books(&self.store);
        self.store.manager().current().unwrap().zpool().validate().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i7_the_store_does_what_a_map_does(steps in prop::collection::vec(step(), 1..150)) {
        let mut rig = Rig::new();
        for (n, step) in steps.into_iter().enumerate() {
            rig.step(step);
            if n % 16 == 0 {
                rig.check();
            }
        }
        rig.check();
        rig.store.clear();
        rig.store.manager().flush().unwrap();
        prop_assert_eq!(rig.store.stats().manager.pools_alive, 1);
        prop_assert_eq!(rig.pool.live(), 0);
        let Rig { store, pool, .. } = rig;
        drop(store);
        prop_assert_eq!(pool.dropped_with_objects.load(Ordering::SeqCst), 0);
    }
}
