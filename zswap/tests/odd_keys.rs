//! Keys that break the rules: they do not equal themselves, or panic when they are dropped or
//! cloned.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::common::codec::{CodecScript, RleDriver};
use crate::common::pool::{PoolScript, ScriptedDriver};
use crate::common::{Constant, Look, block, spec};
use zswap::drain::{DrainBudget, DrainEnd};
use zswap::{Store, StoreBuilder, StoreStats};

/// Returns a builder over the scripted allocator, for keys of any kind.
fn builder<K>(pool: &Arc<PoolScript>) -> StoreBuilder<K> {
    Store::builder()
        .spec(spec("scripted+rle"))
        .allocator(Arc::new(ScriptedDriver {
            inner: Arc::new(zpool_conformance::ReferenceDriver),
            script: pool.clone(),
        }))
        .compressor(Arc::new(RleDriver { script: CodecScript::new() }))
        .max_value_len(1 << 16)
}

/// A number that equals itself if it is even.
#[derive(Debug, Clone)]
struct Nan(u64);

impl PartialEq for Nan {
    fn eq(&self, other: &Nan) -> bool {
        self.0 == other.0 && self.0.is_multiple_of(2)
    }
}
impl Eq for Nan {}
impl Hash for Nan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Returns a compressed, raw, same-filled, empty or large block, by key.
fn value(key: u64) -> Vec<u8> {
    match key % 10 / 2 {
        0 => block(key, 900, Look::Runs),
        1 => block(key, 900, Look::Noise),
        2 => vec![9; 500],
        3 => Vec::new(),
        _ => block(key, 9000, Look::Runs),
    }
}

/// A drain finds values whose keys do not equal themselves.
#[test]
fn drain_nan_keys_moves_all() {
    let pool = PoolScript::new();
    let store = builder(&pool).checksums(true).build().unwrap();
    (0..300).for_each(|key| store.store(Nan(key), value(key)).unwrap());
    let before = store.stats();
    store.switch(&spec("scripted+rle(other=1)")).unwrap();
    let report = store.drain(DrainBudget::UNLIMITED);
    assert_eq!((report.end, report.remaining, report.changed), (DrainEnd::Empty, 0, 0));
    assert!(report.moved >= before.stored_compressed + before.stored_raw);
    let after = store.stats();
    let kinds =
        |stats: &StoreStats| (stats.stored_compressed, stats.stored_raw, stats.large_values);
    assert_eq!((after.entries, after.stored_bytes), (300, before.stored_bytes));
    assert_eq!(kinds(&after), kinds(&before));
    for key in (0..300).step_by(2) {
        assert!(store.load_vec(&Nan(key)).unwrap() == Some(value(key)), "key {key}");
    }
    assert_eq!(store.retain(|_, _| false), 300);
    assert_eq!((pool.live(), store.stats().payload_bytes), (0, 0));
}

#[test]
fn retain_nan_keys_removes_what_keep_says() {
    let pool = PoolScript::new();
    let store = builder(&pool).checksums(true).build().unwrap();
    for key in 0..600 {
        store.store(Nan(key), value(key)).unwrap();
        assert_eq!(store.contains(&Nan(key)), key.is_multiple_of(2));
    }
    let mut asked = Vec::new();
    let mut kept = store.retain(|key, len| {
        assert_eq!(len, value(key.0).len());
        asked.push(key.0);
        key.0 % 3 != 0
    });
    asked.sort_unstable();
    assert_eq!((asked, kept, store.len()), ((0..600).collect(), 200, 400));
    let mut keys: Vec<u64> = store.keys().map(|key| key.0).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..600).filter(|key| key % 3 != 0).collect::<Vec<_>>());
    let stats = store.stats();
    assert_eq!((stats.stores, stats.invalidated, stats.entries), (600, 200, 400));
    assert_eq!(stats.stored_bytes, keys.iter().map(|&key| value(key).len()).sum::<usize>());
    kept = store.retain(|_, _| false);
    assert_eq!((kept, store.len(), store.stats().entries, pool.live()), (400, 0, 0, 0));
    assert_eq!(store.stats().stored_bytes, 0);
}

/// `retain` removes all even if they have one hash and lie in one run of one table, and many are
/// stored under one key.
#[test]
fn retain_nan_keys_of_one_hash_removes_all() {
    let pool = PoolScript::new();
    let store: Store<Nan, Constant> = builder(&pool).hasher(Constant).build().unwrap();
    for n in 0..60 {
        store.store(Nan(n % 7), [n as u8; 100]).unwrap();
    }
    // Of 60, each of 1, 3 and 5 stays in addition to the others; each of 0, 2, 4 and 6 replaces the
    // one before it.
    assert_eq!(store.len(), 9 + 9 + 8 + 4);
    assert_eq!(store.retain(|key, _| key.0 == 3 || key.0 == 4), 9 + 8 + 3);
    assert_eq!((store.len(), store.load_vec(&Nan(4)).unwrap()), (10, Some(vec![53; 100])));
    assert_eq!((store.retain(|_, _| false), store.len()), (10, 0));
}

