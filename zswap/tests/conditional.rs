//! Operations that look at the stored key: loads, stores and removals under a condition, advice to
//! the eviction clock, and loads of a part.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::common::codec::{CodecScript, OnDecompress};
use crate::common::pool::PoolScript;
use crate::common::{Constant, Look, TestRng, block, spec};
use zpool_lz4::Lz4Driver;
use zpool_zsmalloc::ZsmallocDriver;
use zswap::conditional::{Equivalent, EvictionAdvice, StoredIf};
use zswap::{AtLimit, Error, Store, StoreBuilder};

/// A key with a tag that is not compared.
#[derive(Debug, Clone, Copy)]
struct Tagged(u64, u64);

impl PartialEq for Tagged {
    fn eq(&self, other: &Tagged) -> bool {
        self.0 == other.0
    }
}

impl Eq for Tagged {}

impl Hash for Tagged {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// The key alone, for look-ups.
struct Number(u64);

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<Tagged> for Number {
    fn equivalent(&self, key: &Tagged) -> bool {
        self.0 == key.0
    }
}

fn builder() -> StoreBuilder<Tagged> {
    Store::builder()
        .spec(spec("zsmalloc+lz4"))
        .allocator(Arc::new(ZsmallocDriver))
        .compressor(Arc::new(Lz4Driver))
        .max_value_len(1 << 20)
}

/// Returns one value of each kind.
fn values() -> [Vec<u8>; 4] {
    [
        block(1, 4096, Look::Runs),
        block(2, 4096, Look::Noise),
        block(3, 4096, Look::SameFilled),
        block(4, 100_000, Look::Runs),
    ]
}

/// A conditional store replaces key and value together, or changes nothing and returns the key.
#[test]
fn store_if_replaces_key_and_value_together() {
    for old in values() {
        for new in values() {
            let store = builder().checksums(true).build().unwrap();
            store.store(Tagged(1, 10), &old).unwrap();
            let declined = store.store_if(Tagged(1, 11), &new, |stored, new| {
                assert_eq!((stored.map(|key| key.1), new.1), (Some(10), 11));
                false
            });
            assert!(matches!(declined, Ok(StoredIf::Declined { key: Tagged(1, 11) })));
            assert_eq!(store.load_vec(&Tagged(1, 0)).unwrap().as_ref(), Some(&old));
            let stored = store.store_if(Tagged(1, 12), &new, |_, _| true).unwrap();
            let StoredIf::Stored { replaced: Some((key, len)) } = stored else {
                panic!("{stored:?}")
            };
            assert_eq!((key.1, len), (10, old.len()));
            assert_eq!(store.with_key(&Number(1), |key, len| (key.1, len)), Some((12, new.len())));
            assert_eq!(
                store.load_vec_if(&Number(1), |key| key.1 == 12).unwrap(),
                Some(new.clone())
            );
            assert_eq!(store.load_vec_if(&Number(1), |key| key.1 == 10).unwrap(), None);
            let stats = store.stats();
            let objects: usize = stats.objects_by_pool.iter().map(|(_, objects)| objects).sum();
            assert_eq!((stats.entries, stats.stores, objects), (1, 2, stats.current.objects));
            assert_eq!(
                (stats.stored_bytes, stats.loads_hit, stats.loads_missed),
                (new.len(), 2, 1)
            );
        }
    }
}

/// A conditional store that fails leaves what was there, and returns its key.
#[test]
fn store_if_that_fails_changes_nothing() {
    let store = builder().max_value_len(4096).build().unwrap();
    store.store(Tagged(1, 10), b"there").unwrap();
    let failed = store.store_if(Tagged(1, 11), vec![0; 5000], |_, _| true).unwrap_err();
    assert_eq!((failed.key.1, failed.error), (11, Error::BlockTooLong { len: 5000, max: 4096 }));
    assert_eq!(store.with_key(&Number(1), |key, len| (key.1, len)), Some((10, 5)));
    assert_eq!(store.stats().rejected.bad_input, 1);
}

/// A condition that panics changes nothing, and the store stays usable.
#[test]
fn panicking_conditions_change_nothing() {
    let store = builder().build().unwrap();
    for (key, value) in values().iter().enumerate() {
        store.store(Tagged(key as u64, 0), value).unwrap();
    }
    let panics = |call: &mut dyn FnMut()| assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    for (key, value) in values().iter().enumerate() {
        let number = Number(key as u64);
        panics(&mut || drop(store.load_vec_if(&number, |_| panic!("admit"))));
        panics(&mut || assert!(store.remove_if(&number, |_, _| panic!("decide")).is_none()));
        panics(&mut || drop(store.remove_value_if(&number, |_| true, |_| panic!("decide"))));
        panics(&mut || drop(store.remove_value_if(&number, |_| panic!("admit"), |_| true)));
        panics(&mut || {
            drop(store.store_if(Tagged(key as u64, 1), b"new", |_, _| panic!("decide")));
        });
        panics(&mut || {
            assert!(store.with_key(&number, |_, _| -> u64 { panic!("look") }).is_none())
        });
        let tag = store.with_key(&number, |key, _| key.1);
        assert_eq!(
            (tag, store.load_vec_if(&number, |_| true).unwrap().as_ref()),
            (Some(0), Some(value))
        );
    }
    panics(&mut || assert_eq!(store.remove_where(|_| panic!("wanted"), |_, _| {}), 0));
    let stats = store.stats();
    let objects: usize = stats.objects_by_pool.iter().map(|(_, objects)| objects).sum();
    assert_eq!((stats.entries, stats.invalidated, objects), (4, 0, stats.current.objects));
}

/// A removal by content removes the value that was seen, and not a newer value of an equal key.
#[test]
fn remove_value_if_spares_newer_value() {
    for value in values() {
        let store = builder().build().unwrap();
        store.store(Tagged(1, 10), &value).unwrap();
        assert_eq!(store.remove_value_if(&Number(1), |_| true, |bytes| bytes != value), Ok(None));
        assert_eq!(store.remove_value_if(&Number(1), |key| key.1 == 11, |_| true), Ok(None));
        let newer = block(9, 3000, Look::Runs);
        let removed = store.remove_value_if(
            &Number(1),
            |_| true,
            |_| {
                store.store(Tagged(1, 11), &newer).unwrap();
                true
            },
        );
        assert_eq!((removed, store.load_vec(&Tagged(1, 0)).unwrap()), (Ok(None), Some(newer)));
        let removed = store.remove_value_if(&Number(1), |_| true, |bytes| bytes.len() == 3000);
        assert_eq!((removed.unwrap().map(|(_, len)| len), store.len()), (Some(3000), 0));
        assert_eq!(store.stats().current.objects, 0);
    }
}

/// A sweep removes all that are wanted and no others, however keys hash.
#[test]
fn remove_where_removes_exactly_what_is_wanted() {
    fn sweep<S: std::hash::BuildHasher>(store: &Store<Tagged, S>, keys: u64) {
        for key in 0..keys {
            store.store(Tagged(key, key % 3), key.to_le_bytes()).unwrap();
        }
        let mut gone = Vec::new();
        let removed = store.remove_where(|key| key.1 == 1, |key, len| gone.push((key.0, len)));
        gone.sort_unstable();
        let expected: Vec<_> = (0..keys).filter(|key| key % 3 == 1).map(|key| (key, 8)).collect();
        assert_eq!((removed, &gone), (expected.len(), &expected));
        assert!((0..keys).all(|key| store.contains(&Tagged(key, 0)) == (key % 3 != 1)));
        assert_eq!(store.remove_where(|_| true, |_, _| {}) as u64, keys - gone.len() as u64);
        assert!(store.is_empty() && store.stats().invalidated == keys);
    }
    sweep(&builder().build().unwrap(), 50_000);
    sweep(&builder().hasher(Constant).build().unwrap(), 2000);
}

/// Each key that a sweep removes is passed on, even if a closure panics. The panic waits for that,
/// and ends the sweep.
#[test]
fn panicking_sweep_passes_removed_keys_on() {
    const KEYS: u64 = 5000;
    for meters in [false, true] {
        for wanted_panics in [false, true] {
            let store = builder().thrash_meter(meters).build().unwrap();
            (0..KEYS).for_each(|key| store.store(Tagged(key, 0), key.to_le_bytes()).unwrap());
            let (mut asked, mut gone) = (0, Vec::new());
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                store.remove_where(
                    |_| {
                        asked += 1;
                        assert!(!wanted_panics || asked != 100, "a panic that waits");
                        true
                    },
                    |key, _| {
                        gone.push(key.0);
                        assert!(wanted_panics || gone.len() != 70, "a panic that waits");
                    },
                )
            }));
            assert!(panicked.is_err() && asked < 200, "{asked}");
            let is_gone = |key: &u64| !store.contains(&Tagged(*key, 0));
            gone.sort_unstable();
            assert_eq!(gone, (0..KEYS).filter(is_gone).collect::<Vec<_>>());
            let stats = store.stats();
            assert_eq!(stats.invalidated, gone.len() as u64);
            assert_eq!(stats.entries as u64, KEYS - stats.invalidated);
        }
    }
}

