//! A listener that decides about evictions: what it is shown, what becomes of its answers, and what
//! happens to entries that change while it looks at them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::common::codec::CodecScript;
use crate::common::pool::{OnRead, PoolScript};
use crate::common::{Look, SPECS, block, builder, check_books, scripted, spec, stamped, unstamp};
use zswap::conditional::EvictionAdvice;
use zswap::{AtLimit, Error, EvictionDecision, Store, StoreBuilder};

const MIB: usize = 1 << 20;

pub(crate) fn evicting(text: &str, limit: usize) -> StoreBuilder<u64> {
    builder().spec(spec(text)).limit_bytes(limit).at_limit(AtLimit::Evict)
}

/// Lowers the limit below what an empty store holds, so that every entry is shown.
fn evict_all(store: &Store<u64>) -> Error {
    let empty = builder().build().unwrap().bytes_held();
    store.set_limit(Some(empty / 2)).unwrap_err()
}

/// Values of every kind: empty, same-filled, compressed, raw, and of several blocks.
fn values() -> Vec<Vec<u8>> {
    let runs = |len| block(1, len, Look::Runs);
    let noise = |len| block(2, len, Look::Noise);
    let mixed = [runs(4096), vec![7; 4096], noise(4096), runs(100)].concat();
    let long = [runs(4096 * 3), vec![0; 17]].concat();
    vec![vec![], vec![1], vec![7; 4096], runs(4000), noise(4096), noise(30), mixed, long]
}

/// Each candidate is decoded, and imported into another store, and both give the value. The other
/// store has it in the same form.
#[test]
fn candidates_of_every_kind_import_and_decode() {
    for (text, checksums) in SPECS.iter().flat_map(|text| [(text, false), (text, true)]) {
        let second = builder().spec(spec(text)).checksums(checksums).build().unwrap();
        let (behind, wrong) = (second.clone(), Arc::new(AtomicUsize::new(0)));
        let failed = wrong.clone();
        let store = evicting(text, usize::MAX)
            .checksums(checksums)
            .on_evict_with(move |&key, candidate| {
                let value = &values()[key as usize];
                let mut buffer = vec![0xEE; value.len() + 1];
                let decoded = candidate.decode(&mut buffer);
                let short =
                    value.len().checked_sub(1).map(|len| candidate.decode(&mut buffer[..len]));
                let right = decoded == Ok(value.len())
                    && (candidate.len(), candidate.is_empty()) == (value.len(), value.is_empty())
                    && candidate.decode_vec().as_ref() == Ok(value)
                    && short.is_none_or(|short| matches!(short, Err(Error::BufferTooSmall { .. })))
                    && buffer[value.len()] == 0xEE
                    && behind.import(key, candidate.blocks()).is_ok();
                failed.fetch_add(usize::from(!right), Ordering::Relaxed);
                EvictionDecision::Evict
            })
            .build()
            .unwrap();
        let mut forms = Vec::new();
        for (key, value) in (0..).zip(values()) {
            store.store(key, &value).unwrap();
            store.export(&key, |form| forms.push(format!("{key} {form:?}"))).unwrap();
        }
        evict_all(&store);
        assert_eq!((store.len(), wrong.load(Ordering::Relaxed)), (0, 0), "{text}");
        let mut imported = Vec::new();
        for (key, value) in (0..).zip(values()) {
            assert_eq!(second.load_vec(&key).unwrap(), Some(value), "{text}");
            second.export(&key, |form| imported.push(format!("{key} {form:?}"))).unwrap();
        }
        assert_eq!(imported, forms, "{text}");
        check_books(&store);
        check_books(&second);
    }
}