/// A `keep` that panics loses nothing: neither the entry that it is asked about nor the following
/// ones.
#[test]
fn retain_nan_keys_panicking_keep_loses_nothing() {
    let pool = PoolScript::new();
    let store: Store<Nan> = builder(&pool).build().unwrap();
    (0..100).for_each(|key| store.store(Nan(2 * key + 1), value(2 * key + 1)).unwrap());
    for fuse in [0, 1, 50, 99] {
        let mut asked = 0;
        let retaining = AssertUnwindSafe(|| {
            store.retain(|_, _| {
                asked += 1;
                assert!(asked <= fuse, "a closure that panics");
                true
            })
        });
        catch_unwind(retaining).unwrap_err();
        let mut keys: Vec<u64> = store.keys().map(|key| key.0).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..100).map(|key| 2 * key + 1).collect::<Vec<_>>());
        assert_eq!((store.stats().entries, store.stats().invalidated), (100, 0));
    }
    // `keep` may use the store meanwhile.
    let mut stored = 0;
    let removed = store.retain(|key, _| {
        stored += 1;
        store.store(Nan(1_000 + 2 * stored), value(key.0)).unwrap();
        key.0 >= 1_000
    });
    assert_eq!(removed, 100);
    store.clear();
    assert_eq!(pool.live(), 0);
}

thread_local! {
    /// The number of drops of keys before one panics; -1: none panics.
    static FUSE: Cell<i64> = const { Cell::new(-1) };
    /// The number of drops that panic from then on.
    static PANICS: Cell<i64> = const { Cell::new(0) };
}

fn panic_at(fuse: i64, panics: i64) {
    FUSE.set(fuse);
    PANICS.set(panics);
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Fused(u64);

impl Drop for Fused {
    fn drop(&mut self) {
        if FUSE.get() > 0 {
            FUSE.set(FUSE.get() - 1);
        } else if FUSE.get() == 0 && PANICS.get() > 0 {
            PANICS.set(PANICS.get() - 1);
            panic!("a key whose drop panics");
        }
    }
}

fn fused(pool: &Arc<PoolScript>) -> Store<Fused> {
    let store = builder(pool).build().unwrap();
    (0..200).for_each(|key| store.store(Fused(key), value(key)).unwrap());
    store
}

/// `clear` removes everything although keys panic, and raises the first panic.
#[test]
fn clear_panicking_key_drops_removes_all() {
    for (fuse, panics) in [(0, 1), (100, 1), (199, 1), (0, 200), (50, 7)] {
        let pool = PoolScript::new();
        let store = fused(&pool);
        panic_at(fuse, panics);
        let panic = catch_unwind(AssertUnwindSafe(|| store.clear())).unwrap_err();
        assert_eq!((FUSE.replace(-1), PANICS.get()), (0, 0));
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a key whose drop panics"));
        let stats = store.stats();
        assert_eq!(
            (store.len(), stats.entries, stats.stored_bytes, stats.invalidated),
            (0, 0, 0, 200)
        );
        assert_eq!((pool.live(), stats.free_failed), (0, 0));
        store.store(Fused(1), value(1)).unwrap();
        assert_eq!(store.load_vec(&Fused(1)).unwrap(), Some(value(1)));
    }
}

/// Dropping the store also drops everything, even while the thread unwinds.
#[test]
fn drop_store_panicking_key_drops_all() {
    for unwinding in [false, true] {
        let pool = PoolScript::new();
        let store = fused(&pool);
        panic_at(3, 150);
        let dropping = AssertUnwindSafe(|| {
            let _store = store;
            assert!(!unwinding, "the caller's");
        });
        let panic = catch_unwind(dropping).unwrap_err();
        FUSE.set(-1);
        let expected = if unwinding { "the caller's" } else { "a key whose drop panics" };
        assert_eq!(panic.downcast_ref::<&str>(), Some(&expected));
        // The pool was destroyed with its objects.
        let gone = pool.dropped_with_objects.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!((PANICS.get(), gone), (0, 1));
    }
}

/// A key that panics when it is dropped has still been replaced, removed or taken, and is counted
/// so.
#[test]
fn key_drop_panics_keeps_accounts() {
    type Call = fn(&Store<Fused>);
    let calls: [(&str, Call, usize); 4] = [
        ("store", |store| drop(store.store(Fused(1), value(2))), 200),
        (
            "invalidate",
            |store| assert!(store.invalidate(&std::mem::ManuallyDrop::new(Fused(1)))),
            199,
        ),
        ("take", |store| drop(store.take_vec(&std::mem::ManuallyDrop::new(Fused(1)))), 199),
        ("retain", |store| assert!(store.retain(|_, _| false) > 0), 199),
    ];
    for (name, call, left) in calls {
        let pool = PoolScript::new();
        let store = fused(&pool);
        panic_at(0, 1);
        catch_unwind(AssertUnwindSafe(|| call(&store))).unwrap_err();
        FUSE.set(-1);
        let stats = store.stats();
        assert_eq!((store.len(), stats.entries), (left, left), "{name}");
        let objects: usize = stats.objects_by_pool.iter().map(|(_, objects)| objects).sum();
        assert_eq!((pool.live(), stats.free_failed), (objects as isize, 0), "{name}");
        let newest = |key: u64| if name == "store" && key == 1 { value(2) } else { value(key) };
        let found = (0..200).filter(|&key| match store.load_vec(&Fused(key)).unwrap() {
            Some(bytes) => bytes == newest(key),
            None => false,
        });
        assert_eq!(found.count(), left, "{name}");
        store.clear();
        assert_eq!((pool.live(), store.stats().stored_bytes), (0, 0), "{name}");
    }
}