/// `clear_with` passes each key on once, and blocks stored meanwhile may stay.
#[test]
fn clear_with_passes_each_key_on() {
    let (store, kinds) = (builder().build().unwrap(), values());
    for round in 0..3 {
        for key in 0..5000u64 {
            store.store(Tagged(key, round), &kinds[key as usize % 4][..100]).unwrap();
        }
        store.store(Tagged(5000, round), &kinds[3]).unwrap();
        let (mut gone, mut bytes) = (Vec::new(), 0);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            store.clear_with(|key, len| {
                gone.push(key.0);
                bytes += len;
                assert!(key.0 != 7, "a panic that waits");
            });
        }));
        gone.sort_unstable();
        assert!(panicked.is_err() && gone == (0..=5000).collect::<Vec<_>>());
        let stats = store.stats();
        assert_eq!((stats.entries, stats.current.objects, bytes), (0, 0, 600_000));
    }
}

/// The clock takes at once what the advisor calls worthless, and never what is pinned.
#[test]
fn advice_orders_eviction() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let store = builder()
        .limit_bytes(2 << 20)
        .at_limit(AtLimit::Evict)
        .on_evict(|key: &Tagged, _| assert!(key.1 != 2, "pinned"))
        .eviction_advice(move |key| {
            counted.fetch_add(1, Ordering::Relaxed);
            match key.1 {
                1 => EvictionAdvice::AtOnce,
                2 => EvictionAdvice::Never,
                3 => panic!("an advisor's"),
                _ => EvictionAdvice::ByUse,
            }
        })
        .build()
        .unwrap();
    let mut key = 0;
    while store.stats().evicted < 300 {
        let tag = [0, 1, 2, 3][(key % 4) as usize];
        // Few are pinned, so that there is always something to evict.
        let tag = if tag == 2 && key > 400 { 0 } else { tag };
        store.store(Tagged(key, tag), block(key, 4096, Look::Noise)).unwrap();
        // All are warm, so that the hand takes none by its use in its first turns.
        (0..3).for_each(|_| drop(store.load_vec(&Tagged(key, 0)).unwrap()));
        key += 1;
    }
    assert!(asked.load(Ordering::Relaxed) >= 300);
    assert!((0..=400).filter(|key| key % 4 == 2).all(|key| store.contains(&Tagged(key, 0))));
    let left = |tag| {
        let keys = (0..key).filter(|key| key % 4 == tag);
        let left = keys.clone().filter(|key| store.contains(&Tagged(*key, 0))).count();
        left as f64 / keys.count() as f64
    };
    assert!(left(1) < 0.7 * left(0), "{} worthless and {} others left", left(1), left(0));
}