/// Kept entries stay, readable, and are shown again only after the hand has passed many others.
#[test]
fn kept_entries_stay_and_are_spared() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let store = evicting("zsmalloc+lz4", 4 * MIB)
        .on_evict_with(move |&key, _| {
            noted.lock().unwrap().push(key);
            match key % 10 {
                0 => EvictionDecision::Keep,
                _ => EvictionDecision::Evict,
            }
        })
        .build()
        .unwrap();
    // Some 1000 fit; 400 of these are kept.
    (0..4_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    for key in (0..4_000).step_by(10) {
        assert!(store.load_vec(&key).unwrap() == Some(block(key, 4000, Look::Noise)), "{key}");
    }
    let (asked, stats) = (asked.lock().unwrap(), store.stats());
    let mut latest = HashMap::new();
    for (now, key) in asked.iter().enumerate() {
        if let Some(before) = latest.insert(key, now) {
            assert!(now - before > 500, "{key} was shown as {before} and {now}");
        }
    }
    assert_eq!(stats.evicted + stats.evictions_kept, asked.len() as u64, "{stats}");
    assert!(stats.evicted > 2_000 && stats.evictions_kept > 100, "{stats}");
    check_books(&store);
}

/// If everything is kept, the store is full, says why, and has lost nothing. Once something may go,
/// there is room again.
#[test]
fn all_kept_store_is_full_and_loses_nothing() {
    let (keeps, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let (keeping, noted) = (keeps.clone(), asked.clone());
    let store = evicting("zsmalloc+lz4", 2 * MIB)
        .on_evict_with(move |&key, _| {
            noted.lock().unwrap().push(key);
            match keeping.load(Ordering::Relaxed) {
                true => EvictionDecision::Keep,
                false => EvictionDecision::Evict,
            }
        })
        .build()
        .unwrap();
    let page = |key| block(key, 4000, Look::Noise);
    let fills = |key: &u64| {
        asked.lock().unwrap().clear();
        store.store(*key, page(*key)).err()
    };
    let (refused, error) = (0..10_000).find_map(|key| fills(&key).map(|e| (key, e))).unwrap();
    let Error::Full { kept, .. } = error else { panic!("{error}") };
    assert!(
        error.to_string().contains(&format!("`on_evict_with` kept all {kept} entries")),
        "{error}"
    );
    assert!(refused > 300 && kept as u64 >= refused, "{kept} of {refused}");
    // Each was shown, and none more than twice.
    let mut times = HashMap::new();
    asked.lock().unwrap().iter().for_each(|key| *times.entry(*key).or_insert(0) += 1);
    assert!((0..refused).all(|key| (1..=2).contains(&times[&key])), "{times:?}");
    let error = store.set_limit(Some(MIB)).unwrap_err();
    assert!(matches!(error, Error::Full { kept, .. } if kept as u64 >= refused), "{error}");
    for key in 0..refused {
        assert!(store.load_vec(&key).unwrap() == Some(page(key)), "{key}");
    }
    assert_eq!((store.len() as u64, store.stats().evicted), (refused, 0));
    keeps.store(false, Ordering::Relaxed);
    store.store(refused, page(refused)).unwrap();
    assert!(store.stats().evicted > 0);
    check_books(&store);
}

pub(crate) const KEY: u64 = 3;
/// A listener that removes what it is shown makes room by that: not everything is shown.
#[test]
fn listener_that_removes_makes_room() {
    let itself: Arc<OnceLock<Store<u64>>> = Arc::default();
    let again = itself.clone();
    let store = evicting("zsmalloc+lz4", 2 * MIB)
        .on_evict_with(move |key, _| {
            assert!(again.get().unwrap().invalidate(key));
            EvictionDecision::Keep
        })
        .build()
        .unwrap();
    itself.set(store.clone()).unwrap();
    (0..3_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    let stats = store.stats();
    assert_eq!((stats.evicted, stats.evictions_kept, stats.listeners_panicked), (0, 0, 0));
    assert!(store.len() > 300 && stats.bytes_held() < 2 * MIB + (256 << 10), "{stats}");
    check_books(&store);
}

/// A panic of the listener keeps the entry, and is counted.
#[test]
fn panicking_listener_keeps_the_entry() {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a payload that panics");
        }
    }
    let gone: Arc<Mutex<Vec<u64>>> = Arc::default();
    let noted = gone.clone();
    let store = evicting("zsmalloc+lz4", 2 * MIB)
        .on_evict_with(move |&key, _| match key % 4 {
            0 if key < 800 => panic!("a listener that panics"),
            1 if key < 800 => std::panic::panic_any(Again),
            _ => {
                noted.lock().unwrap().push(key);
                EvictionDecision::Evict
            }
        })
        .build()
        .unwrap();
    let page = |key| block(key, 4000, Look::Noise);
    (0..2_000).for_each(|key| store.store(key, page(key)).unwrap());
    let (gone, stats) = (gone.lock().unwrap(), store.stats());
    assert!(stats.listeners_panicked > 300 && stats.evicted > 1_000, "{stats}");
    assert_eq!(
        (stats.evicted, stats.evictions_kept),
        (gone.len() as u64, stats.listeners_panicked)
    );
    for key in 0..2_000 {
        let there = store.load_vec(&key).unwrap();
        assert_eq!(there.is_some(), !gone.contains(&key), "{key}");
        assert!(there.is_none_or(|bytes| bytes == page(key)));
    }
    check_books(&store);
}

