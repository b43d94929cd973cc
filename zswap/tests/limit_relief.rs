//! A full store releases memory before it refuses or evicts: index, contexts, free frames and
//! holes, with every executor and allocator.

use std::sync::Arc;

use crate::common::{Look, block, builder, check_books, spec};
use zpool_core::CompactionBudget;
use zpool_core::exec::{Executor, Inline};
use zswap::plugin::Manual;
use zswap::{AtLimit, Error, Store};

const MIB: usize = 1 << 20;

/// Executors: one that runs jobs at once, one that never does, and the store's own.
fn executors() -> [Option<Arc<dyn Executor>>; 3] {
    [Some(Arc::new(Inline::new())), Some(Arc::new(Manual::new())), None]
}

fn refusing(text: &str, executor: Option<Arc<dyn Executor>>, limit: usize) -> Store<u64> {
    let store = builder().spec(spec(text)).limit_bytes(limit).at_limit(AtLimit::Refuse);
    match executor {
        Some(executor) => store.executor(executor),
        None => store,
    }
    .build()
    .unwrap()
}

/// Stores until the store is full. Returns how many blocks it took.
fn fill(store: &Store<u64>, make: impl Fn(u64) -> Vec<u8>) -> u64 {
    let refused = |key: &u64| store.store(*key, make(*key)).is_err();
    (0..1_000_000).find(refused).expect("it has a limit")
}

/// A refusing store that its owner has emptied takes the next block, whatever was in it.
#[test]
fn emptied_store_takes_next_block() {
    type Make = fn(u64) -> Vec<u8>;
    let kinds: [(&str, Make); 4] = [
        ("same-filled", |key| key.to_le_bytes().repeat(512)),
        ("tiny", |key| block(key, 12, Look::Noise)),
        ("noise", |key| block(key, 400, Look::Noise)),
        ("pages", |key| block(key, 4096, Look::Noise)),
    ];
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4", "zsmalloc(compact=off)+lz4"] {
        for (kind, make) in kinds {
            let store = refusing(text, Some(Arc::new(Manual::new())), MIB);
            let stored = fill(&store, make);
            for key in 0..stored {
                assert!(if key % 2 == 0 {
                    store.invalidate(&key)
                } else {
                    store.take_vec(&key).unwrap().is_some()
                });
            }
            let result = store.store(stored, block(1, 4096, Look::Noise));
            assert!(result.is_ok(), "{text}, {kind}: {result:?}, {} held", store.bytes_held());
            check_books(&store);
        }
    }
}

/// Holes: four of five blocks are removed, and the fifth keeps their frames. The next store
/// compacts.
#[test]
fn store_of_holes_takes_next_block() {
    for text in ["zsmalloc+lz4", "zsmalloc(compact=off)+lz4", "zsmalloc(chain=4)+rle"] {
        for executor in executors() {
            let which = format!("{text} with {executor:?}");
            let store = refusing(text, executor, 2 * MIB);
            let make = |key| block(key, 400, Look::Noise);
            let stored = fill(&store, make);
            (0..stored).filter(|key| key % 5 != 0).for_each(|key| assert!(store.invalidate(&key)));
            let result = store.store(stored, make(stored));
            assert!(result.is_ok(), "{which}: {result:?}, {} held", store.bytes_held());
            let there =
                |key: &u64| store.load_vec(key).unwrap().is_some_and(|bytes| bytes == make(*key));
            assert!((0..stored).step_by(5).all(|key| there(&key)), "{which}");
            check_books(&store);
        }
    }
}

/// After `clear`, and after `retain` has removed everything, a store takes about as many blocks as
/// before.
#[test]
fn cleared_store_takes_as_much_again() {
    for executor in executors() {
        let store = refusing("zsmalloc+lz4", executor, 2 * MIB);
        let make = |key| block(key, 100, Look::Noise);
        let first = fill(&store, make);
        for round in 0..2 {
            match round {
                0 => store.clear(),
                _ => {
                    store.retain(|_, _| false);
                }
            }
            assert!(store.is_empty());
            let again = fill(&store, make);
            assert!(again * 100 >= first * 95, "round {round}: {again} after {first}");
        }
    }
}