/// If everything is pinned, a call that needs room fails, and does not search for ever. An entry
/// that is no longer pinned is found, wherever the hand is.
#[test]
fn pinned_store_refuses_and_recovers() {
    let pinned = Arc::new(AtomicU64::new(0));
    let first = pinned.clone();
    let store = builder()
        .limit_bytes(1 << 20)
        .at_limit(AtLimit::Evict)
        .eviction_advice(move |key: &Tagged| {
            let pinned = key.0 >= first.load(Ordering::Relaxed);
            if pinned { EvictionAdvice::Never } else { EvictionAdvice::ByUse }
        })
        .build()
        .unwrap();
    let mut key = 0;
    let error = loop {
        match store.store(Tagged(key, 0), block(key, 4096, Look::Noise)) {
            Ok(()) => key += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert_eq!(store.len() as u64, key);
    // One entry after the other becomes evictable.
    for free in 1..50 {
        pinned.store(free, Ordering::Relaxed);
        let evicted = store.stats().evicted;
        while store.stats().evicted == evicted {
            let _ = store.store(Tagged(1_000_000, 0), block(free, 4096, Look::Noise));
            store.invalidate(&Tagged(1_000_000, 0));
            store.set_limit(Some(store.bytes_held() - 4096)).ok();
        }
        assert!(!(0..free).any(|key| store.contains(&Tagged(key, 0))));
    }
}

/// A loaded part of a value equals a slice of it, and only the blocks that it touches are
/// decompressed.
#[test]
fn load_range_decodes_touched_blocks_only() {
    let codec = CodecScript::new();
    let store = crate::common::scripted(PoolScript::new(), codec.clone())
        .max_value_len(1 << 20)
        .build()
        .unwrap();
    // Blocks 0 and 2 are compressed, block 1 is raw, and block 3 is same-filled.
    let looks = [Look::Runs, Look::Noise, Look::Runs, Look::SameFilled];
    let value: Vec<u8> =
        (1..).zip(looks).flat_map(|(seed, look)| block(seed, 4096, look)).collect();
    store.store(1, &value).unwrap();
    let mut rng = TestRng::new(5);
    let mut range = || {
        let (offset, len) = (rng.next() as usize % 17_000, rng.next() as usize % 5000);
        let mut buffer = vec![0; len];
        let read = store.load_range(&1, offset, &mut buffer);
        let end = value.len().min(offset + len);
        if let Ok(read) = &read {
            assert_eq!(&buffer[..read.unwrap()], value.get(offset..end).unwrap_or_default());
        }
        (offset..end, read.is_ok())
    };
    for _ in 0..300 {
        assert!(range().1);
    }
    codec.on_decompress(OnDecompress::Fail);
    for _ in 0..300 {
        let (touched, read) = range();
        let compressed =
            |block: usize| touched.start < (block + 1) * 4096 && touched.end > block * 4096;
        let decodes = !touched.is_empty() && (compressed(0) || compressed(2));
        assert_eq!(read, !decodes, "{touched:?}");
    }
}