/// A listener that only panics makes the store full, as if it kept everything.
#[test]
fn listener_that_only_panics_fills_the_store() {
    let store =
        evicting("zsmalloc+lz4", MIB).on_evict_with(|_, _| panic!("always")).build().unwrap();
    let store_one = |key| store.store(key, block(key, 4000, Look::Noise)).err().map(|e| (key, e));
    let (refused, error) = (0..1_000).find_map(store_one).unwrap();
    assert!(matches!(error, Error::Full { kept, .. } if kept > 0), "{error}");
    assert_eq!(store.len() as u64, refused);
    check_books(&store);
}

/// A listener may use the store, under the key that it is shown and others. What it stores evicts
/// nothing, so it is not called again meanwhile.
#[test]
fn listener_store_does_not_ask_again() {
    let itself: Arc<OnceLock<Store<u64>>> = Arc::default();
    let (again, depth) = (itself.clone(), AtomicUsize::new(0));
    let wrong = Arc::new(AtomicUsize::new(0));
    let noted = wrong.clone();
    let store = evicting("zsmalloc+lz4", 2 * MIB)
        .on_evict_with(move |&key, candidate| {
            let store = again.get().expect("set before anything is stored");
            let nested = depth.fetch_add(1, Ordering::Relaxed) > 0;
            let there = store.peek_vec(&key).unwrap() == candidate.decode_vec().ok();
            // If there is no room yet, the block is refused, as by a store that does not evict.
            let stored = store.store(key | 1 << 32, candidate.len().to_le_bytes());
            let refused = stored.is_err_and(|error| !matches!(error, Error::Full { .. }));
            depth.fetch_sub(1, Ordering::Relaxed);
            noted.fetch_add(usize::from(nested || !there || refused), Ordering::Relaxed);
            EvictionDecision::Evict
        })
        .build()
        .unwrap();
    itself.set(store.clone()).unwrap();
    (0..2_000).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    assert_eq!((wrong.load(Ordering::Relaxed), store.stats().listeners_panicked), (0, 0));
    assert!(store.stats().evicted > 1_000);
    check_books(&store);
}

/// The search for room ends, even if the listener stores each value anew that it is shown.
#[test]
fn listener_that_restores_the_entry_ends() {
    let itself: Arc<OnceLock<Store<u64>>> = Arc::default();
    let again = itself.clone();
    let store = evicting("zsmalloc+lz4", usize::MAX)
        .on_evict_with(move |&key, candidate| {
            let store = again.get().unwrap();
            store.set_limit(None).unwrap();
            store.import(key, candidate.blocks()).unwrap();
            EvictionDecision::Evict
        })
        .build()
        .unwrap();
    itself.set(store.clone()).unwrap();
    (0..100).for_each(|key| store.store(key, block(key, 1000, Look::Runs)).unwrap());
    store.set_limit(Some(1)).unwrap();
    let there = (0..100).filter(|key| store.contains(key)).count();
    let stats = store.stats();
    assert_eq!((there, stats.evicted, stats.listeners_panicked), (100, 0, 0));
    check_books(&store);
}