/// `Full` names the threshold below which the store takes blocks again.
#[test]
fn full_names_threshold() {
    let store = builder()
        .spec(spec("reference+rle"))
        .limit_bytes(MIB)
        .at_limit(AtLimit::Refuse)
        .accept_percent(70)
        .build()
        .unwrap();
    let stored = fill(&store, |key| block(key, 1000, Look::Noise));
    let error = store.store(stored, block(1, 1000, Look::Noise)).unwrap_err();
    let Error::Full { held, limit, threshold, kept: 0 } = error else { panic!("{error}") };
    assert!(
        held >= threshold && limit == MIB && threshold == MIB * 70 / 100 + 1,
        "{held}, {limit}, {threshold}"
    );
    let message = error.to_string();
    assert!(message.contains(&format!("again below {threshold}; remove something")), "{message}");
    // Blocks are removed one by one. The first store below the threshold succeeds, and none above.
    for key in 0..stored {
        assert!(store.invalidate(&key));
        store.trim();
        let below = store.bytes_held() < threshold;
        assert_eq!(store.store(stored, [1, 2]).is_ok(), below, "{key}");
        if below {
            return;
        }
    }
    panic!("never below the threshold");
}

/// `trim` releases free frames, index memory and contexts; `compact` also what only moves can free.
/// Both return how much.
#[test]
fn trim_and_compact_give_back() {
    for (text, compacts) in [("zbud+lz4", false), ("zsmalloc(compact=off)+lz4", true)] {
        let store = builder().spec(spec(text)).executor(Arc::new(Manual::new())).build().unwrap();
        let empty = store.bytes_held();
        (0..10_000).for_each(|key| store.store(key, block(key, 700, Look::Runs)).unwrap());
        (0..10_000).filter(|key| key % 8 != 0).for_each(|key| assert!(store.invalidate(&key)));
        let before = store.bytes_held();
        let trimmed = store.trim();
        let between = store.bytes_held();
        assert!(
            trimmed > 0 && before - between >= trimmed * 9 / 10,
            "{text}: {trimmed} of {before}, {between}"
        );
        assert_eq!(store.stats().context_bytes, 0, "{text}: nothing uses a context");
        let compacted = store.compact(CompactionBudget::UNLIMITED);
        let after = store.bytes_held();
        assert_eq!(compacts, after + MIB / 8 < between, "{text}: {between} to {after}");
        assert!(
            between - after <= compacted + compacted / 10
                && compacted <= between - after + 64 * 1024,
            "{text}"
        );
        let there = |key| {
            store.load_vec(&key).unwrap().is_some_and(|bytes| bytes == block(key, 700, Look::Runs))
        };
        assert!((0..10_000).step_by(8).all(there), "{text}");
        store.clear();
        store.trim();
        assert!(
            store.bytes_held() <= empty + 256 * 1024,
            "{text}: {} held, {empty} empty",
            store.bytes_held()
        );
        check_books(&store);
    }
}

/// A budget of no moves moves nothing.
#[test]
fn compact_keeps_to_budget() {
    let store = builder()
        .spec(spec("zsmalloc(compact=off)+lz4"))
        .executor(Arc::new(Manual::new()))
        .build()
        .unwrap();
    (0..8_000).for_each(|key| store.store(key, block(key, 400, Look::Noise)).unwrap());
    store.retain(|key, _| key % 5 == 0);
    store.trim();
    let held = store.bytes_held();
    store.compact(CompactionBudget::moves(0));
    let (little, unmoved) = (store.bytes_held(), held);
    assert!(little * 10 > unmoved * 9, "{unmoved} to {little}");
    store.compact(CompactionBudget::UNLIMITED);
    assert!(store.bytes_held() * 2 < held);
}

/// In an evicting store, index memory that no entry needs is released before a block is evicted.
#[test]
fn evicting_store_shrinks_index_first() {
    let manual = Arc::new(Manual::new());
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .executor(manual)
        .limit_bytes(8 * MIB)
        .at_limit(AtLimit::Evict)
        .build()
        .unwrap();
    (0..60_000u64).for_each(|key| store.store(key, key.to_le_bytes()).unwrap());
    (0..60_000u64).for_each(|key| assert!(store.invalidate(&key)));
    let pages = 1700;
    (0..pages).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    let stats = store.stats();
    assert_eq!((stats.entries as u64, stats.evicted), (pages, 0), "{stats}");
}

/// Keys that are large themselves: their place in the index is most of the cost of an entry, so few
/// entries are evicted for a new one.
#[test]
fn large_keys_keep_most_entries() {
    type Key = [u64; 128];
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        let store =
            Store::<Key>::builder().limit_bytes(8 * MIB).at_limit(at_limit).build().unwrap();
        let mut most = 0;
        for key in 0..24_000u64 {
            let stored = store.store([key; 128], block(key, 20, Look::Noise));
            assert!(stored.is_ok() || at_limit == AtLimit::Refuse, "{stored:?}");
            most = most.max(store.len());
        }
        assert!(
            most > 4_000 && store.len() * 3 > most,
            "{at_limit:?}: {most} at most, {} left",
            store.len()
        );
    }
}