/// Both listeners may be set: the second one receives what has gone, after the first one let it go.
#[test]
fn both_listeners_are_called_in_order() {
    let calls: Arc<Mutex<Vec<(u64, &str)>>> = Arc::default();
    let (before, after) = (calls.clone(), calls.clone());
    let store = evicting("zsmalloc+lz4", MIB)
        .on_evict_with(move |&key, candidate| {
            before.lock().unwrap().push((key, "shown"));
            assert_eq!(candidate.len(), 4000);
            match key % 3 {
                0 if key < 200 => EvictionDecision::Keep,
                _ => EvictionDecision::Evict,
            }
        })
        .on_evict(move |&key, len| {
            assert_eq!(len, 4000);
            after.lock().unwrap().push((key, "gone"));
        })
        .build()
        .unwrap();
    (0..600).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    let calls = calls.lock().unwrap();
    let gone = calls.iter().filter(|(_, what)| *what == "gone").count() as u64;
    assert!(gone == store.stats().evicted && gone > 300 && store.stats().evictions_kept > 0);
    for pair in calls.windows(2).filter(|pair| pair[1].1 == "gone") {
        assert_eq!(pair[0], (pair[1].0, "shown"));
    }
}

/// Entries that the advice calls worthless go without a question, and pinned ones are never shown.
#[test]
fn advice_comes_before_the_listener() {
    let shown: Arc<Mutex<Vec<u64>>> = Arc::default();
    let noted = shown.clone();
    let store = evicting("zsmalloc+lz4", MIB)
        .eviction_advice(|key| match key % 3 {
            0 => EvictionAdvice::AtOnce,
            1 if *key < 100 => EvictionAdvice::Never,
            _ => EvictionAdvice::ByUse,
        })
        .on_evict_with(move |&key, _| {
            noted.lock().unwrap().push(key);
            EvictionDecision::Evict
        })
        .build()
        .unwrap();
    (0..900).for_each(|key| store.store(key, block(key, 4000, Look::Noise)).unwrap());
    let shown = shown.lock().unwrap();
    assert!(
        !shown.is_empty() && shown.iter().all(|key| key % 3 == 2 || key % 3 == 1 && *key >= 100)
    );
    assert!(store.stats().evicted as usize > shown.len() + 100, "{}", store.stats());
    assert!((1..100).step_by(3).all(|key| store.contains(&key)));
}

/// An entry that cannot be shown is kept: its pool does not return the object, or returns it
/// damaged.
#[test]
fn unreadable_entry_is_kept() {
    let broken = [OnRead::Panic, OnRead::Cut, OnRead::Flip];
    let broken = broken.into_iter().flat_map(|how| [(how, 1000), (how, 9000)]);
    for (how, len) in broken.chain([(OnRead::Fail, 1000)]) {
        let (pool, shown) = (PoolScript::new(), Arc::new(AtomicUsize::new(0)));
        let counted = shown.clone();
        let store = scripted(pool.clone(), CodecScript::new())
            .limit_bytes(usize::MAX)
            .at_limit(AtLimit::Evict)
            .checksums(true)
            .on_evict_with(move |_, _| {
                counted.fetch_add(1, Ordering::Relaxed);
                EvictionDecision::Evict
            })
            .build()
            .unwrap();
        (0..5).for_each(|key| store.store(key, stamped(key, 1, len)).unwrap());
        pool.on_read(how);
        let error = evict_all(&store);
        assert!(matches!(error, Error::Full { kept: 5.., .. }), "{how:?}: {error}");
        assert_eq!((store.len(), shown.load(Ordering::Relaxed)), (5, 0), "{how:?}");
        pool.on_read(OnRead::Work);
        assert!((0..5).all(|key| unstamp(&store.load_vec(&key).unwrap().unwrap()) == (key, 1)));
        evict_all(&store);
        assert_eq!((store.len(), shown.load(Ordering::Relaxed), pool.live()), (0, 5, 0));
    }
}
